//! What Serin is built from, as cargo tells it and as the lock file holds it.

use std::{fs, process::Command};

use serde_json::Value;

/// What cargo prints; a failure of cargo's fails the test.
pub fn cargo(args: &[&str]) -> String {
    let out = Command::new(env!("CARGO")).args(args).output();
    let out = out.expect("cargo");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "cargo {args:?}: {said}");
    String::from_utf8(out.stdout).expect("utf-8")
}

/// Packages and their graph, as cargo resolves them for some platforms.
pub fn metadata(platforms: &[&str]) -> Value {
    let mut args = vec!["metadata", "--locked", "--format-version", "1"];
    for platform in platforms {
        args.extend(["--filter-platform", platform]);
    }
    serde_json::from_str(&cargo(&args)).expect("json")
}

/// A package of the lock file; what comes from this repository has no source and no sum.
pub struct Locked {
    pub name: String,
    pub version: String,
    pub source: Option<String>,
    pub checksum: Option<String>,
}

/// Every package of the lock file.
pub fn locked() -> Vec<Locked> {
    let lock = fs::read_to_string("Cargo.lock").expect("Cargo.lock");
    let packages = lock.split("\n[[package]]\n").skip(1);
    let read = |package: &str| {
        let field = |key: &str| {
            let start = format!("{key} = \"");
            let line = package.lines().find_map(|l| l.strip_prefix(&start));
            line.map(|l| l.trim_end_matches('"').to_owned())
        };
        Locked {
            name: field("name").expect("a name"),
            version: field("version").expect("a version"),
            source: field("source"),
            checksum: field("checksum"),
        }
    };
    packages.map(read).collect()
}
