//! What a new router takes: the patch `tests/patches/toy-router.patch` adds one to the working tree,
//! with one file, one line in each list that the compiler points at, and nothing else by hand. In a
//! copy of the tree, what is generated is written anew and the router holds the laws of a lens.
//! `UPDATE=1 cargo test --test toy_router` writes the patch anew where lines around it have moved.

#![allow(clippy::panic, reason = "a test that cannot do its work says so")]

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

const PATCH: &str = "tests/patches/toy-router.patch";
const ROUTER: &str = "src/engine/traffic/toy.rs";
/// Its cases: data for the laws.
const CASES: &str = "tests/routers/toy/";
/// Files with a list in which it stands, and the lines of it; a field's doc comment and attribute
/// belong to its line.
const LISTS: [(&str, &[&str]); 2] = [
    ("src/api/traffic.rs", &["pub toy: Option<String>,"]),
    (
        "src/engine/traffic/mod.rs",
        &[
            "pub mod toy;",
            "toy,",
            "toy::entry(toy.as_ref(), backends),",
        ],
    ),
];
/// What `make generate` writes, and the word for the toy in it.
const GENERATED: [(&str, &str); 4] = [
    ("charts/serin/files/crds/rollouts.yaml", "toy:"),
    ("charts/serin/files/rbac-namespaced.yaml", "toysplits"),
    ("crds/rollouts.yaml", "toy:"),
    ("docs/reference/fields.md", "trafficRouting.toy`"),
];

type Files = BTreeMap<String, Vec<u8>>;

fn run(command: &mut Command) -> Result<String, String> {
    let name = format!("{command:?}");
    let out = command.output().map_err(|e| format!("{name}: {e}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = format!("{}{}", text(&out.stdout), text(&out.stderr));
    if out.status.success() {
        Ok(said)
    } else {
        Err(format!("{name}: {}\n{said}", out.status))
    }
}

/// Git that sees `dir` alone, whatever repository is around it.
fn git(dir: &Path) -> Command {
    let mut git = Command::new("git");
    git.current_dir(dir);
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
        git.env_remove(name);
    }
    git
}

/// The working tree, without what Git ignores.
fn working_tree() -> Files {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names = git(root)
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .output()
        .expect("git lists the working tree");
    assert!(names.status.success(), "{names:?}");
    String::from_utf8(names.stdout)
        .expect("names in UTF-8")
        .split_terminator('\0')
        .filter_map(|name| Some((name.to_owned(), fs::read(root.join(name)).ok()?)))
        .collect()
}

/// Every file under `dir`.
fn files(dir: &Path) -> Files {
    let (mut found, mut open) = (Files::new(), vec![dir.to_owned()]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let name = path
                .strip_prefix(dir)
                .expect("it is below")
                .to_string_lossy();
            found.insert(name.into_owned(), fs::read(&path).expect("a file"));
        }
    }
    found
}

/// Makes `dir` hold these files. What is the same already is not touched, so that what was built
/// from it last time stands.
fn put(dir: &Path, wanted: &Files) {
    let found = files(dir);
    for name in found.keys().filter(|name| !wanted.contains_key(*name)) {
        fs::remove_file(dir.join(name)).expect("it can be removed");
    }
    for (name, bytes) in wanted {
        if found.get(name) != Some(bytes) {
            let path = dir.join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, bytes).expect("it can be written");
        }
    }
}

/// Names of the files that differ.
fn changed(before: &Files, after: &Files) -> BTreeSet<String> {
    let names = before.keys().chain(after.keys());
    names
        .filter(|name| before.get(*name) != after.get(*name))
        .cloned()
        .collect()
}

/// The lines that were added; none may have been taken away.
fn added(name: &str, before: &[u8], after: &[u8]) -> Vec<String> {
    let before = String::from_utf8_lossy(before);
    let after = String::from_utf8_lossy(after);
    let mut old = before.lines().peekable();
    let added = after
        .lines()
        .filter(|line| old.next_if_eq(line).is_none())
        .map(|line| line.trim().to_owned())
        .collect();
    assert_eq!(old.next(), None, "the patch takes a line away from {name}");
    added
}

/// The working tree with the patch applied to it.
fn patched(scratch: &Path, before: &Files) -> Files {
    let (a, b) = (scratch.join("a"), scratch.join("b"));
    put(&a, before);
    put(&b, before);
    let patch = Path::new(env!("CARGO_MANIFEST_DIR")).join(PATCH);
    let update = env::var_os("UPDATE").is_some_and(|u| u != "0");
    let apply = |how: &[&str]| {
        let mut git = git(&b);
        git.env("GIT_CEILING_DIRECTORIES", scratch).arg("apply");
        run(git.args(how).arg(&patch))
    };
    if update {
        apply(&["-C1", "--recount"]).expect("the patch applies, at least loosely");
        let mut git = git(scratch);
        let diff = git.args(["diff", "--no-index", "--no-prefix", "--no-color", "a", "b"]);
        let diff = diff.output().expect("git compares").stdout;
        // Without the hashes, which change with every line anywhere in the file.
        let diff: String = String::from_utf8_lossy(&diff)
            .split_inclusive('\n')
            .filter(|line| !line.starts_with("index "))
            .map(|line| line.replacen("diff --git b/", "diff --git a/", 1))
            .collect();
        fs::write(&patch, diff).expect("the patch is written");
    } else {
        for how in [&["--check"][..], &[]] {
            let applied = apply(how);
            applied.unwrap_or_else(|why| panic!("{why}\nUPDATE=1 may write the patch anew"));
        }
    }
    files(&b)
}

#[test]
fn a_router_is_one_file_and_one_line_in_each_list() {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let scratch: PathBuf = target.join("patched");
    fs::create_dir_all(&scratch).expect("a folder");
    let scratch = scratch.canonicalize().expect("a path");
    let lock = fs::File::create(scratch.join("lock")).expect("a lock");
    lock.lock().expect("one at a time");

    let before = working_tree();
    let after = patched(&scratch, &before);

    let by_hand = changed(&before, &after);
    let mut wanted: BTreeSet<String> = LISTS.map(|(name, _)| name.to_owned()).into();
    wanted.insert(ROUTER.to_owned());
    wanted.extend(after.keys().filter(|name| name.starts_with(CASES)).cloned());
    assert_eq!(by_hand, wanted, "what the patch touches");
    assert!(!before.contains_key(ROUTER), "{ROUTER} is there already");
    for (name, lines) in LISTS {
        let mut added = added(name, &before[name], &after[name]);
        added.retain(|line| !line.starts_with("///") && !line.starts_with("#["));
        assert_eq!(added, lines, "what the patch adds to {name}");
    }

    // Built where the dependencies are built already. Cargo tells packages of two checkouts in one
    // folder apart by their profile only, and programs by their name.
    let checkout = scratch.join("checkout");
    let mut built = after;
    let manifest = String::from_utf8_lossy(&built["Cargo.toml"]).into_owned();
    let mut apart = manifest.replacen(
        "[[bin]]\nname = \"serin\"",
        "[[bin]]\nname = \"serin-patched\"",
        1,
    );
    assert_ne!(manifest, apart, "the program's name is not where it was");
    for package in ["serin", "serin-lab"] {
        apart += &format!("\n[profile.dev.package.{package}]\ndebug = false\n");
    }
    built.insert("Cargo.toml".to_owned(), apart.into_bytes());
    put(&checkout, &built);
    let cargo = || {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        // What is said of the package of this test is not of that one; build scripts would notice.
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_MANIFEST") || text.starts_with("CARGO_PKG") {
                cargo.env_remove(&name);
            }
        }
        let dir = target.parent().expect("the folder of what is built");
        cargo.current_dir(&checkout).env("CARGO_TARGET_DIR", dir);
        cargo
    };
    run(cargo().args(["fmt", "-p", "serin", "--check"])).unwrap_or_else(|why| panic!("{why}"));
    let said = run(cargo()
        .args([
            "test",
            "--locked",
            "--test",
            "generated",
            "--test",
            "routers",
        ])
        .args(["--", "--nocapture"])
        .env("UPDATE", "1"))
    .unwrap_or_else(|why| panic!("{why}"));
    assert!(said.contains("toy: "), "the laws saw no toy:\n{said}");
    let warned = said
        .split("\n\n")
        .find(|part| part.contains("warning") && part.contains("toy"));
    assert_eq!(warned, None, "the compiler warns");

    let generated = files(&checkout);
    let names: BTreeSet<String> = GENERATED.map(|(name, _)| name.to_owned()).into();
    assert_eq!(changed(&built, &generated), names, "what is generated");
    for (name, word) in GENERATED {
        let text = String::from_utf8_lossy(&generated[name]);
        assert!(text.contains(word), "{name} says nothing of {word}");
    }
}
