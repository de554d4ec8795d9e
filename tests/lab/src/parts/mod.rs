//! The programs that a lab consists of: found on the machine, or built from pinned modules and
//! kept in a cache outside the checkout, by the hash of what pins them.

mod build;
mod crds;
mod found;
mod progress;

use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::{Deserialize, Serialize};

pub(crate) use self::found::needs_namespaces;
pub use self::progress::{Progress, Quiet, Step, Terminal};
use crate::error::{Context, Error, Result};

/// The environment variable that hands the parts to the program inside.
pub(crate) const HANDED: &str = "SERIN_LAB_PARTS";

/// A program, and the arguments that come before the caller's.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tool {
    /// The executable file.
    pub program: PathBuf,
    /// The arguments that choose the part, for a file that holds several.
    #[serde(default)]
    pub args: Vec<String>,
}

impl Tool {
    fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
        }
    }

    fn sub(program: &Path, name: &str) -> Self {
        Self {
            program: program.to_owned(),
            args: vec![name.to_owned()],
        }
    }

    /// A command that runs the part.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args);
        command
    }
}

/// Every part of a lab, ready to run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Parts {
    /// The store of the API server.
    pub etcd: Tool,
    /// The API server.
    pub apiserver: Tool,
    /// Deployments, ReplicaSets, garbage collection and so on.
    pub controller_manager: Tool,
    /// The command line client.
    pub kubectl: Tool,
    /// The Gateway API implementation.
    pub envoy_gateway: Tool,
    /// The proxy that it runs.
    pub envoy: Tool,
    /// The metrics store.
    pub prometheus: Tool,
    /// What tests alerts.
    pub promtool: Tool,
    /// Where alerts go.
    pub alertmanager: Tool,
    /// The package manager.
    pub helm: Tool,
    /// The CustomResourceDefinitions of the gateway, as a JSON list.
    pub crds: PathBuf,
}

impl Parts {
    pub(crate) fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).context(|| "writing the list of parts")
    }

    /// What [`crate::enter`] handed over.
    ///
    /// # Errors
    /// When the program did not come in by [`crate::enter`].
    pub fn handed() -> Result<Self> {
        let text = env::var(HANDED)
            .map_err(|_| Error::Invalid("call serin_lab::enter() first thing in main".into()))?;
        serde_json::from_str(&text).context(|| "reading the list of parts")
    }
}

/// Finds or builds every part; silent and quick when all are there.
///
/// # Errors
/// When something is missing on the machine, or a build fails.
pub fn prepare(progress: &dyn Progress) -> Result<Parts> {
    let cache = cache_folder()?;
    let found = found::Found::look();
    found.needs()?;
    let jobs = build::Jobs::new(&cache, progress, &found)?;
    let control = jobs.control_plane()?;
    let assets = |name: &str| found.asset(name).map(Tool::new);
    let sub = |name: &str| assets(name).unwrap_or_else(|| Tool::sub(&control, name));
    let parts = Parts {
        etcd: sub("etcd"),
        apiserver: sub("kube-apiserver"),
        controller_manager: Tool::sub(&control, "kube-controller-manager"),
        kubectl: sub("kubectl"),
        envoy_gateway: Tool::new(jobs.envoy_gateway()?),
        envoy: Tool::new(jobs.envoy()?),
        prometheus: Tool::new(jobs.prometheus()?),
        promtool: Tool::new(jobs.promtool()?),
        alertmanager: Tool::new(jobs.alertmanager()?),
        helm: Tool::new(jobs.helm()?),
        crds: jobs.crds()?,
    };
    Ok(parts)
}

/// `$SERIN_LAB_CACHE`, or `serin-lab` in the user's cache folder.
fn cache_folder() -> Result<PathBuf> {
    let set = |name: &str| {
        env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    let folder = set("SERIN_LAB_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|c| c.join("serin-lab")))
        .or_else(|| set("HOME").map(|h| h.join(".cache/serin-lab")))
        .ok_or_else(|| Error::Missing("a cache folder (set SERIN_LAB_CACHE)".into()))?;
    fs::create_dir_all(&folder).context(|| format!("making {}", folder.display()))?;
    Ok(folder)
}

/// The folder with the modules that pin the parts.
fn pins(part: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("parts")
        .join(part)
}

/// A short name for what pins a part: FNV-1a over everything given (a cache key, not a seal).
fn hash_of<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for piece in pieces {
        for byte in piece.iter().chain(&[0xff]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    format!("{hash:016x}")
}

/// What a short command prints, both streams; nothing when it cannot run.
fn output_of(program: impl AsRef<OsStr>, args: &[&str]) -> Option<String> {
    let out = Command::new(program).args(args).output().ok()?;
    let text = [out.stdout, out.stderr].concat();
    out.status
        .success()
        .then(|| String::from_utf8_lossy(&text).into_owned())
}
