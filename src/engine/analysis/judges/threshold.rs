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

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(pass: &str, fail: Option<&str>, value: f64) -> (Verdict, String) {
        let threshold = Threshold {
            pass: pass.into(),
            fail: fail.map(str::to_owned),
        };
        judge(&threshold, value)
    }

    #[test]
    fn verdicts_and_their_numbers() {
        let fail = Some("< 0.95");
        for (pass, fail, value, verdict, message) in [
            (
                ">= 0.99",
                fail,
                0.99,
                Verdict::Pass,
                "0.99, wanted >= 0.99 (fails below 0.95)",
            ),
            (
                ">= 0.99",
                fail,
                0.97,
                Verdict::Inconclusive,
                "0.97, wanted >= 0.99 (fails below 0.95)",
            ),
            (
                ">= 0.99",
                fail,
                0.95,
                Verdict::Inconclusive,
                "0.95, wanted >= 0.99 (fails below 0.95)",
            ),
            (
                ">= 0.99",
                fail,
                0.902,
                Verdict::Fail,
                "0.902, wanted >= 0.99 (failed below 0.95)",
            ),
            (">= 0.99", None, 0.97, Verdict::Fail, "0.97, wanted >= 0.99"),
            (
                "<0.5",
                Some(">=0.75"),
                0.5,
                Verdict::Inconclusive,
                "0.5, wanted < 0.5 (fails at or above 0.75)",
            ),
            (
                "<0.5",
                Some(">=0.75"),
                0.75,
                Verdict::Fail,
                "0.75, wanted < 0.5 (failed at or above 0.75)",
            ),
            (
                "<= 3",
                Some("> 3"),
                3.0,
                Verdict::Pass,
                "3, wanted <= 3 (fails above 3)",
            ),
            (
                "> 3",
                Some("<= 1"),
                1.0,
                Verdict::Fail,
                "1, wanted > 3 (failed at or below 1)",
            ),
            // Between 0.9899999 and 0.99 six digits would hide the reason.
            (
                ">= 0.99",
                None,
                0.989_999_99,
                Verdict::Fail,
                "0.98999999, wanted >= 0.99",
            ),
            // Where both hold it fails.
            (
                ">= 0.9",
                Some("< 0.95"),
                0.92,
                Verdict::Fail,
                "0.92, wanted >= 0.9 (failed below 0.95)",
            ),
        ] {
            assert_eq!(
                judged(pass, fail, value),
                (verdict, message.to_owned()),
                "{pass} {value}"
            );
        }
    }

    #[test]
    fn what_is_not_finite_never_passes() {
        for pass in [">= 0", "<= 0", "> -1e308", "< 1e308"] {
            for fail in [None, Some("< -1e308"), Some("> 1e308")] {
                for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                    assert_eq!(
                        judged(pass, fail, value).0,
                        Verdict::NoData,
                        "{pass} {value}"
                    );
                }
            }
        }
        assert_eq!(judged("0.9", None, 1.0).0, Verdict::Error);
        assert_eq!(judged(">= 0.9", Some("x"), 1.0).0, Verdict::Error);
    }
}
