//! Findings as text and as JSON.

use std::{collections::BTreeSet, fmt::Write as _};

use super::{Examined, Rule, Severity};

/// A line for each finding, and one that sums up.
pub fn text(examined: &Examined) -> String {
    format!("{}{}\n", lines(examined), sum(examined))
}

/// A line for each finding.
pub fn lines(examined: &Examined) -> String {
    let mut out = String::new();
    for f in &examined.findings {
        let severity = match f.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        let rule = match f.rule {
            Rule::Syntax => "syntax",
            Rule::Schema => "schema",
            Rule::Cel => "cel",
            Rule::Controller => "controller",
        };
        let line = if f.line == 0 {
            String::new()
        } else {
            format!(":{}", f.line)
        };
        let _ = write!(out, "{}{line}: {severity}: ", f.file);
        let object = format!("{} {}", f.kind, f.name);
        for part in [object.trim(), &f.path] {
            if !part.is_empty() {
                let _ = write!(out, "{part}: ");
            }
        }
        let _ = writeln!(out, "{} ({rule})", f.message);
    }
    out
}

/// All of it as one JSON document.
pub fn json(examined: &Examined) -> String {
    serde_json::to_string_pretty(examined).unwrap_or_default() + "\n"
}

/// How much of what was found.
pub fn sum(examined: &Examined) -> String {
    let files: BTreeSet<&str> = examined.findings.iter().map(|f| f.file.as_str()).collect();
    let many = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let mut parts = vec![];
    for (severity, word) in [
        (Severity::Error, "error"),
        (Severity::Warning, "warning"),
        (Severity::Note, "note"),
    ] {
        let n = examined.count(severity);
        if n > 0 {
            parts.push(many(n, word));
        }
    }
    let objects = many(examined.objects, "object");
    if parts.is_empty() && examined.objects == 0 {
        return "no object that Serin knows was found: nothing was looked at".to_owned();
    }
    if parts.is_empty() {
        return format!("{objects}: nothing is wrong");
    }
    format!(
        "{} in {} of {objects}",
        parts.join(", "),
        many(files.len(), "file")
    )
}
