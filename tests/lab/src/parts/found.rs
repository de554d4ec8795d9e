//! What the machine already has.

use std::{
    env,
    path::{Path, PathBuf},
};

use super::output_of;
use crate::error::{Error, Result};

/// A program that is used instead of building one when it is new enough.
struct Wanted {
    name: &'static str,
    version_args: &'static [&'static str],
    at_least: (u64, u64),
}

const WANTED: [Wanted; 5] = [
    Wanted {
        name: "prometheus",
        version_args: &["--version"],
        at_least: (2, 40),
    },
    Wanted {
        name: "promtool",
        version_args: &["--version"],
        at_least: (2, 40),
    },
    Wanted {
        name: "alertmanager",
        version_args: &["--version"],
        at_least: (0, 25),
    },
    Wanted {
        name: "helm",
        version_args: &["version", "--short"],
        at_least: (4, 0),
    },
    Wanted {
        name: "envoy",
        version_args: &["--version"],
        at_least: (1, 38),
    },
];

/// The programs that the machine has.
pub(super) struct Found {
    on_path: Vec<(&'static str, PathBuf)>,
    assets: Option<PathBuf>,
}

impl Found {
    pub(super) fn look() -> Self {
        let on_path = WANTED
            .iter()
            .filter_map(|w| {
                let at = which(w.name)?;
                let version = version_in(&output_of(&at, w.version_args)?)?;
                (version >= w.at_least).then_some((w.name, at))
            })
            .collect();
        let assets = env::var_os("KUBEBUILDER_ASSETS").filter(|v| !v.is_empty());
        Self {
            on_path,
            assets: assets.map(PathBuf::from),
        }
    }

    pub(super) fn on_path(&self, name: &str) -> Option<PathBuf> {
        self.on_path
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, at)| at.clone())
    }

    /// A binary of the control plane in `$KUBEBUILDER_ASSETS`.
    pub(super) fn asset(&self, name: &str) -> Option<PathBuf> {
        let at = self.assets.as_ref()?.join(name);
        at.is_file().then_some(at)
    }

    /// What no lab can be prepared without.
    pub(super) fn needs(&self) -> Result<()> {
        need(
            "go",
            "the Go toolchain, 1.24 or newer: https://go.dev/doc/install",
        )?;
        if self.on_path("envoy").is_none() {
            need("python3", "Debian: apt-get install python3 python3-pip")?;
        }
        Ok(())
    }
}

fn need(program: &str, way: &str) -> Result<()> {
    match which(program) {
        Some(_) => Ok(()),
        None => Err(Error::Missing(format!("{program} ({way})"))),
    }
}

/// What the namespaces need, tried out rather than guessed.
pub(crate) fn needs_namespaces() -> Result<()> {
    need("unshare", "Debian: apt-get install util-linux")?;
    need("ip", "Debian: apt-get install iproute2")?;
    let tried = std::process::Command::new("unshare")
        .args([
            "--map-root-user",
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--mount-proc",
            "true",
        ])
        .output();
    match tried {
        Ok(out) if out.status.success() => Ok(()),
        Ok(out) => Err(Error::Missing(format!(
            "user namespaces: unshare says {:?} (sysctl kernel.unprivileged_userns_clone=1, \
             kernel.apparmor_restrict_unprivileged_userns=0, or run as root)",
            String::from_utf8_lossy(&out.stderr).trim()
        ))),
        Err(e) => Err(Error::Missing(format!("unshare: {e}"))),
    }
}

fn which(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|d| d.join(program))
        .find(|p| is_program(p))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// The first `N.N` in a text, which is how all of them print it.
fn version_in(text: &str) -> Option<(u64, u64)> {
    text.split(|c: char| !c.is_ascii_digit() && c != '.')
        .find_map(|word| {
            let mut numbers = word.split('.').map(str::parse::<u64>);
            match (numbers.next(), numbers.next(), numbers.next()) {
                (Some(Ok(major)), Some(Ok(minor)), Some(Ok(_))) => Some((major, minor)),
                _ => None,
            }
        })
}

#[cfg(test)]
mod tests {
    use super::version_in;

    #[test]
    fn versions_as_the_tools_print_them() {
        assert_eq!(
            version_in("prometheus, version 2.42.0+ds (branch: debian/sid"),
            Some((2, 42))
        );
        assert_eq!(version_in("v4.3.1+g1a2b3c4"), Some((4, 3)));
        let envoy = "envoy  version: 0f1d2/1.40.0/Clean/RELEASE/BoringSSL";
        assert_eq!(version_in(envoy), Some((1, 40)));
        assert_eq!(version_in("version (devel)"), None);
    }
}
