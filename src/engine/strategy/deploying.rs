//! The first deploy: there is nothing stable yet to go back to.

use crate::{
    api::{
        names::reason,
        status::{Attempt, RolloutStatus},
    },
    model::{
        progress::{Stage, note},
        revisions::Revision,
    },
};

use super::{Context, Decided, Wait, attempt::enter, balance::balance, both, stages::keep_size};

/// Other revisions with pods that an earlier decision could still change; none where there are none.
fn unfenced<'a>(cx: &Context<'a>, status: &RolloutStatus, hash: &str) -> Option<Vec<&'a str>> {
    let fence = status.decision.as_ref().map_or(0, |d| d.fence);
    let early = |r: &&Revision| {
        let set = r.replica_set.as_ref();
        r.hash != hash && set.is_some_and(|s| s.desired > 0 && s.decision < fence)
    };
    let others = cx.observed.revisions.iter().filter(early);
    let others: Vec<&str> = others.map(|r| r.hash.as_str()).collect();
    (!others.is_empty()).then_some(others)
}

/// The first deploy has no steps: it is stable when it is available.
pub(super) fn deploying(
    cx: &Context<'_>,
    status: &mut RolloutStatus,
    attempt: &Attempt,
) -> Decided {
    let (hash, replicas) = (&attempt.hash, cx.spec.replicas);
    let mut decided = Decided::default();
    let available = cx.available(hash);
    if cx.shifted() {
        decided.desired.replicas.insert(hash.clone(), replicas);
        // An earlier first deploy that never became available gives way once this one is there.
        for old in cx
            .observed
            .revisions
            .iter()
            .filter(|r| r.hash != *hash && r.desired() > 0)
        {
            if available >= replicas || old.available() == 0 {
                decided.desired.replicas.insert(old.hash.clone(), 0);
            }
        }
    } else if let Some(others) = unfenced(cx, status, hash) {
        // How many there are may be known late, and what is made first counts on it.
        for other in others {
            keep_size(cx, &mut decided.desired, other);
        }
        let wait = "earlier decisions to be fenced off";
        decided.waiting = Some(Wait::new(wait, "its pods are made"));
        return decided;
    } else {
        balance(cx, &mut decided.desired, hash, hash, 0);
    }
    decided.desired.roles = Some(both(hash));
    let trouble = cx.trouble(hash);
    let then = "it becomes the stable revision";
    if cx
        .observed
        .revision(hash)
        .is_none_or(|r| r.replica_set.is_none())
        && replicas > 0
    {
        decided.waiting = Some(Wait::new("the first ReplicaSet", then));
    } else if available < replicas {
        let wait = Wait::new(
            format!("{replicas} available pods, {available} so far"),
            then,
        );
        decided.waiting = Some(wait.because(trouble));
    } else if let Some(blocked) = cx
        .blocked
        .as_ref()
        .filter(|_| cx.selected(false).is_none() && cx.shifted())
    {
        decided.waiting = Some(Wait::new(blocked.clone(), then));
    } else if cx.shifted() && cx.selected(false) != Some(hash.as_str()) {
        decided.waiting = Some(Wait::new("the stable Service to select it", then));
    } else {
        status.stable_revision = Some(hash.clone());
        if let Some(live) = &mut status.attempt {
            live.outcome = Some(reason::PROMOTED.into());
            live.reason = Some(reason::DEPLOYED.into());
            live.decided_by = Some("first deploy".into());
        }
        enter(cx, status, Stage::Done);
        note(
            status,
            cx.now,
            "Normal",
            reason::DEPLOYED,
            &format!("revision {hash} is available and stable"),
        );
        return Decided::moved();
    }
    decided
}
