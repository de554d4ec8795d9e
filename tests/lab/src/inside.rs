//! The way in: a user, network, mount and pid namespace of the lab's own.
//!
//! Nothing in it needs root, every port in it is free, and when the program that entered ends,
//! everything that it started ends with it. The process tree is
//!
//! ```text
//! program (outside)         prepares the parts, waits, passes the exit code on
//! └ unshare                 makes the namespaces; dies with the program outside
//!   └ role init (pid 1)     reaps; when the program ends, the kernel ends everything else
//!     └ program (inside)    the same program with the same arguments: `enter` returns here
//! ```

use std::{
    env,
    ffi::OsString,
    fs,
    io::Write,
    os::unix::process::{CommandExt, ExitStatusExt, parent_id},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::{
    mount::{MsFlags, mount},
    sys::{
        signal::Signal,
        wait::{WaitStatus, wait},
    },
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use crate::{
    error::{Context, Error, Result},
    parts::{self, Parts},
    roles,
};

const STAGE: &str = "SERIN_LAB_STAGE";
const INSIDE: &str = "inside";
/// The lab's own address on the pod network: the API server, the gateway and the metrics are here.
pub const HOST_IP: &str = "10.99.0.1";

/// A listener on [`HOST_IP`], and the port that it got. `what` listens, for whoever reads an error.
pub(crate) async fn listen(what: &str) -> Result<(TcpListener, u16)> {
    let listener = TcpListener::bind((HOST_IP, 0))
        .await
        .context(|| format!("listening as the {what}"))?;
    let address = listener.local_addr();
    let port = address.context(|| format!("the {what}'s port"))?.port();
    Ok((listener, port))
}

/// Takes the program into the lab's namespaces; call it first thing in `main`, before any thread.
///
/// Outside it prepares the parts, runs the same program with the same arguments inside, and exits
/// with its code. Inside it returns. What goes wrong is said in one line, and the exit code is 2.
pub fn enter() {
    match try_enter() {
        Ok(()) => {}
        Err(e) => {
            eprintln!("serin-lab: {e}");
            std::process::exit(2);
        }
    }
}

fn try_enter() -> Result<()> {
    roles::dispatch()?;
    install_crypto();
    if env::var_os(STAGE).is_some_and(|s| s == INSIDE) && parent_id() == 1 {
        return private_memory().and_then(|()| network());
    }
    parts::needs_namespaces()?;
    let parts = parts::prepare(&parts::Terminal::new())?;
    std::process::exit(outside(&parts)?)
}

/// One provider for all of rustls; installing it twice is no fault.
pub(crate) fn install_crypto() {
    drop(rustls::crypto::ring::default_provider().install_default());
}

/// This program, to be run again in another role.
pub(crate) fn this_program() -> Result<PathBuf> {
    env::current_exe().context(|| "looking up this program's own path")
}

/// Names the folder for the runs of one program, for the program inside.
const RUNS: &str = "SERIN_LAB_RUNS";
/// A run folder with this file in it is kept.
const KEEP: &str = "keep";

/// A fresh folder for a lab; it is kept unless it is discarded.
pub(crate) fn new_run_dir() -> Result<PathBuf> {
    let base = env::var_os(RUNS).map_or_else(env::temp_dir, PathBuf::from);
    let path = (0..)
        .map(|n: u32| base.join(n.to_string()))
        .find(|p| !p.exists())
        .unwrap_or(base);
    let what = || format!("making {}", path.display());
    fs::create_dir_all(&path).context(what)?;
    fs::write(path.join(KEEP), "").context(what)?;
    Ok(path)
}

/// The run folder goes when the program ends.
pub(crate) fn discard(run_dir: &Path) {
    drop(fs::remove_file(run_dir.join(KEEP)));
}

fn make_runs() -> Result<PathBuf> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let path = env::temp_dir().join(format!("serin-lab-{:x}", now.as_micros()));
    fs::create_dir_all(&path).context(|| format!("making {}", path.display()))?;
    Ok(path)
}

/// After the end, when nothing is mounted any more: removes the folders that were discarded, and
/// says which are kept.
fn clear(runs: &Path) {
    for run in fs::read_dir(runs).into_iter().flatten().flatten() {
        if run.path().join(KEEP).exists() {
            eprintln!("lab: everything of it is kept in {}", run.path().display());
        } else {
            drop(fs::remove_dir_all(run.path()));
        }
    }
    drop(fs::remove_dir(runs)); // Unless something is kept in it.
}

fn outside(parts: &Parts) -> Result<i32> {
    let runs = make_runs()?;
    let mut command = Command::new(this_program()?);
    command
        .args([roles::ROLE, "launch"])
        .args(env::args_os().skip(1))
        .env(parts::HANDED, parts.to_json()?)
        .env(RUNS, &runs);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context(|| "starting a runtime")?;
    let status = runtime.block_on(wait_for(command));
    clear(&runs);
    Ok(code_of(status?))
}

/// Waits for the program inside. The terminal's Ctrl-C reaches it too, so it may end in its own way.
async fn wait_for(command: Command) -> Result<ExitStatus> {
    let mut child = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .spawn()
        .context(|| "running this program again inside the lab")?;
    let what = || "handling signals";
    let mut interrupt = signal(SignalKind::interrupt()).context(what)?;
    let mut terminate = signal(SignalKind::terminate()).context(what)?;
    let mut hangup = signal(SignalKind::hangup()).context(what)?;
    let waited = || "waiting for the program inside the lab";
    let number = tokio::select! {
        status = child.wait() => return status.context(waited),
        _ = interrupt.recv() => {
            // Only when Ctrl-C did not end it by itself: somebody signalled this process alone.
            if let Ok(status) = tokio::time::timeout(Duration::from_secs(5), child.wait()).await {
                return status.context(waited);
            }
            Signal::SIGINT
        }
        _ = terminate.recv() => Signal::SIGTERM,
        _ = hangup.recv() => Signal::SIGHUP,
    };
    child.kill().await.context(waited)?;
    Ok(ExitStatus::from_raw(number as i32))
}

fn code_of(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Role `launch`: tied to the life of the program outside, becomes `unshare`.
pub(crate) fn launch(args: Vec<OsString>) -> Result<std::convert::Infallible> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).context(|| "tying to the parent's life")?;
    let source = Command::new("unshare")
        .args([
            "--map-root-user",
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
        ])
        .arg("--mount-proc")
        .arg(this_program()?)
        .args([roles::ROLE, "init"])
        .args(args)
        .exec();
    Err(Error::Io {
        what: "running unshare".into(),
        source,
    })
}

/// Role `init`: pid 1 of the namespace. Runs the program, reaps, and ends with it.
pub(crate) fn init(args: Vec<OsString>) -> Result<std::convert::Infallible> {
    let child = Command::new(this_program()?)
        .args(args)
        .env(STAGE, INSIDE)
        .spawn()
        .context(|| "running the program inside the lab")?;
    let main = i32::try_from(child.id()).unwrap_or(i32::MAX);
    loop {
        match wait().context(|| "waiting for the program inside the lab")? {
            WaitStatus::Exited(pid, code) if pid.as_raw() == main => std::process::exit(code),
            WaitStatus::Signaled(pid, signal, _) if pid.as_raw() == main => {
                std::process::exit(128 + signal as i32)
            }
            _ => {}
        }
    }
}

/// Shared memory of the lab's own: two Envoys that meet there end each other.
fn private_memory() -> Result<()> {
    let memory = Path::new("/dev/shm");
    if !memory.is_dir() {
        return Ok(());
    }
    mount(
        Some("tmpfs"),
        memory,
        Some("tmpfs"),
        MsFlags::empty(),
        None::<&str>,
    )
    .context(|| "mounting private shared memory")
}

/// The pod network: a bridge on which the lab itself has the first address. It has a hardware
/// address of its own, for else it would take another with every pod, and pods would not find it.
fn network() -> Result<()> {
    ip_batch(
        &["ip", "-batch", "-"],
        &format!(
            "link set lo up\nlink add lab0 address 02:00:0a:63:00:01 type bridge\n\
             addr add {HOST_IP}/16 dev lab0\nlink set lab0 up\n"
        ),
    )
}

/// Runs `ip -batch` with `lines` on its standard input.
pub(crate) fn ip_batch(argv: &[&str], lines: &str) -> Result<()> {
    let what = || {
        format!(
            "running {} (Debian: apt-get install iproute2)",
            argv.join(" ")
        )
    };
    let mut child = Command::new(argv[0])
        .args(&argv[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context(what)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(lines.as_bytes()).context(what)?;
    }
    let out = child.wait_with_output().context(what)?;
    if out.status.success() {
        return Ok(());
    }
    Err(Error::Command {
        command: format!("{} <<< {lines:?}", argv.join(" ")),
        status: out.status.to_string(),
        output: String::from_utf8_lossy(&out.stderr).into_owned(),
    })
}
