//! Command `restart`: fresh pods of the same template in place of those that serve.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    api::{names::reason, status::RolloutStatus},
    model::{
        command::{Command, Verb, annotate_with},
        observed::Current,
        progress::{Stage, note},
        revisions::restarted_at,
    },
};

use super::{
    super::{
        Context,
        back::{held, restarts},
    },
    answer::{Answer, did},
};

/// Forgets a restart of which the template asks for nothing any more. Whether it did.
pub fn forget(cx: &Context<'_>, status: &mut RolloutStatus) -> bool {
    let Current::Recorded(hash) = &cx.observed.current else {
        return false;
    };
    let asked = cx.observed.revision(hash);
    asked.is_some_and(|r| !r.restarted()) && status.restarted_at.take().is_some()
}

/// Why the command does not mean what is stable.
fn stale(command: &Command, stable: &str) -> Option<String> {
    let target = command.target.as_ref().ok()?;
    if target.step.is_some() {
        return Some("a restart has no steps: leave the @ out".to_owned());
    }
    let prefix = target.hash.as_ref();
    let other = prefix.filter(|hash| !stable.starts_with(hash.as_str()))?;
    Some(format!(
        "it means revision {other}, but {stable} is stable: nothing is done"
    ))
}

/// Why there can be no restart of the stable revision now, and what a person can do.
fn hindered(
    cx: &Context<'_>,
    status: &RolloutStatus,
    stable: &str,
    stage: Option<Stage>,
) -> Option<String> {
    let by = |verb: Verb, hash: &str| annotate_with(verb, hash, &status.commands);
    if let Some(blocked) = cx.blocked.as_ref().filter(|_| !cx.absent) {
        return Some(format!("it would wait for {blocked}: do that first"));
    }
    if stage == Some(Stage::Baking) {
        return Some(format!(
            "revision {stable} must still prove good: ask again when it has, or end that: annotate {}",
            by(Verb::PromoteFull, stable)
        ));
    }
    if stage != Some(Stage::Done) {
        let number = status.attempt.as_ref().map_or(0, |a| a.number);
        return Some(format!(
            "attempt {number} is in flight: ask again when it is over"
        ));
    }
    if let Some(undo) = held(cx.observed, status) {
        return Some(format!(
            "an undo holds, and a restart would end it: put the template of revision {} into the spec first, or go \
             forward to the one that is there: annotate {}",
            undo.revision,
            by(Verb::Undo, &undo.over)
        ));
    }
    let asked = cx.observed.current.hash().filter(|hash| *hash != stable);
    if let Some(asked) = asked {
        return Some(match restarts(cx.observed, asked, stable) {
            true => format!(
                "the last restart was given up: to try it again, annotate {}",
                by(Verb::Retry, asked)
            ),
            false => format!(
                "the template asks for revision {asked}, which is not stable, and a restart would bring it back: put the \
                 template of {stable} into the spec first"
            ),
        });
    }
    (cx.spec.replicas == 0).then(|| "there are no pods to restart: spec.replicas is 0".to_owned())
}

/// Asks for fresh pods. They are another revision, so that they come as any other: what serves keeps its pods until
/// the fresh ones serve.
pub fn restart(
    cx: &Context<'_>,
    status: &mut RolloutStatus,
    command: &Command,
    stage: Option<Stage>,
) -> Answer {
    let Some(stable) = status.stable_revision.clone().filter(|_| !cx.deleting()) else {
        let why = match cx.deleting() {
            true => "the Rollout is being deleted",
            false => "nothing is stable yet: ask again when the first revision is deployed",
        };
        return Answer("Refused", why.to_owned());
    };
    if let Some(stale) = stale(command, &stable) {
        return Answer("Stale", stale);
    }
    if let Some(why) = hindered(cx, status, &stable, stage) {
        return Answer("Refused", why);
    }
    // Later than any before, also where another clock was ahead: else it would ask for what is there.
    let last = restarted_at(&cx.observed.rollout, &cx.observed.revisions);
    let least = last.map_or(i64::MIN, |at| at.as_second().saturating_add(1));
    let second = cx.now.as_second().max(least);
    let at = Timestamp::from_second(second).unwrap_or(cx.now);
    status.restarted_at = Some(Time(at));
    // Its name is the next look's to tell.
    status.current_revision = None;
    let what = did(command, "restarted");
    let message = format!("{what} revision {stable}: fresh pods take its place");
    note(status, cx.now, "Normal", reason::RESTARTED, &message);
    let done = format!("fresh pods take the place of those of revision {stable}");
    Answer("Done", done)
}
