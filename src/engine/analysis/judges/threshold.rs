//! Threshold: limits on one value.

use crate::{
    api::{
        analysis::Threshold,
        units::{Comparison, Operator},
    },
    model::measurement::Verdict,
};

/// Judges a value and says in numbers why. What satisfies `pass` passes, what satisfies `fail`
/// fails, what lies between is inconclusive; without `fail`, what does not pass fails. Where both
/// hold, it fails. A value that is not finite is no data.
pub(super) fn judge(threshold: &Threshold, value: f64) -> (Verdict, String) {
    if !value.is_finite() {
        return (
            Verdict::NoData,
            format!("the value is {value}, not a finite number"),
        );
    }
    let fail = threshold.fail.as_deref().map(Comparison::parse);
    let (Ok(pass), Ok(fail)) = (Comparison::parse(&threshold.pass), fail.transpose()) else {
        return (
            Verdict::Error,
            "the judge's threshold cannot be read".to_owned(),
        );
    };
    let verdict = match fail {
        Some(fail) if fail.holds(value) => Verdict::Fail,
        _ if pass.holds(value) => Verdict::Pass,
        Some(_) => Verdict::Inconclusive,
        None => Verdict::Fail,
    };
    let shown = shown(value, &[Some(pass), fail]);
    let mut message = format!("{shown}, wanted {} {}", sign(pass.operator), limit(pass));
    if let Some(fail) = fail {
        let failed = if verdict == Verdict::Fail {
            "failed"
        } else {
            "fails"
        };
        let side = match fail.operator {
            Operator::Less => "below",
            Operator::LessOrEqual => "at or below",
            Operator::Greater => "above",
            Operator::GreaterOrEqual => "at or above",
        };
        message.push_str(&format!(" ({failed} {side} {})", limit(fail)));
    }
    (verdict, message)
}

fn sign(operator: Operator) -> &'static str {
    match operator {
        Operator::Less => "<",
        Operator::LessOrEqual => "<=",
        Operator::Greater => ">",
        Operator::GreaterOrEqual => ">=",
    }
}

fn limit(comparison: Comparison) -> String {
    exact(comparison.limit)
}

/// A number with all its digits.
fn exact(number: f64) -> String {
    let plain = number.to_string();
    if plain.len() <= 20 {
        plain
    } else {
        format!("{number:e}")
    }
}

/// The value in short, and in full where the short form would be on the other side of a limit.
fn shown(value: f64, limits: &[Option<Comparison>]) -> String {
    let short = super::number(value);
    let rounded = short.parse().unwrap_or(value);
    if limits
        .iter()
        .flatten()
        .all(|l| l.holds(rounded) == l.holds(value))
    {
        short
    } else {
        exact(value)
    }
}
