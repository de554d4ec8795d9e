//! What metrics answer: from the version that runs, or as the scenario says.

use std::collections::BTreeMap;

use crate::model::measurement::Reading;

use super::scenario::Version;

/// What a metric by this name answers about a version that users are sent to, or are not.
pub fn answer(
    metric: &str,
    said: &BTreeMap<String, String>,
    version: &Version,
    served: bool,
) -> Reading {
    match said
        .get(metric)
        .or_else(|| said.get("*"))
        .map(String::as_str)
    {
        Some("down") => return Reading::Error("connection refused".into()),
        Some("none") => return Reading::NoData("the query gives no sample".into()),
        Some("NaN") => return Reading::NoData("not a number: NaN".into()),
        Some(number) if number != "normal" => {
            return number
                .parse()
                .map_or_else(|_| Reading::Error(number.to_owned()), Reading::Value);
        }
        _ => {}
    }
    if !served {
        return Reading::NoData("the query gives no sample".into());
    }
    match metric {
        "success-rate" => Reading::Value(1.0 - version.error_rate),
        "latency" => Reading::Value(version.latency),
        _ => Reading::NoData("the query gives no sample".into()),
    }
}
