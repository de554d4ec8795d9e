//! The words of lint on broken manifests, which are reviewed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serin::cli::lint::{
    Examined, Rule, Severity, examine,
    source::{self, Source},
    told,
};

/// The broken manifests.
pub fn broken() -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = fs::read_dir("tests/lint/broken")
        .expect("the folder of broken manifests")
        .map(|e| e.expect("an entry").path())
        .filter(|p| p.extension().is_some_and(|e| e == "yaml"))
        .collect();
    all.sort();
    all
}

/// Everything that the rules find in a file, by its bare name.
pub fn raw(path: &Path) -> Examined {
    let name = path.file_name().expect("a name").to_string_lossy();
    of(
        &name,
        &fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())),
    )
}

/// Everything that the rules find in a text.
pub fn of(name: &str, text: &str) -> Examined {
    let source = Source {
        name: name.to_owned(),
        text: Ok(text.to_owned()),
    };
    examine(&[source]).expect("it can be looked at")
}

/// Compares a text with the one that was reviewed, or writes it.
pub fn same(golden: &Path, text: &str, wrong: &mut Vec<String>) {
    if std::env::var_os("UPDATE").is_some_and(|u| u != "0") {
        fs::write(golden, text).expect("the text is written");
    }
    if fs::read_to_string(golden).unwrap_or_default() != text {
        let golden = golden.display();
        wrong.push(format!("{golden}: UPDATE=1 accepts these words:\n{text}"));
    }
}

#[test]
fn broken_manifests_are_told_in_these_words() {
    let all = broken();
    assert!(all.len() >= 30, "only {} broken manifests", all.len());
    let mut wrong = vec![];
    for path in all {
        let text = fs::read_to_string(&path).expect("a file");
        assert!(
            text.starts_with("# "),
            "{}: say what is wrong",
            path.display()
        );
        let examined = told(raw(&path));
        if examined.count(Severity::Error) == 0 {
            wrong.push(format!("{}: nothing is found", path.display()));
        }
        for finding in &examined.findings {
            let lines = u64::try_from(text.lines().count()).expect("a number");
            let placed = (1..=lines).contains(&finding.line)
                && (finding.rule == Rule::Syntax || !finding.kind.is_empty());
            if !placed || finding.message.ends_with('.') || finding.message.is_empty() {
                wrong.push(format!("{}: {finding:?}", path.display()));
            }
        }
        same(&path.with_extension("txt"), &examined.text(), &mut wrong);
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn all_faults_of_several_files_are_told_at_once() {
    let sources = source::read(&["tests/lint/broken".into(), "tests/lint/nowhere.yaml".into()]);
    assert_eq!(sources.len(), broken().len() + 1);
    let examined = told(examine(&sources).expect("it can be looked at"));
    let with_faults = |name: &str| {
        let mut of = examined.findings.iter().filter(|f| f.file.ends_with(name));
        of.any(|f| f.severity == Severity::Error)
    };
    for path in broken() {
        let name = path.file_name().expect("a name").to_string_lossy();
        assert!(with_faults(&format!("/{name}")), "{name}");
    }
    assert!(with_faults("nowhere.yaml"));
}

#[test]
fn a_fault_stands_at_its_line() {
    let text = "# a\n---\napiVersion: serin.dev/v1alpha1\nkind: AnalysisTemplate\nmetadata:\n  name: x\nspec:\n  metrics:\n  - name: a\n    judge: {threshold: {pass: '> 1'}}\n    provider:\n      prometheus: {query: up}\n    count:\n      0\n";
    let examined = told(of("f.yaml", text));
    let [finding] = examined.findings.as_slice() else {
        panic!("{examined:?}")
    };
    let place = (finding.line, finding.document_line);
    assert_eq!(place, (13, 3), "{finding:?}");
    assert_eq!(finding.path, "spec.metrics[0].count");
}

#[test]
fn hostile_files_do_no_harm() {
    let rollout = |spec: &str| {
        format!(
            "apiVersion: serin.dev/v1alpha1\nkind: Rollout\nmetadata: {{name: x}}\nspec: {spec}\n"
        )
    };
    let deep = format!("{}1{}", "{a: ".repeat(5000), "}".repeat(5000));
    let fields: Vec<String> = (0..50_000).map(|i| format!("a{i}: 1")).collect();
    let wide = format!("{{{}}}", fields.join(", "));
    let steps = format!(
        "{{strategy: {{canary: {{steps: [{}]}}}}}}",
        "{setWeight: x},".repeat(50_000)
    );
    let bomb = "a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c]\ne: &e [*d, *d, *d, *d, *d, *d, *d, *d, *d]\nf: &f [*e, *e, *e, *e, *e, *e, *e, *e, *e]\ng: [*f, *f, *f, *f, *f, *f, *f, *f, *f]\n";
    let brackets = "[".repeat(100_000);
    let named = rollout(&format!(
        "{{strategy: {{canary: {{{}: 1}}}}}}",
        "x".repeat(100_000)
    ));
    for text in [
        &rollout(&deep),
        &rollout(&wide),
        &rollout(&steps),
        bomb,
        &brackets,
        &named,
        "\u{0}",
        "--- - -",
    ] {
        let examined = told(of("f.yaml", text));
        assert!(
            examined.count(Severity::Error) > 0 || text == bomb,
            "{text:.40}"
        );
        let sizes = examined.findings.iter().map(|f| f.message.len());
        assert!(sizes.max().unwrap_or(0) < 4096, "a message is short");
    }
}
