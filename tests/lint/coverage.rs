//! No rule without a broken manifest: every CEL rule and every message of the controller's checks is
//! told of at least one.

use std::{collections::BTreeSet, fs};

use serde_json::Value;
use serin::{
    api::crds,
    cli::lint::{Rule, schema},
};

use crate::words::{broken, raw};

/// The messages that the rules of one sort give about the broken manifests, told twice or not.
fn messages(rule: Rule) -> BTreeSet<String> {
    let all = broken();
    let findings = all.iter().flat_map(|path| raw(path).findings);
    findings
        .filter(|f| f.rule == rule)
        .map(|f| f.message)
        .collect()
}

fn rules(kind: &str, schema: &Value, out: &mut Vec<(String, String, String)>) {
    match schema {
        Value::Object(words) => {
            for rule in words
                .get("x-kubernetes-validations")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                let text = |word: &str| rule[word].as_str().unwrap_or_default().to_owned();
                out.push((kind.to_owned(), text("rule"), text("message")));
            }
            words.values().for_each(|v| rules(kind, v, out));
        }
        Value::Array(all) => all.iter().for_each(|v| rules(kind, v, out)),
        _ => {}
    }
}

#[test]
fn every_cel_rule_is_broken_once() {
    let mut all = vec![];
    for (_, crd) in crds() {
        rules(&crd.spec.names.kind, &schema::of_kind(&crd), &mut all);
    }
    assert!(all.len() > 10, "{} rules", all.len());
    let files = broken();
    let found: BTreeSet<(String, String)> = files
        .iter()
        .flat_map(|path| raw(path).findings)
        .filter(|f| f.rule == Rule::Cel)
        .map(|f| (f.kind, f.message))
        .collect();
    let mut lacking = vec![];
    for (kind, rule, message) in all {
        assert!(!message.is_empty(), "{kind}: {rule} has no message");
        // A change is nothing that a file can show.
        let change = rule.contains("oldSelf");
        if !change && !found.contains(&(kind.clone(), message.clone())) {
            lacking.push(format!("{kind}: {message} ({rule})"));
        }
    }
    assert!(
        lacking.is_empty(),
        "no broken manifest for\n{}",
        lacking.join("\n")
    );
}

/// Where the controller's checks have their messages.
const CHECKS: &[&str] = &[
    "src/api/units.rs",
    "src/model/spec/mod.rs",
    "src/model/spec/blue_green.rs",
    "src/model/spec/canary.rs",
    "src/model/spec/surge.rs",
    "src/engine/workload/services.rs",
    "src/engine/traffic/backends.rs",
    "src/engine/traffic/gateway_api.rs",
    "src/engine/analysis/check.rs",
    "src/engine/analysis/metrics.rs",
    "src/engine/analysis/template/arguments.rs",
    "src/engine/analysis/template/escape.rs",
    "src/engine/analysis/template/mod.rs",
];

/// Texts that are no faults of a manifest, or that no manifest of a tolerable size has.
const NO_FAULTS: &[(&str, &str)] = &[
    ("point Service", "what is done, not a fault"),
    (
        "has no parentRefs",
        "what acceptance lacks: of a live route",
    ),
    (
        "no controller of parent",
        "what acceptance lacks: of a live route",
    ),
    (
        "has not accepted generation",
        "what acceptance lacks: of a live route",
    ),
    ("their queries have", "more than 256 KiB of queries"),
    (
        "can be remembered: let the rule have the filters in its place",
        "more than 4 KiB of one backend",
    ),
];

/// The texts in code, the tests at its foot left aside.
fn texts(code: &str) -> Vec<String> {
    let code = code
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or_default();
    let lines = code.lines().filter(|l| !l.trim_start().starts_with("//"));
    let code = lines.collect::<Vec<_>>().join("\n");
    let mut chars = code.chars().peekable();
    let mut out = vec![];
    while let Some(c) = chars.next() {
        match c {
            // A character, such as '"', not a lifetime.
            '\'' => {
                let mut ahead = chars.clone();
                if ahead.next() == Some('\\') {
                    chars.nth(2);
                } else if ahead.next() == Some('\'') {
                    chars.nth(1);
                }
            }
            '"' => {
                let mut text = String::new();
                while let Some(c) = chars.next() {
                    match c {
                        '"' => break,
                        '\\' => match chars.next() {
                            Some('\n') => while chars.next_if(|c| c.is_whitespace()).is_some() {},
                            Some('n') => text.push('\n'),
                            Some(c) => text.push(c),
                            None => {}
                        },
                        c => text.push(c),
                    }
                }
                out.push(text);
            }
            _ => {}
        }
    }
    out
}

/// The longest piece of a text between its placeholders.
fn piece(text: &str) -> String {
    let plain = text.replace("{{", "\u{1}").replace("}}", "\u{2}");
    let mut pieces = vec![String::new()];
    let mut inside = false;
    for c in plain.chars() {
        match c {
            '{' => inside = true,
            '}' => {
                inside = false;
                pieces.push(String::new());
            }
            c if !inside => pieces.last_mut().expect("one").push(c),
            _ => {}
        }
    }
    let longest = pieces
        .into_iter()
        .max_by_key(String::len)
        .unwrap_or_default();
    longest
        .replace('\u{1}', "{")
        .replace('\u{2}', "}")
        .trim()
        .to_owned()
}

#[test]
fn every_message_of_the_controller_is_told_once() {
    let found = messages(Rule::Controller);
    let (mut lacking, mut seen) = (vec![], 0);
    for file in CHECKS {
        let code = fs::read_to_string(file).unwrap_or_else(|e| panic!("{file}: {e}"));
        for text in texts(&code) {
            let piece = piece(&text);
            // Names, paths and words are no messages.
            if !piece.contains(' ') || piece.len() < 8 {
                continue;
            }
            seen += 1;
            let bare = |m: &str| m.replace("{{", "{").replace("}}", "}");
            let told = found.iter().any(|m| bare(m).contains(&bare(&piece)));
            if !told && !NO_FAULTS.iter().any(|(p, _)| *p == piece) {
                lacking.push(format!("{file}: {piece:?}"));
            }
        }
    }
    assert!(seen > 40, "{seen} messages");
    assert!(
        lacking.is_empty(),
        "no broken manifest for\n{}",
        lacking.join("\n")
    );
}

#[test]
fn texts_are_found_in_code() {
    let code = "let a = \"one two\"; // \"x\"\n/// \"no\"\nlet b = ('\"', '\\'', \"th\\\"ree \\\n   four\");\nfn f<'a>() {\"{x} at {y:?} most {{z}}\"}\n#[cfg(test)]\nmod tests {\"five\"}";
    let found = texts(code);
    assert!(found.contains(&"one two".to_owned()), "{found:?}");
    assert!(found.contains(&"th\"ree four".to_owned()), "{found:?}");
    assert!(!found.contains(&"five".to_owned()), "{found:?}");
    assert_eq!(piece("{x} at {y:?} most {{z}}"), "most {z}");
}
