//! The other parts that a program of the lab plays: it runs itself again as one of these.
//!
//! So any program that calls [`crate::enter`] first can hold a lab, without further binaries.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    env,
    ffi::OsString,
    fs,
    os::{fd::AsRawFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
};
use serde::{Deserialize, Serialize};

use crate::{
    app,
    error::{Context, Error, Result},
    inside, roots,
};

/// The first argument of a program that plays another part.
pub(crate) const ROLE: &str = "serin-lab-role";

/// Plays the part that the arguments name; returns when they name none.
pub(crate) fn dispatch() -> Result<()> {
    let mut args = env::args_os().skip(1);
    if args.next().is_none_or(|a| a != ROLE) {
        return Ok(());
    }
    let role = args.next().unwrap_or_default();
    let rest: Vec<OsString> = args.collect();
    let never = match role.to_str() {
        Some("launch") => inside::launch(rest)?,
        Some("init") => inside::init(rest)?,
        Some("sandbox") => sandbox(&rest)?,
        Some("container") => container(&rest)?,
        Some("certs") => with_certs(&rest)?,
        Some("envoy") => envoy(rest)?,
        Some("app") => std::process::exit(app::main()),
        _ => return Err(Error::Invalid(format!("no such role: {role:?}"))),
    };
    match never {}
}

/// Role `sandbox FILE IP LINK`: a network namespace kept by a mount on FILE, joined to the bridge.
fn sandbox(args: &[OsString]) -> Result<Infallible> {
    let [file, ip, link] = args else {
        return Err(Error::Invalid("sandbox wants FILE IP LINK".into()));
    };
    let (ip, link) = (ip.to_string_lossy(), link.to_string_lossy());
    unshare(CloneFlags::CLONE_NEWNET).context(|| "making a network namespace")?;
    mount(
        Some("/proc/self/ns/net"),
        file.as_os_str(),
        NONE,
        MsFlags::MS_BIND,
        NONE,
    )
    .context(|| "keeping a network namespace")?;
    // The other end is born in the lab's namespace, that of pid 1.
    inside::ip_batch(
        &["ip", "-batch", "-"],
        &format!(
            "link set lo up\nlink add eth0 type veth peer name {link} netns 1\n\
             addr add {ip}/16 dev eth0\nlink set eth0 up\nroute add default via {}\n",
            inside::HOST_IP
        ),
    )?;
    std::process::exit(0)
}

const NONE: Option<&str> = None;

/// What a container's process needs, written by the kubelet, read by the role `container`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ContainerSpec {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) cwd: PathBuf,
    /// The pod's network namespace.
    pub(crate) netns: PathBuf,
    /// An empty folder, for the making of a private root.
    pub(crate) root: PathBuf,
    /// Folders and files to be seen at other places: (where it is, where it is wanted).
    pub(crate) mounts: Vec<(PathBuf, PathBuf)>,
}

/// Role `container FILE`: becomes the process that FILE describes, in its pod's namespaces.
fn container(args: &[OsString]) -> Result<Infallible> {
    let file = args.first().map(PathBuf::from).unwrap_or_default();
    let text = fs::read(&file).context(|| format!("reading {}", file.display()))?;
    let spec: ContainerSpec = serde_json::from_slice(&text).context(|| "container spec")?;
    nix::unistd::setsid().context(|| "starting a session")?;
    let netns = fs::File::open(&spec.netns).context(|| "opening the pod's network namespace")?;
    setns(netns, CloneFlags::CLONE_NEWNET).context(|| "joining the pod's network namespace")?;
    // Opened now: a volume may hide the place where the program is.
    let program =
        fs::File::open(&spec.program).context(|| format!("opening {}", spec.program.display()))?;
    roots::place(&spec.mounts, &spec.root)?;
    let cwd = if spec.cwd.is_dir() {
        spec.cwd.as_path()
    } else {
        Path::new("/")
    };
    let source = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()))
        .arg0(&spec.program)
        .args(&spec.args)
        .env_clear()
        .envs(&spec.env)
        .current_dir(cwd)
        .exec();
    Err(Error::Io {
        what: format!("exec {}", spec.program.display()),
        source,
    })
}

/// Role `certs FOLDER ROOT PROGRAM ARGS...`: PROGRAM sees FOLDER at `/certs`; ROOT is an empty
/// folder for the making of a private root.
fn with_certs(args: &[OsString]) -> Result<Infallible> {
    let [folder, root, program, rest @ ..] = args else {
        return Err(Error::Invalid("certs wants FOLDER ROOT PROGRAM".into()));
    };
    let mounts = [(PathBuf::from(folder), PathBuf::from("/certs"))];
    roots::place(&mounts, Path::new(root))?;
    let source = Command::new(program).args(rest).exec();
    Err(Error::Io {
        what: format!("exec {}", program.display()),
        source,
    })
}

/// Role `envoy PROGRAM ARGS...`: Envoy, talking to the relay instead of straight to its gateway.
fn envoy(args: Vec<OsString>) -> Result<Infallible> {
    let mut args = args.into_iter();
    let program = args.next().unwrap_or_default();

    let source = Command::new(&program)
        .args(args.map(|a| crate::relay::rewrite_bootstrap(&a)))
        .exec();
    Err(Error::Io {
        what: format!("exec {}", program.display()),
        source,
    })
}
