//! Gauges that stand on status: read at each scrape, so they are right from the first one on, also
//! after a restart.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};

/// What is exposed of a Rollout.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RolloutGauges {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub rollout: String,
    /// Its phase.
    pub phase: String,
    /// Whether it stands rolled back.
    pub rolled_back: bool,
    /// Why it cannot go on without somebody's help, in a word.
    pub stalled: Option<String>,
    /// Since when it waits for a person, in seconds since 1970.
    pub paused_since: Option<f64>,
    /// The share of the traffic of each track, from 0 to 1.
    pub weights: Vec<(String, f64)>,
    /// The share that each track should have, from 0 to 1.
    pub desired_weights: Vec<(String, f64)>,
    /// The analyses that run, by verdict.
    pub verdicts: Vec<VerdictGauges>,
}

/// What the analyses that run have measured, of one verdict.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VerdictGauges {
    /// The verdict.
    pub verdict: &'static str,
    /// Measurements with it.
    pub measurements: u32,
    /// The last measurements of one metric in a row with it, the most of all metrics.
    pub in_a_row: u32,
}

/// What stands now.
pub type StandingOf = Arc<dyn Fn() -> Vec<RolloutGauges> + Send + Sync>;

/// Reads what stands at each scrape.
pub(super) struct Standing(pub(super) StandingOf);

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Standing")
    }
}

/// A value with its labels.
type Line = (Vec<(&'static str, String)>, f64);

fn family(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    lines: &[Line],
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in lines {
        let labels: Vec<(&str, &str)> = labels.iter().map(|(k, v)| (*k, v.as_str())).collect();
        ConstGauge::new(*value).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

impl Collector for Standing {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all = (self.0)();
        let named = |g: &RolloutGauges| {
            vec![
                ("namespace", g.namespace.clone()),
                ("rollout", g.rollout.clone()),
            ]
        };
        let and = |g: &RolloutGauges, key: &'static str, value: &str| {
            let mut labels = named(g);
            labels.push((key, value.to_owned()));
            labels
        };
        let rolled_back: Vec<Line> = all
            .iter()
            .map(|g| (named(g), f64::from(u8::from(g.rolled_back))))
            .collect();
        let phases: Vec<Line> = all
            .iter()
            .map(|g| (and(g, "phase", &g.phase), 1.0))
            .collect();
        let shares = |of: fn(&RolloutGauges) -> &Vec<(String, f64)>| -> Vec<Line> {
            let one = |g: &RolloutGauges| -> Vec<Line> {
                let line = |(track, ratio): &(String, f64)| (and(g, "track", track), *ratio);
                of(g).iter().map(line).collect()
            };
            all.iter().flat_map(one).collect()
        };
        let verdicts = |of: fn(&VerdictGauges) -> u32| -> Vec<Line> {
            let one = |g: &RolloutGauges| -> Vec<Line> {
                let line = |v: &VerdictGauges| (and(g, "verdict", v.verdict), f64::from(of(v)));
                g.verdicts.iter().map(line).collect()
            };
            all.iter().flat_map(one).collect()
        };
        let stalled: Vec<Line> = all
            .iter()
            .filter_map(|g| Some((and(g, "reason", g.stalled.as_deref()?), 1.0)))
            .collect();
        let paused: Vec<Line> = all
            .iter()
            .filter_map(|g| Some((named(g), g.paused_since?)))
            .collect();
        let help = "Whether the last revision was rolled back and its template still stands";
        family(&mut encoder, "rollout_rolled_back", help, &rolled_back)?;
        family(
            &mut encoder,
            "rollout_phase",
            "1 for the phase that the Rollout is in",
            &phases,
        )?;
        let help =
            "1 while a Rollout cannot go on without help, by the reason of its condition Stalled";
        family(&mut encoder, "rollout_stalled", help, &stalled)?;
        let help = "Since when a Rollout waits for a person, in seconds since 1970";
        family(
            &mut encoder,
            "rollout_paused_timestamp_seconds",
            help,
            &paused,
        )?;
        let help = "Share of the traffic by track, as accepted, from 0 to 1";
        let weights = shares(|g| &g.weights);
        family(&mut encoder, "rollout_weight_ratio", help, &weights)?;
        let help = "Share of the traffic by track, as it should be, from 0 to 1";
        let desired = shares(|g| &g.desired_weights);
        family(&mut encoder, "rollout_desired_weight_ratio", help, &desired)?;
        let help = "Measurements of the analyses that run, by verdict";
        let measured = verdicts(|v| v.measurements);
        family(
            &mut encoder,
            "rollout_analysis_measurements",
            help,
            &measured,
        )?;
        let help =
            "The last measurements in a row with a verdict, the most of the analyses that run";
        let row = verdicts(|v| v.in_a_row);
        family(&mut encoder, "rollout_analysis_in_a_row", help, &row)
    }
}
