//! Running the parts: each with a log of its own, and none of them missed when it ends.

use std::{
    fs::{self, File, OpenOptions},
    future::Future,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nix::{
    sys::signal::{self, Signal, killpg},
    unistd::Pid,
};
use tokio::{
    process::Child,
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

use crate::error::{Context, Error, Result};

/// Watches over all parts of one lab.
#[derive(Debug, Clone)]
pub(crate) struct Supervisor {
    run_dir: PathBuf,
    failed: watch::Sender<Option<Failure>>,
    ending: watch::Sender<bool>,
    tasks: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

#[derive(Debug, Clone)]
struct Failure {
    part: String,
    why: String,
}

/// A running part.
#[derive(Debug)]
pub(crate) struct Part {
    pid: Option<Pid>,
    stop: mpsc::Sender<oneshot::Sender<()>>,
}

/// Ends a part with everything that it started.
async fn kill(child: &mut Child) {
    if let Some(id) = child.id().and_then(|id| i32::try_from(id).ok()) {
        let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
    }
    drop(child.kill().await);
}

impl Part {
    /// Stops it where it is, or lets it go on; what it started runs on.
    pub(crate) fn freeze(&self, frozen: bool) -> Result<()> {
        let signal = if frozen {
            Signal::SIGSTOP
        } else {
            Signal::SIGCONT
        };
        let pid = self
            .pid
            .ok_or_else(|| Error::Invalid("a part that has ended".into()))?;
        signal::kill(pid, signal).context(|| "stopping a part, or letting it go on")
    }

    /// Ends the part at once, as a crash would, and waits for its end.
    pub(crate) async fn kill(self) {
        let (done, wait) = oneshot::channel();
        if self.stop.send(done).await.is_ok() {
            drop(wait.await);
        }
    }
}

impl Supervisor {
    pub(crate) fn new(run_dir: &Path) -> Result<Self> {
        let logs = run_dir.join("logs");
        fs::create_dir_all(&logs).context(|| format!("making {}", logs.display()))?;
        Ok(Self {
            run_dir: run_dir.to_owned(),
            failed: watch::Sender::new(None),
            ending: watch::Sender::new(false),
            tasks: Arc::default(),
        })
    }

    /// Ends all parts, and waits for their ends.
    pub(crate) async fn end_all(&self) {
        self.ending.send_replace(true);
        let tasks = std::mem::take(&mut *self.tasks());
        for task in tasks {
            drop(task.await);
        }
    }

    fn tasks(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// Where a part's output goes.
    pub(crate) fn log_of(&self, part: &str) -> PathBuf {
        self.run_dir.join("logs").join(format!("{part}.log"))
    }

    /// Starts a part. If it ends before it is told to, that is the lab's failure.
    pub(crate) fn start(&self, part: &str, mut command: Command) -> Result<Part> {
        let log = append(&self.log_of(part))?;
        let err = log.try_clone().context(|| format!("the log of {part}"))?;
        command.stdin(Stdio::null()).stdout(log).stderr(err);
        let mut command = tokio::process::Command::from(command);
        // Ctrl-C is for the program that holds the lab; its parts go when it goes.
        let mut child = command
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context(|| format!("starting {part}"))?;
        let pid = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .map(Pid::from_raw);
        let (stop, mut stopped) = mpsc::channel::<oneshot::Sender<()>>(1);
        let (failed, part) = (self.failed.clone(), part.to_owned());
        let mut ending = self.ending.subscribe();
        let task = tokio::spawn(async move {
            tokio::select! {
                status = child.wait() => {
                    let why = status.map_or_else(|e| e.to_string(), ended);
                    failed.send_replace(Some(Failure { part, why }));
                }
                // Also when its `Part` is dropped.
                done = stopped.recv() => {
                    kill(&mut child).await;
                    let _ = done.map(|d| d.send(()));
                }
                () = async { drop(ending.wait_for(|e| *e).await) } => kill(&mut child).await,
            }
        });
        self.tasks().push(task);
        Ok(Part { pid, stop })
    }

    /// Awaits `future`, but not longer than `limit`, nor beyond the failure of a part.
    pub(crate) async fn await_or_fail<T>(
        &self,
        what: &str,
        limit: Duration,
        future: impl Future<Output = T>,
    ) -> Result<T> {
        tokio::select! {
            done = future => Ok(done),
            failure = self.failure() => Err(failure),
            () = tokio::time::sleep(limit) => Err(Error::Timeout {
                what: format!("{what} (for {} s)", limit.as_secs()),
                run_dir: self.run_dir.clone(),
            }),
        }
    }

    /// Resolves when some part has ended that should not have.
    pub(crate) async fn failure(&self) -> Error {
        let mut failed = self.failed.subscribe();
        let failure = failed
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|f| f.clone());
        match failure {
            Some(Failure { part, why }) => self.fault(&part, &why),
            // The sender lives in `self`: this does not happen.
            None => std::future::pending().await,
        }
    }

    /// The failure of a part, with the end of its log.
    pub(crate) fn fault(&self, part: &str, why: &str) -> Error {
        let log = self.log_of(part);
        let tail = tail(&log, 15);
        let run_dir = self.run_dir.clone();
        Error::Part {
            part: part.to_owned(),
            why: why.to_owned(),
            log,
            tail,
            run_dir,
        }
    }
}

fn ended(status: ExitStatus) -> String {
    format!("ended by itself ({status})")
}

/// Opens a log for appending.
pub(crate) fn append(path: &Path) -> Result<File> {
    let what = || format!("opening {}", path.display());
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .context(what)
}

/// The last lines of a file.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(16 * 1024)..]);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Runs a command to its end and gives what it printed.
pub(crate) async fn output(command: Command) -> Result<String> {
    let line = format!("{command:?}");
    let mut command = tokio::process::Command::from(command);
    let out = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context(|| format!("running {line}"))?;
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
    }
    Err(Error::Command {
        command: line,
        status: out.status.to_string(),
        output: String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned(),
    })
}
