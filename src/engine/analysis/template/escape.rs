//! Values as they may stand in PromQL: the types of arguments, and escaping for quoted strings.

/// The type of an argument.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::engine::analysis) enum Type {
    /// `string`: stands only inside a quoted string.
    #[default]
    Text,
    /// `duration`: stands anywhere.
    Duration,
    /// `number`: stands anywhere.
    Number,
}

impl Type {
    /// Reads the API's word; without one it is a string.
    pub(in crate::engine::analysis) fn parse(word: Option<&str>) -> Result<Self, String> {
        match word {
            None | Some("string") => Ok(Self::Text),
            Some("duration") => Ok(Self::Duration),
            Some("number") => Ok(Self::Number),
            Some(other) => Err(format!("{other:?}: must be string, duration or number")),
        }
    }

    /// Whether a value is of this type, or what is wrong with it.
    pub(in crate::engine::analysis) fn accepts(self, value: &str) -> Result<(), String> {
        let (fits, wanted) = match self {
            Self::Text => return Ok(()),
            Self::Duration => (
                is_duration(value),
                "must be a duration such as 30s, 5m or 1h30m, for the argument has type: duration",
            ),
            Self::Number => (
                is_number(value),
                "must be a finite decimal number such as 0.5, for the argument has type: number",
            ),
        };
        if fits {
            Ok(())
        } else {
            let found: String = value.chars().take(64).collect();
            Err(format!("{found:?}: {wanted}"))
        }
    }
}

/// Whether it matches `^([0-9]+(ms|s|m|h|d|w|y))+$`.
fn is_duration(value: &str) -> bool {
    let mut rest = value;
    while !rest.is_empty() {
        let unit = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let after = ["ms", "s", "m", "h", "d", "w", "y"]
            .into_iter()
            .find_map(|u| unit.strip_prefix(u));
        match after {
            Some(after) if unit.len() < rest.len() => rest = after,
            _ => return false,
        }
    }
    !value.is_empty()
}

fn is_number(value: &str) -> bool {
    let plain = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
    value.chars().all(plain) && value.parse::<f64>().is_ok_and(f64::is_finite)
}

/// How the string around a placeholder is quoted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quoting {
    /// The quote: `"`, `'` or a backtick.
    pub(super) quote: char,
    /// Whether the string is a regular expression: `=~` or `!~` stands before it.
    pub(super) regex: bool,
}

/// A value escaped so that a string holds exactly it, or, where the string is a regular
/// expression, so that the expression matches exactly it.
pub(super) fn quoted(value: &str, quoting: Quoting) -> Result<String, String> {
    let value = if quoting.regex {
        literal(value)
    } else {
        value.to_owned()
    };
    if quoting.quote != '`' {
        return Ok(value.chars().map(|c| escaped(c, quoting.quote)).collect());
    }
    if value.contains(['`', char::REPLACEMENT_CHARACTER]) {
        return Err(
            "its value holds a character that a string in backticks cannot hold; quote the string with \" instead"
                .to_owned(),
        );
    }
    Ok(value)
}

fn escaped(c: char, quote: char) -> String {
    match c {
        '\\' => "\\\\".to_owned(),
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        c if c == quote => format!("\\{c}"),
        // Prometheus takes a replacement character for broken UTF-8.
        c if c.is_control() || c == char::REPLACEMENT_CHARACTER => {
            format!("\\u{:04x}", u32::from(c))
        }
        c => c.to_string(),
    }
}

/// An RE2 expression that matches exactly the value. A hyphen is escaped too, since it is special
/// inside of brackets.
fn literal(value: &str) -> String {
    let mut expression = String::new();
    for c in value.chars() {
        if r"\.+*?()|[]{}^$-".contains(c) {
            expression.push('\\');
        }
        expression.push(c);
    }
    expression
}
