//! Copies of the controller, each started again when it ends, as a kubelet would.

use std::{
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::{process::Command, task::JoinHandle};

use crate::world::{Result, World, ensure, free_port};

/// How a copy is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// Its log is a file.
    #[default]
    Usual,
    /// Nothing that it logs can be written.
    FullDisk,
    /// So many KiB of address space.
    Narrow(u32),
}

/// A copy; it ends when this is dropped.
pub struct Copied {
    pid: Arc<AtomicU32>,
    ends: Arc<AtomicU32>,
    task: JoinHandle<()>,
}

impl Drop for Copied {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Copied {
    /// Runs a copy for a world, as one of several, again and again.
    pub fn start(w: &World, name: &str, manner: Manner) -> Result<Self> {
        let file = format!("serin-{}-{name}.log", w.namespace);
        let into = match manner {
            Manner::FullDisk => PathBuf::from("/dev/full"),
            _ => w.lab.run_dir().join(file),
        };
        let out = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&into)?;
        let mut command = bounded(w.serin_command(free_port()), manner);
        command
            .stdout(Stdio::from(out.try_clone()?))
            .stderr(Stdio::from(out));
        let (pid, ends) = (Arc::<AtomicU32>::default(), Arc::<AtomicU32>::default());
        let task = tokio::spawn(live(command, pid.clone(), ends.clone()));
        Ok(Self { pid, ends, task })
    }

    /// How often it ended so far.
    pub fn ends(&self) -> u32 {
        self.ends.load(Ordering::SeqCst)
    }

    /// The most address space that it ever had, in KiB.
    pub fn peak(&self) -> Result<u32> {
        let pid = self.pid.load(Ordering::SeqCst);
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmPeak:"));
        let number = line.and_then(|l| l.split_whitespace().next());
        Ok(number.ok_or("no VmPeak")?.parse()?)
    }

    /// Sends it a signal, such as `KILL`.
    pub async fn signal(&self, signal: &str) -> Result {
        let pid = self.pid.load(Ordering::SeqCst).to_string();
        let done = Command::new("kill")
            .args([&format!("-{signal}"), &pid])
            .status()
            .await?;
        ensure(done.success(), format!("no SIG{signal} for {pid}"))
    }
}

const BEFORE_THE_NEXT: Duration = Duration::from_secs(1);

async fn live(mut command: Command, pid: Arc<AtomicU32>, ends: Arc<AtomicU32>) {
    loop {
        if let Ok(mut child) = command.spawn() {
            pid.store(child.id().unwrap_or_default(), Ordering::SeqCst);
            drop(child.wait().await);
        }
        ends.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(BEFORE_THE_NEXT).await;
    }
}

/// The same command with a limit on its address space, set by the shell that becomes it.
fn bounded(command: Command, manner: Manner) -> Command {
    let Manner::Narrow(kibibytes) = manner else {
        return command;
    };
    let inner = command.as_std();
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "ulimit -v \"$0\" && exec \"$@\""])
        .arg(kibibytes.to_string())
        .arg(inner.get_program())
        .args(inner.get_args())
        .kill_on_drop(true);
    for (name, value) in inner.get_envs() {
        if let Some(value) = value {
            shell.env(name, value);
        }
    }
    shell
}
