//! `serin why`: the last decision, its evidence, what is awaited, and what to do.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    api::{
        AnalysisRun, Rollout,
        analysis::MetricResult,
        names::{condition, reason},
        status::{Attempt, HistoryEntry, Waiting},
    },
    cli::{
        CliError,
        connect::Door,
        output::{self, Cell, Table, Tone, age, due, moment, paint},
    },
    model::{object::ANALYSIS_RUN, progress::Stage},
};

use super::{
    Options,
    parts::Parts,
    standing::{Standing, message},
    tree::tally,
    words,
};

/// The answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Why {
    name: String,
    namespace: String,
    standing: &'static str,
    /// What is the case.
    answer: String,
    /// Why, where something went wrong or waits for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    because: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    awaited: Option<Waiting>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_decision: Option<LastDecision>,
    /// What was decided in the last attempt, the oldest first.
    decided: Vec<HistoryEntry>,
    /// What was measured in the last attempt, what went wrong first.
    evidence: Vec<Evidence>,
    /// The ways on.
    next: Vec<String>,
}

#[derive(Debug, Serialize)]
struct LastDecision {
    sequence: i64,
    what: String,
}

/// One run.
#[derive(Debug, Serialize)]
struct Evidence {
    run: String,
    step: String,
    phase: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    metrics: Vec<MetricResult>,
}

/// Tells it.
pub async fn run(options: &Options) -> Result<(), CliError> {
    let door = Door::open(&options.access).await?;
    let rollout = door.rollout(&options.name).await?;
    let parts = Parts::read(&door, rollout).await?;
    let program = words::program();
    let text = match options.output {
        Some(format) => output::encode(format, &explain(&parts, program))?,
        None => draw(&explain(&parts.tamed(), program), door.now()),
    };
    Ok(output::print(&text)?)
}

/// Puts the answer together.
pub fn explain(parts: &Parts, program: &str) -> Why {
    let rollout = &parts.rollout;
    let status = words::status(rollout);
    let standing = Standing::of(rollout);
    let (answer, because) = answer(rollout, standing);
    let last = status
        .history
        .iter()
        .rposition(|h| h.reason == reason::ATTEMPT_STARTED);
    let decided = status
        .history
        .get(last.unwrap_or(0)..)
        .unwrap_or_default()
        .to_vec();
    let what = status
        .decision
        .as_ref()
        .and_then(|d| Some((d.sequence, d.what.clone()?)));
    Why {
        name: words::name(rollout).to_owned(),
        namespace: words::namespace(rollout).to_owned(),
        standing: standing.as_str(),
        answer,
        because,
        awaited: status.waiting.clone(),
        last_decision: what.map(|(sequence, what)| LastDecision { sequence, what }),
        decided,
        evidence: evidence(parts),
        next: next(rollout, standing, program),
    }
}

/// What is the case, and why.
fn answer(rollout: &Rollout, standing: Standing) -> (String, Option<String>) {
    let status = words::status(rollout);
    let current = status.current_revision.clone().unwrap_or_default();
    let stable = status.stable_revision.clone().unwrap_or_default();
    let said = message(rollout);
    match standing {
        Standing::Healthy => (format!("revision {stable} is stable and serves"), None),
        Standing::RolledBack | Standing::Aborted => {
            let attempt = status.attempt.as_ref();
            let by = match standing {
                Standing::Aborted => "was aborted",
                _ => "was rolled back",
            };
            let why = attempt.and_then(|a| a.message.clone()).unwrap_or(said);
            (
                format!("revision {current} {by}, revision {stable} serves"),
                Some(why),
            )
        }
        Standing::Stalled => {
            let mut all = status.conditions.iter();
            let reason = all
                .find(|c| c.type_ == condition::STALLED)
                .map(|c| c.reason.clone());
            (
                format!("it cannot go on: {}", reason.unwrap_or_default()),
                Some(said),
            )
        }
        Standing::Paused => {
            let why = status.pause.map(|p| p.message);
            let step = status
                .attempt
                .as_ref()
                .and_then(words::progress)
                .unwrap_or_default();
            (
                format!("revision {current} waits for a person at step {step}"),
                why,
            )
        }
        Standing::Busy => match status.attempt.filter(|a| a.stage != "Done") {
            Some(attempt) => on_its_way(&attempt, &stable),
            None => (said, None),
        },
        Standing::Unseen | Standing::Leaving => (said, None),
    }
}

/// What an attempt that is not finished is doing. What was decided of it already is told with its reason.
fn on_its_way(attempt: &Attempt, stable: &str) -> (String, Option<String>) {
    let hash = &attempt.hash;
    match attempt.outcome.as_deref() {
        Some(reason::PROMOTED) => {
            let answer = format!(
                "revision {hash} is promoted and takes over: {}",
                attempt.stage
            );
            (answer, None)
        }
        Some(outcome) => {
            let answer = format!(
                "revision {hash} is given up ({outcome}), the traffic goes back to {stable}"
            );
            (answer, attempt.message.clone())
        }
        None => {
            let at = words::progress(attempt).filter(|_| attempt.stage == "Stepping");
            let at = at.map(|s| format!(" at step {s}")).unwrap_or_default();
            (
                format!("revision {hash} is on its way: {}{at}", attempt.stage),
                None,
            )
        }
    }
}

/// The runs of the last attempt, those that went wrong first.
fn evidence(parts: &Parts) -> Vec<Evidence> {
    let status = words::status(&parts.rollout);
    let Some(attempt) = &status.attempt else {
        return vec![];
    };
    let mut runs: Vec<AnalysisRun> = parts.each(ANALYSIS_RUN);
    runs.retain(|r| r.spec.attempt == attempt.number && r.spec.revision == attempt.hash);
    let phase = |r: &AnalysisRun| {
        let phase = r.status.as_ref().and_then(|s| s.phase.clone());
        phase.unwrap_or_else(|| "Pending".to_owned())
    };
    let rank = |word: &str| match word {
        "Failed" => 0,
        "Inconclusive" => 1,
        "Running" => 2,
        _ => 3,
    };
    runs.sort_by_key(|r| (rank(&phase(r)), r.metadata.name.clone()));
    let one = |run: &AnalysisRun| {
        let status = run.status.clone().unwrap_or_default();
        let mut metrics = status.metric_results;
        metrics.sort_by_key(|m| rank(&m.phase));
        Evidence {
            run: run.metadata.name.clone().unwrap_or_default(),
            step: run.spec.step.clone(),
            phase: phase(run),
            message: status.message,
            metrics,
        }
    };
    runs.iter().map(one).collect()
}

/// The ways on.
pub fn next(rollout: &Rollout, standing: Standing, program: &str) -> Vec<String> {
    let status = words::status(rollout);
    let say = |verb: &str| words::command(program, verb, rollout);
    let reason_of = |type_: &str| {
        let mut all = status.conditions.iter();
        all.find(|c| c.type_ == type_ && c.status == "True")
            .map(|c| c.reason.clone())
    };
    match standing {
        Standing::RolledBack | Standing::Aborted => vec![
            "apply a new template, or the old one".to_owned(),
            format!("{}: try the same revision again", say("retry")),
        ],
        Standing::Stalled => match reason_of(condition::STALLED).as_deref() {
            Some(reason::INVALID_SPEC) => {
                vec![
                    "mend the spec: the message names each field and what would be right"
                        .to_owned(),
                ]
            }
            Some(reason::ROUTE_CONFLICT) => {
                vec!["let the other tool leave the weights of the route alone".to_owned()]
            }
            Some(reason::ABORT_HELD) => {
                let mut ways = vec![
                    "mend the stable pods: there are too few to take the traffic back".to_owned(),
                ];
                let attempt = status.attempt.as_ref();
                if attempt.is_some_and(|a| a.outcome.is_some()) {
                    ways.push(format!(
                        "{}: try the new revision again, and then",
                        say("retry")
                    ));
                }
                ways.push(format!("{}: keep the new revision", say("promote --full")));
                ways
            }
            Some(reason::PROGRESS_DEADLINE_EXCEEDED) => {
                let mut ways = vec!["mend what is awaited: it goes on by itself".to_owned()];
                let stage = status.attempt.and_then(|a| Stage::parse(&a.stage));
                if stage.is_some_and(Stage::can_abort) {
                    ways.push(format!("{}: give the new revision up", say("abort")));
                }
                ways
            }
            _ => vec![],
        },
        Standing::Paused => {
            let abort = format!("{}: give the new revision up", say("abort"));
            match status.pause.as_ref().map(|p| p.reason.as_str()) {
                Some("Spec") => {
                    vec![
                        "set spec.paused to false where the spec is written".to_owned(),
                        abort,
                    ]
                }
                Some("Command") => vec![format!("{}: go on", say("resume")), abort],
                Some("BackgroundAnalysis") => vec![
                    format!("{}: measure anew", say("resume")),
                    format!(
                        "{}: skip it and all steps that are left",
                        say("promote --full")
                    ),
                    abort,
                ],
                Some("Analysis" | "Bake") => vec![
                    format!("{}: measure anew", say("resume")),
                    format!("{}: go on without it", say("promote")),
                    abort,
                ],
                _ => vec![format!("{}: go on", say("promote")), abort],
            }
        }
        Standing::Unseen => vec![format!(
            "see that a controller runs that looks after namespace {} and controllerName {}",
            words::namespace(rollout),
            rollout
                .spec
                .controller_name
                .as_deref()
                .unwrap_or(crate::api::names::CONTROLLER_NAME)
        )],
        Standing::Healthy if status.bake.is_some() => vec![
            format!("{}: it is good, and the old pods may go", say("promote")),
            format!("{}: go back to the old revision at once", say("abort")),
        ],
        Standing::Healthy | Standing::Busy | Standing::Leaving => vec![],
    }
}

/// As text.
pub fn draw(why: &Why, now: Timestamp) -> String {
    let tone = match why.standing {
        "Healthy" => Tone::Good,
        "RolledBack" | "Aborted" | "Stalled" => Tone::Bad,
        "Paused" => Tone::Asks,
        _ => Tone::Busy,
    };
    let mut out = String::new();
    let title = |text: &str| paint(Tone::Title, text);
    let about = format!("{} in namespace {}: ", why.name, why.namespace);
    let _ = writeln!(out, "{about}{}", paint(tone, &why.answer));
    if let Some(because) = &why.because {
        let _ = writeln!(out, "\n{}\n  {because}", title("Why"));
    }
    if let Some(awaited) = &why.awaited {
        let _ = writeln!(out, "\n{}\n  {}", title("Awaited"), awaited.for_);
        let since = age(now, awaited.since.0);
        let until = words::at(awaited.until.as_ref());
        let until = until.map_or_else(String::new, |t| {
            format!(", until {} ({})", moment(t), due(now, t))
        });
        let _ = writeln!(
            out,
            "  since {} ({since} ago){until}",
            moment(awaited.since.0)
        );
        let _ = writeln!(out, "  then: {}", awaited.then);
    }
    if !why.evidence.is_empty() {
        let _ = writeln!(out, "\n{}", title("Evidence"));
    }
    for run in &why.evidence {
        let place = match run.step.as_str() {
            "background" => "in the background".to_owned(),
            "bake" => "in the bake".to_owned(),
            step => format!("step {step}"),
        };
        let said = run
            .message
            .as_ref()
            .map(|m| format!(": {m}"))
            .unwrap_or_default();
        let phase = paint(Tone::of(&run.phase), &run.phase);
        let _ = writeln!(out, "  {} ({place}) {phase}{said}", run.run);
        for metric in &run.metrics {
            let phase = paint(Tone::of(&metric.phase), &metric.phase);
            let said = metric
                .message
                .as_ref()
                .map(|m| format!(": {m}"))
                .unwrap_or_default();
            let _ = writeln!(out, "    {} {phase}, {}{said}", metric.name, tally(metric));
            out.push_str(&indented(&measurements(metric), "      "));
        }
    }
    if !why.decided.is_empty() {
        let _ = writeln!(out, "\n{}", title("Decided"));
        let mut table = Table::default();
        for entry in &why.decided {
            let tone = if entry.type_ == "Warning" {
                Tone::Bad
            } else {
                Tone::Plain
            };
            table.row(vec![
                Cell(moment(entry.at.0), Tone::Faint),
                Cell(entry.reason.clone(), tone),
                entry.message.clone().into(),
            ]);
        }
        out.push_str(&indented(&table.text(), "  "));
    }
    if let Some(last) = &why.last_decision {
        let _ = writeln!(
            out,
            "\n{} (number {})\n  {}",
            title("Last decision"),
            last.sequence,
            last.what
        );
    }
    if !why.next.is_empty() {
        let _ = writeln!(out, "\n{}", title("The ways on"));
        for way in &why.next {
            let _ = writeln!(out, "  {way}");
        }
    }
    out
}

fn measurements(metric: &MetricResult) -> String {
    let mut table = Table::default();
    for m in &metric.measurements {
        table.row(vec![
            Cell(moment(m.at.0), Tone::Faint),
            m.value.clone().unwrap_or_else(|| "-".to_owned()).into(),
            Cell(m.verdict.clone(), Tone::of(&m.verdict)),
            m.message.clone().unwrap_or_default().into(),
        ]);
    }
    table.text()
}

fn indented(text: &str, by: &str) -> String {
    text.lines().map(|line| format!("{by}{line}\n")).collect()
}
