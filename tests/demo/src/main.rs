//! Serin's main job, shown live: v2 is good and is promoted, v3 answers every tenth
//! request with an error and is rolled back by itself, while users send requests all the time.
//! Everything is real: API server, gateway, Prometheus, Alertmanager, and Serin from its chart.
//! `FAST=1` leaves out the pauses for the eye; `STRATEGY=bluegreen` ships blue-green, where v2 waits in
//! preview until somebody promotes it, and v3 is judged after the switch and switched back;
//! `STRATEGY=rolling` replaces pods some at a time, and v3 is judged when all are replaced.

mod picture;
mod shop;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};
use serin::api::{AnalysisRun, RolloutStatus};
use serin_lab::{Lab, Load, Options, Report};

use picture::Picture;
use shop::{Shop, Strategy};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Far beyond what anything takes.
const LIMIT: Duration = Duration::from_secs(300);

fn main() {
    serin_lab::enter();
    let outcome = tokio::runtime::Runtime::new()
        .map_err(Into::into)
        .and_then(|r| r.block_on(demo()));
    if let Err(error) = outcome {
        eprintln!("\nthe demo failed: {error}");
        std::process::exit(1);
    }
}

async fn demo() -> Result {
    let fast = std::env::var_os("FAST").is_some_and(|v| !v.is_empty() && v != "0");
    let strategy = Strategy::from_env()?;
    println!("starting a cluster, a gateway, Prometheus and Alertmanager ...");
    let lab = Lab::up(Options::default()).await?;
    println!(
        "up in {:.0} s. Installing Serin by its chart ...",
        lab.took().as_secs_f64()
    );
    install_serin(&lab).await?;
    println!("shipping v1, the first release ...");
    let shop = Shop::open(&lab, strategy, fast).await?;
    shop.until("v1 to be healthy", |s| {
        s.phase.as_deref() == Some("Healthy")
    })
    .await?;
    shop.first_answer().await?;
    let load = Load::start(&lab.gateway_url(), "shop.test", 60.0)?;
    let mut picture = Picture::new();

    let began = load.now();
    shop.ship("v2").await?;
    let status = watch(&shop, &load, &mut picture, ("v2", strategy), fast).await?;
    let promoted = status.phase.as_deref() == Some("Healthy");
    let second = release(&load, "v2", began, &status, None);

    let began = load.now();
    shop.ship("v3").await?;
    let status = watch(&shop, &load, &mut picture, ("v3", strategy), fast).await?;
    let zero = shop.zero_at(&load).await?;
    let third = release(&load, "v3", began, &status, Some(zero));
    let rolled_back = status.phase.as_deref() == Some("Degraded");

    println!("\nwaiting for the alert at Alertmanager ...");
    let alert = lab
        .until("the alert", LIMIT, || async {
            lab.alerts().await.ok()?.into_iter().find(|a| {
                a.labels
                    .get("alertname")
                    .is_some_and(|n| n == "RolloutRolledBack")
            })
        })
        .await?;
    let report = load.stop().await;
    table(&report, &[&second, &third], &alert);
    let summary = json!({
        "releases": [second, third],
        "alert": {"name": "RolloutRolledBack", "received": true},
        "requests": {"sent": report.sent, "answered": report.answered, "unexplained": report.unexplained},
    });
    let path = root().join("target/demo/summary.json");
    std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    std::fs::write(&path, serde_json::to_string_pretty(&summary)? + "\n")?;
    println!("summary: target/demo/summary.json");
    if !promoted || !rolled_back || report.unexplained > 0 {
        return Err(format!(
            "v2 promoted: {promoted}, v3 rolled back: {rolled_back}, failures without excuse: {:#?}",
            report.unexplained_samples
        ).into());
    }
    lab.down().await;
    Ok(())
}

/// The checkout.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

async fn install_serin(lab: &Lab) -> Result {
    let beside = std::env::current_exe()?.with_file_name("serin");
    if !beside.exists() {
        return Err(format!("{} is missing: `make demo` builds it", beside.display()).into());
    }
    lab.images()
        .register("ghcr.io/serin-dev/serin:*", &beside, &[]);
    let chart = root().join("charts/serin");
    lab.helm(&[
        "install",
        "serin",
        &chart.display().to_string(),
        "--namespace",
        "serin",
        "--create-namespace",
        "--set",
        &format!("metricProviders.default={}", lab.prometheus_url()),
        "--set",
        &format!("alertmanager.url={}", lab.alertmanager_url()),
    ])
    .await?;
    lab.kubectl(&[
        "-n",
        "serin",
        "rollout",
        "status",
        "deployment/serin",
        "--timeout=120s",
    ])
    .await?;
    Ok(())
}

/// Draws what happens until the release is finished; promotes it where it waits for a person.
async fn watch(
    shop: &Shop<'_>,
    load: &Load,
    picture: &mut Picture,
    (version, strategy): (&str, Strategy),
    fast: bool,
) -> Result<RolloutStatus> {
    let mut promoted = false;
    let mut waited = 0;
    loop {
        let status = shop.status().await?;
        picture.draw(&frame(
            (version, strategy),
            &status,
            load,
            shop.newest_run().await,
        ));
        let fresh = shop.is_fresh(&status).await?;
        let stage = status.attempt.as_ref().map_or("", |a| a.stage.as_str());
        if fresh
            && stage == "Done"
            && matches!(status.phase.as_deref(), Some("Healthy" | "Degraded"))
        {
            return Ok(status);
        }
        let waits = fresh && status.phase.as_deref() == Some("Paused");
        waited += u32::from(waits);
        if waits && !promoted && (fast || waited > 8) {
            let hash = status
                .attempt
                .as_ref()
                .map(|a| a.hash.clone())
                .unwrap_or_default();
            picture.say(&format!(
                "somebody promotes: kubectl annotate rollout shop serin.dev/promote={hash}/1"
            ));
            shop.promote(&hash).await?;
            promoted = true;
        }
        // The picture's own pace; nothing is awaited by it.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn frame(
    (version, strategy): (&str, Strategy),
    status: &RolloutStatus,
    load: &Load,
    run: Option<AnalysisRun>,
) -> picture::Frame {
    let recent = load.recent(Duration::from_secs(3));
    let canary = status
        .tracks
        .iter()
        .find(|t| t.name == strategy.track())
        .and_then(|t| t.weight.clone());
    let bad: u64 = recent
        .by_version
        .values()
        .map(|c| c.injected + c.unexplained)
        .sum();
    let percent = |part: u64, all: u64| {
        if all == 0 {
            0.0
        } else {
            100.0 * part as f64 / all as f64
        }
    };
    let verdict = run.and_then(|r| {
        let results = r.status?.metric_results;
        let result = results.first()?;
        let last = result.measurements.last()?;
        Some(format!(
            "{} {} ({} of {} passed)",
            result.name,
            last.verdict,
            result.passed,
            result.passed + result.failed + result.no_data + result.errors + result.inconclusive
        ))
    });
    picture::Frame {
        version: version.to_owned(),
        phase: status.phase.clone().unwrap_or_default(),
        step: status.step.clone().unwrap_or_default(),
        message: status.message.clone().unwrap_or_default(),
        weight: canary.as_ref().map_or(0, |w| w.desired),
        accepted: canary.as_ref().and_then(|w| w.accepted),
        measured: recent.share(version).unwrap_or(0.0) * 100.0,
        errors: percent(bad, recent.answers()),
        verdict: verdict.unwrap_or_else(|| "-".into()),
        sent: load.snapshot().sent,
    }
}

/// What is told of a release in the summary.
fn release(
    load: &Load,
    version: &str,
    began: Duration,
    status: &RolloutStatus,
    zero: Option<Duration>,
) -> Value {
    let report = load.snapshot();
    let counts = report.of(version);
    let attempt = status.attempt.as_ref();
    let outcome = match attempt.and_then(|a| a.outcome.as_deref()) {
        Some("Promoted") => "promoted",
        Some("RolledBack") => "rolledBack",
        _ => "unfinished",
    };
    let mut told = json!({
        "version": version,
        "outcome": outcome,
        "requests": counts.all(),
        "failed": counts.injected + counts.unexplained,
        "unexplained": report.unexplained,
        "seconds": ((report.elapsed.saturating_sub(began)).as_secs_f64() * 10.0).round() / 10.0,
    });
    if let Some(zero) = zero {
        let first = report.first_bad_at.get(version).copied().unwrap_or(zero);
        told["reason"] = json!(attempt.and_then(|a| a.message.clone()).unwrap_or_default());
        told["secondsToZero"] =
            json!((zero.saturating_sub(first).as_secs_f64() * 10.0).round() / 10.0);
    }
    told
}

fn table(report: &Report, releases: &[&Value], alert: &serin_lab::Alert) {
    println!(
        "\n{:<10} {:>10} {:>10} {:>14} {:>12}  outcome",
        "version", "requests", "failed", "without excuse", "to zero"
    );
    for (version, counts) in &report.by_version {
        let release = releases.iter().find(|r| r["version"] == version.as_str());
        let outcome = release.map_or("the first release", |r| {
            r["outcome"].as_str().unwrap_or("-")
        });
        let zero = release
            .and_then(|r| r["secondsToZero"].as_f64())
            .map_or("-".into(), |s| format!("{s:.1} s"));
        println!(
            "{version:<10} {:>10} {:>10} {:>14} {zero:>12}  {outcome}",
            counts.all(),
            counts.injected + counts.unexplained,
            counts.unexplained
        );
    }
    println!(
        "{:<10} {:>10} {:>10} {:>14}",
        "all",
        report.sent,
        report.by_version.values().map(|c| c.injected).sum::<u64>() + report.unexplained,
        report.unexplained
    );
    let label = |name: &str| alert.labels.get(name).cloned().unwrap_or_default();
    println!(
        "\nat Alertmanager: {} {}/{} since {}",
        label("alertname"),
        label("namespace"),
        label("rollout"),
        alert.starts_at
    );
    println!(
        "  {}\n",
        alert
            .annotations
            .get("description")
            .cloned()
            .unwrap_or_default()
    );
}
