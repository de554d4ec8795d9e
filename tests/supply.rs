//! What Serin is built from beside what `deny.toml` allows: licences, sources, and what is banned.

#[path = "support/packages.rs"]
mod packages;

use std::{collections::BTreeSet, fs};

use serde_json::{Value, json};

use packages::{locked, metadata};

/// The strings of a list in `deny.toml`; of tables in it, each table's one string.
fn list(table: &str, key: &str) -> Vec<String> {
    let text = fs::read_to_string("deny.toml").expect("deny.toml");
    let (_, rest) = text
        .split_once(&format!("\n[{table}]\n"))
        .expect("the table");
    let rest = rest.split("\n[").next().unwrap_or_default();
    let rest = format!("\n{rest}");
    let (_, rest) = rest.split_once(&format!("\n{key} = [")).expect("the list");
    let (inside, _) = rest.split_once(']').expect("its end");
    inside
        .split('"')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// What `deny.toml` says.
struct Policy {
    licences: Vec<String>,
    banned: Vec<String>,
}

impl Policy {
    fn read() -> Self {
        Self {
            licences: list("licenses", "allow"),
            banned: list("bans", "deny"),
        }
    }
}

/// Whether an SPDX expression can be met by what is allowed. `AND` binds more than `OR`.
fn met(expression: &str, allowed: &[String]) -> bool {
    let text = expression.replace('/', " OR ");
    // Without the parentheses: what is inside, joined to the rest by AND.
    if let Some((before, rest)) = text.split_once('(') {
        let Some((inside, after)) = rest.split_once(')') else {
            return false;
        };
        let rest = format!("{before}{after}");
        let rest = rest.trim();
        let other = rest.strip_prefix("AND ").or(rest.strip_suffix(" AND"));
        return met(inside, allowed) && other.map_or(rest.is_empty(), |o| met(o, allowed));
    }
    text.split(" OR ").any(|either| {
        either
            .split(" AND ")
            .all(|one| allowed.iter().any(|a| a == one.trim()))
    })
}

/// What is wrong with a package.
fn faults(policy: &Policy, package: &Value) -> Vec<String> {
    let name = package["name"].as_str().unwrap_or_default();
    let licence = package["license"].as_str().unwrap_or_default();
    let mut out = vec![];
    if !met(licence, &policy.licences) {
        out.push(format!("{name}: licence {licence:?} is not allowed"));
    }
    let source = package["source"].as_str();
    if let Some(source) = source.filter(|s| !s.starts_with("registry+")) {
        out.push(format!("{name}: comes from {source}"));
    }
    if policy.banned.iter().any(|b| b == name) {
        out.push(format!("{name}: is banned"));
    }
    out
}

#[test]
fn dependencies_are_what_deny_toml_allows() {
    let (policy, all) = (Policy::read(), metadata(&["x86_64-unknown-linux-gnu"]));
    let all = all["packages"].as_array().expect("packages");
    assert!(all.len() > 100, "{} packages", all.len());
    let faults: Vec<String> = all.iter().flat_map(|p| faults(&policy, p)).collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// The lock file has more than this platform builds.
#[test]
fn the_lock_file_has_sums_and_nothing_that_is_banned() {
    let mut registries = BTreeSet::new();
    let policy = Policy::read();
    for package in locked() {
        let name = format!("{} {}", package.name, package.version);
        assert!(!policy.banned.contains(&package.name), "{name} is banned");
        if let Some(source) = package.source {
            assert!(
                source.starts_with("registry+"),
                "{name} comes from {source}"
            );
            registries.insert(source);
            assert!(package.checksum.is_some(), "{name} has no sum");
        }
    }
    assert_eq!(registries.len(), 1, "{registries:?}");
}

#[test]
fn what_is_not_allowed_is_found() {
    let source = "registry+https://example.com/index";
    let policy = Policy::read();
    let package = |name: &str, licence: &str, source: &str| {
        faults(
            &policy,
            &json!({"name": name, "license": licence, "source": source}),
        )
        .len()
    };
    for (licence, wanted) in [
        ("MIT", 0),
        ("MIT/Apache-2.0", 0),
        ("GPL-3.0-only OR MIT", 0),
        ("(MIT OR GPL-3.0-only) AND Unicode-3.0", 0),
        ("Apache-2.0 WITH LLVM-exception", 0),
        ("GPL-3.0-only", 1),
        ("MIT AND GPL-3.0-only", 1),
        ("(MIT OR Apache-2.0) AND GPL-3.0-only", 1),
        ("(GPL-3.0-only) AND MIT", 1),
        ("(MIT) AND (ISC)", 0),
        ("", 1),
    ] {
        assert_eq!(package("a", licence, source), wanted, "{licence}");
    }
    assert_eq!(package("openssl-sys", "MIT", source), 1);
    assert_eq!(package("a", "MIT", "git+https://example.com/a"), 1);
}
