//! Every YAML in the docs and under `docs/examples`: it can be read, it has no unknown field, every
//! Rollout can be carried out and every template can be run.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use serin::{
    api::names::API_VERSION,
    cli::lint::{Severity, examine, source::Source, told},
    sim::Scenario,
};

/// A piece of YAML and where it stands.
struct Piece {
    place: String,
    text: String,
}

fn walk(dir: &Path, end: &str, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a folder can be read") {
        let path = entry.expect("an entry can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            walk(&path, end, out);
        } else if name.ends_with(end) {
            out.push(path);
        }
    }
    out.sort();
}

/// The blocks of a Markdown file that are YAML.
fn blocks(path: &Path, out: &mut Vec<Piece>) {
    let text = fs::read_to_string(path).expect("a file can be read");
    let mut open: Option<(usize, String)> = None;
    for (number, line) in text.lines().enumerate() {
        match &mut open {
            Some((start, inside)) if line.trim() == "```" => {
                let place = format!("{}:{}", path.display(), *start + 1);
                out.push(Piece {
                    place,
                    text: std::mem::take(inside),
                });
                open = None;
            }
            Some((_, inside)) => inside.push_str(&format!("{line}\n")),
            None if line.trim() == "```yaml" => open = Some((number, String::new())),
            None => {}
        }
    }
    assert!(open.is_none(), "{}: a block is not closed", path.display());
}

fn pieces() -> Vec<Piece> {
    let (mut files, mut pieces) = (vec![], vec![]);
    walk(Path::new("docs/examples"), ".yaml", &mut files);
    for file in files {
        let text = fs::read_to_string(&file).expect("a file can be read");
        pieces.push(Piece {
            place: file.display().to_string(),
            text,
        });
    }
    let mut files = vec![];
    walk(Path::new("."), ".md", &mut files);
    for file in files {
        blocks(&file, &mut pieces);
    }
    pieces
}

/// The documents of a piece; a line of `---` stands between two.
fn documents(piece: &Piece) -> Result<Vec<Value>, String> {
    let parts = format!("\n{}", piece.text);
    let parts = parts.split("\n---\n").filter(|p| !p.trim().is_empty());
    parts
        .map(|p| serde_saphyr::from_str(p).map_err(|e| format!("{}: {e}", piece.place)))
        .collect()
}

/// What is wrong with a piece: what `serin lint` says of it, and a template that it names and does not bring.
/// How many objects of Serin's there are.
fn check(piece: &Piece) -> Result<usize, Vec<String>> {
    let (mut faults, mut ours) = (vec![], 0);
    for document in documents(piece).map_err(|e| vec![e])? {
        ours += usize::from(document["apiVersion"] == API_VERSION);
        if document.get("given").is_some() {
            let read = serde_json::from_value::<Scenario>(document);
            faults.extend(read.err().map(|e| format!("{}: {e}", piece.place)));
        }
    }
    let source = Source {
        name: piece.place.clone(),
        text: Ok(piece.text.clone()),
    };
    let examined = told(examine(&[source]).expect("it can be looked at"));
    for f in examined.findings {
        let template = f.message.contains("Template ");
        if f.severity != Severity::Note || template {
            faults.push(format!("{}:{}: {}: {}", f.file, f.line, f.path, f.message));
        }
    }
    if faults.is_empty() {
        Ok(ours)
    } else {
        Err(faults)
    }
}

#[test]
fn every_example_can_be_carried_out() {
    let pieces = pieces();
    let (mut objects, mut faults) = (0, vec![]);
    for piece in &pieces {
        match check(piece) {
            Ok(found) => objects += found,
            Err(wrong) => faults.extend(wrong),
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    assert!(
        pieces.len() > 8 && objects > 8,
        "{} pieces, {objects} objects",
        pieces.len()
    );
}

#[test]
fn a_wrong_example_is_found() {
    let wrong = |text: &str| {
        let piece = Piece {
            place: "here".into(),
            text: text.to_owned(),
        };
        check(&piece).expect_err("it is wrong").join("\n")
    };
    let rollout = |rest: &str| {
        format!(
            "apiVersion: serin.dev/v1alpha1\nkind: Rollout\nmetadata: {{name: x}}\nspec:\n  \
             selector: {{matchLabels: {{a: b}}}}\n  template: {{metadata: {{labels: {{a: b}}}}}}\n  \
             strategy: {{canary: {{{rest}}}}}\n"
        )
    };
    assert!(wrong(&rollout("step: []")).contains("spec.strategy.canary.step: unknown field"));
    assert!(wrong(&rollout("steps: [{setWeight: 101}]")).contains("must be 0 to 100"));
    let missing = rollout("steps: [{analysis: {templates: [{templateName: gone}]}}]");
    assert!(wrong(&missing).contains("gone is not in these files"));
    assert!(wrong("a: [").starts_with("here"));
    assert!(wrong("given: {spec: {}}\nabout: x\nuntil: 1s\nexpect: {what: 1}").contains("what"));
}
