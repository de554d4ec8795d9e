//! Which Rollout, or which AnalysisRun, a change in the watched world concerns.

use std::sync::Arc;

use kube::{
    api::ObjectMeta,
    core::PartialObjectMetaExt,
    runtime::{
        reflector::{self, Store, store::Writer},
        watcher::Event,
    },
};
use tokio::sync::watch;

use crate::api::{
    AnalysisRun, Rollout,
    status::{Track, TrafficStatus},
};

use super::{
    super::written::Written,
    mirror::{Change, Changed, Key, Mirror},
    pods::StuckPod,
    queue::{Named, Queue},
    views::{OwnRollout, OwnedRun, OwnedSet},
};

/// A store that is ready from the start: what is missing in it is not asked for either.
pub fn ready_store<K>() -> (Store<Named<K>>, Writer<Named<K>>)
where
    K: kube::Resource<DynamicType = ()> + Clone + 'static,
{
    let (store, mut writer) = reflector::store();
    writer.apply_watcher_event(&Event::Init);
    writer.apply_watcher_event(&Event::InitDone);
    (store, writer)
}

/// Passes what is new and what is gone on to a store.
fn pass<K, T>(writer: &mut Writer<Named<K>>, change: &Change<T>)
where
    K: kube::Resource<DynamicType = ()> + Clone + 'static,
{
    let named = |key: &Key| {
        let meta = ObjectMeta {
            name: Some(key.name.to_string()),
            namespace: Some(key.namespace.to_string()),
            ..ObjectMeta::default()
        };
        meta.into_response_partial()
    };
    match (&change.old, &change.new) {
        (None, Some(new)) => writer.apply_watcher_event(&Event::Apply(named(&new.key))),
        (Some(old), None) => writer.apply_watcher_event(&Event::Delete(named(&old.key))),
        // A name stays what it is.
        (Some(_), Some(_)) | (None, None) => {}
    }
}

/// What a change of an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    /// The echo of our own write to its status.
    Echo,
    /// A status that somebody else wrote. What another leader decided is news: it may have died
    /// before it carried that out. So is a status that is gone.
    Status,
    /// More than its status.
    More,
}

fn news<K: kube::Resource>(written: &Written, old: &K, new: &K) -> News {
    let (a, b) = (old.meta(), new.meta());
    let own = |version: &str| written.echo(b.uid.as_deref().unwrap_or_default(), version);
    let more = a.uid != b.uid
        || a.generation != b.generation
        || a.annotations != b.annotations
        || a.labels != b.labels
        || a.finalizers != b.finalizers
        || a.deletion_timestamp != b.deletion_timestamp;
    match b.resource_version.as_deref().is_some_and(own) {
        _ if more => News::More,
        true => News::Echo,
        false => News::Status,
    }
}

/// What to look at when a Rollout or an AnalysisRun changes.
pub struct Runs {
    /// Rollouts to look at.
    pub rollouts: Arc<Queue>,
    /// AnalysisRuns to look at.
    pub runs: Arc<Queue>,
    /// Our own writes.
    pub written: Arc<Written>,
}

impl Runs {
    /// A change of a Rollout.
    pub fn rollout_changed(
        &self,
        runs: &Arc<Mirror<OwnedRun>>,
        mut writer: Writer<Named<Rollout>>,
        changes: watch::Sender<u64>,
    ) -> Changed<OwnRollout> {
        let (queue, run_queue) = (Arc::clone(&self.rollouts), Arc::clone(&self.runs));
        let (runs, written) = (Arc::clone(runs), Arc::clone(&self.written));
        let wake = move |rollout: &str| {
            for run in runs.find(rollout) {
                run_queue.push(run.key.clone());
            }
        };
        Box::new(move |change| {
            pass(&mut writer, change);
            changes.send_modify(|n| *n = n.wrapping_add(1));
            let Some(any) = change.any() else { return };
            match (&change.old, &change.new) {
                (Some(old), None) => written.gone(&old.uid),
                (Some(old), Some(new)) => {
                    let read = (old.value.read(), new.value.read());
                    let (Ok(old), Ok(new)) = &read else {
                        queue.push(any.key.clone());
                        return;
                    };
                    match news(&written, old, new) {
                        News::Echo => {}
                        News::Status => queue.push_later(any.key.clone()),
                        News::More => queue.push(any.key.clone()),
                    }
                    // Measurements wait while the split of the traffic changes, and while somebody
                    // else looks after the Rollout.
                    let theirs = |r: &Rollout| r.spec.controller_name.clone();
                    if split(old) != split(new) || theirs(old) != theirs(new) {
                        wake(&any.uid);
                    }
                }
                (None, _) => {
                    queue.push(any.key.clone());
                    // Runs that were seen before their Rollout wait for it.
                    wake(&any.uid);
                }
            }
        })
    }

    /// A change of an AnalysisRun.
    pub fn run_changed(&self, mut writer: Writer<Named<AnalysisRun>>) -> Changed<OwnedRun> {
        let (queue, run_queue) = (Arc::clone(&self.rollouts), Arc::clone(&self.runs));
        let written = Arc::clone(&self.written);
        Box::new(move |change| {
            pass(&mut writer, change);
            let Some(any) = change.any() else { return };
            queue.push(Key::new(any.key.namespace.clone(), &*any.value.rollout));
            match (&change.old, &change.new) {
                (Some(old), None) => written.gone(&old.uid),
                (Some(old), Some(new)) => {
                    let read = (old.value.read(), new.value.read());
                    let same = matches!(&read, (Ok(old), Ok(new)) if news(&written, old, new) == News::Echo);
                    if !same {
                        run_queue.push(any.key.clone());
                    }
                }
                (None, _) => run_queue.push(any.key.clone()),
            }
        })
    }
}

/// What measurements depend on: the split of the traffic, as wanted and as accepted.
fn split(rollout: &Rollout) -> Option<(Option<&TrafficStatus>, &[Track])> {
    let status = rollout.status.as_ref()?;
    Some((status.traffic.as_ref(), &status.tracks))
}

/// Asks for a look at the Rollouts that a change concerns.
pub struct Touch {
    /// The Rollouts.
    pub rollouts: Arc<Mirror<OwnRollout>>,
    /// Those to look at.
    pub queue: Arc<Queue>,
    /// Our own writes.
    pub written: Arc<Written>,
}

impl Touch {
    /// The Rollout that the object names.
    pub fn by_name<T: 'static>(&self, name: impl Fn(&T) -> String + Send + 'static) -> Changed<T> {
        let (queue, written) = (Arc::clone(&self.queue), Arc::clone(&self.written));
        Box::new(move |change| {
            if let (Some(old), None) = (&change.old, &change.new) {
                written.gone(&old.uid);
            }
            if let Some(any) = change.any() {
                queue.push(Key::new(any.key.namespace.clone(), name(&any.value)));
            }
        })
    }

    /// The Rollouts that refer to the object.
    pub fn by_word<T: 'static>(
        &self,
        word: impl Fn(&Key) -> Arc<str> + Send + 'static,
    ) -> Changed<T> {
        let (rollouts, queue) = (Arc::clone(&self.rollouts), Arc::clone(&self.queue));
        let written = Arc::clone(&self.written);
        Box::new(move |change| {
            if let (Some(old), None) = (&change.old, &change.new) {
                written.gone(&old.uid);
            }
            let Some(any) = change.any() else { return };
            for rollout in rollouts.find(&word(&any.key)) {
                queue.push(rollout.key.clone());
            }
        })
    }

    /// The Rollout whose ReplicaSet the pod is of.
    pub fn by_pod(&self, sets: &Arc<Mirror<OwnedSet>>) -> Changed<StuckPod> {
        let (sets, queue) = (Arc::clone(sets), Arc::clone(&self.queue));
        Box::new(move |change| {
            if let (Some(old), Some(new)) = (&change.old, &change.new)
                && old.value.trouble == new.value.trouble
            {
                return;
            }
            let Some(any) = change.any() else { return };
            for set in sets.find(&any.value.owner) {
                queue.push(Key::new(
                    any.key.namespace.clone(),
                    set.value.rollout.as_str(),
                ));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt};
    use serde_json::json;

    use super::super::{listings::Listings, mirror::Entry, views};
    use super::*;
    use crate::model::observed::References;

    fn rollout(controller: &str, generation: i64) -> Arc<Entry<OwnRollout>> {
        let object = json!({
            "metadata": {"namespace": "ns", "name": "web", "uid": "u", "resourceVersion": generation.to_string(),
                "generation": generation},
            "spec": {"controllerName": controller, "selector": {}, "template": {"spec": {"containers": []}},
                "strategy": {"canary": {"steps": []}}},
        });
        let object = serde_json::from_value(object).expect("an object");
        let read = views::rollout(object, &|_| References::default());
        Arc::new(read.expect("reads").expect("is kept"))
    }

    /// Whoever measures was told nothing else that would make it look before minutes have passed.
    #[test]
    fn runs_are_looked_at_when_their_rollout_becomes_ours_or_is_seen_after_them() {
        let read = Arc::new(views::run);
        let all = Listings::new("AnalysisRun", [String::new()]);
        let runs = Arc::new(Mirror::new(all, read, Box::new(|_| {}), |_| {}));
        let run = json!({
            "metadata": {"namespace": "ns", "name": "web-1", "uid": "r", "resourceVersion": "1", "ownerReferences":
                [{"apiVersion": "serin.dev/v1alpha1", "kind": "Rollout", "name": "web", "uid": "u", "controller": true}]},
            "spec": {"rollout": "web", "revision": "abc", "step": "0", "metrics": []},
        });
        runs.apply(serde_json::from_value(run).expect("an object"));
        let triggers = Runs {
            rollouts: Arc::default(),
            runs: Arc::default(),
            written: Arc::default(),
        };
        let mut keys = Box::pin(Arc::clone(&triggers.runs).stream(&Vec::new));
        let (_store, writer) = ready_store();
        let mut changed = triggers.rollout_changed(&runs, writer, watch::Sender::new(0));
        let (theirs, ours) = (rollout("theirs", 1), rollout("ours", 2));
        let mut asked = |old: Option<&Arc<_>>, new: &Arc<_>| {
            changed(&Change {
                old: old.cloned(),
                new: Some(Arc::clone(new)),
            });
            keys.next().now_or_never().flatten()
        };
        let run = Some(Key::new("ns", "web-1"));
        assert_eq!(asked(None, &theirs), run);
        assert_eq!(asked(Some(&theirs), &ours), run);
        assert_eq!(asked(Some(&ours), &rollout("ours", 3)), None);
    }
}
