//! Values with their unit in them: durations and thresholds.

use std::{fmt, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A duration as people write it: `500ms`, `30s`, `5m`, `1h30m`, `1d`.
///
/// Kept as written; [`HumanDuration::parse`] gives its value, so that a wrong one becomes an error
/// that names its field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HumanDuration(pub String);

/// The longest duration that is accepted: 90 days.
const LONGEST: Duration = Duration::from_secs(90 * 86_400);

impl HumanDuration {
    /// The duration's value, or what is wrong with it.
    pub fn parse(&self) -> Result<Duration, String> {
        let ours = !self.0.is_empty()
            && self.0.len() <= 32
            && self
                .0
                .chars()
                .all(|c| c.is_ascii_digit() || "mshd".contains(c));
        match humantime::parse_duration(&self.0) {
            Ok(d) if ours && d <= LONGEST => Ok(d),
            Ok(d) if ours => Err(format!("at most 90d, found {} s", d.as_secs())),
            _ => Err("must be a duration such as 500ms, 30s, 5m, 1h30m".to_owned()),
        }
    }
}

impl From<Duration> for HumanDuration {
    fn from(d: Duration) -> Self {
        Self(short(d))
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A duration in the same notation, the largest units first: `1m30s`.
pub fn short(d: Duration) -> String {
    const DAY: u64 = 86_400;
    // The library goes on with months and years, which are no whole days and cannot be read here.
    let days = d.as_secs() / DAY;
    let rest = d.saturating_sub(Duration::from_secs(days * DAY));
    let rest = match (days, rest.is_zero()) {
        (1.., true) => String::new(),
        _ => humantime::format_duration(rest)
            .to_string()
            .replace(' ', ""),
    };
    match days {
        0 => rest,
        _ => format!("{days}d{rest}"),
    }
}

impl JsonSchema for HumanDuration {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "HumanDuration".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "maxLength": 32, "pattern": "^([0-9]+(ms|s|m|h|d))+$" })
    }
}

/// How a measured value is compared with a limit: `>= 0.99`, `< 0.05`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// The operator.
    pub operator: Operator,
    /// The limit, finite.
    pub limit: f64,
}

/// A comparison operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Comparison {
    /// Reads `OPERATOR NUMBER`, with or without a space between.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            || "must be an operator (<, <=, >, >=) and a number, such as \">= 0.99\"".to_owned();
        let text = text.trim();
        let (operator, rest) = [
            ("<=", Operator::LessOrEqual),
            (">=", Operator::GreaterOrEqual),
            ("<", Operator::Less),
            (">", Operator::Greater),
        ]
        .into_iter()
        .find_map(|(sign, operator)| Some((operator, text.strip_prefix(sign)?)))
        .ok_or_else(wrong)?;
        match rest.trim().parse::<f64>() {
            Ok(limit) if limit.is_finite() => Ok(Self { operator, limit }),
            _ => Err(wrong()),
        }
    }

    /// Whether `value` satisfies it. Never true of a value that is not finite.
    pub fn holds(&self, value: f64) -> bool {
        value.is_finite()
            && match self.operator {
                Operator::Less => value < self.limit,
                Operator::LessOrEqual => value <= self.limit,
                Operator::Greater => value > self.limit,
                Operator::GreaterOrEqual => value >= self.limit,
            }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.operator {
            Operator::Less => "<",
            Operator::LessOrEqual => "<=",
            Operator::Greater => ">",
            Operator::GreaterOrEqual => ">=",
        };
        write!(f, "{sign} {}", self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_ours_alone() {
        let parse = |s: &str| HumanDuration(s.into()).parse();
        assert_eq!(parse("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse("0s"), Ok(Duration::ZERO));
        for wrong in [
            "",
            "90",
            "-1s",
            "1M",
            "1y",
            "5 min",
            "PT5M",
            "91d",
            "99999999999999999999s",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(short(Duration::from_secs(90)), "1m30s");
        for days in [1, 2, 30, 31, 90] {
            let text = short(Duration::from_secs(days * 86_400));
            assert_eq!(text, format!("{days}d"));
            assert!(HumanDuration(text).parse().is_ok());
        }
        assert_eq!(short(Duration::from_secs(45 * 86_400 + 61)), "45d1m1s");
        assert_eq!(short(Duration::ZERO), "0s");
    }

    #[test]
    fn nothing_that_is_not_finite_holds() {
        let at_least = Comparison::parse(">=0.99").expect("parses");
        assert!(at_least.holds(0.99) && !at_least.holds(0.98));
        for x in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(!at_least.holds(x));
        }
        for wrong in ["", "0.99", "== 1", ">= NaN", ">= inf", "> 1 2"] {
            assert!(Comparison::parse(wrong).is_err(), "{wrong}");
        }
    }
}
