//! The commands as a process: what they print, and how they end.

use std::{
    io::Write as _,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

/// Runs serin, with a text on its standard input.
fn serin(args: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_serin"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("serin starts");
    let mut stdin = child.stdin.take().expect("its input");
    // A command that reads nothing has closed it.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("serin ends")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn lint_fails_where_there_is_a_fault() {
    let good = serin(&["lint", "docs/examples"], "");
    assert!(good.status.success(), "{}", text(&good.stderr));
    let told = text(&good.stdout);
    assert!(told.ends_with(" objects: nothing is wrong\n"), "{told}");
    assert!(!told.starts_with("0 "), "{told}");
    let bad = serin(
        &["lint", "docs/examples", "tests/lint/broken/too-wide.yaml"],
        "",
    );
    assert_eq!(bad.status.code(), Some(1));
    let out = text(&bad.stdout);
    let line = "tests/lint/broken/too-wide.yaml:6: error: Rollout checkout: spec.replicas: 3000000000: must be 0 to 100000 (schema)";
    assert!(out.lines().any(|l| l == line), "{out}");
    assert!(
        text(&bad.stderr).contains("1 error in 1 file"),
        "{}",
        text(&bad.stderr)
    );
    let nowhere = serin(&["lint", "nowhere"], "");
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(text(&nowhere.stdout).starts_with("nowhere: error: cannot be read"));
}

#[test]
fn lint_reads_its_input_and_writes_json() {
    let input = "kind: Rollout\napiVersion: serin.dev/v1alpha1\nmetadata: {name: x}\nspec: {strategy: {canary: {}}, template: {}, selector: 1}\n";
    let run = serin(&["lint", "-", "-o", "json"], input);
    assert_eq!(run.status.code(), Some(1));
    let json: Value = serde_json::from_slice(&run.stdout).expect("json");
    assert_eq!(json["objects"], 1);
    let first = &json["findings"][0];
    for (field, wanted) in [
        ("severity", "error"),
        ("rule", "schema"),
        ("file", "stdin"),
        ("kind", "Rollout"),
        ("name", "x"),
        ("path", "spec.selector"),
        ("message", "1: must be an object"),
    ] {
        assert_eq!(first[field], wanted, "{field}: {json:#}");
    }
    assert_eq!(
        (&first["line"], &first["documentLine"]),
        (&4.into(), &1.into())
    );
}

#[test]
fn a_warning_fails_only_where_that_is_wanted() {
    let input = std::fs::read_to_string("docs/examples/canary-pods.yaml").expect("a file");
    let input = format!("{input}status: {{}}\n");
    let run = serin(&["lint", "-"], &input);
    assert!(run.status.success(), "{}", text(&run.stdout));
    assert!(
        text(&run.stdout).contains(": warning: "),
        "{}",
        text(&run.stdout)
    );
    let strict = serin(&["lint", "-", "--strict"], &input);
    assert_eq!(strict.status.code(), Some(1));
}

#[test]
fn simulate_plays_or_says_why_not() {
    let example = "docs/examples/canary-gateway-api.yaml";
    let good = serin(&["simulate", example], "");
    assert!(good.status.success(), "{}", text(&good.stderr));
    assert!(text(&good.stdout).contains("Completed: revision"));
    let bad = serin(
        &["simulate", example, "--scenario", "bad", "-o", "json"],
        "",
    );
    assert!(bad.status.success(), "{}", text(&bad.stderr));
    let json: Value = serde_json::from_slice(&bad.stdout).expect("json");
    assert_eq!(json["phase"], "Degraded");
    assert_eq!(json["brokenLaws"], Value::Array(vec![]));
    let broken = serin(&["simulate", "tests/lint/broken/ranges.yaml"], "");
    assert_eq!(broken.status.code(), Some(1));
    assert!(text(&broken.stderr).contains("spec.replicas: -1"));
}
