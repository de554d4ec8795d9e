//! Gauges that stand on status: read at each scrape, so they are right from the first one on, also
//! after a restart.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};

/// What is exposed of a Rollout.
#[derive(Clone, Debug, PartialEq)]
pub struct RolloutGauges {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub rollout: String,
    /// Its phase.
    pub phase: String,
    /// Whether it stands rolled back.
    pub rolled_back: bool,
    /// The share of the traffic of each track, from 0 to 1.
    pub weights: Vec<(String, f64)>,
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
        let weights: Vec<Line> = all
            .iter()
            .flat_map(|g| {
                g.weights
                    .iter()
                    .map(move |(track, ratio)| (and(g, "track", track), *ratio))
            })
            .collect();
        let help = "Whether the last revision was rolled back and its template still stands";
        family(&mut encoder, "rollout_rolled_back", help, &rolled_back)?;
        family(
            &mut encoder,
            "rollout_phase",
            "1 for the phase that the Rollout is in",
            &phases,
        )?;
        let help = "Share of the traffic by track, as accepted, from 0 to 1";
        family(&mut encoder, "rollout_weight_ratio", help, &weights)
    }
}
