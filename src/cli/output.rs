//! How things look: formats, colours, tables, ages.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use clap::{ValueEnum, builder::PossibleValue};
use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// For machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON
    Json,
    /// YAML
    Yaml,
}

impl ValueEnum for Format {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Json, Self::Yaml]
    }
    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            Self::Json => "json",
            Self::Yaml => "yaml",
        }))
    }
}

/// What a text means, for its colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// Nothing in particular.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// On its way.
    Busy,
    /// A person is asked.
    Asks,
    /// Wrong.
    Bad,
    /// Of less weight.
    Faint,
    /// A title.
    Title,
}

impl Tone {
    /// Of a phase, a verdict or an outcome.
    pub fn of(word: &str) -> Self {
        match word.split(':').next().unwrap_or_default() {
            "Healthy" | "Successful" | "pass" | "Promoted" | "Done" => Self::Good,
            "Progressing" | "Running" => Self::Busy,
            "Paused" | "Inconclusive" | "inconclusive" | "noData" => Self::Asks,
            "Degraded" | "Failed" | "fail" | "error" | "RolledBack" | "Aborted" => Self::Bad,
            _ => Self::Plain,
        }
    }

    fn style(self) -> Style {
        let color = |c: AnsiColor| Style::new().fg_color(Some(c.into()));
        match self {
            Self::Plain => Style::new(),
            Self::Good => color(AnsiColor::Green),
            Self::Busy => color(AnsiColor::Cyan),
            Self::Asks => color(AnsiColor::Yellow),
            Self::Bad => color(AnsiColor::Red),
            Self::Faint => Style::new().dimmed(),
            Self::Title => Style::new().bold(),
        }
    }
}

/// Text in its colour. Where it is printed decides whether the colour stays.
pub fn paint(tone: Tone, text: &str) -> String {
    if tone == Tone::Plain || text.is_empty() {
        return text.to_owned();
    }
    let style = tone.style();
    format!("{style}{text}{style:#}")
}

/// Text that others wrote, made harmless for a terminal: in one line, without control characters.
pub fn plain(text: &str) -> String {
    let harmless = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().map(harmless).collect()
}

/// An object with all its texts made harmless; as it is where it cannot be.
pub fn tame<T: Serialize + DeserializeOwned + Clone>(object: &T) -> T {
    fn walk(value: &mut Value) {
        match value {
            Value::String(text) => *text = plain(text),
            Value::Array(all) => all.iter_mut().for_each(walk),
            Value::Object(all) => all.values_mut().for_each(walk),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    let tamed = serde_json::to_value(object).and_then(|mut value| {
        walk(&mut value);
        serde_json::from_value(value)
    });
    tamed.unwrap_or_else(|_| object.clone())
}

/// A cell of a table.
#[derive(Clone, Debug, Default)]
pub struct Cell(pub String, pub Tone);

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self(text.into(), Tone::Plain)
    }
}

/// Lines of cells, the columns aligned. No column but the last is wider than it must be, and no
/// line ends with blanks.
#[derive(Clone, Debug, Default)]
pub struct Table(Vec<Vec<Cell>>);

impl Table {
    /// With its titles.
    pub fn new(titles: &[&str]) -> Self {
        let titles = titles.iter().map(|t| Cell((*t).to_owned(), Tone::Title));
        Self(vec![titles.collect()])
    }
    /// Adds a line.
    pub fn row(&mut self, cells: Vec<Cell>) {
        self.0.push(cells);
    }
    /// As text.
    pub fn text(&self) -> String {
        let columns = self.0.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.0.iter().filter_map(|row| row.get(column));
            cells.map(|c| c.0.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut out = String::new();
        for row in &self.0 {
            let last = row.iter().rposition(|c| !c.0.is_empty()).unwrap_or(0);
            for (at, (cell, width)) in row.iter().zip(&widths).enumerate().take(last + 1) {
                out.push_str(&paint(cell.1, &cell.0));
                if at < last {
                    let blanks = width.saturating_sub(cell.0.chars().count()) + 2;
                    out.extend(std::iter::repeat_n(' ', blanks));
                }
            }
            out.push('\n');
        }
        out
    }
}

/// A number of seconds in its two largest units: `1m30s`.
fn span(seconds: i64) -> String {
    let units = [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];
    let mut left = seconds.max(0);
    let mut parts: Vec<(usize, String)> = vec![];
    for (at, (unit, size)) in units.into_iter().enumerate() {
        if left >= size {
            parts.push((at, format!("{}{unit}", left / size)));
            left %= size;
        }
    }
    let first = parts.first().map_or(3, |(at, _)| *at);
    let near = parts.iter().filter(|(at, _)| *at <= first + 1);
    let text: String = near.map(|(_, part)| part.as_str()).collect();
    if text.is_empty() {
        "0s".to_owned()
    } else {
        text
    }
}

/// How old something is.
pub fn age(now: Timestamp, then: Timestamp) -> String {
    span(now.duration_since(then).as_secs())
}

/// How long it still takes, or how long ago it was due.
pub fn due(now: Timestamp, then: Timestamp) -> String {
    if then >= now {
        // Rounded up: what is due in half a second is not due yet.
        let left = then.duration_since(now);
        let more = i64::from(left.subsec_nanos() > 0);
        format!("in {}", span(left.as_secs() + more))
    } else {
        format!("{} ago", age(now, then))
    }
}

/// A point in time, to the second.
pub fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// For machines: as JSON or YAML.
pub fn encode(format: Format, value: &impl Serialize) -> io::Result<String> {
    match format {
        Format::Json => serde_json::to_string_pretty(value)
            .map(|text| text + "\n")
            .map_err(io::Error::other),
        Format::Yaml => serde_saphyr::to_string(value)
            .map(|text| format!("{}\n", text.trim_end()))
            .map_err(io::Error::other),
    }
}

/// Prints text; its colours stay where they can be seen and are wanted (`NO_COLOR`).
pub fn print(text: &str) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Whether a person looks on.
pub fn on_terminal() -> bool {
    use std::io::IsTerminal as _;
    io::stdout().is_terminal()
}

/// Prints text in the place of what was printed before, where a person looks on; elsewhere after
/// it and `apart`.
pub fn redraw(apart: &str, text: &str) -> io::Result<()> {
    // The cursor goes home, and everything below it goes away.
    const HOME: &[u8] = b"\x1b[H\x1b[J";
    if on_terminal() {
        io::stdout().write_all(HOME)?;
        return print(text);
    }
    print(&format!("{apart}{text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_units_at_most() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (90, "1m30s"),
            (3600, "1h"),
            (3601, "1h"),
            (3700, "1h1m"),
            (200_000, "2d7h"),
        ] {
            assert_eq!(span(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn what_others_wrote_cannot_speak_to_the_terminal() {
        let text = "a\u{1b}[2Jb\nc\u{9b}31m".to_owned();
        assert_eq!(tame(&vec![text]), ["a\u{fffd}[2Jb c\u{fffd}31m"]);
    }

    #[test]
    fn columns_are_aligned_whatever_their_colour() {
        let mut table = Table::new(&["A", "B", "C"]);
        table.row(vec!["long".into(), Cell("x".into(), Tone::Good), "".into()]);
        let plain = anstream::adapter::strip_str(&table.text()).to_string();
        assert_eq!(plain, "A     B  C\nlong  x\n");
    }
}
