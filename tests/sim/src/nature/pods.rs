//! ReplicaSets make pods, pods start and end, Services find those that are ready.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    api::{
        kinds::{POD, SERVICE, SET, SLICE},
        store::{Path, number, text},
        write::owner,
    },
    world::{Who, World},
};

use super::{Health, What};

/// Why a pod waits whose container crashes.
pub const CRASHES: (&str, &str) = (
    "CrashLoopBackOff",
    "back-off 10s restarting failed container",
);

/// Whether a pod is ready and stays.
pub fn serves(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_null()
        && pod.pointer("/status/conditions/0/status") == Some(&json!("True"))
}

impl World {
    /// The pods of a ReplicaSet that stay.
    pub fn pods_of(&self, uid: &str) -> Vec<(Path, Arc<Value>)> {
        let pods = self.store.all(POD);
        pods.filter(|(_, p)| owner(p).is_some_and(|(_, owner)| owner == uid))
            .filter(|(_, p)| p["metadata"]["deletionTimestamp"].is_null())
            .map(|(path, p)| (path.clone(), Arc::clone(p)))
            .collect()
    }

    /// The ReplicaSet controller: as many pods as are wanted, and how many there are.
    pub(super) fn sync(&mut self, name: &str) {
        let path = Path::new(SET, name);
        let Some(set) = self.store.get(&path).cloned() else {
            return;
        };
        let uid = text(&set, "/metadata/uid").to_owned();
        let wanted = usize::try_from(number(&set, "/spec/replicas")).unwrap_or(0);
        let mut pods = self.pods_of(&uid);
        if pods.len() > wanted {
            // Those that serve nobody go first.
            pods.sort_by_key(|(path, p)| (serves(p), path.name.clone()));
            let surplus: Vec<String> = pods
                .drain(..pods.len() - wanted)
                .map(|(p, _)| p.name)
                .collect();
            for pod in surplus {
                self.terminate(&pod);
            }
        }
        let mut failure = None;
        for _ in pods.len()..wanted {
            let there = self.store.all(POD).count();
            if self.nature.quota.is_some_and(|most| there as u64 >= most) {
                failure = Some(
                    json!([{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
                    "message": format!("pods \"{name}-\" is forbidden: exceeded quota: pods")}]),
                );
                self.later(3_000, 20_000, What::Sync(name.to_owned()));
                break;
            }
            self.create_pod(&set);
        }
        let pods = self.pods_of(&uid);
        let ready = pods.iter().filter(|(_, p)| serves(p)).count();
        let generation = set["metadata"]["generation"].clone();
        let mut status = json!({"replicas": pods.len(), "observedGeneration": generation});
        // The real one leaves out what is nothing.
        for (field, count) in [
            ("readyReplicas", ready),
            ("availableReplicas", ready),
            ("fullyLabeledReplicas", pods.len()),
        ] {
            if count > 0 {
                status[field] = json!(count);
            }
        }
        if let Some(failure) = failure {
            status["conditions"] = failure;
        }
        self.edit(Who::Nature, &path, |set| set["status"] = status);
    }

    fn create_pod(&mut self, set: &Value) {
        self.nature.pods += 1;
        let name = format!("{}-{:05}", text(set, "/metadata/name"), self.nature.pods);
        let template = &set["spec"]["template"];
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "ns", "labels": template["metadata"]["labels"],
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "controller": true,
                    "name": set["metadata"]["name"], "uid": set["metadata"]["uid"]}]},
            "spec": {"containers": template["spec"]["containers"]},
            "status": {"conditions": [{"type": "Ready", "status": "False"}]},
        });
        self.put(Who::Nature, &Path::new(POD, &name), Some(pod));
        let image = text(template, "/spec/containers/0/image");
        let (low, high) = match self.nature.health(image) {
            Health::Slow => (30_000, 150_000),
            Health::Broken => (1_000, 5_000),
            Health::Good | Health::Bad | Health::NoImage | Health::Mute | Health::Homeless => {
                self.nature.times.ready
            }
        };
        self.later(low, high, What::Start(name));
    }

    /// A pod becomes ready, or says why not.
    pub(super) fn start(&mut self, name: &str) {
        let path = Path::new(POD, name);
        let Some(pod) = self.store.get(&path) else {
            return;
        };
        let image = text(pod, "/spec/containers/0/image").to_owned();
        match self.nature.health(&image) {
            Health::Broken => self.trouble(&path, CRASHES),
            Health::NoImage => {
                let message = format!("Back-off pulling image {image:?}");
                self.trouble(&path, ("ImagePullBackOff", &message));
            }
            Health::Mute => {}
            Health::Homeless => self.edit(Who::Nature, &path, |pod| {
                if let Some(conditions) = pod["status"]["conditions"].as_array_mut() {
                    conditions.push(json!({"type": "PodScheduled", "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/3 nodes are available: 3 Insufficient cpu."}));
                }
            }),
            Health::Good | Health::Slow | Health::Bad => self.ready(&path, true),
        }
    }

    /// A container of a pod waits, and why.
    pub fn trouble(&mut self, path: &Path, (reason, message): (&str, &str)) {
        self.edit(Who::Nature, path, |pod| {
            pod["status"]["containerStatuses"] = json!([{"name": "app", "state": {"waiting": {
                "reason": reason, "message": message}}}]);
        });
    }

    /// A pod is ready, or is no more.
    pub fn ready(&mut self, path: &Path, ready: bool) {
        self.edit(Who::Nature, path, |pod| {
            pod["status"]["conditions"][0]["status"] = json!(if ready { "True" } else { "False" });
        });
    }

    /// A pod is to end: it takes no new requests, and ends a little later.
    pub fn terminate(&mut self, name: &str) {
        let path = Path::new(POD, name);
        let stamp = self.stamp();
        let known = self
            .store
            .get(&path)
            .is_some_and(|p| p["metadata"]["deletionTimestamp"].is_null());
        if known {
            self.edit(Who::Nature, &path, |pod| {
                pod["metadata"]["deletionTimestamp"] = json!(stamp)
            });
            self.later(1_000, 2_000, What::End(name.to_owned()));
        }
    }

    /// The endpoints controller: each Service's pods.
    pub(super) fn endpoints(&mut self) {
        let services: Vec<(Path, Arc<Value>)> = self
            .store
            .all(SERVICE)
            .map(|(p, s)| (p.clone(), Arc::clone(s)))
            .collect();
        for (path, service) in &services {
            let selector = service["spec"]["selector"]
                .as_object()
                .cloned()
                .unwrap_or_default();
            let selects = |pod: &Value| {
                let labels = &pod["metadata"]["labels"];
                !selector.is_empty() && selector.iter().all(|(k, v)| labels[k] == *v)
            };
            let pods = self.store.all(POD).filter(|(_, p)| selects(p));
            let endpoints: Vec<Value> = pods
                .map(|(path, pod)| {
                    let going = !pod["metadata"]["deletionTimestamp"].is_null();
                    let ready = serves(pod);
                    json!({"addresses": ["10.1.0.1"], "conditions": {"ready": ready, "serving": ready, "terminating": going},
                        "targetRef": {"kind": "Pod", "name": path.name}})
                })
                .collect();
            let mut labels = service["metadata"]["labels"]
                .as_object()
                .cloned()
                .unwrap_or_default();
            labels.insert("kubernetes.io/service-name".into(), json!(path.name));
            let name = format!("{}-slice", path.name);
            let slice = json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {"name": name, "namespace": "ns", "labels": labels, "ownerReferences": [{
                    "apiVersion": "v1", "kind": "Service", "controller": true, "name": path.name,
                    "uid": service["metadata"]["uid"]}]},
                "endpoints": endpoints,
            });
            self.put(Who::Nature, &Path::new(SLICE, name), Some(slice));
        }
        let gone: Vec<Path> = self
            .store
            .all(SLICE)
            .filter(|(_, s)| {
                let of = text(s, "/metadata/labels/kubernetes.io~1service-name");
                !services.iter().any(|(p, _)| p.name == of)
            })
            .map(|(p, _)| p.clone())
            .collect();
        for path in gone {
            self.put(Who::Nature, &path, None);
        }
    }
}
