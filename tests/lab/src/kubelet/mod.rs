//! A kubelet whose pods are processes, and the scheduler for its only node.
//!
//! Each pod has an address and a network of its own on the lab's bridge, so every port is free in
//! it. What it does as a real kubelet: phases, conditions, restarts, probes, grace periods, waiting
//! reasons, environment, ServiceAccount tokens, the simple volumes. What it does not: limits,
//! security contexts, sidecar containers, lifecycle hooks but `sleep`, logs and exec through the
//! API server (logs are files in the run folder).

mod container;
mod environment;
mod images;
mod pod;
mod probe;
mod sandbox;
mod status;

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use serde_json::json;
use tokio::{sync::watch, task::JoinHandle};

pub use self::images::Images;
use self::pod::PodTask;
use crate::{
    apply::create,
    error::{Context, Error, Result},
    inside::HOST_IP,
    process,
};

/// The name of the node.
pub const NODE: &str = "lab";

/// What all pods share.
struct Shared {
    client: Client,
    images: Images,
    run_dir: PathBuf,
    ca_pem: String,
    running: Mutex<HashMap<ContainerKey, Pid>>,
}

/// Namespace, pod and container.
type ContainerKey = (String, String, String);

impl Shared {
    /// The processes of the containers that run.
    fn running(&self) -> MutexGuard<'_, HashMap<ContainerKey, Pid>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// A line in the kubelet's log.
    fn note(&self, line: &str) {
        use std::io::Write;
        if let Ok(mut log) = process::append(&self.run_dir.join("logs/kubelet.log")) {
            drop(writeln!(log, "{} {line}", jiff::Timestamp::now()));
        }
    }
}

/// The running kubelet; it ends when it is dropped.
pub(crate) struct Kubelet {
    task: JoinHandle<()>,
    shared: Arc<Shared>,
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Kubelet {
    /// Makes the node and begins to run pods.
    pub(crate) async fn start(
        client: Client,
        images: Images,
        run_dir: &Path,
        ca_pem: &str,
    ) -> Result<Self> {
        make_node(&client).await?;
        let shared = Arc::new(Shared {
            client,
            images,
            run_dir: run_dir.to_owned(),
            ca_pem: ca_pem.to_owned(),
            running: Mutex::default(),
        });
        let task = tokio::spawn(follow(shared.clone()));
        Ok(Self { task, shared })
    }

    /// Sends a signal to a container's processes, as a crash or an out-of-memory killer would.
    pub(crate) fn signal(&self, key: &ContainerKey, signal: Signal) -> Result<()> {
        let what = || format!("{}/{} has no running container {}", key.0, key.1, key.2);
        let pid = self.shared.running().get(key).copied();
        let pid = pid.ok_or_else(|| Error::Invalid(what()))?;
        killpg(pid, signal)
            .or_else(|_| kill(pid, signal))
            .context(what)
    }
}

/// Makes the node, with room for everything.
pub(crate) async fn make_node(client: &Client) -> Result<()> {
    let api: Api<Node> = Api::all(client.clone());
    let node = serde_json::from_value(json!({
        "metadata": {"name": NODE, "labels": {
            "kubernetes.io/hostname": NODE, "kubernetes.io/os": "linux",
            "topology.kubernetes.io/zone": "lab",
        }},
    }))
    .context(|| "the node")?;
    create(&api, &node, "the node").await?;
    let now = jiff::Timestamp::now();
    let room = json!({"cpu": "64", "memory": "64Gi", "pods": "1000"});
    let status = json!({"status": {
        "capacity": room, "allocatable": room,
        "addresses": [
            {"type": "InternalIP", "address": HOST_IP}, {"type": "Hostname", "address": NODE},
        ],
        "conditions": [{
            "type": "Ready", "status": "True", "reason": "KubeletReady",
            "message": "pods are processes here",
            "lastHeartbeatTime": now, "lastTransitionTime": now,
        }],
    }});
    api.patch_status(NODE, &PatchParams::default(), &Patch::Merge(&status))
        .await
        .map(drop)
        .context(|| "the node's status")
}

/// Gives every pod a task, and tells it what became of its object.
async fn follow(shared: Arc<Shared>) {
    let api: Api<Pod> = Api::all(shared.client.clone());
    let events = watcher(api, watcher::Config::default()).default_backoff();
    let mut events = std::pin::pin!(events);
    let mut pods: HashMap<String, watch::Sender<Arc<Pod>>> = HashMap::new();
    let mut listed: Vec<String> = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => listed.clear(),
            Ok(watcher::Event::InitApply(pod)) => {
                listed.extend(pod.metadata.uid.clone());
                apply(&shared, &mut pods, pod);
            }
            Ok(watcher::Event::InitDone) => pods.retain(|uid, _| listed.contains(uid)),
            Ok(watcher::Event::Apply(pod)) => apply(&shared, &mut pods, pod),
            // Its task hears of it by the end of the channel.
            Ok(watcher::Event::Delete(pod)) => {
                pods.remove(&pod.metadata.uid.unwrap_or_default());
            }
            Err(e) => shared.note(&format!("watching pods: {e}")),
        }
    }
}

fn apply(shared: &Arc<Shared>, pods: &mut HashMap<String, watch::Sender<Arc<Pod>>>, pod: Pod) {
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let pod = Arc::new(pod);
    if let Some(known) = pods.get(&uid) {
        known.send_replace(pod);
        return;
    }
    let (tell, seen) = watch::channel(pod);
    pods.insert(uid, tell);
    tokio::spawn(PodTask::new(shared.clone(), seen).run());
}

/// What a container has written, from the newest pod of that name.
pub(crate) fn container_log(
    run_dir: &Path,
    namespace: &str,
    pod: &str,
    container: &str,
) -> Result<String> {
    let what = || format!("reading the log of {namespace}/{pod}");
    let start = format!("{namespace}_{pod}_");
    let pods = fs::read_dir(run_dir.join("pods")).context(what)?.flatten();
    let newest = pods
        .filter(|e| e.file_name().to_string_lossy().starts_with(&start))
        .max_by_key(|e| e.metadata().and_then(|m| m.created()).ok())
        .ok_or_else(|| Error::Invalid(format!("no pod {namespace}/{pod} has run")))?;
    let log = fs::read(newest.path().join(format!("{container}.log"))).context(what)?;
    Ok(String::from_utf8_lossy(&log).into_owned())
}
