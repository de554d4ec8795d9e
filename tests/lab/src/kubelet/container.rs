//! One container: its image, its process, its restarts and its end.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, future::Fuse};
use k8s_openapi::{
    api::core::v1::{
        Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, Pod,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use tokio::{
    process::Child,
    sync::{mpsc, watch},
    time::{Instant, sleep},
};

use super::{
    ContainerKey, Shared,
    environment::{Environment, expand},
    images::Image,
    probe::{self, Verdict},
    sandbox::Sandbox,
    status::{View, now, waiting},
};
use crate::{
    error::{Context, Result},
    inside, process,
    roles::{self, ContainerSpec},
};

/// A kubelet waits 10 s after the second crash, doubling up to 5 minutes. Here it is tenfold less,
/// and at most 10 s.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);
/// Who ran this long starts with the first delay again.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);

/// What a container's task works on.
pub(super) struct ContainerTask {
    pub(super) shared: Arc<Shared>,
    pub(super) pod: Arc<Pod>,
    pub(super) container: Container,
    pub(super) sandbox: Arc<Sandbox>,
    pub(super) folder: PathBuf,
    /// It runs to its end before the others start.
    pub(super) init: bool,
    /// When it is to end, with the grace that it has for that.
    pub(super) stop: watch::Receiver<Option<Duration>>,
    pub(super) index: usize,
    pub(super) views: mpsc::UnboundedSender<(usize, View)>,
    pub(super) view: View,
}

enum Ended {
    /// As it was told.
    Told,
    /// By itself, or because a probe said so.
    Itself { well: bool },
}

impl ContainerTask {
    /// Runs the container until it is told to end, or has ended for good.
    pub(super) async fn run(mut self) {
        let mut backoff = Duration::ZERO;
        while let Some(image) = self.pulled().await {
            let since = Instant::now();
            let ended = match self.run_once(&image).await {
                Ok(ended) => ended,
                Err(e) => {
                    let reason = "CreateContainerConfigError";
                    self.show(|v| v.state = waiting(reason, Some(e.to_string())));
                    if self.stopped_within(FIRST_BACKOFF).await {
                        break;
                    }
                    continue;
                }
            };
            match ended {
                Ended::Told => break,
                Ended::Itself { well } if !self.runs_again(well) => break,
                Ended::Itself { .. } => {}
            }
            if since.elapsed() >= FORGIVEN_AFTER {
                backoff = Duration::ZERO;
            }
            if !backoff.is_zero() && self.backed_off(backoff).await {
                break;
            }
            backoff = (backoff * 2).clamp(FIRST_BACKOFF, LONGEST_BACKOFF);
            self.show(|v| v.restarts += 1);
        }
        self.show(|v| {
            v.finished = true;
            (v.ready, v.started) = (false, false);
        });
    }

    fn show(&mut self, change: impl FnOnce(&mut View)) {
        change(&mut self.view);
        drop(self.views.send((self.index, self.view.clone())));
    }

    fn runs_again(&self, well: bool) -> bool {
        let policy = self
            .pod
            .spec
            .as_ref()
            .and_then(|s| s.restart_policy.as_deref());
        match policy {
            Some("Never") => false,
            Some("OnFailure") => !well,
            _ => !(self.init && well),
        }
    }

    /// Waits, and tells whether it was told to end meanwhile.
    async fn stopped_within(&mut self, time: Duration) -> bool {
        tokio::select! {
            _ = self.stop.wait_for(Option::is_some) => true,
            () = sleep(time) => false,
        }
    }

    async fn backed_off(&mut self, time: Duration) -> bool {
        let message = format!(
            "back-off {}s restarting failed container={} pod={}",
            time.as_secs(),
            self.view.name,
            self.pod.metadata.name.as_deref().unwrap_or_default()
        );
        self.show(|v| {
            v.last = v.state.terminated.clone().or(v.last.take());
            v.state = waiting("CrashLoopBackOff", Some(message));
        });
        self.stopped_within(time).await
    }

    /// The image, once it is there; nothing when the container is to end first.
    async fn pulled(&mut self) -> Option<Image> {
        let name = self.view.image.clone();
        let mut backoff = FIRST_BACKOFF;
        loop {
            if self.stop.borrow().is_some() {
                return None;
            }
            if let Some(image) = self.shared.images.find(&name) {
                return Some(image);
            }
            let message = format!("failed to pull image \"{name}\": not found");
            self.show(|v| v.state = waiting("ErrImagePull", Some(message)));
            if self.stopped_within(FIRST_BACKOFF).await {
                return None;
            }
            let message = format!("Back-off pulling image \"{name}\": not found");
            self.show(|v| v.state = waiting("ImagePullBackOff", Some(message)));
            if self.stopped_within(backoff).await {
                return None;
            }
            backoff = (backoff * 2).min(LONGEST_BACKOFF);
        }
    }

    async fn run_once(&mut self, image: &Image) -> Result<Ended> {
        let mut child = self.spawn(image).await?;
        let pid = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .map(Pid::from_raw);
        let key = self.key();
        if let Some(pid) = pid {
            self.shared.running().insert(key.clone(), pid);
        }
        let started_at = now();
        let running = ContainerStateRunning {
            started_at: Some(started_at.clone()),
        };
        self.show(|v| {
            v.last = v.state.terminated.clone().or(v.last.take());
            v.state = ContainerState {
                running: Some(running),
                ..ContainerState::default()
            };
            v.has_run = true;
        });
        let (say, mut verdicts) = mpsc::unbounded_channel();
        let probes = probe::run(self.container.clone(), self.sandbox.ip.clone(), say).fuse();
        let mut probes = Box::pin(probes);
        let mut ending = Fuse::terminated();
        let mut told = false;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status.context(|| "waiting for a container")?,
                () = &mut probes => {}
                () = &mut ending => {}
                grace = stop_grace(&mut self.stop), if !told => {
                    told = true;
                    ending = end(self.hook(), grace, pid).boxed().fuse();
                }
                Some(verdict) = verdicts.recv() => match verdict {
                    Verdict::Started => self.show(|v| v.started = true),
                    Verdict::Ready(ready) => self.show(|v| v.ready = ready),
                    Verdict::Unhealthy(why) => {
                        self.note(&why);
                        let grace = self.grace();
                        ending = end(self.hook(), grace, pid).boxed().fuse();
                    }
                }
            }
        };
        self.shared.running().remove(&key);
        if let Some(pid) = pid {
            let _ = killpg(pid, Signal::SIGKILL); // What it left behind.
        }
        self.terminated(status, started_at);
        Ok(if told {
            Ended::Told
        } else {
            Ended::Itself {
                well: status.success(),
            }
        })
    }

    fn terminated(&mut self, status: ExitStatus, started_at: Time) {
        let code = status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        let reason = if code == 0 { "Completed" } else { "Error" };
        let terminated = ContainerStateTerminated {
            exit_code: code,
            signal: status.signal(),
            reason: Some(reason.to_owned()),
            started_at: Some(started_at),
            finished_at: Some(now()),
            ..ContainerStateTerminated::default()
        };
        self.show(|v| {
            v.state = ContainerState {
                terminated: Some(terminated),
                ..ContainerState::default()
            };
            (v.ready, v.started) = (false, false);
        });
    }

    fn key(&self) -> ContainerKey {
        let meta = &self.pod.metadata;
        (
            meta.namespace.clone().unwrap_or_default(),
            meta.name.clone().unwrap_or_default(),
            self.view.name.clone(),
        )
    }

    /// The pod's own grace period, for ends that nobody asked for.
    fn grace(&self) -> Duration {
        let given = self
            .pod
            .spec
            .as_ref()
            .and_then(|s| s.termination_grace_period_seconds);
        Duration::from_secs(given.and_then(|s| u64::try_from(s).ok()).unwrap_or(30))
    }

    /// The time that the preStop hook takes: only its `sleep` is known here.
    fn hook(&self) -> Duration {
        let hook = self
            .container
            .lifecycle
            .as_ref()
            .and_then(|l| l.pre_stop.as_ref());
        let seconds = hook.and_then(|h| h.sleep.as_ref()).map_or(0, |s| s.seconds);
        Duration::from_secs(seconds.try_into().unwrap_or(0))
    }

    fn log(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.view.name))
    }

    /// A line of the kubelet's own in the container's log.
    fn note(&self, line: &str) {
        use std::io::Write;
        if let Ok(mut log) = process::append(&self.log()) {
            drop(writeln!(log, "[kubelet] {line}"));
        }
    }

    async fn spawn(&self, image: &Image) -> Result<Child> {
        let environment = Environment {
            client: &self.shared.client,
            ca_pem: &self.shared.ca_pem,
            pod: &self.pod,
            ip: &self.sandbox.ip,
            folder: &self.folder,
        };
        let env = environment.variables(&self.container).await?;
        let mounts = environment.mounts(&self.container).await?;
        let expanded = |words: &Option<Vec<String>>| -> Vec<String> {
            words.iter().flatten().map(|w| expand(w, &env)).collect()
        };
        let (command, args) = (
            expanded(&self.container.command),
            expanded(&self.container.args),
        );
        let (program, args) = argv(image, &command, args);
        let root = self.folder.join(format!("root-{}", self.view.name));
        fs::create_dir_all(&root).context(|| format!("making {}", root.display()))?;
        let cwd = self
            .container
            .working_dir
            .as_ref()
            .map_or(self.folder.clone(), PathBuf::from);
        let netns = self.sandbox.netns.clone();
        let spec = ContainerSpec {
            program,
            args,
            env,
            cwd,
            netns,
            root,
            mounts,
        };
        let file = self.folder.join(format!("{}.json", self.view.name));
        let text = serde_json::to_vec(&spec).context(|| "writing a container spec")?;
        fs::write(&file, text).context(|| format!("writing {}", file.display()))?;
        let log = process::append(&self.log())?;
        let err = log.try_clone().context(|| "the log of a container")?;
        tokio::process::Command::new(inside::this_program()?)
            .args([roles::ROLE, "container"])
            .arg(file)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(err)
            .kill_on_drop(true)
            .spawn()
            .context(|| format!("starting container {}", self.view.name))
    }
}

/// `command` takes the place of the image's entry point, `args` come after either. A command named
/// like the image's program means that program; any other is this machine's.
fn argv(image: &Image, command: &[String], args: Vec<String>) -> (PathBuf, Vec<String>) {
    let Some((first, more)) = command.split_first() else {
        return (
            image.program.clone(),
            [image.entry_args.clone(), args].concat(),
        );
    };
    let own = Path::new(first).file_name() == image.program.file_name();
    let program = if own {
        image.program.clone()
    } else {
        on_path(first)
    };
    (program, [more.to_vec(), args].concat())
}

fn on_path(program: &str) -> PathBuf {
    if program.contains('/') {
        return program.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|d| d.join(program))
        .find(|p| p.is_file());
    found.unwrap_or_else(|| program.into())
}

async fn stop_grace(stop: &mut watch::Receiver<Option<Duration>>) -> Duration {
    match stop.wait_for(Option::is_some).await {
        Ok(grace) => grace.unwrap_or_default(),
        Err(_) => Duration::ZERO, // The kubelet itself is gone.
    }
}

/// SIGTERM after the hook, SIGKILL when the grace is over, which includes the hook.
async fn end(hook: Duration, grace: Duration, pid: Option<Pid>) {
    let Some(pid) = pid else { return };
    let over = Instant::now() + grace;
    sleep(hook.min(grace)).await;
    signal(pid, Signal::SIGTERM);
    tokio::time::sleep_until(over).await;
    signal(pid, Signal::SIGKILL);
}

fn signal(pid: Pid, signal: Signal) {
    // Until it has a session of its own it is no group.
    if killpg(pid, signal).is_err() {
        let _ = kill(pid, signal);
    }
}
