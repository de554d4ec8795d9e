//! Metrics as they are written: their defaults, and what may be wrong with one.

use std::time::Duration;

use crate::api::{
    Metric,
    analysis::{Threshold, Tolerance},
    units::{Comparison, HumanDuration, Operator},
};

/// The shortest time between two measurements.
pub(super) const SHORTEST: Duration = Duration::from_secs(1);
/// The provider of a metric that names none.
pub(super) const DEFAULT_PROVIDER: &str = "default";

/// A metric's times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Timing {
    /// How far a measurement looks back; zero where the metric says nothing.
    pub(super) window: Duration,
    /// Before the first measurement, beside the window.
    pub(super) delay: Duration,
    /// Between two measurements, at least a second.
    pub(super) interval: Duration,
}

/// A metric's times with their defaults; none where one cannot be read.
pub(super) fn timing(metric: &Metric) -> Option<Timing> {
    let read = |field: &Option<HumanDuration>| field.as_ref().map(HumanDuration::parse).transpose();
    let window = read(&metric.window).ok()?;
    let interval = read(&metric.interval).ok()?;
    Some(Timing {
        window: window.unwrap_or_default(),
        delay: read(&metric.initial_delay).ok()?.unwrap_or_default(),
        interval: interval
            .or(window)
            .unwrap_or(Duration::from_secs(30))
            .max(SHORTEST),
    })
}

/// Everything that is wrong with a metric, its query apart: path below the metric, and why.
pub(super) fn faults(metric: &Metric, step: bool) -> Vec<(String, String)> {
    let mut faults = vec![];
    let mut add = |path: &str, fault: String| faults.push((path.to_owned(), fault));
    for (path, field, least) in [
        ("interval", &metric.interval, SHORTEST),
        ("window", &metric.window, Duration::from_millis(1)),
        ("initialDelay", &metric.initial_delay, Duration::ZERO),
    ] {
        let Some(written) = field else { continue };
        match written.parse() {
            Err(fault) => add(path, format!("{:?}: {fault}", written.0)),
            Ok(d) if d < least && path == "window" => {
                add(path, format!("{:?}: must be more than 0", written.0));
            }
            Ok(d) if d < least => add(path, format!("{:?}: must be 1s or more", written.0)),
            Ok(_) => {}
        }
    }
    if step && metric.interval.is_some() && metric.count.is_none() {
        add(
            "interval",
            "at a step, interval needs count: how many measurements make the metric complete"
                .to_owned(),
        );
    }
    if let Some(count) = metric.count.filter(|c| *c < 1) {
        add("count", format!("{count}: must be 1 or more"));
    }
    if metric.failure_limit < 0 {
        let limit = metric.failure_limit;
        add("failureLimit", format!("{limit}: must be 0 or more"));
    }
    for (path, tolerance) in [
        ("noData", &metric.no_data),
        ("inconclusive", &metric.inconclusive),
        ("error", &metric.error),
    ] {
        for (field, fault) in tolerance.iter().flat_map(wrong_tolerance) {
            add(&format!("{path}.{field}"), fault);
        }
    }
    match &metric.judge.threshold {
        None => add("judge", "empty: name a judge: threshold".to_owned()),
        Some(threshold) => {
            for (field, fault) in wrong_threshold(threshold) {
                add(&format!("judge.threshold.{field}"), fault);
            }
        }
    }
    if metric.provider.prometheus.is_none() {
        add("provider", "empty: name a provider: prometheus".to_owned());
    }
    faults
}

fn wrong_tolerance(tolerance: &Tolerance) -> Vec<(&'static str, String)> {
    let mut faults = vec![];
    if let Some(limit) = tolerance.limit.filter(|l| *l < 0) {
        faults.push(("limit", format!("{limit}: must be 0 or more")));
    }
    if let Some(then) = tolerance.then.as_deref()
        && !["pause", "abort"].contains(&then)
    {
        faults.push(("then", format!("{then:?}: must be pause or abort")));
    }
    faults
}

fn wrong_threshold(threshold: &Threshold) -> Vec<(&'static str, String)> {
    let mut faults = vec![];
    let mut read = |field, text: &str| {
        Comparison::parse(text)
            .map_err(|fault| faults.push((field, format!("{text:?}: {fault}"))))
            .ok()
    };
    let pass = read("pass", &threshold.pass);
    let fail = threshold.fail.as_ref().and_then(|f| read("fail", f));
    if let (Some(pass), Some(fail)) = (pass, fail)
        && overlap(pass, fail)
    {
        faults.push((
            "fail",
            format!("{fail}: overlaps pass ({pass}): a value cannot both pass and fail"),
        ));
    }
    faults
}

/// Whether there is a value that satisfies both.
fn overlap(a: Comparison, b: Comparison) -> bool {
    let upper = |c: Comparison| matches!(c.operator, Operator::Less | Operator::LessOrEqual);
    let closed =
        |c: Comparison| matches!(c.operator, Operator::LessOrEqual | Operator::GreaterOrEqual);
    let (low, high) = match (upper(a), upper(b)) {
        (false, true) => (a, b),
        (true, false) => (b, a),
        (true, true) | (false, false) => return true,
    };
    low.limit < high.limit || (low.limit == high.limit && closed(low) && closed(high))
}
