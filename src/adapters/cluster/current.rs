//! Which revision a template describes. The API server decides: what it makes of two templates by
//! its defaulting is the same, or they are two revisions. A hash is only a name.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use kube::core::Status;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    api::{
        Rollout,
        names::{POD_TEMPLATE_HASH, ROLLOUT_LABEL},
    },
    model::{
        object::REPLICA_SET,
        observed::Current,
        revisions::{Revision, asked, hash, restarted_at},
        spec::strays,
        workload::{Workload, count, uid},
    },
};

use super::rest::{Rest, RestError};

/// How many answers are kept.
const KEPT_MAX: usize = 4096;
/// How long a refusal is kept: a policy may change without the Rollout's doing.
const REFUSAL: Duration = Duration::from_secs(60);

/// What an answer rests on.
#[derive(Debug, Default, PartialEq, Eq)]
struct Basis {
    generation: i64,
    /// Of the Deployment that has the template: its uid and generation.
    deployment: Option<(String, i64)>,
    /// A restart asks for another template, and is no change of the spec.
    restarted: Option<Timestamp>,
    recorded: Vec<String>,
}

/// An answer and what it rests on.
#[derive(Debug)]
struct Answer {
    basis: Basis,
    current: Current,
    at: Instant,
}

/// The answers, so that a resync asks nothing.
#[derive(Debug, Default)]
pub struct Memo(Mutex<BTreeMap<String, Answer>>);

impl Memo {
    fn get(&self, uid: &str, basis: &Basis) -> Option<Current> {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = map.get(uid).filter(|a| a.basis == *basis)?;
        let refused = matches!(answer.current, Current::Refused(_));
        (!refused || answer.at.elapsed() < REFUSAL).then(|| answer.current.clone())
    }

    fn put(&self, uid: &str, basis: Basis, current: &Current) {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if map.len() >= KEPT_MAX && !map.contains_key(uid) {
            // Of a Rollout that is gone nothing is asked any more, so it becomes the oldest.
            let oldest = map.iter().min_by_key(|(_, answer)| answer.at);
            let oldest = oldest.map(|(uid, _)| uid.clone());
            oldest.and_then(|uid| map.remove(&uid));
        }
        let answer = Answer {
            basis,
            current: current.clone(),
            at: Instant::now(),
        };
        map.insert(uid.to_owned(), answer);
    }
}

/// What the API server made of a template.
enum Dry {
    /// The template with its defaults.
    Template(Value),
    /// It refuses it: why.
    Refused(String),
}

/// Which of the recorded `revisions` the template that is asked for describes, or that it is a new one.
pub async fn current(
    rest: &Rest,
    memo: &Memo,
    rollout: &Rollout,
    revisions: &[Revision],
    workload: Option<&Workload>,
) -> Result<Current, RestError> {
    if let Some(current) = workload.and_then(|w| w.current(rollout, revisions)) {
        return Ok(current);
    }
    let template = &*asked(rollout, revisions);
    if let Some(same) = revisions.iter().rev().find(|r| r.template == *template) {
        return Ok(Current::Recorded(same.hash.clone()));
    }
    if rollout.metadata.deletion_timestamp.is_some() {
        return Ok(last_known(rollout, revisions));
    }
    if let Some(stray) = strays(rollout).into_iter().next() {
        return Ok(Current::Refused(stray.to_string()));
    }
    let own = rollout.metadata.uid.as_deref().unwrap_or_default();
    let basis = Basis {
        generation: rollout.metadata.generation.unwrap_or(0),
        deployment: workload.and_then(|w| {
            let deployment = w.deployment.as_ref()?;
            Some((
                uid(deployment)?.to_owned(),
                count(deployment, "/metadata/generation"),
            ))
        }),
        restarted: restarted_at(rollout, revisions),
        recorded: revisions.iter().map(|r| r.hash.clone()).collect(),
    };
    if let Some(current) = memo.get(own, &basis) {
        return Ok(current);
    }
    let current = ask(rest, rollout, template, revisions).await?;
    memo.put(own, basis, &current);
    Ok(current)
}

/// What a Rollout that goes was known to describe. Nothing new is made for it, whatever went before
/// it; and in a namespace that goes, too, the API server would answer no more.
fn last_known(rollout: &Rollout, revisions: &[Revision]) -> Current {
    let known = rollout
        .status
        .as_ref()
        .and_then(|s| s.current_revision.clone());
    let last = || revisions.last().map(|r| r.hash.clone());
    known.or_else(last).map_or_else(
        || Current::Refused("the Rollout is being deleted".to_owned()),
        Current::Recorded,
    )
}

async fn ask(
    rest: &Rest,
    rollout: &Rollout,
    template: &Value,
    revisions: &[Revision],
) -> Result<Current, RestError> {
    let wanted = match dry_run(rest, rollout, template).await? {
        Dry::Template(template) => template,
        Dry::Refused(message) => return Ok(Current::Refused(message)),
    };
    let candidates = revisions
        .iter()
        .rev()
        .filter(|r| images(&r.template) == images(template));
    for revision in candidates {
        // A template that is refused today is not the one that was not.
        if let Dry::Template(template) = dry_run(rest, rollout, &revision.template).await?
            && template == wanted
        {
            return Ok(Current::Recorded(revision.hash.clone()));
        }
    }
    let taken = |name: &str| revisions.iter().any(|r| r.hash == name);
    let mut name = hash(&wanted, 0);
    // One more try than there are revisions finds a free name.
    for collision in 1..=u32::try_from(revisions.len()).unwrap_or(u32::MAX) {
        if !taken(&name) {
            break;
        }
        name = hash(&wanted, collision);
    }
    Ok(Current::New(name))
}

/// The images as written: templates that differ in them never have the same defaults.
fn images(template: &Value) -> Vec<Option<&Value>> {
    let containers = template
        .pointer("/spec/containers")
        .and_then(Value::as_array);
    containers
        .into_iter()
        .flatten()
        .map(|c| c.get("image"))
        .collect()
}

/// The ReplicaSet that would be made of a template.
fn dry_run_set(rollout: &Rollout, template: &Value) -> Value {
    let name = rollout.metadata.name.as_deref().unwrap_or_default();
    let mut template = template.clone();
    label(&mut template, Some("dryrun"));
    let mut selector = serde_json::to_value(&rollout.spec.selector).unwrap_or_default();
    if let Some(map) = selector.as_object_mut() {
        let labels = map.entry("matchLabels").or_insert_with(|| json!({}));
        if let Some(labels) = labels.as_object_mut() {
            labels.insert(POD_TEMPLATE_HASH.to_owned(), "dryrun".into());
        }
    }
    json!({
        "apiVersion": REPLICA_SET.api_version(),
        "kind": REPLICA_SET.kind,
        "metadata": {
            "generateName": format!("{name}-"),
            "namespace": rollout.metadata.namespace,
            "labels": {ROLLOUT_LABEL: name, POD_TEMPLATE_HASH: "dryrun"},
        },
        "spec": {"replicas": 0, "selector": selector, "template": template},
    })
}

/// Sets or takes off the template's hash.
fn label(template: &mut Value, hash: Option<&str>) {
    let Some(map) = template.as_object_mut() else {
        return;
    };
    let metadata = map.entry("metadata").or_insert_with(|| json!({}));
    let Some(metadata) = metadata.as_object_mut() else {
        return;
    };
    let labels = metadata.entry("labels").or_insert_with(|| json!({}));
    let Some(labels) = labels.as_object_mut() else {
        return;
    };
    match hash {
        Some(hash) => drop(labels.insert(POD_TEMPLATE_HASH.to_owned(), hash.into())),
        None => drop(labels.remove(POD_TEMPLATE_HASH)),
    }
}

async fn dry_run(rest: &Rest, rollout: &Rollout, template: &Value) -> Result<Dry, RestError> {
    let namespace = rollout.metadata.namespace.as_deref().unwrap_or_default();
    let set = dry_run_set(rollout, template);
    match rest.create_dry(REPLICA_SET, namespace, &set).await {
        Ok(mut made) => {
            let mut template = made
                .pointer_mut("/spec/template")
                .map(Value::take)
                .unwrap_or_default();
            label(&mut template, None);
            // Older API servers write it out.
            if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.remove("creationTimestamp");
            }
            Ok(Dry::Template(template))
        }
        Err(RestError::Refused { source, .. }) if about_the_template(&source) => {
            Ok(Dry::Refused(source.message.clone()))
        }
        // No right to ask, a quota, a webhook that is down: to hold and say so is better than to
        // fail, since what is in flight must still be looked after.
        Err(RestError::Refused { source, .. } | RestError::Failed { source, .. })
            if matches!(source.code, 403 | 500) =>
        {
            let said = &source.message;
            Ok(Dry::Refused(format!(
                "the API server does not say what becomes of it: {said}"
            )))
        }
        Err(e) => Err(e),
    }
}

/// Whether a refusal speaks of what is written, not of our rights, a quota or the namespace.
fn about_the_template(status: &Status) -> bool {
    let says = |words: &str| status.message.contains(words);
    match status.code {
        400 | 422 => true,
        403 => {
            !says("cannot create resource") && !says("exceeded quota") && !says("being terminated")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_asked_last_is_remembered_longest() {
        let memo = Memo::default();
        let new = Current::New("abc".to_owned());
        let basis = || Basis {
            generation: 1,
            ..Basis::default()
        };
        // Rollouts that are long gone.
        for n in 0..KEPT_MAX {
            memo.put(&format!("z{n:04}"), basis(), &new);
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        memo.put("a1", basis(), &new);
        tokio::time::advance(Duration::from_millis(1)).await;
        memo.put("a2", basis(), &new);
        let known = ["a1", "a2", "z0000", "z0002"].map(|uid| memo.get(uid, &basis()).is_some());
        assert_eq!(known, [true, true, false, true]);
    }
}
