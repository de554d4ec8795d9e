//! Structure: what the schema of a kind says of an object. All faults at once, and a copy in which
//! what has the wrong type is mended, so that the other rules can look at the rest.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use regex::Regex;
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::cli::nearest::nearest;

/// The words of a schema that [`check`] knows. What says something else would be passed over.
#[rustfmt::skip]
pub const KNOWN: &[&str] = &[
    "additionalProperties", "default", "description", "enum", "format", "items", "maxItems",
    "maxLength", "maximum", "minItems", "minLength", "minimum", "nullable", "pattern", "properties",
    "required", "title", "type", "x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
];

/// A list that must be shorter and has more entries than this is not looked into.
const ENTRIES_MAX: usize = 1000;

/// What texts must look like, in words, for the patterns of the API.
pub const PATTERNS: &[(&str, &str)] = &[
    (
        "^([0-9]+(ms|s|m|h|d))+$",
        "be a duration such as 500ms, 30s, 5m, 1h30m",
    ),
    (
        "^[a-z]([-a-z0-9]*[a-z0-9])?$",
        "have small letters, digits and -, and begin with a letter",
    ),
    (
        "^[A-Za-z_][A-Za-z0-9_-]*$",
        "have letters, digits, _ and -, and begin with a letter or _",
    ),
    (
        r"^\s*(<=|>=|<|>)\s*[-+0-9.eE]+\s*$",
        "be an operator (<, <=, >, >=) and a number, such as \">= 0.99\"",
    ),
];

/// A fault of an object's structure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Path of the field.
    pub path: String,
    /// What was found and what would be right.
    pub message: String,
    /// Whether it is a field that the schema does not have.
    pub unknown: bool,
}

/// What came of a check.
#[derive(Debug, Default)]
pub struct Checked {
    /// What is wrong.
    pub faults: Vec<Fault>,
    /// Paths of the fields that were mended: a fault that another rule finds there is no news.
    pub mended: Vec<String>,
}

/// The schema of a kind, apiVersion, kind and metadata included.
pub fn of_kind(crd: &CustomResourceDefinition) -> Value {
    let mut schema = crd
        .spec
        .versions
        .first()
        .and_then(|v| v.schema.as_ref()?.open_api_v3_schema.as_ref())
        .and_then(|s| serde_json::to_value(s).ok())
        .unwrap_or_default();
    if let Some(fields) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        fields.insert("apiVersion".into(), json!({"type": "string"}));
        fields.insert("kind".into(), json!({"type": "string"}));
        fields.insert("metadata".into(), json!({"type": "object"}));
    }
    schema
}

/// The schema of one of Kubernetes' own types.
pub fn of_type<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|s| s.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<T>().into()
}

/// Checks a value, and mends it where another rule could not read it.
pub fn check(schema: &Value, value: &mut Value, path: &str) -> Checked {
    let mut checked = Checked::default();
    checked.walk(schema, value, path);
    checked
}

impl Checked {
    fn add(&mut self, path: &str, message: String) {
        self.faults.push(Fault {
            path: path.to_owned(),
            message,
            unknown: false,
        });
    }

    /// Checks a value. False where it is of another type, so that nothing can be made of it.
    fn walk(&mut self, schema: &Value, value: &mut Value, path: &str) -> bool {
        let fits = type_of(schema).is_none_or(|(_, fits)| fits(value));
        if !fits {
            let (wanted, _) = type_of(schema).unwrap_or(("something else", |_| true));
            self.add(path, format!("{}: must be {wanted}", shown(value)));
            return false;
        }
        self.amounts(schema, value, path);
        let bounded = schema.get("maxItems").is_some();
        if bounded && value.as_array().is_some_and(|a| a.len() > ENTRIES_MAX) {
            return false;
        }
        let faults = self.faults.len();
        match value {
            Value::Object(fields) => self.object(schema, fields, path),
            Value::Array(entries) => {
                let items = schema.get("items").unwrap_or(&Value::Null);
                let mut good = true;
                for (i, entry) in entries.iter_mut().enumerate() {
                    good &= self.walk(items, entry, &format!("{path}[{i}]"));
                }
                // An entry cannot be left out: the others would get its number.
                return good;
            }
            Value::String(text) => {
                let time = schema.get("format").and_then(Value::as_str) == Some("date-time");
                if time && text.parse::<jiff::Timestamp>().is_err() {
                    let wanted = "must be a time such as 2026-01-31T12:00:00Z";
                    self.add(path, format!("{}: {wanted}", quoted(text)));
                    return false;
                }
                self.text(schema, text, path);
            }
            Value::Number(number) => {
                let wide = number.as_i64().is_none_or(|n| i32::try_from(n).is_err());
                let narrow = schema.get("format").and_then(Value::as_str) == Some("int32");
                let before = faults > 0 && self.faults.last().is_some_and(|f| f.path == path);
                if wide && narrow && !before {
                    self.add(path, format!("{number}: must fit into 32 bits"));
                }
                return !(wide && narrow);
            }
            Value::Null | Value::Bool(_) => {}
        }
        true
    }

    fn object(&mut self, schema: &Value, fields: &mut Map<String, Value>, path: &str) {
        let known = schema.get("properties").and_then(Value::as_object);
        let others = schema.get("additionalProperties").filter(|a| a.is_object());
        let keeps = schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
        let required: Vec<&str> = schema
            .get("required")
            .and_then(Value::as_array)
            .map(|r| r.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let inner = |name: &str| child(path, name, others.is_some() && known.is_none());
        let (mut strange, mut gone) = (vec![], vec![]);
        for (name, value) in fields.iter_mut() {
            let field = known.and_then(|k| k.get(name)).or(others);
            let Some(field) = field else {
                // What has no fields at all may have any, as the API server sees it.
                if !keeps && known.is_some() {
                    strange.push(name.clone());
                }
                continue;
            };
            if value.is_null() {
                // The API server drops it, but holds it against the words that there are.
                let words = field.get("enum").and_then(Value::as_array);
                if nullable(field)
                    && let Some(words) = words.filter(|w| !w.contains(&Value::Null))
                {
                    let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
                    self.add(&inner(name), format!("null: must be {}", or(&words)));
                }
                gone.push(name.clone());
            } else if !self.walk(field, value, &inner(name)) {
                self.mended.push(inner(name));
                if required.contains(&name.as_str()) {
                    *value = empty(field);
                } else {
                    gone.push(name.clone());
                }
            }
        }
        for name in &gone {
            fields.remove(name);
        }
        let mut meant = vec![];
        for name in &strange {
            let free = known.into_iter().flat_map(Map::keys);
            let free: Vec<&str> = free
                .map(String::as_str)
                .filter(|k| !fields.contains_key(*k))
                .collect();
            let near = nearest(name, &free);
            self.faults.push(Fault {
                path: inner(name),
                message: unknown(near, known),
                unknown: true,
            });
            if let Some(near) = near {
                self.mended.push(inner(near));
                meant.push(near.to_owned());
            }
        }
        for name in required {
            if fields.contains_key(name) {
                continue;
            }
            let field = known.and_then(|k| k.get(name)).unwrap_or(&Value::Null);
            if !meant.iter().any(|m| m == name) {
                self.add(&inner(name), format!("missing: {}", said(field)));
            }
            self.mended.push(inner(name));
            fields.insert(name.to_owned(), empty(field));
        }
    }

    fn text(&mut self, schema: &Value, text: &str, path: &str) {
        let words = schema.get("enum").and_then(Value::as_array);
        if let Some(words) = words {
            let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
            if !words.contains(&text) {
                let hint = nearest(text, &words)
                    .map_or_else(String::new, |near| format!("; did you mean {near}?"));
                self.add(
                    path,
                    format!("{}: must be {}{hint}", quoted(text), or(&words)),
                );
            }
        }
        let Some(pattern) = schema.get("pattern").and_then(Value::as_str) else {
            return;
        };
        if !Regex::new(pattern).is_ok_and(|p| p.is_match(text)) {
            let wanted = PATTERNS
                .iter()
                .find(|(p, _)| *p == pattern)
                .map_or_else(|| format!("match {pattern}"), |(_, words)| (*words).into());
            // That it is too short or too long is the same fault.
            self.faults.retain(|f| f.path != path);
            self.add(path, format!("{}: must {wanted}", quoted(text)));
        }
    }

    /// Ranges, lengths, numbers of entries.
    fn amounts(&mut self, schema: &Value, value: &Value, path: &str) {
        let (least, most, found, what) = match value {
            Value::Number(n) => ("minimum", "maximum", n.as_f64(), ""),
            Value::String(s) => (
                "minLength",
                "maxLength",
                count(s.chars().count()),
                " characters",
            ),
            Value::Array(a) => ("minItems", "maxItems", count(a.len()), " entries"),
            Value::Object(_) | Value::Null | Value::Bool(_) => return,
        };
        let limit = |word: &str| schema.get(word).and_then(Value::as_f64);
        let (least, most) = (limit(least), limit(most));
        let Some(found) = found else { return };
        if least.is_none_or(|l| found >= l) && most.is_none_or(|m| found <= m) {
            return;
        }
        let wanted = match (least, most) {
            (Some(l), Some(m)) => format!("{l} to {m}"),
            (Some(l), None) => format!("{l} or more"),
            (_, m) => format!("{} at most", m.unwrap_or_default()),
        };
        let verb = if what.is_empty() { "be" } else { "have" };
        let has = if what.is_empty() {
            String::new()
        } else {
            format!(" has {found}{what}")
        };
        self.add(path, format!("{}{has}: must {verb} {wanted}", shown(value)));
    }
}

fn count(n: usize) -> Option<f64> {
    u32::try_from(n).ok().map(f64::from)
}

type Fits = fn(&Value) -> bool;

/// The type that a schema wants, in words, and whether a value is of it.
fn type_of(schema: &Value) -> Option<(&'static str, Fits)> {
    if schema.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        let said = schema.get("description").and_then(Value::as_str);
        // A quantity may have a fraction: 0.5 of a CPU.
        let fits: Fits = match said.unwrap_or_default().starts_with("Quantity") {
            true => |v| v.is_number() || v.is_string(),
            false => |v| v.is_i64() || v.is_string(),
        };
        return Some(("a number or a text", fits));
    }
    Some(match schema.get("type").and_then(Value::as_str)? {
        "object" => ("an object", Value::is_object),
        "array" => ("a list", Value::is_array),
        "string" => ("a text", Value::is_string),
        "boolean" => ("true or false", Value::is_boolean),
        "integer" => ("a whole number", Value::is_i64),
        "number" => ("a number", Value::is_number),
        _ => return None,
    })
}

fn nullable(schema: &Value) -> bool {
    schema.get("nullable") == Some(&Value::Bool(true))
}

/// What can be read where a field must be.
fn empty(schema: &Value) -> Value {
    match schema.get("type").and_then(Value::as_str) {
        Some("object") => json!({}),
        Some("array") => json!([]),
        Some("string") => json!(""),
        Some("boolean") => json!(false),
        Some("integer" | "number") => json!(0),
        _ => Value::Null,
    }
}

fn child(path: &str, name: &str, map: bool) -> String {
    if path.is_empty() {
        name.to_owned()
    } else if map {
        format!("{path}[{name}]")
    } else {
        format!("{path}.{name}")
    }
}

fn unknown(near: Option<&str>, known: Option<&Map<String, Value>>) -> String {
    if let Some(near) = near {
        return format!("unknown field: did you mean {near}?");
    }
    let all: Vec<&str> = known
        .into_iter()
        .flat_map(Map::keys)
        .map(String::as_str)
        .collect();
    if all.is_empty() || all.len() > 12 {
        return "unknown field".into();
    }
    format!("unknown field: there are {}", all.join(", "))
}

fn or(words: &[&str]) -> String {
    match words {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => words.concat(),
    }
}

/// What a field is, from the first sentence that is said of it.
fn said(schema: &Value) -> String {
    let said = schema.get("description").and_then(Value::as_str);
    let said = said.unwrap_or("it must be set").replace('\n', " ");
    let first = said.split_inclusive(['.', ';']).next().unwrap_or_default();
    let first = first.trim_end_matches(['.', ';', ' ']);
    let mut chars = first.chars();
    chars
        .next()
        .map(|c| c.to_lowercase().chain(chars).collect())
        .unwrap_or_default()
}

/// A value as a message shows it: short, in one line.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Object(_) => "an object".into(),
        Value::Array(_) => "a list".into(),
        Value::String(text) => quoted(text),
        other => other.to_string(),
    }
}

fn quoted(text: &str) -> String {
    const LONGEST: usize = 64;
    if text.chars().count() <= LONGEST {
        return format!("{text:?}");
    }
    let short: String = text.chars().take(LONGEST).collect();
    format!("{:?}", format!("{short}…"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::crds;

    fn words(schema: &Value, out: &mut Vec<(String, Value)>) {
        for (word, value) in schema.as_object().into_iter().flatten() {
            out.push((word.clone(), value.clone()));
            match word.as_str() {
                "properties" => value
                    .as_object()
                    .into_iter()
                    .flat_map(Map::values)
                    .for_each(|v| words(v, out)),
                "items" | "additionalProperties" => words(value, out),
                _ => {}
            }
        }
    }

    #[test]
    fn no_word_of_a_schema_is_passed_over() {
        let mut all = vec![];
        for (_, crd) in crds() {
            let mut schema = of_kind(&crd);
            // A status is dropped when an object is created.
            if let Some(fields) = schema.get_mut("properties").and_then(Value::as_object_mut) {
                fields.remove("status");
            }
            words(&schema, &mut all);
        }
        assert!(all.len() > 100);
        for (word, value) in all {
            assert!(KNOWN.contains(&word.as_str()), "{word}: {value}");
            if word == "pattern" {
                let known = PATTERNS.iter().any(|(p, _)| value == *p);
                assert!(known, "{value}: say it in words in PATTERNS");
                assert!(Regex::new(value.as_str().expect("a text")).is_ok());
            }
        }
    }

    #[test]
    fn what_is_mended_can_be_read() {
        let schema = json!({"type": "object", "required": ["a", "b"], "properties": {
            "a": {"type": "string", "description": "The first. More."},
            "b": {"type": "array", "items": {"type": "integer", "maximum": 3}},
            "c": {"type": "boolean"}, "d": {"type": "string", "nullable": true},
        }});
        let mut value = json!({"b": [1, 9, "x"], "c": 1, "d": null, "cc": true});
        let checked = check(&schema, &mut value, "");
        assert_eq!(value, json!({"a": "", "b": [], "cc": true}));
        let told: Vec<String> = checked
            .faults
            .iter()
            .map(|f| format!("{}: {}", f.path, f.message))
            .collect();
        assert_eq!(
            told,
            [
                "b[1]: 9: must be 3 at most",
                "b[2]: \"x\": must be a whole number",
                "c: 1: must be true or false",
                "cc: unknown field: did you mean c?",
                "a: missing: the first",
            ]
        );
    }
}
