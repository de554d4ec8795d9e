//! What fuzzing found worth keeping, played again: `tests/fuzz/corpora` has inputs for each target, one
//! in a line, as hexadecimal digits. `make fuzz` looks for more.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot read its data says so"
)]

#[path = "fuzz/src/targets/mod.rs"]
mod targets;

use std::{collections::BTreeSet, fs, panic, path::Path};

use targets::{TARGETS, Target};

const FOLDER: &str = "tests/fuzz/corpora";

fn bytes(line: &str) -> Vec<u8> {
    let pairs = (0..line.len()).step_by(2);
    pairs
        .map(|i| u8::from_str_radix(&line[i..i + 2], 16).expect("two digits"))
        .collect()
}

fn play(name: &str, target: Target) -> Vec<String> {
    let text = fs::read_to_string(Path::new(FOLDER).join(format!("{name}.hex")))
        .unwrap_or_else(|e| panic!("{name}: {e}"));
    assert!(text.lines().count() >= 20, "{name} has few inputs");
    let inputs = text.lines();
    inputs
        .filter(|line| panic::catch_unwind(|| target(&bytes(line))).is_err())
        .map(|line| format!("{name}: {line}"))
        .collect()
}

#[test]
fn what_fuzzing_found_still_holds() {
    let mut wrong = vec![];
    for (name, target) in TARGETS {
        wrong.extend(play(name, *target));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_target_has_its_corpus_and_no_other_has() {
    let names: BTreeSet<String> = TARGETS.iter().map(|(n, _)| format!("{n}.hex")).collect();
    let files = fs::read_dir(FOLDER).expect("the folder of corpora");
    let files: BTreeSet<String> = files
        .map(|f| {
            f.expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    assert_eq!(files, names);
}
