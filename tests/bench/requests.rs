//! What a canary costs: requests, time beyond its pauses, processor time.

use std::{sync::Arc, time::Instant};

use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use serin_lab::Lab;

use crate::{
    Result, Sizes,
    fleet::{Fleet, name},
    seen::Seen,
    serin::{Audit, Serin, by_kind, install},
    table::{Row, load, quantile, spread, time},
};

/// The pauses of the canary that is measured, in seconds.
const PAUSES: f64 = 20.0;
const HOW: &str = "setWeight 20, pause 10s, setWeight 50, pause 10s; 5 pods; propagationDelay 0s, scaleDownDelay 1s";

pub async fn figures(lab: &Arc<Lab>, sizes: Sizes) -> Result<Vec<Row>> {
    let kubeconfig = install(lab).await?;
    let fleet = Fleet {
        client: lab.client(),
        replicas: 5,
        steps: json!([
            {"setWeight": 20}, {"pause": {"duration": "10s"}},
            {"setWeight": 50}, {"pause": {"duration": "10s"}},
        ]),
        analysis: false,
    };
    fleet.prepare().await?;
    let seen = Seen::start(&lab.client());
    let serin = Serin::start(lab, &kubeconfig, None, 1)?;
    let alone = sizes.alone.min(5);
    let all = alone + sizes.together;
    fleet.create(0..all).await?;
    seen.all("the first deploys", 0..all, |l| {
        l.healthy_at("v1") && l.quiet()
    })
    .await?;

    let mut rows = alone_figures(lab, &fleet, &seen, alone).await?;
    rows.extend(together_figures(lab, &fleet, &seen, &serin, alone..all).await?);
    Ok(rows)
}

async fn alone_figures(
    lab: &Arc<Lab>,
    fleet: &Fleet,
    seen: &Seen,
    count: usize,
) -> Result<Vec<Row>> {
    let load = load();
    let mut audit = Audit::from_now(lab)?;
    let (mut beyond, mut requests) = (vec![], vec![]);
    for n in 0..count {
        let began = Instant::now();
        fleet.deploy(n, "v2").await?;
        let since = Instant::now();
        seen.all("a canary to be promoted", n..n + 1, |l| {
            l.healthy_at("v2") && l.quiet()
        })
        .await?;
        let end = seen
            .rollout_at(n, since, |l| l.healthy_at("v2"))
            .ok_or("it was never healthy")?;
        beyond.push((end - began).as_secs_f64() - PAUSES);
        let entries = audit.take()?;
        let own: Vec<_> = entries
            .iter()
            .filter(|e| e.namespace == crate::fleet::NAMESPACE)
            .collect();
        requests.push(f64::from(u32::try_from(own.len())?));
        if n == 0 {
            for e in &own {
                let dry = if e.uri.contains("dryRun") {
                    " (dry)"
                } else {
                    ""
                };
                println!(
                    "  {} {} {}/{} {}{dry} {}",
                    &e.time[11..],
                    e.verb,
                    e.resource,
                    e.subresource,
                    e.name,
                    e.code
                );
            }
        }
        if n + 1 == count {
            println!("  {}: {:?}", name(n), by_kind(own.into_iter()));
        }
    }
    Ok(vec![
        Row::new(
            "requests per canary, Events included",
            format!("{:.0}", quantile(&requests, 0.5)),
            "15",
            format!(
                "{HOW}; audit log, until old pods are gone and what was told is recorded; {count} one after the other, {:.0} to {:.0}",
                quantile(&requests, 0.0),
                quantile(&requests, 1.0)
            ),
            &load,
        ),
        Row::new(
            "time beyond the pauses, one at a time",
            time(quantile(&beyond, 0.5)),
            "0.3 s",
            format!(
                "{HOW}; template sent to phase Healthy seen; {}",
                spread(&beyond)
            ),
            &load,
        ),
    ])
}

async fn together_figures(
    lab: &Arc<Lab>,
    fleet: &Fleet,
    seen: &Seen,
    serin: &Serin,
    numbers: std::ops::Range<usize>,
) -> Result<Vec<Row>> {
    let load = load();
    let count = numbers.len();
    let mut audit = Audit::from_now(lab)?;
    let cpu = serin.cpu()?;
    let began = Instant::now();
    stream::iter(numbers.clone().map(|n| fleet.deploy(n, "v2")))
        .buffer_unordered(32)
        .try_collect::<()>()
        .await?;
    seen.all("the canaries to be promoted", numbers.clone(), |l| {
        l.healthy_at("v2") && l.quiet()
    })
    .await?;
    let times: Vec<f64> = numbers
        .clone()
        .filter_map(|n| seen.rollout_at(n, began, |l| l.healthy_at("v2")))
        .map(|end| (end - began).as_secs_f64() - PAUSES)
        .collect();
    let used = serin.cpu()? - cpu;
    let entries = audit.take()?;
    let own: Vec<_> = entries
        .iter()
        .filter(|e| e.namespace == crate::fleet::NAMESPACE)
        .collect();
    let total = own.len();
    println!("  {:?}", by_kind(own.into_iter()));
    #[allow(clippy::cast_precision_loss, reason = "small numbers")]
    let (each, per) = (total as f64 / count as f64, used / count as f64);
    Ok(vec![
        Row::new(
            format!("time beyond the pauses, {count} at once"),
            time(quantile(&times, 1.0)),
            "5 s",
            format!(
                "{HOW}; first template sent to the last phase Healthy seen; {}; {each:.1} requests each",
                spread(&times)
            ),
            &load,
        ),
        Row::new(
            "processor time per canary",
            format!("{per:.3} s"),
            "0.03 s",
            format!("the same {count} at once; user and system time of the process"),
            &load,
        ),
    ])
}
