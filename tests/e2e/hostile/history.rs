//! What happened, in one order: every version of every object that matters, by watches straight to
//! the API server. All objects lie in one etcd, so resourceVersions order them against each other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt;
use kube::{
    Api,
    api::DynamicObject,
    core::{ApiResource, GroupVersionKind},
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use serde_json::Value;
use serin::api::{Rollout, RolloutStatus};
use tokio::{sync::watch, task::JoinHandle};

use crate::world::{LIMIT, Result, World};

/// What is watched: group, version, kind.
const KINDS: [(&str, &str, &str); 5] = [
    ("serin.dev", "v1alpha1", "Rollout"),
    ("gateway.networking.k8s.io", "v1", "HTTPRoute"),
    ("", "v1", "Service"),
    ("apps", "v1", "ReplicaSet"),
    ("", "v1", "Pod"),
];

/// One version of an object.
#[derive(Clone, Debug)]
pub struct Seen {
    pub version: u64,
    pub kind: &'static str,
    pub name: String,
    /// None: it is gone.
    pub object: Option<Value>,
}

/// All of it, in the order in which it happened.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub seen: Vec<Seen>,
    /// After which version and up to which one some kind was not watched: an API server that starts
    /// anew does not tell what was before, so that only the last version of each object is known.
    pub gaps: Vec<(u64, u64)>,
}

impl History {
    /// Whether everything is known about that time.
    pub fn is_whole_at(&self, version: u64) -> bool {
        let mut gaps = self.gaps.iter();
        !gaps.any(|(after, up_to)| version > *after && version <= *up_to)
    }
}

/// Watches a namespace and writes down what it sees.
pub struct Recorder {
    history: Arc<Mutex<History>>,
    status: watch::Receiver<Option<Rollout>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Recorder {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Recorder {
    pub fn start(w: &World) -> Self {
        let history = Arc::<Mutex<History>>::default();
        let (tell, status) = watch::channel(None);
        let tasks = KINDS
            .iter()
            .map(|(group, version, kind)| {
                let gvk = GroupVersionKind::gvk(group, version, kind);
                let resource = ApiResource::from_gvk(&gvk);
                let api = Api::namespaced_with(w.lab.client(), &w.namespace, &resource);
                let tell = (*kind == "Rollout").then(|| tell.clone());
                tokio::spawn(follow(api, kind, history.clone(), tell))
            })
            .collect();
        Self {
            history,
            status,
            tasks,
        }
    }

    /// Everything so far.
    pub fn history(&self) -> History {
        let mut history = locked(&self.history).clone();
        history.seen.sort_by_key(|s| s.version);
        history
    }

    /// Awaits a status of the newest generation. Unlike [`World::until`] it outlives an API server.
    pub async fn until(
        &self,
        w: &World,
        what: &str,
        limits: u32,
        holds: impl Fn(&RolloutStatus) -> bool,
    ) -> Result<RolloutStatus> {
        let mut status = self.status.clone();
        let found = |r: &Option<Rollout>| {
            let rollout = r.as_ref();
            rollout.is_some_and(|r| {
                let status = r.status.as_ref();
                status.is_some_and(|s| s.observed_generation == r.metadata.generation && holds(s))
            })
        };
        let waiting = async {
            let found = status.wait_for(found).await;
            found.map(|r| {
                r.as_ref()
                    .and_then(|r| r.status.clone())
                    .unwrap_or_default()
            })
        };
        match w.lab.within(what, LIMIT * limits, waiting).await {
            Ok(status) => Ok(status?),
            Err(e) => {
                let last = self.status.borrow().as_ref().and_then(|r| r.status.clone());
                let last = serde_json::to_string_pretty(&last)?;
                Err(format!("{}: {e}\nlast status: {last}", w.namespace).into())
            }
        }
    }
}

fn locked(history: &Mutex<History>) -> MutexGuard<'_, History> {
    history.lock().unwrap_or_else(PoisonError::into_inner)
}

fn number(version: Option<&String>) -> u64 {
    version.and_then(|v| v.parse().ok()).unwrap_or_default()
}

async fn follow(
    api: Api<DynamicObject>,
    kind: &'static str,
    history: Arc<Mutex<History>>,
    tell: Option<watch::Sender<Option<Rollout>>>,
) {
    let watching = watcher::watcher(api, watcher::Config::default()).default_backoff();
    let mut events = std::pin::pin!(watching);
    let mut known = BTreeMap::<String, u64>::new();
    let mut listed = BTreeMap::<String, u64>::new();
    // What was known by all watches when this one broke.
    let mut broke: Option<u64> = None;
    let put = |version, name: &str, object| {
        locked(&history).seen.push(Seen {
            version,
            kind,
            name: name.to_owned(),
            object,
        });
    };
    while let Some(event) = events.next().await {
        let (object, gone, listing) = match event {
            Err(_) => {
                let newest = locked(&history).seen.iter().map(|s| s.version).max();
                broke = broke.or(newest);
                continue;
            }
            Ok(Event::Init) => {
                listed.clear();
                continue;
            }
            Ok(Event::InitApply(object)) => (object, false, true),
            Ok(Event::Apply(object)) => (object, false, false),
            Ok(Event::Delete(object)) => (object, true, false),
            Ok(Event::InitDone) => {
                let newest = listed.values().copied().max().unwrap_or_default();
                if let Some(after) = broke.take().filter(|after| *after < newest) {
                    locked(&history).gaps.push((after, newest));
                }
                // Gone while nobody watched; when, is known no better than by what is there now.
                for name in known.keys().filter(|n| !listed.contains_key(*n)) {
                    put(newest, name, None);
                }
                known = listed.clone();
                continue;
            }
        };
        let name = object.metadata.name.clone().unwrap_or_default();
        let version = number(object.metadata.resource_version.as_ref());
        if listing {
            listed.insert(name.clone(), version);
        } else {
            // It goes on where it broke: nothing was missed.
            broke = None;
        }
        if gone {
            known.remove(&name);
        } else if known.insert(name.clone(), version) == Some(version) {
            continue;
        }
        let value = serde_json::to_value(&object).unwrap_or_default();
        if let (Some(tell), false) = (&tell, gone) {
            tell.send_replace(serde_json::from_value(value.clone()).ok());
        }
        put(version, &name, (!gone).then_some(value));
    }
}
