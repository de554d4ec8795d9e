//! Waiting by watch: for a Rollout to be as wanted, or for any change of it and its parts.

use std::{collections::BTreeSet, pin::pin, time::Duration};

use futures::{Stream, StreamExt, stream::select_all};
use kube::{
    api::DynamicObject,
    runtime::{
        WatchStreamExt,
        watcher::{self, Config, Event, watch_object, watcher},
    },
};

use crate::{
    api::{Rollout, units::HumanDuration},
    model::object::{Kind, ROLLOUT},
};

use super::{
    connect::{Door, OperateError},
    show::{
        parts::{Parts, api, kinds},
        words,
    },
};

/// The value of a flag for a limit of time, such as `30s` or `10m`.
pub fn limit(text: &str) -> Result<Duration, String> {
    HumanDuration(text.to_owned()).parse()
}

/// An error that does not pass by waiting. Everything else is tried again, with a backoff.
fn fatal(door: &Door, kind: Kind, error: watcher::Error) -> Option<OperateError> {
    let error = match error {
        watcher::Error::InitialListFailed(e)
        | watcher::Error::WatchStartFailed(e)
        | watcher::Error::WatchFailed(e) => e,
        _ => return None,
    };
    let kube::Error::Api(status) = &error else {
        return None;
    };
    [401, 403, 404]
        .contains(&status.code)
        .then(|| door.explain(&format!("watch {}", kind.plural), &error))
}

/// Looks at a Rollout at each change until `look` finds something. None when the time is up.
pub async fn until<T>(
    door: &Door,
    name: &str,
    limit: Option<Duration>,
    mut look: impl FnMut(&Rollout) -> Option<T>,
) -> Result<Option<T>, OperateError> {
    let waiting = async {
        let mut seen = pin!(watch_object(door.rollouts(), name).default_backoff());
        let mut there = false;
        loop {
            match seen.next().await {
                Some(Ok(Some(rollout))) => {
                    there = true;
                    if let Some(found) = look(&rollout) {
                        return Ok(found);
                    }
                }
                Some(Ok(None)) if there => {
                    let namespace = &door.namespace;
                    return Err(OperateError::NotFound(format!(
                        "rollout {name:?} in namespace {namespace} was deleted meanwhile"
                    )));
                }
                Some(Ok(None)) => return Err(door.missing(name).await),
                Some(Err(error)) => {
                    if let Some(error) = fatal(door, ROLLOUT, error) {
                        return Err(error);
                    }
                }
                None => return Err(OperateError::System("the watch ended".to_owned())),
            }
        }
    };
    match limit {
        None => waiting.await.map(Some),
        Some(limit) => match tokio::time::timeout(limit, waiting).await {
            Ok(found) => found.map(Some),
            Err(_) => Ok(None),
        },
    }
}

/// What changed, by kind.
type Change = (Kind, Result<Event<DynamicObject>, watcher::Error>);

/// Every change of a Rollout and its parts.
fn changes(door: &Door, rollout: &Rollout) -> impl Stream<Item = Change> + use<> {
    let name = format!("metadata.name={}", words::name(rollout));
    let itself = (ROLLOUT, Config::default().fields(&name));
    let parts = kinds(rollout)
        .into_iter()
        .map(|(kind, labels)| (kind, Config::default().labels(&labels)));
    let streams = std::iter::once(itself).chain(parts).map(|(kind, config)| {
        watcher(api(door, kind), config)
            .default_backoff()
            .map(move |event| (kind, event))
            .boxed()
    });
    select_all(streams.collect::<Vec<_>>())
}

/// As many changes are drawn at once, where as many are there.
const AT_ONCE: usize = 256;

/// Calls `draw` with the Rollout and its parts at each change, and each time `every` has passed,
/// until it says that it is over.
pub async fn follow<E: From<OperateError>>(
    door: &Door,
    mut parts: Parts,
    every: Option<Duration>,
    mut draw: impl FnMut(&Parts) -> Result<bool, E>,
) -> Result<(), E> {
    let mut changes = pin!(changes(door, &parts.rollout).ready_chunks(AT_ONCE));
    let all = kinds(&parts.rollout).len() + 1;
    let mut listed: BTreeSet<Kind> = BTreeSet::new();
    let mut fresh: BTreeSet<(Kind, String)> = BTreeSet::new();
    let mut tick = every.map(tokio::time::interval);
    loop {
        let ticked = async {
            match &mut tick {
                Some(tick) => drop(tick.tick().await),
                None => std::future::pending().await,
            }
        };
        let batch = tokio::select! {
            batch = changes.next() => batch.unwrap_or_default(),
            () = ticked => vec![],
        };
        for (kind, event) in batch {
            match event {
                Err(error) => {
                    if let Some(error) = fatal(door, kind, error) {
                        if kind == ROLLOUT {
                            return Err(error.into());
                        }
                        parts.lacking.insert(kind.plural, error.to_string());
                        listed.insert(kind);
                    }
                }
                Ok(Event::Init) => fresh.retain(|(k, _)| *k != kind),
                Ok(Event::InitApply(object)) => {
                    fresh.insert((kind, object.metadata.name.clone().unwrap_or_default()));
                    parts.put(kind, &object);
                }
                Ok(Event::InitDone) => {
                    listed.insert(kind);
                    parts.lacking.remove(kind.plural);
                    parts
                        .objects
                        .retain(|key, _| key.0 != kind || fresh.contains(key));
                    if kind == ROLLOUT && !fresh.iter().any(|(k, _)| *k == ROLLOUT) {
                        return Err(gone(&parts).into());
                    }
                }
                Ok(Event::Apply(object)) => parts.put(kind, &object),
                Ok(Event::Delete(_)) if kind == ROLLOUT => return Err(gone(&parts).into()),
                Ok(Event::Delete(object)) => {
                    let name = object.metadata.name.unwrap_or_default();
                    parts.objects.remove(&(kind, name));
                }
            }
        }
        if listed.len() == all && draw(&parts)? {
            return Ok(());
        }
    }
}

fn gone(parts: &Parts) -> OperateError {
    OperateError::NotFound(format!(
        "rollout {:?} in namespace {} was deleted meanwhile",
        words::name(&parts.rollout),
        words::namespace(&parts.rollout)
    ))
}
