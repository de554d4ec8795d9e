//! Metadata: names, labels and annotations as the API server wants them.

use serde_json::Value;

use super::schema::{Fault, shown};

/// The longest name of an object.
const NAME_MAX: usize = 253;
/// The longest label, name or value.
const LABEL_MAX: usize = 63;
/// All annotations of an object together, in bytes.
const ANNOTATIONS_MAX: usize = 256 * 1024;

/// Everything that is wrong with the names in an object's metadata; types are the schema's business.
pub fn check(metadata: &Value, path: &str, named: bool) -> Vec<Fault> {
    let mut faults = vec![];
    let mut add = |field: String, message: String| {
        faults.push(Fault {
            path: format!("{path}.{field}"),
            message,
            unknown: false,
        });
    };
    let text = |field: &str| metadata.get(field).and_then(Value::as_str);
    match text("name").filter(|n| !n.is_empty()) {
        None if named && text("generateName").is_none_or(str::is_empty) => {
            add("name".into(), "missing: give the object a name".into());
        }
        Some(name) if name.len() > NAME_MAX || !name.split('.').all(is_label) => {
            add(
                "name".into(),
                format!("{}: {SUBDOMAIN}", shown(&name.into())),
            );
        }
        _ => {}
    }
    if let Some(namespace) = text("namespace").filter(|n| !n.is_empty())
        && (namespace.len() > LABEL_MAX || !is_label(namespace))
    {
        let wanted = "must have at most 63 small letters, digits and -, and begin and end with a letter or digit";
        add(
            "namespace".into(),
            format!("{}: {wanted}", shown(&namespace.into())),
        );
    }
    let map = |field: &str| metadata.get(field).and_then(Value::as_object);
    for (key, value) in map("labels").into_iter().flatten() {
        let field = format!("labels[{key}]");
        if !is_qualified(key) {
            add(
                field,
                format!("{}: {QUALIFIED}", shown(&key.as_str().into())),
            );
        } else if value.as_str().is_some_and(|v| !v.is_empty() && !is_word(v)) {
            add(field, format!("{}: {WORD}", shown(value)));
        }
    }
    let mut size = 0;
    for (key, value) in map("annotations").into_iter().flatten() {
        size += key.len() + value.as_str().map_or(0, str::len);
        if !is_qualified(&key.to_lowercase()) {
            let field = format!("annotations[{key}]");
            add(
                field,
                format!("{}: {QUALIFIED}", shown(&key.as_str().into())),
            );
        }
    }
    if size > ANNOTATIONS_MAX {
        let wanted = format!("has {size} bytes: must have {ANNOTATIONS_MAX} at most");
        add("annotations".into(), wanted);
    }
    faults
}

const SUBDOMAIN: &str = "must have at most 253 small letters, digits, - and ., and begin and end with a letter or digit";
const WORD: &str =
    "must have at most 63 letters, digits, -, _ and ., and begin and end with a letter or digit";
const QUALIFIED: &str = "must be a name such as example.com/name: at most 63 letters, digits, -, _ and . after the slash";

/// Whether it is a label of a DNS name.
fn is_label(text: &str) -> bool {
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty() && text.chars().all(inside) && !text.starts_with('-') && !text.ends_with('-')
}

fn is_word(text: &str) -> bool {
    let inside = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=LABEL_MAX).contains(&text.len())
        && text.chars().all(inside)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
}

fn is_qualified(text: &str) -> bool {
    match text.split_once('/') {
        None => is_word(text),
        Some((prefix, name)) => {
            prefix.len() <= NAME_MAX && prefix.split('.').all(is_label) && is_word(name)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_those_of_the_api_server() {
        let good = json!({"name": "a.b-1", "namespace": "n", "labels": {"app": "", "x.y/Z_1": "A.b"},
            "annotations": {"serin.dev/abort": "any text at all"}});
        assert_eq!(check(&good, "metadata", true), []);
        let wrong = json!({"name": "A", "namespace": "a.b", "labels": {"a/b/c": "", "app": "-x"},
            "annotations": {"": "x"}});
        let paths: Vec<String> = check(&wrong, "m", true)
            .into_iter()
            .map(|f| f.path)
            .collect();
        assert_eq!(
            paths,
            [
                "m.name",
                "m.namespace",
                "m.labels[a/b/c]",
                "m.labels[app]",
                "m.annotations[]"
            ]
        );
        assert_eq!(check(&json!({}), "m", true).len(), 1);
        assert_eq!(check(&json!({"generateName": "x-"}), "m", true), []);
    }
}
