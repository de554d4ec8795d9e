//! Tell: the history is an outbox. What was decided becomes an Event; what was told is recorded, so
//! that what was not told before a crash is told after it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde_json::{Value, json};
use thiserror::Error;

use crate::{
    api::{
        Rollout,
        names::{API_VERSION, CONTROLLER_NAME, reason},
        status::HistoryEntry,
    },
    model::object::{Kind, ROLLOUT},
};

use super::{Cluster, mirror::Malformed, rest::RestError};

const EVENT: Kind = Kind {
    group: "events.k8s.io",
    version: "v1",
    kind: "Event",
    plural: "events",
};
/// The longest note that the API server takes.
const NOTE_MAX: usize = 1024;

/// Why something was not told. It is told in the next round.
#[derive(Debug, Error)]
pub enum TellError {
    /// The Event could not be made.
    #[error("cannot tell of {0}")]
    Event(String, #[source] RestError),
    /// What was told could not be recorded.
    #[error("cannot record what was told")]
    Record(#[source] RestError),
}

impl TellError {
    /// A word for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Event(_, e) | Self::Record(e) => e.kind(),
        }
    }
}

/// What is told, of what.
struct Note<'a> {
    name: String,
    at: MicroTime,
    type_: &'a str,
    reason: &'a str,
    text: &'a str,
}

impl Cluster {
    /// Tells what has not been told. Returns the entries that were told and recorded as told now.
    pub async fn tell(&self, rollout: &Rollout) -> Result<Vec<HistoryEntry>, TellError> {
        let Some(status) = &rollout.status else {
            return Ok(vec![]);
        };
        let told = status.decision.as_ref().map_or(0, |d| d.told);
        let mut new: Vec<_> = status
            .history
            .iter()
            .filter(|h| h.number > told)
            .cloned()
            .collect();
        new.sort_by_key(|h| h.number);
        let meta = &rollout.metadata;
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let name = meta.name.as_deref().unwrap_or_default();
        let uid = meta.uid.as_deref().unwrap_or_default();
        let mut done = vec![];
        let mut failure = None;
        for entry in new {
            let note = Note {
                name: event_name(name, uid, &entry.number.to_string()),
                at: MicroTime(entry.at.0),
                type_: &entry.type_,
                reason: &entry.reason,
                text: &entry.message,
            };
            match self.event(namespace, name, uid, &note).await {
                Ok(()) => done.push(entry),
                Err(e) => {
                    failure = Some(TellError::Event(entry.reason, e));
                    break;
                }
            }
        }
        if let Some(last) = done.last() {
            let sequence = status.decision.as_ref().map_or(0, |d| d.sequence);
            let patch = json!({"decision": {"sequence": sequence, "told": last.number}});
            match self.patch_status(ROLLOUT, meta, patch).await {
                // Its finalizer was the last thing that held it.
                Ok(_) | Err(RestError::NotFound { .. }) => {}
                Err(e) => return Err(TellError::Record(e)),
            }
        }
        // What was told is returned also where the rest failed: the rest is told later.
        match failure {
            Some(e) if done.is_empty() => Err(e),
            _ => Ok(done),
        }
    }

    /// Warns of a Rollout that cannot be read, once for each of its generations.
    pub async fn tell_malformed(&self, malformed: &Malformed) -> Result<(), TellError> {
        let Malformed {
            key,
            uid,
            generation,
            message,
        } = malformed;
        let text = format!("this Rollout cannot be read and is left alone: {message}");
        let note = Note {
            name: event_name(&key.name, uid, &format!("g{generation}")),
            at: MicroTime((self.now)()),
            type_: "Warning",
            reason: reason::INVALID_SPEC,
            text: &text,
        };
        let told = self.event(&key.namespace, &key.name, uid, &note).await;
        told.map_err(|e| TellError::Event(reason::INVALID_SPEC.to_owned(), e))
    }

    async fn event(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
        note: &Note<'_>,
    ) -> Result<(), RestError> {
        let value = event(&self.instance, namespace, name, uid, note);
        match self.rest.create(EVENT, namespace, &note.name, &value).await {
            Ok(_) | Err(RestError::Exists { .. }) => Ok(()),
            Err(e) if e.namespace_goes() => Ok(()),
            // It would never be taken: the rest must not wait for it for ever.
            Err(RestError::Refused { source, .. }) if matches!(source.code, 400 | 422) => {
                tracing::error!(
                    event = note.name,
                    error = source.message,
                    "an Event that is not taken"
                );
                Ok(())
            }
            Err(e) => Err(e),
        }
    }
}

/// A name that the same entry always has.
fn event_name(name: &str, uid: &str, number: &str) -> String {
    format!("{name}.{}.{number}", uid.get(..8).unwrap_or(uid))
}

fn event(instance: &str, namespace: &str, name: &str, uid: &str, note: &Note<'_>) -> Value {
    let type_ = if note.type_ == "Warning" {
        "Warning"
    } else {
        "Normal"
    };
    json!({
        "apiVersion": EVENT.api_version(),
        "kind": EVENT.kind,
        "metadata": {"name": note.name, "namespace": namespace},
        "eventTime": note.at,
        "type": type_,
        "reason": note.reason,
        "action": note.reason,
        "note": cut(note.text, NOTE_MAX),
        "reportingController": CONTROLLER_NAME,
        "reportingInstance": cut(instance, 128),
        "regarding": {
            "apiVersion": API_VERSION,
            "kind": ROLLOUT.kind,
            "namespace": namespace,
            "name": name,
            "uid": uid,
        },
    })
}

/// Text cut to a number of bytes.
fn cut(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len()))
        .rev()
        .find(|i| text.is_char_boundary(*i))
        .unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_one_name_and_fits() {
        assert_eq!(event_name("web", "0123456789", "7"), "web.01234567.7");
        assert_eq!(cut("äöü", 3), "ä");
        assert_eq!(cut("abc", 1024), "abc");
        let note = Note {
            name: "n".into(),
            at: MicroTime(jiff::Timestamp::UNIX_EPOCH),
            type_: "Odd",
            reason: "Promoted",
            text: &"x".repeat(2000),
        };
        let value = event("pod-1", "ns", "web", "u", &note);
        assert_eq!(value["type"], "Normal");
        assert_eq!(value["note"].as_str().map(str::len), Some(1024));
        assert_eq!(value["eventTime"], "1970-01-01T00:00:00.000000Z");
    }
}
