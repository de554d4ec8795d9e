//! Makes it happen: watches lead to rounds, rounds lead to the next look.

pub mod analysis_runs;
pub mod context;
pub mod lead;
pub mod rollouts;
pub mod round;
pub mod standing;

use std::sync::Arc;

use futures::{StreamExt, stream};
use kube::{
    Resource, ResourceExt,
    runtime::{
        controller::{Action, Config, Controller, Error},
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use tokio::sync::watch;

use crate::adapters::cluster::world::{
    mirror::Key,
    queue::{Named, Queue},
    stores::Signals,
};

use context::Context;
use round::{RoundError, after_failure, guarded};

/// Rounds of Rollouts at the same time.
const ROLLOUTS: u16 = 64;
/// Rounds of AnalysisRuns at the same time: more, since they wait for metric providers, and one that
/// does not answer must not hold up what others measure.
const RUNS: u16 = 256;

/// Works until `stop`, and ends when the rounds in progress have ended.
pub async fn run(cx: Arc<Context>, signals: Signals, stop: watch::Receiver<bool>) {
    let rollouts = drive(
        (rollouts::ROLLOUT, ROLLOUTS),
        signals.rollout_store,
        signals.rollouts,
        stop.clone(),
        Arc::clone(&cx),
        |cx, key| async move { rollouts::round(&cx, &key).await },
    );
    let runs = drive(
        ("analysisrun", RUNS),
        signals.run_store,
        signals.runs,
        stop.clone(),
        Arc::clone(&cx),
        |cx, key| async move { analysis_runs::round(&cx, &key).await },
    );
    let unreadable = warn(&cx, signals.unreadable, stop);
    futures::join!(rollouts, runs, unreadable);
}

fn key_of<K: Resource<DynamicType = ()>>(object: &K) -> Key {
    Key::new(object.namespace().unwrap_or_default(), object.name_any())
}

/// Drives the rounds of one kind.
async fn drive<K, Round>(
    (controller, concurrency): (&'static str, u16),
    store: Store<Named<K>>,
    queue: Arc<Queue>,
    mut stop: watch::Receiver<bool>,
    cx: Arc<Context>,
    round: impl Fn(Arc<Context>, Key) -> Round + Clone + Send + Sync + 'static,
) where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + Sync + 'static,
    K: serde::de::DeserializeOwned,
    Round: Future<Output = Result<crate::model::plan::Requeue, RoundError>> + Send + 'static,
{
    let there = || {
        let objects = store.state();
        objects.iter().map(|o| key_of(o.as_ref())).collect()
    };
    let objects = queue
        .stream(&there)
        .map(|key| ObjectRef::<Named<K>>::new(&key.name).within(&key.namespace));
    let reconcile = move |object: Arc<Named<K>>, cx: Arc<Context>| {
        let (key, round) = (key_of(object.as_ref()), round.clone());
        async move {
            let work = round(Arc::clone(&cx), key.clone());
            guarded(&cx, controller, &key, work).await
        }
    };
    let failed = move |object: Arc<Named<K>>, error: &RoundError, cx: Arc<Context>| -> Action {
        after_failure(&cx, controller, &key_of(object.as_ref()), error)
    };
    let gone = Arc::clone(&cx);
    // Every trigger comes through the queue: what is watched, and what it concerns, is known there.
    Controller::for_stream(stream::pending::<Result<Named<K>, watcher::Error>>(), store)
        .reconcile_on(objects)
        // Without a debounce: a change in a round leads to one round after it, however many there are,
        // and a round in which nothing is decided asks for nothing.
        .with_config(Config::default().concurrency(concurrency))
        .graceful_shutdown_on(async move { drop(stop.wait_for(|s| *s).await) })
        .run(reconcile, failed, cx)
        .for_each(move |done| {
            match done {
                Ok((object, _)) => tracing::trace!(controller, %object, "round done"),
                Err(Error::ReconcilerFailed(..)) => {}
                Err(Error::ObjectNotFound(object)) => {
                    let key = Key::new(object.namespace.unwrap_or_default(), object.name);
                    gone.failures.clear(controller, &key);
                    if !gone.cluster.world().rollouts.any_in(&key.namespace) {
                        gone.metrics.forget(&key.namespace);
                    }
                }
                Err(error) => tracing::warn!(controller, %error, "queue"),
            }
            futures::future::ready(())
        })
        .await;
}

/// Warns of Rollouts that cannot be read.
async fn warn(cx: &Context, unreadable: Arc<Queue>, mut stop: watch::Receiver<bool>) {
    let there = || cx.cluster.world().rollouts.all_unreadable();
    let mut keys = std::pin::pin!(unreadable.stream(&there));
    loop {
        let key = tokio::select! {
            biased;
            _ = stop.wait_for(|s| *s) => return,
            key = keys.next() => key,
        };
        let Some(key) = key else { return };
        // It was mended meanwhile.
        let Some(one) = cx.cluster.world().rollouts.unreadable(&key) else {
            continue;
        };
        if let Err(error) = cx.cluster.tell_malformed(&one).await {
            tracing::warn!(rollout = %key, %error, "not told");
        }
    }
}
