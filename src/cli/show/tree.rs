//! The picture of a Rollout: what it is doing, where the traffic is, and the tree of its parts.

use std::{collections::BTreeSet, fmt::Write as _};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{ControllerRevision, ReplicaSet},
        core::v1::{Pod, Service},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::{
    api::{
        AnalysisRun,
        analysis::MetricResult,
        names::{POD_TEMPLATE_HASH, VERDICT},
    },
    cli::output::{Cell, Table, Tone, age, due, paint},
    model::object::{ANALYSIS_RUN, CONTROLLER_REVISION, REPLICA_SET, SERVICE},
};

use super::{
    parts::{POD, Parts},
    standing::{Standing, message},
    words,
};

/// A node of the tree.
#[derive(Default)]
struct Node {
    name: String,
    kind: &'static str,
    status: Cell,
    age: String,
    info: String,
    children: Vec<Node>,
}

/// All of it as text.
pub fn draw(parts: &Parts, now: Timestamp) -> String {
    let mut out = head(parts, now);
    out.push('\n');
    if let Some(tracks) = tracks(parts) {
        let _ = writeln!(out, "{tracks}");
    }
    let mut table = Table::new(&["NAME", "KIND", "STATUS", "AGE", "INFO"]);
    rows(&tree(parts, now), "", "", &mut table);
    out.push_str(&table.text());
    for (kind, why) in &parts.lacking {
        let _ = writeln!(out, "{kind} are not shown: {why}");
    }
    out
}

fn head(parts: &Parts, now: Timestamp) -> String {
    let rollout = &parts.rollout;
    let status = words::status(rollout);
    let phase = status.phase.clone().unwrap_or_default();
    let (strategy, router) = words::strategy(rollout);
    let mut table = Table::default();
    let mut line = |title: &str, text: String, tone: Tone| {
        if !text.is_empty() {
            table.row(vec![
                Cell(format!("{title}:"), Tone::Title),
                Cell(text, tone),
            ]);
        }
    };
    line("Name", words::name(rollout).to_owned(), Tone::Plain);
    line(
        "Namespace",
        words::namespace(rollout).to_owned(),
        Tone::Plain,
    );
    let router = router.map(|r| format!(", {r}")).unwrap_or_default();
    line("Strategy", format!("{strategy}{router}"), Tone::Plain);
    if [Standing::Unseen, Standing::Leaving].contains(&Standing::of(rollout)) {
        line(
            "Phase",
            Standing::of(rollout).as_str().to_owned(),
            Tone::Asks,
        );
    } else {
        line("Phase", phase.clone(), Tone::of(&phase));
    }
    // What is awaited stands below, each part on a line of its own.
    let awaited = status.waiting.is_some() && message(rollout).starts_with("waiting for ");
    if !awaited {
        line("Message", message(rollout), Tone::Plain);
    }
    if let Some(attempt) = &status.attempt {
        let outcome = attempt.outcome.as_ref().map(|o| format!(", {o}"));
        let text = format!(
            "{} for revision {}, {}{}",
            attempt.number,
            attempt.hash,
            attempt.stage,
            outcome.unwrap_or_default()
        );
        line("Attempt", text, Tone::Plain);
        if attempt.outcome.is_none() {
            line(
                "Step",
                words::progress(attempt).unwrap_or_default(),
                Tone::Plain,
            );
        }
    }
    if let Some(pause) = &status.pause {
        let said = status
            .waiting
            .as_ref()
            .is_some_and(|w| w.for_ == pause.message);
        let why = if said {
            String::new()
        } else {
            format!(": {}", pause.message)
        };
        let since = age(now, pause.since.0);
        line(
            "Paused",
            format!("{}, since {since}{why}", pause.reason),
            Tone::Asks,
        );
    }
    if let Some(waiting) = &status.waiting {
        line("Awaited", waiting.for_.clone(), Tone::Plain);
        let until = words::at(waiting.until.as_ref());
        let until = until.map_or_else(String::new, |t| format!(", due {}", due(now, t)));
        line(
            "Since",
            format!("{}{until}", age(now, waiting.since.0)),
            Tone::Plain,
        );
        line("Then", waiting.then.clone(), Tone::Plain);
    }
    table.text()
}

/// Pods and traffic by role; none where no revision has one.
fn tracks(parts: &Parts) -> Option<String> {
    let status = words::status(&parts.rollout);
    if status.tracks.is_empty() {
        return None;
    }
    let titles = [
        "TRACK", "REVISION", "PODS", "WANTED", "ACCEPTED", "MEASURED", "SERVICE",
    ];
    let mut table = Table::new(&titles);
    for track in &status.tracks {
        let weight = track.weight.as_ref();
        let percent = |w: Option<i32>| w.map_or_else(|| "-".to_owned(), |w| format!("{w}%"));
        let pods = &track.replicas;
        let tone = if pods.available < pods.desired {
            Tone::Busy
        } else {
            Tone::Good
        };
        let accepted = weight.and_then(|w| w.accepted);
        let settled = accepted.is_none() || accepted == weight.map(|w| w.desired);
        table.row(vec![
            track.name.clone().into(),
            track.hash.clone().into(),
            Cell(format!("{}/{}", pods.available, pods.desired), tone),
            percent(weight.map(|w| w.desired)).into(),
            Cell(
                percent(accepted),
                if settled { Tone::Plain } else { Tone::Busy },
            ),
            percent(weight.and_then(|w| w.measured)).into(),
            track.service.clone().unwrap_or_default().into(),
        ]);
    }
    Some(table.text())
}

fn age_of(meta: &ObjectMeta, now: Timestamp) -> String {
    words::at(meta.creation_timestamp.as_ref()).map_or_else(String::new, |t| age(now, t))
}

fn name_of(meta: &ObjectMeta) -> String {
    meta.name.clone().unwrap_or_default()
}

fn hash_of(meta: &ObjectMeta) -> Option<String> {
    meta.labels.as_ref()?.get(POD_TEMPLATE_HASH).cloned()
}

fn tree(parts: &Parts, now: Timestamp) -> Node {
    let rollout = &parts.rollout;
    let status = words::status(rollout);
    let phase = status.phase.clone().unwrap_or_default();
    let tone = Tone::of(&phase);
    let revisions: Vec<ControllerRevision> = parts.each(CONTROLLER_REVISION);
    let sets: Vec<ReplicaSet> = parts.each(REPLICA_SET);
    let runs: Vec<AnalysisRun> = parts.each(ANALYSIS_RUN);
    let number = |hash: &str| {
        let mut all = revisions.iter();
        all.find(|r| hash_of(&r.metadata).as_deref() == Some(hash))
            .map(|r| r.revision)
    };
    let hashes = revisions
        .iter()
        .map(|r| &r.metadata)
        .chain(sets.iter().map(|s| &s.metadata));
    let hashes: BTreeSet<String> = hashes
        .filter_map(hash_of)
        .chain(runs.iter().map(|r| r.spec.revision.clone()))
        .collect();
    let mut order: Vec<String> = hashes.into_iter().collect();
    order.sort_by_key(|h| (std::cmp::Reverse(number(h)), h.clone()));
    let attempt = status.attempt.as_ref();
    let children = order.iter().map(|hash| {
        let mut node = revision(parts, hash, now);
        let here = runs.iter().filter(|r| r.spec.revision == *hash);
        node.children
            .extend(here.map(|r| run(r, attempt.map(|a| a.number), now)));
        if let Some(number) = number(hash) {
            node.name = format!("revision {number} {hash}");
        }
        let told = revisions
            .iter()
            .find(|r| hash_of(&r.metadata).as_ref() == Some(hash));
        let verdict = told.and_then(|r| r.metadata.annotations.as_ref()?.get(VERDICT).cloned());
        let verdict = verdict.unwrap_or_default();
        let verdict = words::verdict(&verdict);
        node.status = Cell(verdict.to_owned(), Tone::of(verdict));
        let mut roles = words::roles(&status, hash);
        let draining = status.draining.iter().find(|d| d.hash == *hash);
        roles.extend(draining.map(|d| format!("keeps its pods: ends {}", due(now, d.until.0))));
        node.info = roles.join(", ");
        node
    });
    Node {
        name: words::name(rollout).to_owned(),
        kind: "Rollout",
        status: Cell(phase, tone),
        age: age_of(&rollout.metadata, now),
        info: String::new(),
        children: children.collect(),
    }
}

/// A revision with its Services, its ReplicaSet and its pods.
fn revision(parts: &Parts, hash: &str, now: Timestamp) -> Node {
    let services: Vec<Service> = parts.each(SERVICE);
    let selected = |s: &Service| {
        let selector = s.spec.as_ref()?.selector.as_ref()?;
        Some(selector.get(POD_TEMPLATE_HASH)? == hash)
    };
    let mut children: Vec<Node> = services
        .iter()
        .filter(|s| selected(s) == Some(true))
        .map(|s| Node {
            name: name_of(&s.metadata),
            kind: "Service",
            age: age_of(&s.metadata, now),
            ..Node::default()
        })
        .collect();
    let sets: Vec<ReplicaSet> = parts.each(REPLICA_SET);
    let pods: Vec<Pod> = parts.each(POD);
    let ours = |meta: &ObjectMeta| hash_of(meta).as_deref() == Some(hash);
    for set in sets.iter().filter(|s| ours(&s.metadata)) {
        let mut node = replica_set(set, now);
        node.children = pods
            .iter()
            .filter(|p| ours(&p.metadata))
            .map(|p| pod(p, now))
            .collect();
        children.push(node);
    }
    Node {
        name: format!("revision {hash}"),
        kind: "Revision",
        children,
        ..Node::default()
    }
}

fn replica_set(set: &ReplicaSet, now: Timestamp) -> Node {
    let wanted = set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(0);
    let there = set.status.as_ref();
    let (current, available) =
        there.map_or((0, 0), |s| (s.replicas, s.available_replicas.unwrap_or(0)));
    let (text, tone) = if wanted == 0 && current == 0 {
        ("ScaledDown".to_owned(), Tone::Faint)
    } else if available >= wanted {
        (format!("{available}/{wanted} available"), Tone::Good)
    } else {
        (format!("{available}/{wanted} available"), Tone::Busy)
    };
    Node {
        name: name_of(&set.metadata),
        kind: "ReplicaSet",
        status: Cell(text, tone),
        age: age_of(&set.metadata, now),
        ..Node::default()
    }
}

fn pod(pod: &Pod, now: Timestamp) -> Node {
    let status = pod.status.clone().unwrap_or_default();
    let containers = status.container_statuses.clone().unwrap_or_default();
    let inits = status.init_container_statuses.clone().unwrap_or_default();
    let waiting = containers.iter().chain(&inits).find_map(|c| {
        let waiting = c.state.as_ref()?.waiting.as_ref()?;
        Some((
            waiting.reason.clone()?,
            waiting.message.clone().unwrap_or_default(),
        ))
    });
    let ready = status
        .conditions
        .iter()
        .flatten()
        .any(|c| c.type_ == "Ready" && c.status == "True");
    let restarts: i32 = containers.iter().map(|c| c.restart_count).sum();
    let phase = status.phase.clone().unwrap_or_else(|| "Pending".to_owned());
    let mut info = vec![];
    let (text, tone) = if pod.metadata.deletion_timestamp.is_some() {
        ("Terminating".to_owned(), Tone::Faint)
    } else if let Some((reason, message)) = waiting.filter(|_| !ready) {
        info.extend((!message.is_empty()).then_some(message));
        let bad = reason != "ContainerCreating" && reason != "PodInitializing";
        (reason, if bad { Tone::Bad } else { Tone::Busy })
    } else if ready {
        ("Ready".to_owned(), Tone::Good)
    } else if phase == "Running" {
        ("Running, not ready".to_owned(), Tone::Busy)
    } else {
        (phase, Tone::Busy)
    };
    if restarts > 0 {
        info.insert(0, format!("{restarts} restarts"));
    }
    Node {
        name: name_of(&pod.metadata),
        kind: "Pod",
        status: Cell(text, tone),
        age: age_of(&pod.metadata, now),
        info: info.join("; "),
        ..Node::default()
    }
}

/// A run; its metrics only where it belongs to the last attempt.
fn run(run: &AnalysisRun, attempt: Option<i64>, now: Timestamp) -> Node {
    let status = run.status.clone().unwrap_or_default();
    let phase = status.phase.clone().unwrap_or_else(|| "Pending".to_owned());
    let metrics = status
        .metric_results
        .iter()
        .filter(|_| attempt == Some(run.spec.attempt));
    let place = match run.spec.step.as_str() {
        "background" => "in the background".to_owned(),
        "bake" => "in the bake".to_owned(),
        step => format!("step {step}"),
    };
    let said = status.message.map(|m| format!(": {m}")).unwrap_or_default();
    Node {
        name: name_of(&run.metadata),
        kind: "AnalysisRun",
        status: Cell(phase.clone(), Tone::of(&phase)),
        age: age_of(&run.metadata, now),
        info: format!("attempt {}, {place}{said}", run.spec.attempt),
        children: metrics.map(|m| metric(m, now)).collect(),
    }
}

/// How often a metric got which verdict, as in `3 passed, 1 failed`.
pub fn tally(result: &MetricResult) -> String {
    let all = [
        (result.passed, "passed"),
        (result.failed, "failed"),
        (result.inconclusive, "inconclusive"),
        (result.no_data, "without data"),
        (result.errors, "errors"),
    ];
    let told: Vec<String> = all
        .iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, word)| format!("{n} {word}"))
        .collect();
    if told.is_empty() {
        "nothing measured".to_owned()
    } else {
        told.join(", ")
    }
}

fn metric(result: &MetricResult, now: Timestamp) -> Node {
    let last = result.measurements.last().map(|m| {
        let value = m.value.clone().unwrap_or_else(|| "no value".to_owned());
        format!("; last {value} ({}) {} ago", m.verdict, age(now, m.at.0))
    });
    Node {
        name: result.name.clone(),
        kind: "Metric",
        status: Cell(result.phase.clone(), Tone::of(&result.phase)),
        info: format!("{}{}", tally(result), last.unwrap_or_default()),
        ..Node::default()
    }
}

fn rows(node: &Node, before: &str, below: &str, table: &mut Table) {
    table.row(vec![
        format!("{before}{}", node.name).into(),
        Cell(node.kind.to_owned(), Tone::Faint),
        node.status.clone(),
        node.age.clone().into(),
        node.info.clone().into(),
    ]);
    for (at, child) in node.children.iter().enumerate() {
        let (branch, more) = if at + 1 == node.children.len() {
            ("└── ", "    ")
        } else {
            ("├── ", "│   ")
        };
        rows(
            child,
            &format!("{below}{branch}"),
            &format!("{below}{more}"),
            table,
        );
    }
}

/// One line that says how it ended, for the end of a watch.
pub fn ending(parts: &Parts) -> String {
    let standing = Standing::of(&parts.rollout);
    let text = format!("{}: {}", standing.as_str(), message(&parts.rollout));
    let tone = if standing == Standing::Healthy {
        Tone::Good
    } else {
        Tone::Bad
    };
    format!("\n{}\n", paint(tone, &text))
}
