//! One round for an AnalysisRun: observe, ask what is due, record, commit.

use std::time::Duration;

use futures::future::join_all;

use crate::{
    adapters::cluster::world::mirror::Key,
    engine::analysis,
    model::{
        measurement::{Query, Reading},
        plan::Requeue,
        progress::after,
    },
};

use super::{context::Context, round::RoundError};

/// When to look again where nothing is due.
const IDLE: Duration = Duration::from_secs(300);
/// When to look again at what has ended: each revision keeps some, and a change comes by the watch.
const ENDED: Duration = Duration::from_secs(3600);
/// The longest that asking may take.
const ASK: Duration = Duration::from_secs(15);
/// Questions are not asked anew before this time, whatever became of the last ones.
const PAUSE: Duration = Duration::from_secs(1);

/// One round.
pub async fn round(cx: &Context, key: &Key) -> Result<Requeue, RoundError> {
    let Some(run) = cx.cluster.run(key)? else {
        return Ok(Requeue::OnChange(IDLE));
    };
    if analysis::ended(run.status.as_ref()) {
        return Ok(Requeue::OnChange(ENDED));
    }
    let owner = || cx.cluster.owner_of(key, &run);
    let Some(rollout) = owner()? else {
        return Ok(Requeue::OnChange(IDLE));
    };
    if !cx.ours(rollout.spec.controller_name.as_deref()) {
        return Ok(Requeue::OnChange(IDLE));
    }
    let asked_at = cx.clock.now();
    let due = analysis::due(&run, analysis::steady_since(&run, &rollout), asked_at);
    let readings = ask(cx, due.queries).await;

    // The split may have changed while the providers were thinking.
    let Some(rollout) = owner()? else {
        return Ok(Requeue::OnChange(IDLE));
    };
    let steady = analysis::steady_since(&run, &rollout);
    let now = cx.clock.now();
    let status = analysis::record(&run, &readings, steady, now);
    cx.cluster.commit_run(&run, &status).await?;

    let mut recorded = run.clone();
    recorded.status = Some(status);
    let next = analysis::due(&recorded, steady, now);
    Ok(match next.next {
        _ if !next.queries.is_empty() => Requeue::At(after(now, PAUSE)),
        Some(at) => Requeue::At(at),
        None => Requeue::OnChange(IDLE),
    })
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
