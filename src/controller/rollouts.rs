//! One round for a Rollout: observe, plan, commit, act, tell.

use std::time::Duration;

use crate::{
    adapters::cluster::{commit::Committed, world::mirror::Key},
    api::Rollout,
    engine,
    model::{
        command::unstamp,
        object::Kind,
        observed::{Current, Observed, References},
        plan::Requeue,
        progress::after,
        spec::Spec,
    },
};

use super::{context::Context, round::RoundError};

/// What this controller is called in metrics and logs.
pub const ROLLOUT: &str = "rollout";
/// When to look again at what is not ours, or gone.
const IDLE: Duration = Duration::from_secs(3600);
/// When to ask again about a template that is refused: what refuses it may change.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// When to tell again what could not be told.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// What a Rollout refers to; nothing where its spec is invalid.
pub fn references(rollout: &Rollout) -> References {
    Spec::resolve(rollout)
        .map(|spec| engine::references(&spec))
        .unwrap_or_default()
}

/// The kinds of the objects that Rollouts' routes can be.
pub fn route_kinds() -> Vec<Kind> {
    engine::traffic::kinds()
}

/// One round.
pub async fn round(cx: &Context, key: &Key) -> Result<Requeue, RoundError> {
    let known = cx.cluster.rollout(key);
    if !known.is_some_and(|r| cx.ours(r.value.glance.controller.as_deref())) {
        return Ok(Requeue::OnChange(IDLE));
    }
    if let Some(wait) = cx.pace.wait(key) {
        return Ok(Requeue::At(after(cx.clock.now(), wait)));
    }
    let look = if cx.failures.in_doubt(ROLLOUT, key) {
        cx.cluster.observe_live(key).await?
    } else {
        cx.cluster.observe(key).await?
    };
    let refused = cx.failures.refused(ROLLOUT, key);
    let Some(mut observed) = completed(cx, look, refused.as_ref()) else {
        return Ok(Requeue::OnChange(IDLE));
    };
    let mut plan = engine::plan(&observed, cx.clock.now());
    if plan.look_closer {
        let closer = cx.cluster.observe_live(key).await?;
        let Some(closer) = completed(cx, closer, refused.as_ref()) else {
            return Ok(Requeue::OnChange(IDLE));
        };
        observed = closer;
        plan = engine::plan(&observed, cx.clock.now());
    }
    if !plan.actions.is_empty() {
        cx.pace.acts(key);
    }
    let mut committed = cx.cluster.commit(&observed, &plan).await?;
    let acted = cx.cluster.act(&mut committed).await;
    // What was decided is told also where carrying it out needs another round.
    let more = tell(cx, key, &committed).await;
    if let Err(error) = &acted {
        let told = cx.cluster.tell_refused(committed.rollout(), error).await;
        if let Err(error) = told {
            tracing::warn!(rollout = %key, %error, "not told");
        }
        if let Some((_, why)) = error.refused() {
            cx.failures.refuse(ROLLOUT, key, why);
        }
    }
    acted?;
    if refused.is_some() {
        // The status still tells of it.
        return Ok(Requeue::Now);
    }
    let mut requeue = plan.requeue;
    for later in [more, committed.pending()].into_iter().flatten() {
        requeue = sooner(cx, requeue, later);
    }
    if matches!(observed.current, Current::Refused(_)) {
        requeue = sooner(cx, requeue, ASK_AGAIN);
    }
    Ok(requeue)
}

/// A look with what the cluster does not tell: what is refused, and whether it is the API server's word
/// who gave a command.
fn completed(cx: &Context, look: Option<Observed>, refused: Option<&String>) -> Option<Observed> {
    let mut look = look?;
    look.refused = refused.cloned();
    let annotations = look.rollout.metadata.annotations.as_mut();
    if let Some(annotations) = annotations.filter(|_| !cx.trust_command_actor) {
        unstamp(annotations);
    }
    Some(look)
}

/// Tells what was decided. After which time there is more to tell; an Event never fails a round.
async fn tell(cx: &Context, key: &Key, committed: &Committed) -> Option<Duration> {
    let rollout = committed.rollout();
    match cx.cluster.tell(rollout).await {
        Ok(told) => {
            for entry in &told.entries {
                tracing::info!(rollout = %key, reason = entry.reason, "{}", entry.message);
            }
            if let Some(status) = &rollout.status {
                cx.metrics.told(&key.namespace, status, &told.entries);
            }
            told.more
        }
        Err(error) => {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            tracing::warn!(rollout = %key, %error, source, "not told, trying again");
            Some(TELL_AGAIN)
        }
    }
}

/// The earlier of a time to look again and `at_most` from now.
fn sooner(cx: &Context, requeue: Requeue, at_most: Duration) -> Requeue {
    match requeue {
        Requeue::Now => Requeue::Now,
        Requeue::OnChange(longest) => Requeue::OnChange(longest.min(at_most)),
        Requeue::At(at) => {
            let limit = jiff::SignedDuration::try_from(at_most).unwrap_or_default();
            Requeue::At(at.min(cx.clock.now().saturating_add(limit).unwrap_or(at)))
        }
    }
}
