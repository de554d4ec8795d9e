//! At rest: memory, requests, and what a restart takes.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use serin_lab::{AuditEntry, Lab};

use crate::{
    Result, Sizes,
    fleet::{self, Fleet, NAMESPACE, name},
    seen::Seen,
    serin::{Audit, LIMIT, SYSTEM, Serin, by_kind, install},
    table::{Row, load, time},
};

const HOW: &str = "Rollouts with a route, 1 pod each, at rest";

struct Bench {
    lab: Arc<Lab>,
    fleet: Fleet,
    seen: Seen,
    kubeconfig: PathBuf,
    copies: u16,
}

impl Bench {
    fn start(&mut self) -> Result<Serin> {
        self.copies += 1;
        Serin::start(&self.lab, &self.kubeconfig, None, self.copies)
    }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

pub async fn figures(lab: &Arc<Lab>, sizes: Sizes) -> Result<Vec<Row>> {
    let kubeconfig = install(lab).await?;
    let fleet = Fleet {
        client: lab.client(),
        replicas: 1,
        steps: json!([{"setWeight": 50}]),
        analysis: false,
    };
    fleet.prepare().await?;
    let seen = Seen::start(&lab.client());
    let mut bench = Bench {
        lab: Arc::clone(lab),
        fleet,
        seen,
        kubeconfig,
        copies: 0,
    };
    let mut rows = vec![];
    let mut serin = bench.start()?;
    pass(5).await;
    rows.push(memory(&serin, 0, "15 MiB")?);
    let mut made = 0;
    let wanted = sizes.least..=sizes.most;
    let steps = sizes.rest.into_iter().enumerate();
    for (step, count) in steps.filter(|(_, n)| wanted.contains(n)) {
        let began = Instant::now();
        bench.fleet.create(made..count).await?;
        bench
            .seen
            .all("the first deploys", made..count, |l| {
                l.healthy_at("v1") && l.quiet()
            })
            .await?;
        println!(
            "  {count} deployed after {:.0} s",
            began.elapsed().as_secs_f64()
        );
        made = count;
        pass(5).await;
        let aged = serin.memory()?;
        println!("  {count} after the deploys: {aged:.1} MiB");
        if step == 0 {
            rows.push(requests(lab, count, sizes.quiet).await?);
        }
        let (found, next) = restarted(&mut bench, serin, count, step).await?;
        serin = next;
        rows.extend(found);
        let goal = ["25 MiB", "45 MiB", "120 MiB"][step];
        let mut row = memory(&serin, count, goal)?;
        row.how = format!(
            "{}; {aged:.1} MiB in the process that deployed them{}",
            row.how,
            if count > fleet::HEADLESS_FROM {
                "; Services from the 3,001st Rollout on are headless: the API server takes 14 s to find an address beside 25,000"
            } else {
                ""
            },
        );
        rows.push(row);
    }
    drop(serin);
    Ok(rows)
}

fn memory(serin: &Serin, count: usize, goal: &'static str) -> Result<Row> {
    Ok(Row::new(
        format!("resident memory, {count} at rest"),
        format!("{:.1} MiB", serin.memory()?),
        goal,
        format!(
            "{HOW}; VmRSS of a process that was started with them, at most {:.1} MiB",
            serin.most_memory()?
        ),
        &load(),
    ))
}

async fn requests(lab: &Arc<Lab>, count: usize, seconds: u64) -> Result<Row> {
    let mut audit = Audit::from_now(lab)?;
    pass(seconds).await;
    let all = audit.take()?;
    let leases = all.iter().filter(|e| e.resource == "leases").count();
    let others: Vec<&AuditEntry> = all.iter().filter(|e| e.resource != "leases").collect();
    println!("  {:?}", by_kind(others.iter().copied()));
    let minute = |n: usize| 60 * u64::try_from(n).unwrap_or_default() / seconds.max(1);
    Ok(Row::new(
        format!("requests per minute, {count} at rest"),
        format!(
            "{} and {} for the lease",
            minute(others.len()),
            minute(leases)
        ),
        "0 and the lease's",
        format!("{HOW}; audit log over {seconds} s, renewals of watches left out"),
        &load(),
    ))
}

/// Restarts it, in good order or twice, by a kill too.
async fn restarted(
    bench: &mut Bench,
    serin: Serin,
    count: usize,
    step: usize,
) -> Result<(Vec<Row>, Serin)> {
    let (figures, changed) = (step == 1, name(step));
    let mut rows = vec![];
    let weight = load();
    let mut audit = Audit::from_now(&bench.lab)?;
    let began = Instant::now();
    serin.stop().await?;
    let ended = began.elapsed().as_secs_f64();
    let next = bench.start()?;
    let started = Instant::now();
    // Something to do, of which the new process hears with its lists.
    bench.fleet.deploy(step, "v2").await?;
    let (entries, at) = first_write(&mut audit, &changed).await?;
    let works = at.saturating_duration_since(started).as_secs_f64();
    pass(10).await;
    let lists = entries.iter().filter(|e| e.resource != "leases").count();
    let later = audit.take()?;
    let others = later
        .iter()
        .filter(|e| {
            e.resource != "leases" && e.namespace == NAMESPACE && !e.name.starts_with(&changed)
        })
        .count();
    if figures {
        println!("  {:?}", by_kind(entries.iter()));
        rows.push(Row::new(
            format!("restart, {count} at rest, after SIGTERM"),
            time(works),
            "1 s",
            format!("{HOW}; process started to its first write for a Rollout that was changed meanwhile; the old one ended {} after SIGTERM and handed the lease over; {lists} requests before it, {others} about others in the 10 s after", time(ended)),
            &weight,
        ));
    }
    bench
        .seen
        .all("the changed one to be promoted", step..step + 1, |l| {
            l.healthy_at("v2") && l.quiet()
        })
        .await?;
    if !figures {
        return Ok((rows, next));
    }
    let weight = load();
    audit.take()?;
    next.kill().await?;
    let began = Instant::now();
    let next = bench.start()?;
    bench.fleet.deploy(step, "v3").await?;
    let (_, at) = first_write(&mut audit, &changed).await?;
    rows.push(Row::new(
        format!("restart, {count} at rest, after SIGKILL"),
        time(at.saturating_duration_since(began).as_secs_f64()),
        "the lease's 15 s",
        format!("{HOW}; the same, the lease not handed over"),
        &weight,
    ));
    bench
        .seen
        .all("the changed one to be promoted", step..step + 1, |l| {
            l.healthy_at("v3") && l.quiet()
        })
        .await?;
    Ok((rows, next))
}

/// Waits for Serin's first write about a Rollout: what was asked until then, and when it was seen.
async fn first_write(audit: &mut Audit, name: &str) -> Result<(Vec<AuditEntry>, Instant)> {
    let began = Instant::now();
    let mut all = vec![];
    while began.elapsed() < LIMIT {
        for entry in audit.take()? {
            let ours = entry.namespace != SYSTEM
                && (entry.name.starts_with(name) || entry.uri.contains("dryRun"));
            if ours && entry.verb != "get" && entry.verb != "list" {
                return Ok((all, Instant::now()));
            }
            all.push(entry);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err(format!("nothing is written about {name}").into())
}
