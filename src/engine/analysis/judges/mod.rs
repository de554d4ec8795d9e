//! Judges: what a measurement means.

mod threshold;

use crate::{
    api::Metric,
    model::measurement::{Reading, Verdict},
};

/// The longest explanation of a measurement, in characters.
const LONGEST: usize = 160;

/// What a measurement means, and why.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Judgement {
    /// What it means.
    pub(super) verdict: Verdict,
    /// The value, where there was one.
    pub(super) value: Option<String>,
    /// Why, in a few words.
    pub(super) why: String,
}

/// Judges a reading. A value that is not a finite number is no data, whoever let it through.
pub(super) fn judge(metric: &Metric, reading: &Reading) -> Judgement {
    let (verdict, value, why) = match reading {
        Reading::NoData(why) => (Verdict::NoData, None, why.clone()),
        Reading::Error(why) => (Verdict::Error, None, why.clone()),
        Reading::Value(value) => {
            let (verdict, why) = match &metric.judge.threshold {
                Some(threshold) => threshold::judge(threshold, *value),
                None => (Verdict::Error, "the metric has no judge".to_owned()),
            };
            (verdict, Some(number(*value)), why)
        }
    };
    Judgement {
        verdict,
        value,
        why: clip(&why, LONGEST),
    }
}

/// A number with at most six significant digits.
pub(super) fn number(value: f64) -> String {
    if !value.is_finite() || value == 0.0 {
        return if value == 0.0 {
            "0".to_owned()
        } else {
            value.to_string()
        };
    }
    let scientific = format!("{value:.5e}");
    let Some((digits, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    let trim = |s: &str| {
        if s.contains('.') {
            s.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            s.to_owned()
        }
    };
    let decimals = exponent.parse::<i32>().map(|e| 5 - e).unwrap_or(-1);
    match usize::try_from(decimals) {
        // From 0.0001 to 999999.
        Ok(decimals) if decimals <= 9 => trim(&format!("{value:.decimals$}")),
        _ => format!("{}e{exponent}", trim(digits)),
    }
}

/// A text in one line of at most `longest` characters.
pub(super) fn clip(text: &str, longest: usize) -> String {
    let line = |c: char| if c.is_control() { ' ' } else { c };
    if text.chars().count() <= longest {
        return text.chars().map(line).collect();
    }
    let mut short: String = text.chars().take(longest - 1).map(line).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, wanted) in [
            (0.0, "0"),
            (-0.0, "0"),
            (0.99, "0.99"),
            (1.0, "1"),
            (100.0, "100"),
            (0.902_345_678, "0.902346"),
            (-12.345_678_9, "-12.3457"),
            (999_999.4, "999999"),
            (999_999.7, "1e6"),
            (123_456_789.0, "1.23457e8"),
            (0.000_123_456_7, "0.000123457"),
            (0.000_012_345_67, "1.23457e-5"),
            (1e300, "1e300"),
            (f64::MIN_POSITIVE, "2.22507e-308"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(number(value), wanted);
        }
    }

    #[test]
    fn texts_are_short_and_in_one_line() {
        assert_eq!(clip("a\nb", 10), "a b");
        assert_eq!(clip("ééééé", 5), "ééééé");
        assert_eq!(clip("éééééé", 5), "éééé…");
    }

    #[test]
    fn without_a_judge_there_is_no_pass() {
        let judgement = judge(&Metric::default(), &Reading::Value(1.0));
        assert_eq!(judgement.verdict, Verdict::Error);
    }
}
