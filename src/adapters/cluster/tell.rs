//! Tell: the history is an outbox. What was decided becomes an Event; what was told is recorded, so
//! that what was not told before a crash is told after it.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde_json::{Value, json};
use thiserror::Error;

use crate::{
    api::{
        Rollout,
        names::{API_VERSION, CONTROLLER_NAME, reason},
        status::HistoryEntry,
    },
    model::{
        object::{Kind, ROLLOUT},
        revisions::hash,
    },
};

use super::{Cluster, act::ActError, commit::RECORD, rest::RestError, world::mirror::Malformed};

const EVENT: Kind = Kind {
    group: "events.k8s.io",
    version: "v1",
    kind: "Event",
    plural: "events",
};
/// The longest note that the API server takes.
const NOTE_MAX: usize = 1024;
/// So long an entry waits for others that may share its Event; a warning does not wait.
const HOLD: Duration = Duration::from_secs(2);
/// So many entries do not wait for more: the history has room for few.
const CROWD: usize = 10;
/// How a decision is carried out: told in the Event of what goes before, where there is one.
const DETAILS: &[&str] = &[
    reason::SERVICE_SWITCHED,
    reason::SERVICE_RELEASED,
    reason::ROUTE_BOUND,
    reason::ROUTE_RELEASED,
    reason::WEIGHT_CHANGED,
    reason::STEP_STARTED,
    reason::PROMOTING,
    reason::SCALED_DOWN,
    reason::REVISION_DELETED,
];
/// When to tell again what could not be told.
const AGAIN: Duration = Duration::from_secs(10);

/// Why something was not told. It is told in the next round.
#[derive(Debug, Error)]
pub enum TellError {
    /// The Event could not be made.
    #[error("cannot tell of {0}")]
    Event(String, #[source] RestError),
}

impl TellError {
    /// A word for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Event(_, e) => e.kind(),
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

/// What came of telling.
#[derive(Debug, Default)]
pub struct Told {
    /// The entries that were told now.
    pub entries: Vec<HistoryEntry>,
    /// After which time more is to be told, or what was told to be recorded.
    pub more: Option<Duration>,
}

impl Cluster {
    /// Tells what has not been told: a warning and what stands before it at once, the rest once it
    /// has waited for company for a while. What carries a decision out is told in its Event. What was
    /// told is recorded with the next commit.
    pub async fn tell(&self, rollout: &Rollout) -> Result<Told, TellError> {
        let new = self.untold(rollout);
        let Some(oldest) = new.first() else {
            return Ok(Told::default());
        };
        let uid = rollout.metadata.uid.as_deref().unwrap_or_default();
        let left = HOLD.saturating_sub(self.written.untold(uid, oldest.number));
        // Of who is about to go there may be no later look.
        let goes = rollout.metadata.deletion_timestamp.is_some();
        let now = goes || new.len() >= CROWD || new.iter().any(|h| h.type_ == "Warning");
        if !now && !left.is_zero() {
            return Ok(Told {
                entries: vec![],
                more: Some(left),
            });
        }
        let meta = &rollout.metadata;
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let name = meta.name.as_deref().unwrap_or_default();
        let mut told = Told::default();
        for group in together(&new) {
            let [first, ..] = group.as_slice() else {
                continue;
            };
            let text = text(&group);
            let note = Note {
                name: event_name(name, uid, &first.number.to_string()),
                at: MicroTime(first.at.0),
                type_: &first.type_,
                reason: &first.reason,
                text: &text,
            };
            match self.event(namespace, name, uid, &note).await {
                Ok(()) => told.entries.extend(group.into_iter().cloned()),
                Err(e) if told.entries.is_empty() => {
                    return Err(TellError::Event(first.reason.clone(), e));
                }
                // What was told is returned also where the rest failed: the rest is told later.
                Err(_) => break,
            }
        }
        told.entries.sort_by_key(|h| h.number);
        // Only what was told without a gap counts: the rest is told again, under the same names.
        let numbers: BTreeSet<i64> = told.entries.iter().map(|h| h.number).collect();
        let whole = new
            .iter()
            .take_while(|h| numbers.contains(&h.number))
            .last();
        if let Some(last) = whole {
            self.written.note_told(uid, last.number);
        }
        let rest = told.entries.len() < new.len();
        told.more = Some(if rest { AGAIN } else { RECORD });
        Ok(told)
    }

    /// The entries of the history that were not told, by number.
    fn untold(&self, rollout: &Rollout) -> Vec<HistoryEntry> {
        let Some(status) = &rollout.status else {
            return vec![];
        };
        let uid = rollout.metadata.uid.as_deref().unwrap_or_default();
        let recorded = status.decision.as_ref().map_or(0, |d| d.told);
        let told = self
            .written
            .told(uid)
            .map_or(recorded, |(n, _)| n.max(recorded));
        let all = status.history.iter().filter(|h| h.number > told);
        let mut new: Vec<_> = all.cloned().collect();
        new.sort_by_key(|h| h.number);
        new
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

    /// Warns that what was decided is refused: once for each object, for as long as the Event is kept.
    pub async fn tell_refused(&self, rollout: &Rollout, error: &ActError) -> Result<(), TellError> {
        let Some((what, why)) = error.refused() else {
            return Ok(());
        };
        let meta = &rollout.metadata;
        let [namespace, name, uid] = [&meta.namespace, &meta.name, &meta.uid]
            .map(|text| text.as_deref().unwrap_or_default());
        let text = format!("what was decided cannot be carried out: {why}");
        let note = Note {
            name: event_name(name, uid, &hash(&json!(what), 0)),
            at: MicroTime((self.now)()),
            type_: "Warning",
            reason: reason::NOT_CARRIED_OUT,
            text: &text,
        };
        let told = self.event(namespace, name, uid, &note).await;
        told.map_err(|e| TellError::Event(reason::NOT_CARRIED_OUT.to_owned(), e))
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

/// Entries that share an Event: what carries a decision out stands behind what was decided, as long
/// as it fits into one note.
fn together(entries: &[HistoryEntry]) -> Vec<Vec<&HistoryEntry>> {
    let mut groups: Vec<Vec<&HistoryEntry>> = vec![];
    for entry in entries {
        let joins = |group: &&mut Vec<&HistoryEntry>| {
            DETAILS.contains(&entry.reason.as_str())
                && group.iter().all(|h| h.type_ == entry.type_)
                && text(group).len() + text(&[entry]).len() + entry.reason.len() + 4 <= NOTE_MAX
        };
        match groups.last_mut().filter(joins) {
            Some(group) => group.push(entry),
            None => groups.push(vec![entry]),
        }
    }
    groups
}

/// What an Event says of some entries: the first, whose reason is the Event's, then the others.
fn text(group: &[&HistoryEntry]) -> String {
    let mut text = String::new();
    for (n, entry) in group.iter().enumerate() {
        let same = n > 0 && group.get(n - 1).is_some_and(|h| h.reason == entry.reason);
        match n {
            0 => {}
            _ if same => text.push_str(", "),
            _ => {
                text.push_str("; ");
                text.push_str(&entry.reason);
                text.push_str(": ");
            }
        }
        text.push_str(&entry.message);
    }
    text
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
    fn details_stand_behind_what_was_decided() {
        let entry = |number: i64, reason: &str, type_: &str, message: &str| HistoryEntry {
            number,
            at: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH),
            type_: type_.into(),
            reason: reason.into(),
            message: message.into(),
        };
        let all = [
            entry(1, "Promoted", "Normal", "it is stable"),
            entry(2, "WeightChanged", "Normal", "weight 100 to 50"),
            entry(3, "WeightChanged", "Normal", "weight 50 to 0"),
            entry(4, "ServiceSwitched", "Normal", "point it there"),
            entry(5, "Completed", "Normal", "all traffic"),
            entry(6, "RouteConflict", "Warning", "somebody writes"),
            entry(7, "WeightChanged", "Normal", "weight 1 to 0"),
            entry(8, "WeightChanged", "Normal", &"x".repeat(1020)),
        ];
        let texts: Vec<String> = together(&all).iter().map(|g| text(g)).collect();
        let wanted = [
            "it is stable; WeightChanged: weight 100 to 50, weight 50 to 0; ServiceSwitched: point it there",
            "all traffic",
            "somebody writes",
            "weight 1 to 0",
        ];
        assert_eq!(texts[..4], wanted);
        assert_eq!(texts.len(), 5, "what is too long for one note has its own");
    }

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
