//! A Rollout as a scenario made it, in an API server that listens, and the program that looks at it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use serin::{
    api::Rollout,
    engine,
    model::plan::Requeue,
    sim::{Scenario, Simulation},
};
use tokio::{
    process::{Child, Command},
    task::JoinHandle,
};

use crate::apiserver::Server;

pub const ROLLOUTS: &str = "serin.dev/v1alpha1/rollouts";

/// A scenario, so far.
#[derive(Clone, Copy)]
pub struct Scene {
    pub name: &'static str,
    /// As many of its events happen.
    pub events: usize,
    /// Seconds from its beginning.
    pub at: i64,
    /// What is otherwise in the spec, as JSON.
    pub spec: &'static str,
}

pub const fn scene(name: &'static str, events: usize, at: i64) -> Scene {
    let spec = "{}";
    Scene {
        name,
        events,
        at,
        spec,
    }
}

/// The steps are passed up to the last, which waits for a person.
pub const WAITS: Scene = scene("promote", 1, 100);

/// The canary never becomes ready, and its deadline has passed.
pub const DEADLINE: Scene = Scene {
    spec: r#"{"progressDeadlineAbort": false}"#,
    ..scene("never-ready", 1, 200)
};

pub struct World {
    pub server: Arc<Server>,
    pub url: String,
    folder: PathBuf,
    pub now: Timestamp,
    /// Where the Rollout was made.
    pub cluster: Option<serin::sim::cluster::Cluster>,
}

fn begin() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().expect("a time")
}

fn after(seconds: i64) -> Timestamp {
    begin() + SignedDuration::from_secs(seconds)
}

fn play(scene: Scene) -> Simulation {
    let path = format!("tests/scenarios/{}.yaml", scene.name);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let mut scenario: Scenario = serde_saphyr::from_str(&text).expect("a scenario");
    scenario.events.truncate(scene.events);
    let patch: Value = serde_json::from_str(scene.spec).expect("JSON");
    json_patch::merge(&mut scenario.given.spec, &patch);
    let played = Simulation::new(&scenario).expect("it can be played");
    played.play(SignedDuration::from_secs(scene.at))
}

impl World {
    /// An API server with nothing in it, and a kubeconfig. Each test has a name of its own.
    pub async fn empty(test: &str) -> Self {
        let server = Server::new();
        let url = server.listen().await;
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{test}"));
        fs::create_dir_all(&folder).expect("a folder");
        let world = Self {
            server,
            url,
            folder,
            now: after(0),
            cluster: None,
        };
        world.kubeconfig(&world.url);
        world
    }

    /// With the Rollout of a scenario, and its parts.
    pub async fn of(test: &str, scene: Scene) -> Self {
        let mut world = Self::empty(test).await;
        world.add("app", "ns", scene);
        world
    }

    /// Writes the kubeconfig.
    pub fn kubeconfig(&self, url: &str) {
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "lab",
            "clusters": [{"name": "lab", "cluster": {"server": url}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "me", "namespace": "ns"}}],
            "users": [{"name": "me", "user": {}}],
        });
        fs::write(self.path(), text.to_string()).expect("the kubeconfig is written");
    }

    pub fn path(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// Puts a scenario's Rollout and its parts in.
    pub fn add(&mut self, name: &str, namespace: &str, scene: Scene) {
        self.now = after(scene.at);
        let cluster = play(scene).cluster;
        let mut rollout = serde_json::to_value(&cluster.rollout).expect("json");
        rollout["metadata"]["name"] = json!(name);
        rollout["metadata"]["namespace"] = json!(namespace);
        rollout["metadata"]["creationTimestamp"] = json!(begin().to_string());
        self.server.put(ROLLOUTS, rollout);
        let there = |mut object: Value, collection: String| {
            object["metadata"]["namespace"] = json!(namespace);
            self.server.put(&collection, object);
        };
        for (reference, object) in &cluster.objects {
            let mut object = object.clone();
            if let Some(pods) = cluster
                .pods
                .get(&reference.name)
                .filter(|_| reference.kind.kind == "ReplicaSet")
            {
                object["status"] = json!({"replicas": pods.pods.len(), "readyReplicas": pods.ready(self.now),
                    "availableReplicas": pods.available(self.now, 0)});
                for pod in &pods.pods {
                    let labels = object["spec"]["template"]["metadata"]["labels"].clone();
                    there(self.pod(pod, &labels), "v1/pods".to_owned());
                }
            }
            there(
                object,
                format!("{}/{}", reference.kind.api_version(), reference.kind.plural),
            );
        }
        self.cluster = Some(cluster);
    }

    /// The controller looks once at the Rollout as it is now.
    pub fn look_again(&mut self) {
        let mut cluster = self.cluster.take().expect("a scenario");
        let live = self.server.get(ROLLOUTS, "app").expect("the Rollout");
        let live: Rollout = serde_json::from_value(live).expect("a Rollout");
        cluster.edit(|r| r.spec = live.spec.clone());
        if let Some(rollout) = &mut cluster.rollout {
            rollout.metadata.generation = live.metadata.generation;
        }
        decide(&mut cluster, self.now);
        let status = cluster.rollout.as_ref().expect("a Rollout").status.clone();
        self.server
            .edit(ROLLOUTS, "app", |r| r["status"] = json!(status));
    }

    /// A pod as the kubelet would tell of it.
    fn pod(&self, pod: &serin::sim::cluster::pods::Pod, labels: &Value) -> Value {
        let ready = pod.ready(self.now);
        let mut container =
            json!({"name": "app", "image": "", "imageID": "", "ready": ready, "restartCount": 0});
        if let Some((reason, message)) = &pod.trouble {
            container["state"] = json!({"waiting": {"reason": reason, "message": message}});
            container["restartCount"] = json!(3);
        }
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": pod.name, "labels": labels,
                "creationTimestamp": pod.ready_at.map(|t| (t - SignedDuration::from_secs(2)).to_string())},
            "status": {
                "phase": if pod.trouble.is_some() { "Pending" } else { "Running" },
                "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
                "containerStatuses": [container],
            },
        })
    }

    /// The program with these arguments, started.
    pub fn start(&self, args: &[&str]) -> Child {
        self.program(Path::new(env!("CARGO_BIN_EXE_serin")), args)
            .spawn()
            .expect("the program starts")
    }

    fn program(&self, path: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(path);
        command
            .args(args)
            .env_clear()
            .env("HOME", &self.folder)
            .env("KUBECONFIG", self.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let speaks = !["version", "completion", "--help", "--version", "run"]
            .iter()
            .any(|a| args.contains(a));
        if speaks {
            command.arg("--now").arg(self.now.to_string());
        }
        command
    }

    /// What the program prints, and its exit code.
    pub async fn run(&self, args: &[&str]) -> String {
        let output = self.start(args).wait_with_output().await;
        self.said(args, &output.expect("it ends"))
    }

    /// The same by another name, and with more in its environment.
    pub async fn run_as(&self, path: &Path, args: &[&str], env: &[(&str, &str)]) -> String {
        let mut command = self.program(path, args);
        command.envs(env.iter().copied());
        let output = command.output().await.expect("it ends");
        self.said(args, &output)
    }

    pub fn said(&self, args: &[&str], output: &Output) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().expect("it ends by itself");
        let args: Vec<String> = args
            .iter()
            .map(|a| {
                if a.contains(['*', ' ']) {
                    format!("'{a}'")
                } else {
                    (*a).to_owned()
                }
            })
            .collect();
        let all = format!(
            "$ serin {}\n{}{}[{code}]\n",
            args.join(" "),
            text(&output.stdout),
            text(&output.stderr)
        );
        all.replace(&self.url, "http://api")
            .replace(&self.folder.display().to_string(), "~")
    }

    /// Plays the controller: at each change of the Rollout's annotations it decides as the real one
    /// does, and writes the status.
    pub fn controller(&mut self) -> JoinHandle<()> {
        let mut cluster = self.cluster.take().expect("a scenario");
        let (server, now) = (Arc::clone(&self.server), self.now);
        let mut changed = server.changed();
        tokio::spawn(async move {
            loop {
                let live: Rollout = server
                    .get(ROLLOUTS, "app")
                    .and_then(|r| serde_json::from_value(r).ok())
                    .expect("the Rollout");
                let told = live.metadata.annotations.clone();
                let known = cluster.rollout.as_ref().expect("a Rollout");
                if told != known.metadata.annotations {
                    cluster.edit(|r| r.metadata.annotations = told);
                    decide(&mut cluster, now);
                    let status = cluster.rollout.as_ref().expect("a Rollout").status.clone();
                    server.edit(ROLLOUTS, "app", |r| r["status"] = json!(status));
                }
                if changed.changed().await.is_err() {
                    return;
                }
            }
        })
    }
}

/// Decides until there is nothing more to decide.
fn decide(cluster: &mut serin::sim::cluster::Cluster, now: Timestamp) {
    for _ in 0..20 {
        let observed = cluster.observe(now).expect("a Rollout");
        let plan = engine::plan(&observed, now);
        let seen = observed.rollout.metadata.resource_version.as_deref();
        let changed = cluster
            .commit(seen, &plan.status)
            .expect("nobody else writes");
        for action in &plan.actions {
            cluster.act(action, now).expect("nobody else writes");
        }
        if !changed && plan.actions.is_empty() && plan.requeue != Requeue::Now {
            return;
        }
    }
    panic!("it does not come to rest");
}

/// Compares with the file, or writes it.
pub fn golden(name: &str, found: &str) {
    let path = format!("tests/cli/golden/{name}.txt");
    if std::env::var_os("UPDATE").is_some_and(|u| u != "0") {
        fs::create_dir_all("tests/cli/golden").expect("the folder");
        fs::write(&path, found).expect("the file is written");
    }
    let wanted = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        wanted == found,
        "{path} is another text; UPDATE=1 accepts it.\n--- wanted\n{wanted}\n--- found\n{found}"
    );
}
