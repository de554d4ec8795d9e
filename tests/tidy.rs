//! The rules of the house, held by a test.

#![allow(clippy::panic, reason = "a test that cannot read its data says so")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Component, Path, PathBuf},
};

/// Who may import whom, from the ground up. A folder may name only what stands in its row.
const FLOORS: &[(&str, &[&str])] = &[
    ("api", &[]),
    ("model", &["api"]),
    ("engine", &["api", "model"]),
    ("adapters", &["api", "model"]),
    ("sim", &["api", "model", "engine"]),
    ("controller", &["api", "model", "engine", "adapters"]),
    ("server", &["api", "model", "adapters"]),
    (
        "cli",
        &[
            "api",
            "model",
            "engine",
            "adapters",
            "sim",
            "controller",
            "server",
        ],
    ),
];

/// Folders whose own folders are peers: none may know another. Their files are the roof over them:
/// they may know all, and none of them may be known from below, but for those named here.
const PEERS: &[(&str, &[&str])] = &[("engine", &[]), ("adapters", &[])];

/// The floors that decide and never touch the world, and the words they never say.
const PURE: &[&str] = &["api", "model", "engine", "sim"];
const IMPURE: &[&str] = &[
    "async ",
    ".await",
    "tokio",
    "reqwest",
    "kube::Client",
    "kube::Api",
    "kube::runtime",
    "::now()",
    "HashMap",
    "HashSet",
    "std::env",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "println!",
];

/// Words that nobody says: a test that does not run, and code that is not there.
const NOBODY: &[&str] = &["#[ignore", "todo!(", "unimplemented!(", "dbg!("];

const LINES_MAX: usize = 500;
/// Tests may be longer: they are read one case at a time.
const TEST_LINES_MAX: usize = 600;
const FILES_MAX: usize = 12;
/// Folders with more files, and why.
const CROWDED: &[(&str, usize, &str)] = &[(
    "src/adapters/cluster",
    18,
    "each file is one verb or one part of the watched world",
)];

const ARCHITECTURE_LINES_MAX: usize = 250;

/// Every file under a folder whose name ends so, in order. Build output and hidden folders are not
/// looked at.
fn files(dir: &str, end: &str) -> Vec<PathBuf> {
    let mut out = vec![];
    let mut open = vec![PathBuf::from(dir)];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).expect("a folder can be read") {
            let path = entry.expect("an entry can be read").path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if path.is_dir() {
                if !name.starts_with('.') && name != "target" {
                    open.push(path);
                }
            } else if name.ends_with(end) {
                out.push(
                    path.strip_prefix("./")
                        .map_or(path.clone(), Path::to_path_buf),
                );
            }
        }
    }
    out.sort();
    out
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The code without its comments, which may say anything.
fn code(text: &str) -> String {
    let lines = text.lines().filter(|l| !l.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// The names of a file's module and of those around it: `engine/traffic/mod.rs` is engine, traffic.
fn module(file: &Path) -> Vec<String> {
    let inner = file
        .strip_prefix("src")
        .expect("a file of the crate")
        .with_extension("");
    let mut names: Vec<String> = inner
        .components()
        .filter_map(|c| match c {
            Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
            _ => None,
        })
        .collect();
    if names.last().is_some_and(|n| n == "mod") {
        names.pop();
    }
    names
}

/// Every path that the code names from the crate's root, braces taken apart.
fn paths(code: &str, module: &[String]) -> Vec<Vec<String>> {
    let mut out = vec![];
    for (at, start) in code
        .match_indices("crate::")
        .chain(code.match_indices("super::"))
    {
        let before = code[..at].chars().next_back().unwrap_or(' ');
        // The latter of two in a row: the first has read it.
        if before.is_alphanumeric() || before == '_' || before == ':' {
            continue;
        }
        let mut base = module.to_vec();
        let mut rest = &code[at..];
        if start == "crate::" {
            (base, rest) = (vec![], &rest[start.len()..]);
        }
        tree(rest, &base, &mut out);
    }
    out
}

/// Reads `a::{b, c::d}`; gives what follows.
fn tree<'a>(text: &'a str, base: &[String], out: &mut Vec<Vec<String>>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = rest.trim_start().trim_start_matches(',').trim_start();
            match rest.strip_prefix('}') {
                Some(after) => return after,
                None if rest.is_empty() => return rest,
                None => {
                    let after = tree(rest, base, out);
                    // Whatever else stands there is no path.
                    let skip = after.find([',', '}']).unwrap_or(after.len());
                    rest = &after[skip..];
                }
            }
        }
    }
    let end = text
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let mut here = base.to_vec();
    match name {
        "self" => {}
        "super" => drop(here.pop()),
        // A star takes everything of what stands before it.
        "" if here.is_empty() => return rest,
        "" => {}
        name => here.push(name.to_owned()),
    }
    if let Some(deeper) = rest.strip_prefix("::") {
        return tree(deeper, &here, out);
    }
    out.push(here);
    rest
}

#[test]
fn paths_are_read() {
    let module: Vec<String> = ["engine", "traffic", "repair"].map(str::to_owned).to_vec();
    let text = "use crate::{api::{names, Rollout as R}, model::plan};\nuse super::{router::Router, *};\nlet x = crate::cli::main();";
    let mut found: Vec<_> = paths(text, &module).iter().map(|p| p.join("::")).collect();
    found.sort();
    let wanted = [
        "api::Rollout",
        "api::names",
        "cli::main",
        "engine::traffic",
        "engine::traffic::router::Router",
        "model::plan",
    ];
    assert_eq!(found, wanted);
}

#[test]
fn floors_hold() {
    let mut faults = vec![];
    for file in files("src", ".rs") {
        let module = module(&file);
        let Some((home, allowed)) = FLOORS.iter().find(|(name, _)| *name == module[0]) else {
            continue;
        };
        let code = code(&read(&file));
        // Tests at the foot of a file are a module of their own.
        let (body, foot) = code.split_once("\nmod tests {").unwrap_or((&code, ""));
        let inner = [module.clone(), vec!["tests".to_owned()]].concat();
        let found = paths(body, &module).into_iter().chain(paths(foot, &inner));
        let found: BTreeSet<_> = found.collect();
        for path in found {
            let there = path.first().map(String::as_str).unwrap_or_default();
            let fault = |what: String| format!("{}: {what} ({})", file.display(), path.join("::"));
            if !FLOORS.iter().any(|(name, _)| *name == there) {
                faults.push(fault("nobody imports the crate's root".to_owned()));
            } else if there != *home && !allowed.contains(&there) {
                faults.push(fault(format!("{home} may not import {there}")));
            } else if let Some((_, known)) = PEERS.iter().find(|(name, _)| name == home)
                && there == *home
            {
                faults.extend(peers(home, known, &module, &path).map(fault));
            }
        }
        if code.contains("crate::*") {
            faults.push(format!(
                "{}: nobody imports the crate's root",
                file.display()
            ));
        }
        if PURE.contains(home) {
            let said = IMPURE.iter().filter(|w| code.contains(**w));
            faults.extend(said.map(|w| format!("{}: a pure floor says `{w}`", file.display())));
        }
    }
    assert_none(&faults);
}

/// What is wrong with a path between rooms under one roof.
fn peers(home: &str, known: &[&str], module: &[String], path: &[String]) -> Option<String> {
    let is_room = |name: &str| Path::new("src").join(home).join(name).is_dir();
    let is_roof = |name: &str| {
        Path::new("src")
            .join(home)
            .join(format!("{name}.rs"))
            .is_file()
    };
    let room = module.get(1).filter(|r| is_room(r))?;
    let other = path.get(1)?;
    if other == room || known.contains(&other.as_str()) {
        return None;
    }
    if is_room(other) {
        return Some(format!("{home}/{room} may not import its peer {other}"));
    }
    is_roof(other).then(|| format!("{home}/{room} may not import the roof over it"))
}

#[test]
fn nothing_is_left_out_of_the_floors() {
    let mut lacking = vec![];
    for entry in fs::read_dir("src").expect("src") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if !FLOORS.iter().any(|(floor, _)| *floor == name) && !["lib", "main"].contains(&&*name) {
            lacking.push(format!("src/{name} has no row in the table of floors"));
        }
    }
    assert_none(&lacking);
}

#[test]
fn files_are_short_and_begin_with_their_duty() {
    let mut faults = vec![];
    for file in files("src", ".rs").into_iter().chain(files("tests", ".rs")) {
        let text = read(&file);
        let lines = text.lines().count();
        let max = if file.starts_with("tests") {
            TEST_LINES_MAX
        } else {
            LINES_MAX
        };
        if lines > max {
            faults.push(format!("{}: {lines} lines, {max} at most", file.display()));
        }
        if !text.starts_with("//! ") {
            faults.push(format!(
                "{}: its first line is not its duty (`//! ...`)",
                file.display()
            ));
        }
        if !file.ends_with("tidy.rs") {
            let said = NOBODY.iter().filter(|w| text.contains(**w));
            faults.extend(said.map(|w| format!("{}: says `{w}`", file.display())));
        }
    }
    assert_none(&faults);
}

#[test]
fn folders_are_not_crowded() {
    let mut faults = vec![];
    let all = files("src", ".rs");
    let folders: BTreeSet<_> = all.iter().filter_map(|f| f.parent()).collect();
    for folder in folders {
        let there = all.iter().filter(|f| f.parent() == Some(folder)).count();
        let known = CROWDED
            .iter()
            .find(|(name, _, _)| Path::new(name) == folder);
        let max = known.map_or(FILES_MAX, |(_, max, _)| *max);
        if there > max {
            faults.push(format!(
                "{}: {there} files, {max} at most",
                folder.display()
            ));
        }
    }
    assert_none(&faults);
}

/// Where the links of a text lead, code left aside.
fn links(text: &str) -> Vec<String> {
    let mut out = vec![];
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        let plain = line.split('`').step_by(2).collect::<Vec<_>>().join(" ");
        for part in plain.split("](").skip(1).filter(|_| !fenced) {
            out.extend(part.split(')').next().map(str::to_owned));
        }
    }
    out
}

/// A heading as the end of a link names it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().replace(' ', "-")
}

#[test]
fn links_lead_somewhere() {
    let mut faults = vec![];
    for file in files(".", ".md") {
        let text = read(&file);
        for link in links(&text) {
            if link.starts_with("https://") || link.starts_with("http://") {
                continue;
            }
            let (path, fragment) = link.split_once('#').unwrap_or((&link, ""));
            let target = match path {
                "" => file.clone(),
                path => file.parent().unwrap_or(Path::new("")).join(path),
            };
            if !target.exists() {
                faults.push(format!("{}: nothing is at {link}", file.display()));
            } else if !fragment.is_empty() && target.is_file() {
                let there = read(&target);
                let headings = there.lines().filter(|l| l.starts_with('#'));
                let mut anchors = headings.map(|l| anchor(l.trim_start_matches('#')));
                if !anchors.any(|a| a == fragment) {
                    faults.push(format!("{}: no heading for {link}", file.display()));
                }
            }
        }
    }
    assert_none(&faults);
}

#[test]
fn the_map_is_short() {
    if let Ok(text) = fs::read_to_string("ARCHITECTURE.md") {
        let lines = text.lines().count();
        assert!(
            lines <= ARCHITECTURE_LINES_MAX,
            "ARCHITECTURE.md has {lines} lines"
        );
    }
}

/// The tests that a text names, as in `` `tests/chart.rs::pods_are_restricted_by_default` ``.
fn tests_named(text: &str) -> Vec<(&str, &str)> {
    let code = text.split('`').skip(1).step_by(2);
    code.filter_map(|c| c.split_once(".rs::").map(|_| c))
        .filter_map(|c| c.rsplit_once("::"))
        .collect()
}

/// Why a test that is named is none; nothing where it runs.
fn no_test(file: &str, name: &str) -> Option<String> {
    let Ok(text) = fs::read_to_string(file) else {
        return Some(format!("{file} does not exist"));
    };
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let begins = |l: &&str| {
        l.split_once("fn ")
            .is_some_and(|(_, rest)| rest.starts_with(&format!("{name}(")))
    };
    let Some(at) = lines.iter().position(begins) else {
        return Some(format!("{file} has no {name}"));
    };
    let marked = lines[..at]
        .iter()
        .rev()
        .take_while(|l| l.starts_with('#') || l.starts_with("//"));
    let mut marked = marked.filter(|l| l.starts_with("#[test]") || l.starts_with("#[tokio::test"));
    // The end-to-end tests stand in a list.
    let module = Path::new(file)
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy();
    let listed = file.starts_with("tests/e2e/")
        && read(Path::new("tests/e2e/main.rs")).contains(&format!("{module}::{name}"));
    (marked.next().is_none() && !listed).then(|| format!("{file}: {name} is no test"))
}

#[test]
fn a_test_that_is_named_is_found_or_missed() {
    let here = "`tests/tidy.rs::a_test_that_is_named_is_found_or_missed` and `x` and `tests/tidy.rs::no_test`";
    let named = tests_named(here);
    assert_eq!(named.len(), 2);
    assert_eq!(no_test(named[0].0, named[0].1), None);
    for (file, name) in [named[1], ("tests/tidy.rs", "gone"), ("tests/gone.rs", "x")] {
        assert!(no_test(file, name).is_some(), "{file}::{name}");
    }
    assert_eq!(no_test("tests/e2e/install.rs", "chart_rendered"), None);
}

const THREATS: usize = 21;

#[test]
fn every_threat_has_its_control_and_its_test() {
    let text = read(Path::new("SECURITY.md"));
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|l| l.starts_with("| T0") || l.starts_with("| T1") || l.starts_with("| T2"))
        .map(|l| l.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let found: Vec<&str> = rows.iter().map(|r| r[0]).collect();
    let wanted: Vec<String> = (1..=THREATS).map(|n| format!("T{n:02}")).collect();
    assert_eq!(found, wanted, "each threat has one row, in order");
    let mut faults = vec![];
    for row in rows {
        let [id, threat, control, proof] = row[..] else {
            faults.push(format!("{}: not four cells", row[0]));
            continue;
        };
        if threat.is_empty() || control.is_empty() {
            faults.push(format!("{id}: an empty cell"));
        }
        let named = tests_named(proof);
        // "No:" and a reason of some length stand where there is no test.
        let reason = proof.split_once("No: ").map_or(0, |(_, why)| why.len());
        if named.is_empty() && reason < 15 {
            faults.push(format!("{id}: neither a test nor a reason"));
        }
        let missed = named.iter().filter_map(|(file, name)| no_test(file, name));
        faults.extend(missed.map(|why| format!("{id}: {why}")));
    }
    assert_none(&faults);
}
