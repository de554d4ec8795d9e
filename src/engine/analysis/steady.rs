//! Since when the split of the traffic has been what it is.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    api::{AnalysisRun, Rollout, status::TrafficStatus},
    model::{progress::after, share::TRACE, spec::Spec},
};

/// Since when the split of the traffic has been what it is; none while it changes.
///
/// A run in the background lives through changes of weight, and somebody else may change it under any
/// run: it is steady while the weight that is wanted is the one that is accepted. A share that is accepted
/// as it was written is steady, too, whatever is wanted next: what must come first may never come.
pub fn steady_since(run: &AnalysisRun, rollout: &Rollout) -> Option<Timestamp> {
    let start = run.spec.start.as_ref().map(|t| t.0);
    let status = rollout.status.as_ref()?;
    let stands = status.traffic.as_ref().is_some_and(stands);
    let weights = status.tracks.iter().filter_map(|t| t.weight.as_ref());
    let changing = weights.into_iter().any(|w| match w.accepted {
        Some(accepted) => accepted != w.desired && !stands,
        None => w.measured.is_none(),
    });
    if changing {
        return None;
    }
    // Accepted is not yet in force.
    let delay = Spec::resolve(rollout).map_or(Duration::ZERO, |s| s.propagation_delay);
    let since = status.traffic.as_ref().map(|t| after(t.since.0, delay));
    start.max(since)
}

/// Whether a share that can be measured stands as it was written. A trace is only on its way.
fn stands(traffic: &TrafficStatus) -> bool {
    let measurable = u32::try_from(traffic.share).is_ok_and(|share| share > TRACE);
    measurable && traffic.written == Some(traffic.share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{
        AnalysisRunSpec, RolloutStatus,
        status::{Track, TrackWeight},
    };
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn run(step: &str) -> AnalysisRun {
        let start = Some(Time(at(100)));
        AnalysisRun::new(
            "r",
            AnalysisRunSpec {
                step: step.into(),
                start,
                ..AnalysisRunSpec::default()
            },
        )
    }

    fn rollout(desired: i32, accepted: Option<i32>) -> Rollout {
        let weight = Some(TrackWeight {
            desired,
            accepted,
            measured: None,
        });
        let status = RolloutStatus {
            tracks: vec![Track {
                name: "canary".into(),
                weight,
                ..Track::default()
            }],
            traffic: serde_json::from_value(serde_json::json!({
                "share": 100_000, "since": "1970-01-01T00:03:20.000000Z",
            }))
            .expect("a split"),
            ..RolloutStatus::default()
        };
        let spec = serde_json::json!({
            "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}}},
                "strategy": {"canary": {"service": "web", "trafficRouting": {"propagationDelay": "7s",
                    "gatewayAPI": {"httpRoutes": [{"name": "web"}]}}}}},
            "metadata": {"name": "web"}, "apiVersion": "serin.dev/v1alpha1", "kind": "Rollout",
        });
        let mut rollout: Rollout = serde_json::from_value(spec).expect("a Rollout");
        rollout.status = Some(status);
        rollout
    }

    #[test]
    fn every_run_waits_while_the_weight_moves() {
        for step in ["background", "2"] {
            let run = run(step);
            assert_eq!(steady_since(&run, &rollout(10, Some(10))), Some(at(207)));
            assert_eq!(steady_since(&run, &rollout(50, Some(10))), None);
            assert_eq!(steady_since(&run, &rollout(50, None)), None);
        }
    }

    #[test]
    fn what_stands_as_it_was_written_is_measured_whatever_is_wanted_next() {
        let steady = |share: i32, written: i32, accepted| {
            let mut rollout = rollout(50, accepted);
            let status = rollout.status.as_mut().expect("a status");
            let traffic = status.traffic.as_mut().expect("a split");
            (traffic.share, traffic.written) = (share, Some(written));
            steady_since(&run("background"), &rollout)
        };
        assert_eq!(steady(100_000, 100_000, Some(10)), Some(at(207)));
        // The next weight is decided on, the route is not accepted any more, or nobody is served.
        assert_eq!(steady(100_000, 500_000, Some(10)), None);
        assert_eq!(steady(100_000, 100_000, None), None);
        assert_eq!(steady(0, 0, Some(0)), None);
        assert_eq!(steady(1, 1, Some(0)), None);
    }
}
