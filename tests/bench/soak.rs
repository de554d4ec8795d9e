//! An hour at the real gateway: releases all the time, under load, by one process of Serin's. What grows,
//! and which requests fail.

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, ReplicaSet},
    core::v1::{Pod, Service},
};
use kube::{
    Api,
    api::{DynamicObject, ListParams},
};
use serde::de::DeserializeOwned;
use serde_json::json;
use serin::api::Rollout;
use serin_lab::{Lab, Load};

use crate::{
    Result,
    fleet::routes,
    gateway::{App, at_step, done},
    serin::{Serin, install},
    table::{Row, commit, load, root, save},
};

/// Requests per second to each Rollout's host.
const RATE: f64 = 5.0;
/// As often is looked, in parts of the whole time.
const LOOKS: u32 = 12;
/// At first what is remembered and kept fills up; memory is compared with that after this look.
const FILLED: usize = 3;

/// What is done to whom, and for how long.
#[derive(Clone, Copy)]
pub struct Soak {
    /// Rollouts.
    pub rollouts: usize,
    /// How long they are released to.
    pub time: Duration,
    /// Where the table goes.
    pub table: &'static str,
}

/// How releases ended.
#[derive(Default)]
struct Ends {
    promoted: AtomicUsize,
    aborted: AtomicUsize,
    failed: AtomicUsize,
}

/// One look at all that there is.
struct Look {
    minutes: f64,
    ends: [usize; 3],
    sent: u64,
    unexplained: u64,
    memory: f64,
    cpu: f64,
    objects: usize,
    status: usize,
}

pub async fn figures(lab: &Arc<Lab>, soak: Soak) -> Result<Vec<Row>> {
    let kubeconfig = install(lab).await?;
    let namespace = lab.namespace("soak").await?;
    let serin = Serin::start(lab, &kubeconfig, None, 1)?;
    let steps = json!([
        {"setWeight": 20}, {"pause": {"duration": "3s"}}, {"setWeight": 60}, {"pause": {"duration": "3s"}},
    ]);
    let names = (0..soak.rollouts).map(|n| format!("app-{n:02}"));
    let made = names.map(|name| App::create(lab, &namespace, name, steps.clone()));
    let apps: Vec<App> = stream::iter(made).buffer_unordered(4).try_collect().await?;
    let users: Vec<Load> = apps.iter().map(|a| a.users(RATE)).collect::<Result<_>>()?;
    let (weight, ends, began) = (load(), Arc::<Ends>::default(), Instant::now());
    let mut releases = tokio::task::JoinSet::new();
    for app in apps {
        let ends = Arc::clone(&ends);
        releases.spawn(async move {
            let mut n = 2;
            while began.elapsed() < soak.time {
                release(&app, n, &ends).await?;
                n += 1;
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
        });
    }
    let mut looks = vec![];
    for n in 1..=LOOKS {
        tokio::time::sleep_until((began + soak.time * n / LOOKS).into()).await;
        let look = look(lab, &namespace, &serin, &users, &ends, began).await?;
        println!("  {}", look.line());
        looks.push(look);
    }
    while let Some(ended) = releases.join_next().await {
        ended??;
    }
    let (mut sent, mut unexplained) = (0, 0);
    for load in users {
        let report = load.stop().await;
        sent += report.sent;
        unexplained += report.unexplained;
        for sample in report.unexplained_samples {
            println!("  unexplained: {sample:?}");
        }
    }
    let row = row(&looks, soak, (sent, unexplained), &weight)?;
    write(&looks, &row, soak.table)?;
    Ok(vec![row])
}

/// Two of four are promoted, one is aborted by hand, and one has an image that is not there.
async fn release(app: &App, n: usize, ends: &Ends) -> Result {
    let version = match n % 4 {
        3 => format!("missing-{n}"),
        _ => format!("v{n}"),
    };
    app.deploy(&version).await?;
    if n % 4 == 2 {
        app.until("the last pause", |s| at_step(s, 3)).await?;
        app.abort(&version).await?;
    }
    app.until("the end", done).await?;
    let end = [&ends.promoted, &ends.promoted, &ends.aborted, &ends.failed][n % 4];
    end.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

async fn count<K: Clone + std::fmt::Debug + DeserializeOwned>(api: &Api<K>) -> Result<usize> {
    Ok(api.list_metadata(&ListParams::default()).await?.items.len())
}

async fn look(
    lab: &Lab,
    namespace: &str,
    serin: &Serin,
    users: &[Load],
    ends: &Ends,
    began: Instant,
) -> Result<Look> {
    let client = lab.client();
    let rollouts = Api::<Rollout>::namespaced(client.clone(), namespace)
        .list(&ListParams::default())
        .await?
        .items;
    let others = [
        count(&Api::<Pod>::namespaced(client.clone(), namespace)).await?,
        count(&Api::<ReplicaSet>::namespaced(client.clone(), namespace)).await?,
        count(&Api::<ControllerRevision>::namespaced(
            client.clone(),
            namespace,
        ))
        .await?,
        count(&Api::<Service>::namespaced(client.clone(), namespace)).await?,
        count(&Api::<DynamicObject>::namespaced_with(
            client,
            namespace,
            &routes(),
        ))
        .await?,
    ];
    let size = |r: &Rollout| serde_json::to_vec(&r.status).map_or(0, |v| v.len());
    let reports: Vec<_> = users.iter().map(Load::snapshot).collect();
    Ok(Look {
        minutes: began.elapsed().as_secs_f64() / 60.0,
        ends: [&ends.promoted, &ends.aborted, &ends.failed].map(|n| n.load(Ordering::Relaxed)),
        sent: reports.iter().map(|r| r.sent).sum(),
        unexplained: reports.iter().map(|r| r.unexplained).sum(),
        memory: serin.memory()?,
        cpu: serin.cpu()?,
        objects: rollouts.len() + others.iter().sum::<usize>(),
        status: rollouts.iter().map(size).max().unwrap_or(0),
    })
}

impl Look {
    fn line(&self) -> String {
        let [promoted, aborted, failed] = self.ends;
        format!(
            "| {:.0} | {promoted} | {aborted} | {failed} | {} | {} | {:.1} | {:.1} | {} | {} |",
            self.minutes,
            self.sent,
            self.unexplained,
            self.memory,
            self.cpu,
            self.objects,
            self.status
        )
    }
}

fn row(looks: &[Look], soak: Soak, requests: (u64, u64), weight: &str) -> Result<Row> {
    let (Some(filled), Some(last)) = (looks.get(FILLED), looks.last()) else {
        return Err("there were too few looks".into());
    };
    let (sent, unexplained) = requests;
    let [promoted, aborted, failed] = last.ends;
    Ok(Row::new(
        "soak, releases all the time at the real gateway",
        format!(
            "{unexplained} of {sent} requests failed; {:.1} MiB after {:.0} min, {:.1} MiB after {:.0} min",
            filled.memory, filled.minutes, last.memory, last.minutes
        ),
        "0 failed; memory flat",
        format!(
            "{} Rollouts of 2 pods, each released to again when its last release was over, {RATE:.0} requests a second to each; {promoted} promoted, {aborted} aborted, {failed} rolled back for an image that is not there; one process, VmRSS",
            soak.rollouts
        ),
        weight,
    ))
}

fn write(looks: &[Look], row: &Row, table: &str) -> Result {
    let mut text = format!(
        "# The soak at the real gateway, at {}\n\n`make bench FIGURE=soak` writes this table (MINUTES=60 unless told).\n\n{}; {}.\n\n",
        commit(),
        row.found,
        row.how
    );
    text.push_str("| Minute | Promoted | Aborted | Rolled back | Requests sent | Failed | Memory, MiB | Processor time, s | Objects without Events | Largest status, bytes |\n|---|---|---|---|---|---|---|---|---|---|\n");
    for look in looks {
        writeln!(text, "{}", look.line())?;
    }
    save(&root().join(table), &text)
}
