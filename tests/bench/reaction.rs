//! How soon all weight is back on stable: after an abort, after a provider's first bad answer.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use serin_lab::Lab;

use crate::{
    Result, Sizes,
    fleet::{Fleet, name},
    provider::Provider,
    seen::Seen,
    serin::{LIMIT, Serin, install},
    table::{Row, load, quantile, spread, time},
};

fn fleet(lab: &Lab, analysis: bool) -> Fleet {
    Fleet {
        client: lab.client(),
        replicas: 2,
        steps: json!([{"setWeight": 50}, {"pause": {}}]),
        analysis,
    }
}

/// Makes Rollouts and brings them to the endless pause at weight 50.
async fn in_flight(
    fleet: &Fleet,
    seen: &Seen,
    numbers: std::ops::Range<usize>,
    apart: Duration,
) -> Result {
    fleet.create(numbers.clone()).await?;
    seen.all("the first deploys", numbers.clone(), |l| {
        l.healthy_at("v1") && l.quiet()
    })
    .await?;
    for n in numbers.clone() {
        fleet.deploy(n, "v2").await?;
        tokio::time::sleep(apart).await;
    }
    seen.all("the endless pause", numbers, |l| l.at_step(1))
        .await
}

/// How long after the answer to its patch an abort is seen on the route, in seconds.
#[derive(Clone, Copy)]
struct Gone {
    /// Until the canary has a trace at most: one request in a million.
    trace: f64,
    /// Until it has nothing.
    zero: f64,
}

/// Aborts one.
async fn abort(fleet: &Fleet, seen: &Seen, n: usize) -> Result<Gone> {
    let sent = Instant::now();
    fleet.abort(n).await?;
    let accepted = Instant::now();
    let after = |at: Instant| at.saturating_duration_since(accepted).as_secs_f64();
    Ok(Gone {
        trace: after(seen.weight(n, sent, TRACE).await?),
        zero: after(seen.weight(n, sent, 0).await?),
    })
}

/// A row of aborts: figures at `quantiles`, of weight 0, with those of a trace beside them.
fn row(
    name: String,
    all: &[Gone],
    quantiles: &[f64],
    goal: &'static str,
    how: &str,
    load: &str,
) -> Row {
    let (zero, trace): (Vec<f64>, Vec<f64>) = all.iter().map(|g| (g.zero, g.trace)).unzip();
    let told = |all: &[f64]| {
        let all: Vec<String> = quantiles.iter().map(|q| time(quantile(all, *q))).collect();
        all.join(" / ")
    };
    let what = format!("{}; to a trace {}", told(&zero), told(&trace));
    let how = format!(
        "{HOW_ABORT}; {how}0: {}; a trace: {}",
        spread(&zero),
        spread(&trace)
    );
    Row::new(name, what, goal, how, load)
}

/// The weight of a trace.
const TRACE: i64 = 1;

const HOW_ABORT: &str = "the annotation's patch answered to the weight seen by a watch on the route; a trace is one request in a million, from which the last step to 0 waits for the gateway's acceptance; at the endless pause at weight 50, 2 pods, propagationDelay 0s";

pub async fn aborts(lab: &Arc<Lab>, sizes: Sizes) -> Result<Vec<Row>> {
    let kubeconfig = install(lab).await?;
    let fleet = fleet(lab, false);
    fleet.prepare().await?;
    let seen = Seen::start(&lab.client());
    let serin = Serin::start(lab, &kubeconfig, None, 1)?;
    let mut rows = vec![];

    let (mut alone, weight) = (vec![], load());
    for n in 0..sizes.alone {
        in_flight(&fleet, &seen, n..n + 1, Duration::ZERO).await?;
        alone.push(abort(&fleet, &seen, n).await?);
    }
    let name = "abort to weight 0, alone".to_owned();
    rows.push(row(name, &alone, &[0.5], "20 ms", "", &weight));

    let (first, count) = (sizes.alone, sizes.together);
    let weight = load();
    in_flight(&fleet, &seen, first..first + count, Duration::ZERO).await?;
    let mut spaced = vec![];
    for n in first..first + count {
        spaced.push(abort(&fleet, &seen, n).await?);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    rows.push(row(
        format!("abort to weight 0, {count} in flight, spaced"),
        &spaced,
        &[0.5, 0.99],
        "30 ms / 100 ms (p50 / p99)",
        "one after the other, each 0.1 s after the last; ",
        &weight,
    ));

    let first = first + count;
    let weight = load();
    in_flight(&fleet, &seen, first..first + count, Duration::ZERO).await?;
    let at_once: Vec<Gone> = stream::iter((first..first + count).map(|n| abort(&fleet, &seen, n)))
        .buffer_unordered(count)
        .try_collect()
        .await?;
    rows.push(row(
        format!("abort to weight 0, {count} at once"),
        &at_once,
        &[0.99],
        "0.5 s (p99)",
        "all sent together; ",
        &weight,
    ));
    drop(serin);
    Ok(rows)
}

/// The provider turns bad; the time from its first bad answer to weight 0 on the route.
async fn failure(provider: &Provider, seen: &Seen, n: usize) -> Result<f64> {
    let since = Instant::now();
    provider.turn_bad(&name(n));
    let zero = seen.weight(n, since, 0).await?;
    let bad = provider
        .first_bad(&name(n))
        .ok_or("rolled back before it was bad")?;
    Ok(zero.saturating_duration_since(bad).as_secs_f64())
}

const HOW_FAILURE: &str = "the provider's first bad answer to weight 0 seen by a watch on the route; background analysis every 10 s, failureLimit 0, weight 50, 2 pods, propagationDelay 0s";

pub async fn failures(lab: &Arc<Lab>, sizes: Sizes) -> Result<Vec<Row>> {
    let kubeconfig = install(lab).await?;
    let fleet = fleet(lab, true);
    fleet.prepare().await?;
    let (provider, url) = Provider::start().await?;
    let seen = Seen::start(&lab.client());
    let serin = Serin::start(lab, &kubeconfig, Some(&url), 1)?;
    let mut rows = vec![];

    let weight = load();
    let alone = sizes.alone.min(5);
    let mut times = vec![];
    for n in 0..alone {
        in_flight(&fleet, &seen, n..n + 1, Duration::ZERO).await?;
        asked(&provider, provider.answers() + 1).await?;
        times.push(failure(&provider, &seen, n).await?);
    }
    rows.push(Row::new(
        "bad answer to weight 0, alone",
        time(quantile(&times, 0.5)),
        "0.1 s",
        format!("{HOW_FAILURE}; {}", spread(&times)),
        &weight,
    ));

    let weight = load();
    let (first, count) = (alone, sizes.together);
    let apart = Duration::from_millis(10_000 / u64::try_from(count)?);
    in_flight(&fleet, &seen, first..first + count, apart).await?;
    asked(&provider, provider.answers() + count).await?;
    let times: Vec<f64> =
        stream::iter((first..first + count).map(|n| failure(&provider, &seen, n)))
            .buffer_unordered(count)
            .try_collect()
            .await?;
    rows.push(Row::new(
        format!("bad answer to weight 0, {count} running"),
        format!(
            "{} / {}",
            time(quantile(&times, 0.5)),
            time(quantile(&times, 0.99))
        ),
        "0.2 s / 0.5 s (p50 / p99)",
        format!(
            "{HOW_FAILURE}; all turn bad within one interval, each as its own clock has it; {}",
            spread(&times)
        ),
        &weight,
    ));
    drop(serin);
    Ok(rows)
}

/// Waits until the provider has answered so many questions.
async fn asked(provider: &Provider, count: usize) -> Result {
    let waiting = async {
        while provider.answers() < count {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let waited = tokio::time::timeout(LIMIT, waiting).await;
    waited.map_err(|_| "the provider is not asked".into())
}
