//! One round for an AnalysisRun: observe, ask what is due, record, commit.

use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;

use crate::{
    adapters::cluster::mirror::Key,
    api::{AnalysisRun, Rollout},
    engine::analysis,
    model::{
        measurement::{Query, Reading},
        plan::Requeue,
    },
};

use super::{context::Context, round::RoundError};

/// When to look again where nothing is due.
const IDLE: Duration = Duration::from_secs(300);
/// The longest that asking may take.
const ASK: Duration = Duration::from_secs(15);
/// Questions are not asked anew before this time, whatever became of the last ones.
const PAUSE: Duration = Duration::from_secs(1);
/// `spec.step` of a run in the background.
const BACKGROUND: &str = "background";

/// One round.
pub async fn round(cx: &Context, key: &Key) -> Result<Requeue, RoundError> {
    let Some(run) = cx.cluster.run(key)? else {
        return Ok(Requeue::OnChange(IDLE));
    };
    let owner = || cx.cluster.owner_of(key, &run);
    let Some(rollout) = owner() else {
        return Ok(Requeue::OnChange(IDLE));
    };
    if !cx.ours(&rollout) {
        return Ok(Requeue::OnChange(IDLE));
    }
    let asked_at = cx.clock.now();
    let due = analysis::due(&run, steady_since(&run, &rollout), asked_at);
    let readings = ask(cx, due.queries).await;

    // The split may have changed while the providers were thinking.
    let Some(rollout) = owner() else {
        return Ok(Requeue::OnChange(IDLE));
    };
    let steady = steady_since(&run, &rollout);
    let now = cx.clock.now();
    let status = analysis::record(&run, &readings, steady, now);
    cx.cluster.commit_run(&run, &status).await?;

    let mut after = run.as_ref().clone();
    after.status = Some(status);
    let next = analysis::due(&after, steady, now);
    Ok(match next.next {
        _ if !next.queries.is_empty() => Requeue::At(later(now, PAUSE)),
        Some(at) => Requeue::At(at),
        None => Requeue::OnChange(IDLE),
    })
}

fn later(now: Timestamp, by: Duration) -> Timestamp {
    let by = jiff::SignedDuration::try_from(by).unwrap_or_default();
    now.saturating_add(by).unwrap_or(now)
}

/// Asks all questions at once.
async fn ask(cx: &Context, queries: Vec<Query>) -> Vec<(Query, Reading)> {
    let one = |query: Query| async move {
        let reading = match tokio::time::timeout(ASK, cx.providers.query(&query)).await {
            Ok(reading) => reading,
            Err(_) => Reading::Error(format!("no answer within {} s", ASK.as_secs())),
        };
        (query, reading)
    };
    join_all(queries.into_iter().map(one)).await
}

/// Since when the split of the traffic has been what it is; none while it changes.
///
/// The run of a step begins when its weight is in force, and ends before another is wanted. A run in
/// the background lives through changes of weight: it is steady while the weight that is wanted is
/// the one that is accepted.
fn steady_since(run: &AnalysisRun, rollout: &Rollout) -> Option<Timestamp> {
    let start = run.spec.start.as_ref().map(|t| t.0);
    if run.spec.step != BACKGROUND {
        return start;
    }
    let status = rollout.status.as_ref()?;
    let changing = status
        .tracks
        .iter()
        .filter_map(|t| t.weight.as_ref())
        .any(|w| {
            w.accepted.is_some_and(|a| a != w.desired)
                || (w.accepted.is_none() && w.measured.is_none())
        });
    if changing {
        return None;
    }
    let since = status.traffic.as_ref().map(|t| t.since.0);
    start.max(since)
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
            "spec": {"selector": {}, "template": {}, "strategy": {}},
            "metadata": {"name": "web"}, "apiVersion": "serin.dev/v1alpha1", "kind": "Rollout",
        });
        let mut rollout: Rollout = serde_json::from_value(spec).expect("a Rollout");
        rollout.status = Some(status);
        rollout
    }

    #[test]
    fn the_background_waits_while_the_weight_moves() {
        assert_eq!(
            steady_since(&run("background"), &rollout(10, Some(10))),
            Some(at(200))
        );
        assert_eq!(
            steady_since(&run("background"), &rollout(50, Some(10))),
            None
        );
        assert_eq!(steady_since(&run("background"), &rollout(50, None)), None);
        assert_eq!(steady_since(&run("2"), &rollout(50, None)), Some(at(100)));
    }
}
