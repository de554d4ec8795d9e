//! Filling in queries, so that no value can become a piece of PromQL.
//!
//! The query is lexed as far as needed: quoted strings, comments, everything else. What a template
//! cannot be sure of is refused, and what was filled in is never looked at again.

pub(super) mod arguments;
mod escape;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

pub(super) use escape::Type;
use escape::{Quoting, quoted};

/// What placeholders stand for.
#[derive(Clone, Debug, Default)]
pub(super) struct Values {
    /// The template's arguments by name: `{{args.NAME}}`.
    pub(super) args: BTreeMap<String, Value>,
    /// `{{window}}`: the metric's window.
    pub(super) window: Option<Duration>,
    /// `{{canary.hash}}`: hash of the revision that is judged.
    pub(super) canary: String,
    /// `{{stable.hash}}`: hash of the stable revision.
    pub(super) stable: String,
    /// `{{namespace}}`: the Rollout's namespace.
    pub(super) namespace: String,
}

/// An argument's type and value.
#[derive(Clone, Debug)]
pub(super) struct Value {
    /// Where it may stand.
    pub(super) type_: Type,
    /// None where nobody gives one.
    pub(super) text: Option<String>,
}

/// Fills in a query, or tells everything that is wrong with its placeholders.
pub(super) fn fill(query: &str, values: &Values) -> Result<String, Vec<String>> {
    let mut filler = Filler {
        rest: query,
        out: String::with_capacity(query.len()),
        before: (' ', ' '),
        faults: vec![],
        values,
    };
    filler.code();
    if filler.faults.is_empty() {
        Ok(filler.out)
    } else {
        Err(filler.faults)
    }
}

/// Where a placeholder stands.
#[derive(Clone, Copy)]
enum Place {
    Code,
    Comment,
    Text(Quoting),
}

struct Filler<'a> {
    rest: &'a str,
    out: String,
    /// The last two characters of code that are not white space.
    before: (char, char),
    faults: Vec<String>,
    values: &'a Values,
}

impl Filler<'_> {
    /// Outside strings and comments.
    fn code(&mut self) {
        loop {
            if self.placeholder(Place::Code) {
                self.before = (' ', ' ');
                continue;
            }
            match self.take() {
                None => return,
                Some('#') => self.comment(),
                Some(quote @ ('"' | '\'' | '`')) => {
                    let regex = matches!(self.before, ('=' | '!', '~'));
                    self.text(Quoting { quote, regex });
                    self.before = (' ', ' ');
                }
                Some('\\') => self.fault("a backslash stands only inside a quoted string".into()),
                Some(c) if c.is_whitespace() => {}
                Some(c) => self.before = (self.before.1, c),
            }
        }
    }

    /// After `#`, to the end of the line.
    fn comment(&mut self) {
        loop {
            if self.placeholder(Place::Comment) {
                continue;
            }
            if matches!(self.take(), None | Some('\n' | '\r')) {
                return;
            }
        }
    }

    /// After an opening quote, to the closing one.
    fn text(&mut self, quoting: Quoting) {
        let raw = quoting.quote == '`';
        loop {
            if self.placeholder(Place::Text(quoting)) {
                continue;
            }
            match self.take() {
                Some(c) if c == quoting.quote => return,
                Some('\\') if !raw => self.escape(),
                None => break,
                Some('\n') if !raw => break,
                Some(_) => {}
            }
        }
        let line = if raw { "" } else { " on its line" };
        self.fault(format!(
            "a string that opens with {} is not closed{line}",
            quoting.quote
        ));
        self.rest = "";
    }

    /// After a backslash in a string that is not raw. An escape that a placeholder would complete
    /// would take the value's first characters for its own.
    fn escape(&mut self) {
        let digits = if self.rest.starts_with("{{") {
            1
        } else {
            match self.take() {
                Some('x' | '0'..='7') => 2,
                Some('u') => 4,
                Some('U') => 8,
                _ => 0,
            }
        };
        for _ in 0..digits {
            if self.rest.starts_with("{{") {
                self.fault("a placeholder cannot complete an escape sequence: double the backslash before it, or remove it".into());
                return;
            }
            if !self.rest.starts_with(|c: char| c.is_ascii_hexdigit()) {
                return;
            }
            self.take();
        }
    }

    /// Fills in the placeholder that begins here, if one does.
    fn placeholder(&mut self, place: Place) -> bool {
        // Of three braces the first one is the query's own.
        let Some(after) = self.rest.strip_prefix("{{") else {
            return false;
        };
        if after.starts_with('{') {
            return false;
        }
        let name = after
            .split_once("}}")
            .filter(|(inside, _)| !inside.contains(['{', '}', '"', '\'', '`', '\n', '#']));
        let Some((inside, rest)) = name else {
            self.fault(format!(
                "a lone {{{{, without }}}}: {KNOWN}; in a string, \\x7b{{ stands for the characters {{{{"
            ));
            self.rest = after;
            return true;
        };
        self.rest = rest;
        let name = inside.trim();
        match self
            .value(name)
            .and_then(|value| fit(&value, place).map_err(|why| format!("{{{{{name}}}}}: {why}")))
        {
            Ok(text) => self.out.push_str(&text),
            Err(fault) => self.fault(fault),
        }
        true
    }

    /// What a placeholder stands for.
    fn value(&self, name: &str) -> Result<Filled, String> {
        let text = |text: &str| Filled {
            type_: Type::Text,
            argument: false,
            text: text.to_owned(),
        };
        match name {
            "canary.hash" => return Ok(text(&self.values.canary)),
            "stable.hash" => return Ok(text(&self.values.stable)),
            "namespace" => return Ok(text(&self.values.namespace)),
            "window" => {
                let window = self.values.window.ok_or(
                    "{{window}}: the metric has no window; give it one, such as window: 30s",
                )?;
                return Ok(Filled {
                    type_: Type::Duration,
                    argument: false,
                    text: duration(window),
                });
            }
            _ => {}
        }
        let Some(argument) = name.strip_prefix("args.") else {
            let name: String = name.chars().take(64).collect();
            return Err(format!("{{{{{name}}}}}: unknown placeholder; {KNOWN}"));
        };
        let Some(value) = self.values.args.get(argument) else {
            return Err(format!(
                "{{{{{name}}}}}: no such argument; {}",
                arguments::declared(self.values.args.keys().map(String::as_str))
            ));
        };
        let Some(text) = value.text.clone() else {
            return Err(format!("{{{{{name}}}}}: the argument has no value"));
        };
        Ok(Filled {
            type_: value.type_,
            argument: true,
            text,
        })
    }

    fn take(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let next = chars.next()?;
        self.rest = chars.as_str();
        self.out.push(next);
        Some(next)
    }

    fn fault(&mut self, fault: String) {
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }
}

const KNOWN: &str =
    "there are {{args.NAME}}, {{window}}, {{canary.hash}}, {{stable.hash}} and {{namespace}}";

struct Filled {
    type_: Type,
    argument: bool,
    text: String,
}

/// The value as it may stand in a place, or why it may not.
fn fit(value: &Filled, place: Place) -> Result<String, String> {
    value.type_.accepts(&value.text)?;
    match (place, value.type_) {
        (Place::Comment, _) => Err("a placeholder cannot stand in a comment".to_owned()),
        (Place::Text(quoting), _) => quoted(&value.text, quoting),
        (Place::Code, Type::Duration | Type::Number) => Ok(value.text.clone()),
        (Place::Code, Type::Text) if value.argument => Err(
            "a string stands only inside a quoted PromQL string; outside of one the argument needs type: duration or type: number"
                .to_owned(),
        ),
        (Place::Code, Type::Text) => {
            Err("stands only inside a quoted PromQL string".to_owned())
        }
    }
}

/// A duration as PromQL writes it, the largest unit first, each once: `1h30m`.
fn duration(d: Duration) -> String {
    let mut left = d.as_millis();
    let mut text = String::new();
    for (unit, millis) in [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
    ] {
        if left >= millis {
            text.push_str(&format!("{}{unit}", left / millis));
            left %= millis;
        }
    }
    if left > 0 || text.is_empty() {
        text.push_str(&format!("{left}ms"));
    }
    text
}
