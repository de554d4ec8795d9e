//! `serin history`: what became of each revision, when, and by whom or what.

use std::cmp::Reverse;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::api::ListParams;
use serde::Serialize;
use serde_json::Value;

use crate::{
    api::{
        RolloutStatus,
        names::{POD_TEMPLATE_HASH, PROMOTED_AT, VERDICT, VERDICT_BY},
    },
    cli::{
        CliError,
        connect::Door,
        output::{self, Cell, Table, Tone, age, moment},
    },
    model::object::CONTROLLER_REVISION,
};

use super::{
    Options,
    parts::{self, Parts},
    words,
};

/// The revisions that are recorded.
#[derive(Debug, Serialize)]
pub struct History {
    name: String,
    namespace: String,
    /// The newest first.
    revisions: Vec<Row>,
}

/// A revision.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    /// What `undo --to-revision` takes.
    number: i64,
    revision: String,
    roles: Vec<String>,
    images: Vec<String>,
    /// What became of it last.
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<String>,
    /// Whether it is tried now: what becomes of it is not decided.
    in_flight: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    promoted_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
}

/// Shows it.
pub async fn run(options: &Options) -> Result<(), CliError> {
    let door = Door::open(&options.access).await?;
    let mut parts = Parts::of(door.rollout(&options.name).await?);
    let params = ListParams::default().labels(&parts::ours(&parts.rollout));
    let api = parts::api(&door, CONTROLLER_REVISION);
    let list = api.list(&params);
    let list = door.answer("list controllerrevisions", list).await?;
    for object in &list.items {
        parts.put(CONTROLLER_REVISION, object);
    }
    let text = match options.output {
        Some(format) => output::encode(format, &history(&parts))?,
        None => draw(&history(&parts.tamed()), door.now()),
    };
    Ok(output::print(&text)?)
}

/// What is recorded of each revision.
pub fn history(parts: &Parts) -> History {
    let status = words::status(&parts.rollout);
    let records: Vec<ControllerRevision> = parts.each(CONTROLLER_REVISION);
    let mut revisions: Vec<Row> = records.iter().map(|r| row(&status, r)).collect();
    revisions.sort_by_key(|r| Reverse(r.number));
    History {
        name: words::name(&parts.rollout).to_owned(),
        namespace: words::namespace(&parts.rollout).to_owned(),
        revisions,
    }
}

fn row(status: &RolloutStatus, record: &ControllerRevision) -> Row {
    let meta = &record.metadata;
    let annotation = |name: &str| meta.annotations.as_ref()?.get(name).cloned();
    let hash = meta.labels.as_ref().and_then(|l| l.get(POD_TEMPLATE_HASH));
    let hash = hash.cloned().unwrap_or_default();
    let attempt = status.attempt.as_ref();
    Row {
        number: record.revision,
        roles: words::roles(status, &hash),
        images: images(record),
        verdict: annotation(VERDICT),
        in_flight: attempt.is_some_and(|a| a.hash == hash && a.outcome.is_none()),
        promoted_at: annotation(PROMOTED_AT),
        by: annotation(VERDICT_BY),
        revision: hash,
    }
}

/// The images of its template, each once.
fn images(record: &ControllerRevision) -> Vec<String> {
    let mut images: Vec<String> = vec![];
    let data = record.data.as_ref();
    for list in ["containers", "initContainers"] {
        let items = data.and_then(|d| d.0.pointer(&format!("/template/spec/{list}"))?.as_array());
        let each = items.into_iter().flatten();
        for image in each.filter_map(|c| c.get("image").and_then(Value::as_str)) {
            if !images.iter().any(|i| i == image) {
                images.push(image.to_owned());
            }
        }
    }
    images
}

/// A line for each.
fn draw(history: &History, now: Timestamp) -> String {
    if history.revisions.is_empty() {
        return format!("no revisions of rollout {} are recorded\n", history.name);
    }
    let titles = [
        "NUMBER", "REVISION", "ROLE", "IMAGES", "VERDICT", "PROMOTED", "BY",
    ];
    let mut table = Table::new(&titles);
    let or_dash = |text: String| {
        if text.is_empty() {
            "-".to_owned()
        } else {
            text
        }
    };
    for row in &history.revisions {
        let verdict = row.verdict.as_deref().unwrap_or_default();
        let (verdict, tone) = match row.in_flight {
            true => ("in flight", Tone::Busy),
            false => (words::verdict(verdict), Tone::of(verdict)),
        };
        let by = row.by.clone().filter(|_| !row.in_flight);
        let promoted = row.promoted_at.as_deref().map(|at| match at.parse() {
            Ok(then) => format!("{}, {} ago", moment(then), age(now, then)),
            Err(_) => at.to_owned(),
        });
        table.row(vec![
            row.number.to_string().into(),
            row.revision.clone().into(),
            or_dash(row.roles.join(", ")).into(),
            or_dash(row.images.join(", ")).into(),
            Cell(or_dash(verdict.to_owned()), tone),
            or_dash(promoted.unwrap_or_default()).into(),
            or_dash(by.unwrap_or_default()).into(),
        ]);
    }
    table.text()
}
