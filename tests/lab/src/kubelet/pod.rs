//! One pod, from being bound to being gone.

use std::{fs, path::Path, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::json;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::{
    NODE, Shared,
    container::ContainerTask,
    sandbox::Sandbox,
    status::{PodFacts, View, compose, now},
};
use crate::error::{Context, Result};

/// What a pod's task works on.
pub(super) struct PodTask {
    shared: Arc<Shared>,
    api: Api<Pod>,
    name: String,
    uid: String,
    seen: watch::Receiver<Arc<Pod>>,
    facts: PodFacts,
    init: Vec<View>,
    main: Vec<View>,
    written: PodStatus,
    stop: watch::Sender<Option<Duration>>,
    gone: bool,
}

impl PodTask {
    pub(super) fn new(shared: Arc<Shared>, seen: watch::Receiver<Arc<Pod>>) -> Self {
        let pod = seen.borrow().clone();
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let spec = pod.spec.clone().unwrap_or_default();
        Self {
            api: Api::namespaced(shared.client.clone(), &namespace),
            shared,
            name: pod.metadata.name.clone().unwrap_or_default(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            seen,
            facts: PodFacts::default(),
            init: spec
                .init_containers
                .iter()
                .flatten()
                .map(View::new)
                .collect(),
            main: spec.containers.iter().map(View::new).collect(),
            written: PodStatus::default(),
            stop: watch::Sender::new(None),
            gone: false,
        }
    }

    pub(super) async fn run(mut self) {
        if let Err(e) = self.live().await {
            self.note("running", &e);
        }
        if !self.gone {
            self.delete().await;
        }
    }

    fn note(&self, doing: &str, what: &dyn std::fmt::Display) {
        self.shared
            .note(&format!("pod {}: {doing}: {what}", self.name));
    }

    fn pod(&self) -> Arc<Pod> {
        self.seen.borrow().clone()
    }

    async fn live(&mut self) -> Result<()> {
        if !self.bound().await? {
            return Ok(());
        }
        let namespace = self.pod().metadata.namespace.clone().unwrap_or_default();
        let folder = self.shared.run_dir.join("pods").join(format!(
            "{namespace}_{}_{}",
            self.name,
            self.uid.get(..8).unwrap_or_default()
        ));
        fs::create_dir_all(&folder).context(|| format!("making {}", folder.display()))?;
        self.facts.started_at = Some(now());
        let sandbox = Arc::new(Sandbox::make(&folder).await?);
        self.facts.ip = Some(sandbox.ip.clone());
        let inits = self.init.len();
        for index in 0..inits {
            self.containers(&sandbox, &folder, true, index..index + 1)
                .await;
            let well = self.init[index]
                .state
                .terminated
                .as_ref()
                .is_some_and(|t| t.exit_code == 0);
            if !well || self.stop.borrow().is_some() {
                return self.over().await;
            }
        }
        self.facts.init_done = true;
        let all = 0..self.main.len();
        self.containers(&sandbox, &folder, false, all).await;
        self.over().await
    }

    /// Binds the pod to the only node there is; false when it went before.
    async fn bound(&mut self) -> Result<bool> {
        loop {
            let pod = self.pod();
            if pod.metadata.deletion_timestamp.is_some() {
                return Ok(false);
            }
            let spec = pod.spec.clone().unwrap_or_default();
            match spec.node_name.as_deref() {
                Some(NODE) => return Ok(true),
                Some(_) => {} // Somebody else's; it may still be deleted.
                None if spec.scheduling_gates.as_ref().is_none_or(Vec::is_empty) => {
                    self.bind().await;
                }
                None => {}
            }
            if self.seen.changed().await.is_err() {
                self.gone = true;
                return Ok(false);
            }
        }
    }

    async fn bind(&self) {
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": self.name, "uid": self.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": NODE},
        });
        let params = PostParams::default();
        let bound: kube::Result<serde_json::Value> = self
            .api
            .create_subresource("binding", &self.name, &params, &binding)
            .await;
        if let Err(e) = bound {
            self.note("binding", &e); // Bound already, or gone.
        }
    }

    /// Runs some of the containers until all of them have ended for good.
    async fn containers(
        &mut self,
        sandbox: &Arc<Sandbox>,
        folder: &Path,
        init: bool,
        which: std::ops::Range<usize>,
    ) {
        let pod = self.pod();
        let spec = pod.spec.clone().unwrap_or_default();
        let list = if init {
            spec.init_containers.unwrap_or_default()
        } else {
            spec.containers
        };
        let (views, mut updates) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        for index in which {
            let task = ContainerTask {
                shared: self.shared.clone(),
                pod: pod.clone(),
                container: list[index].clone(),
                sandbox: sandbox.clone(),
                folder: folder.to_owned(),
                init,
                stop: self.stop.subscribe(),
                index,
                views: views.clone(),
                view: if init {
                    self.init[index].clone()
                } else {
                    self.main[index].clone()
                },
            };
            tasks.spawn(task.run());
        }
        drop(views);
        self.notice_deletion();
        loop {
            tokio::select! {
                update = updates.recv() => {
                    let Some(update) = update else { return };
                    self.take(init, update);
                    // A process that starts and is ready at once is one patch, not three.
                    tokio::task::yield_now().await;
                    while let Ok(update) = updates.try_recv() {
                        self.take(init, update);
                    }
                    self.write().await;
                }
                changed = self.seen.changed(), if !self.gone => match changed {
                    Ok(()) => {
                        self.notice_deletion();
                        self.write().await; // A readiness gate may have opened.
                    }
                    Err(_) => self.vanished(),
                }
            }
        }
    }

    fn take(&mut self, init: bool, (index, view): (usize, View)) {
        let views = if init { &mut self.init } else { &mut self.main };
        views[index] = view;
    }

    fn notice_deletion(&self) {
        let pod = self.pod();
        if pod.metadata.deletion_timestamp.is_some() && self.stop.borrow().is_none() {
            let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(30);
            let grace = Duration::from_secs(grace.try_into().unwrap_or(0));
            self.stop.send_replace(Some(grace));
        }
    }

    /// The object went without asking: so does everything of it, at once.
    fn vanished(&mut self) {
        self.gone = true;
        self.stop.send_replace(Some(Duration::ZERO));
    }

    /// All containers have ended: waits for the pod's deletion, if that is not why.
    async fn over(&mut self) -> Result<()> {
        self.write().await;
        while !self.gone && self.pod().metadata.deletion_timestamp.is_none() {
            if self.seen.changed().await.is_err() {
                self.gone = true;
            }
        }
        Ok(())
    }

    /// Writes the status, if it is another than the last one.
    async fn write(&mut self) {
        if self.gone {
            return;
        }
        let status = compose(
            &self.pod(),
            &self.written,
            &self.facts,
            &self.init,
            &self.main,
        );
        if status == self.written {
            return;
        }
        // With the uid, so that a namesake that came after is never written to.
        let patch = json!({"metadata": {"uid": self.uid}, "status": status});
        let params = PatchParams::default();
        match self
            .api
            .patch_status(&self.name, &params, &Patch::Merge(&patch))
            .await
        {
            Ok(_) => self.written = status,
            Err(kube::Error::Api(s)) if matches!(s.code, 404 | 409) => {
                self.note("status", &s);
            }
            Err(e) => self.note("status", &e),
        }
    }

    async fn delete(&self) {
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions {
                uid: Some(self.uid.clone()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match self.api.delete(&self.name, &params).await {
            Ok(_) => {}
            Err(kube::Error::Api(s)) if matches!(s.code, 404 | 409) => {}
            Err(e) => self.note("deleting", &e),
        }
    }
}
