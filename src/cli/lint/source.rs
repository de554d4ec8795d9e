//! Sources: files, standard input and folders as documents, each with the lines of its fields.

use std::{
    collections::BTreeMap,
    fmt, fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

/// The largest file that is read: 16 MiB.
const LARGEST: u64 = 16 * 1024 * 1024;
/// As deep may a document be nested.
const DEEPEST: usize = 100;
/// The ends of the names of files that are looked for in a folder.
const ENDS: [&str; 3] = ["yaml", "yml", "json"];

/// A text and where it is from.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name, as it is told.
    pub name: String,
    /// The text, or why it cannot be read.
    pub text: Result<String, String>,
}

/// Reads files, folders (their files that end in .yaml, .yml or .json, in order) and `-`, standard
/// input.
pub fn read(paths: &[PathBuf]) -> Vec<Source> {
    let mut sources = vec![];
    for path in paths {
        if path.as_os_str() == "-" {
            let mut text = String::new();
            let read = io::stdin().take(LARGEST + 1).read_to_string(&mut text);
            sources.push(Source {
                name: "stdin".into(),
                text: bounded(read.map(|_| text)),
            });
        } else if path.is_dir() {
            folder(path, &mut sources);
        } else {
            sources.push(file(path));
        }
    }
    sources
}

fn bounded(text: io::Result<String>) -> Result<String, String> {
    match text {
        Err(e) => Err(format!("cannot be read: {e}")),
        Ok(text) if text.len() as u64 > LARGEST => {
            Err(format!("has more than {} MiB", LARGEST / 1024 / 1024))
        }
        Ok(text) => Ok(text),
    }
}

fn file(path: &Path) -> Source {
    let open = || {
        let mut text = String::new();
        let file = fs::File::open(path)?;
        file.take(LARGEST + 1).read_to_string(&mut text)?;
        Ok(text)
    };
    Source {
        name: path.display().to_string(),
        text: bounded(open()),
    }
}

fn folder(path: &Path, sources: &mut Vec<Source>) {
    let mut entries: Vec<PathBuf> = match fs::read_dir(path) {
        Ok(entries) => entries.flatten().map(|e| e.path()).collect(),
        Err(e) => {
            sources.push(Source {
                name: path.display().to_string(),
                text: Err(format!("cannot be read: {e}")),
            });
            return;
        }
    };
    entries.sort();
    for entry in entries {
        // A link to a folder could lead round in a circle.
        if entry.is_dir() && !entry.is_symlink() {
            folder(&entry, sources);
        } else if entry.is_file()
            && entry
                .extension()
                .is_some_and(|end| ENDS.iter().any(|e| end == *e))
        {
            sources.push(file(&entry));
        }
    }
}

/// A document: one object.
#[derive(Clone, Debug)]
pub struct Document {
    /// The name of its source.
    pub file: String,
    /// The line on which it begins, from 1.
    pub line: u64,
    /// What it says.
    pub value: Value,
    /// The lines of its fields.
    pub lines: Lines,
}

/// The lines of a value's fields and entries.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    line: u64,
    fields: BTreeMap<String, Lines>,
    entries: Vec<Lines>,
}

impl Lines {
    /// The line of the field at `path`, or of the last field on the way to it that is there.
    pub fn of(&self, path: &str) -> u64 {
        let mut here = self;
        let mut rest = path;
        while !rest.is_empty() {
            let (name, after) = match rest.strip_prefix('[') {
                Some(inside) => inside.split_once(']').unwrap_or((inside, "")),
                None => rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len())),
            };
            let entry = name.parse().ok().and_then(|i: usize| here.entries.get(i));
            match entry.or_else(|| here.fields.get(name)) {
                Some(next) => here = next,
                None => break,
            }
            rest = after.strip_prefix('.').unwrap_or(after);
        }
        here.line
    }
}

/// A text that is no YAML: the line and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// From 1.
    pub line: u64,
    /// Why.
    pub message: String,
}

/// The documents of a text. One that cannot be read does not hide the others. A `List` is taken apart.
pub fn documents(file: &str, text: &str) -> Vec<Result<Document, Unreadable>> {
    let mut all = vec![];
    for (before, part) in parts(text) {
        match read_part(&part) {
            Err(mut fault) => {
                fault.line += before;
                all.push(Err(fault));
            }
            Ok(trees) => {
                for tree in trees {
                    let (value, lines) = taken_apart(tree, before);
                    open(file, value, lines, &mut all);
                }
            }
        }
    }
    all
}

fn open(file: &str, value: Value, lines: Lines, all: &mut Vec<Result<Document, Unreadable>>) {
    let is_list = value.get("kind").and_then(Value::as_str) == Some("List");
    match value {
        Value::Null => {}
        Value::Object(mut fields) if is_list => {
            let items = fields.remove("items").unwrap_or_default();
            let inner = lines.fields.get("items").map(|l| l.entries.clone());
            let inner = inner.unwrap_or_default();
            if let Value::Array(items) = items {
                for (item, lines) in items.into_iter().zip(inner) {
                    open(file, item, lines, all);
                }
            }
        }
        value => all.push(Ok(Document {
            file: file.to_owned(),
            line: lines.line,
            value,
            lines,
        })),
    }
}

/// The parts between the lines `---`, each with the number of lines before it. Inside a document such
/// a line cannot stand.
fn parts(text: &str) -> Vec<(u64, String)> {
    let mut parts = vec![(0, String::new())];
    for (number, line) in (1..).zip(text.lines()) {
        let rest = line.strip_prefix("---");
        if rest.is_some_and(|r| r.is_empty() || r.starts_with([' ', '\t', '\r'])) {
            parts.push((number - 1, String::new()));
        }
        if let Some((_, part)) = parts.last_mut() {
            part.push_str(line);
            part.push('\n');
        }
    }
    parts
}

fn read_part(part: &str) -> Result<Vec<Spanned<Tree>>, Unreadable> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: DEEPEST },
        // As kubectl reads them.
        legacy_octal_numbers: true,
    };
    serde_saphyr::from_multiple_with_options(part, options).map_err(|e| {
        let message = e.without_snippet().to_string();
        let message = message.lines().next().unwrap_or_default();
        let message = message.split(" at line ").next().unwrap_or_default();
        Unreadable {
            line: e.location().map_or(1, |l| l.line()).max(1),
            message: match message.strip_prefix("duplicate mapping key: ") {
                Some(key) => {
                    let key = key.split(", set ").next().unwrap_or_default();
                    format!("{key:?} stands twice: leave one")
                }
                None => format!("not YAML: {message}"),
            },
        }
    })
}

/// A value as it was read.
enum Tree {
    Leaf(Value),
    List(Vec<Spanned<Tree>>),
    Map(Vec<(Spanned<String>, Spanned<Tree>)>),
}

fn taken_apart(tree: Spanned<Tree>, before: u64) -> (Value, Lines) {
    let mut lines = Lines {
        line: tree.referenced.line() + before,
        ..Lines::default()
    };
    let value = match tree.value {
        Tree::Leaf(value) => value,
        Tree::List(entries) => {
            let mut values = vec![];
            for entry in entries {
                let (value, inner) = taken_apart(entry, before);
                values.push(value);
                lines.entries.push(inner);
            }
            Value::Array(values)
        }
        Tree::Map(fields) => {
            let mut values = Map::new();
            for (key, field) in fields {
                let (value, mut inner) = taken_apart(field, before);
                // A field begins where its name stands.
                inner.line = key.referenced.line() + before;
                lines.fields.insert(key.value.clone(), inner);
                values.insert(key.value, value);
            }
            Value::Object(values)
        }
    };
    (value, lines)
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_bool<E>(self, v: bool) -> Result<Tree, E> {
        Ok(Tree::Leaf(v.into()))
    }
    fn visit_i64<E>(self, v: i64) -> Result<Tree, E> {
        Ok(Tree::Leaf(v.into()))
    }
    fn visit_u64<E>(self, v: u64) -> Result<Tree, E> {
        Ok(Tree::Leaf(v.into()))
    }
    #[allow(
        clippy::cast_possible_truncation,
        reason = "a whole number below 2^53 is what it is"
    )]
    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Tree, E> {
        // 1.0 is an integer to the API server.
        if v.fract() == 0.0 && v.abs() < 9e15 {
            return Ok(Tree::Leaf((v as i64).into()));
        }
        let number = Number::from_f64(v).ok_or_else(|| E::custom("a number must be finite"))?;
        Ok(Tree::Leaf(Value::Number(number)))
    }
    fn visit_str<E>(self, v: &str) -> Result<Tree, E> {
        Ok(Tree::Leaf(v.into()))
    }
    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Null))
    }
    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Null))
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        Tree::deserialize(deserializer)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
        let mut entries = vec![];
        while let Some(entry) = seq.next_element()? {
            entries.push(entry);
        }
        Ok(Tree::List(entries))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut fields = vec![];
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Tree::Map(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_its_line() {
        let text = "# first\na: 1\n---\nb:\n  c: [x,\n    {d: yes}]\n  e.f/g: \"no\"\n";
        let all: Vec<Document> = documents("f", text)
            .into_iter()
            .map(|d| d.expect("it can be read"))
            .collect();
        assert_eq!((all[0].line, all[1].line), (2, 4));
        let second = &all[1];
        assert_eq!(second.value["b"]["c"][1]["d"], true);
        assert_eq!(second.value["b"]["e.f/g"], "no");
        for (path, line) in [
            ("", 4),
            ("b", 4),
            ("b.c", 5),
            ("b.c[1]", 6),
            ("b.c[1].d", 6),
            ("b[e.f/g]", 7),
            ("b.c[7].x", 5),
        ] {
            assert_eq!(second.lines.of(path), line, "{path}");
        }
    }

    #[test]
    fn what_cannot_be_read_hides_nothing_else() {
        let all = documents("f", "a: [\n---\nb: 1\n---\nc: 1\nc: 2\n---\n# nothing\n");
        assert_eq!(all.len(), 3);
        assert!(all[0].is_err());
        assert_eq!(all[1].as_ref().expect("it can be read").value["b"], 1);
        assert_eq!(all[2].as_ref().expect_err("twice").line, 6);
        assert!(documents("f", "a: .inf")[0].is_err());
    }

    #[test]
    fn a_list_is_taken_apart() {
        let text = "kind: List\nitems:\n- {kind: A}\n- kind: List\n  items: [{kind: B}]\n";
        let lines: Vec<u64> = documents("f", text)
            .into_iter()
            .map(|d| d.expect("it can be read").line)
            .collect();
        assert_eq!(lines, [3, 5]);
    }
}
