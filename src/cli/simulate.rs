//! `serin simulate`: what would happen to the Rollout of a file, played on the virtual cluster by the
//! code that decides in a real one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use clap::Args;
use jiff::SignedDuration;
use serde_json::{Value, json};
use thiserror::Error;

use crate::{
    api::{
        AnalysisTemplateSpec, Rollout,
        analysis::Threshold,
        names::{API_VERSION, COMMAND_PREFIX},
        units::{Comparison, HumanDuration},
    },
    model::{
        object::DEPLOYMENT,
        observed::TemplateKey,
        spec::{Spec, template_keys},
        workload::Workload,
    },
    sim::{
        Scenario, Simulation,
        scenario::{Event, Expect, Given, World},
        with_version,
    },
};

use super::lint::{
    self, LintError, Output, Severity,
    source::{Source, documents, read},
};

/// How long a day of ours is played at most, in hours, until all has come to rest.
const HOURS: [i64; 5] = [1, 6, 24, 168, 720];
/// The version of the new revision on a day of ours.
const NEXT: &str = "next";
/// What the simulation does not know.
const LIMITS: &str = "\
# Not known here: your metrics (they answer as said above), how fast your pods start and your gateway
# takes a weight over (2s and 200ms, or as the scenario says), other routers, autoscalers, quotas,
# policies, and whoever else writes these objects.
";

/// What to play, and how to tell it.
#[derive(Debug, Args)]
pub struct Options {
    /// Files or folders with the Rollout and its AnalysisTemplates; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The Rollout to play, where there are several
    #[arg(long, value_name = "NAME")]
    rollout: Option<String>,
    /// good: a release whose metrics are good; bad: one whose metrics are not; or a file with a scenario
    #[arg(long, value_name = "good|bad|FILE", default_value = "good")]
    scenario: String,
    /// How the timeline is told
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Why a Rollout cannot be played, or what came of it.
#[derive(Debug, Error)]
pub enum SimulateError {
    /// The files are broken.
    #[error("the manifests are not as they should be:\n{0}")]
    Broken(String),
    /// There is no Rollout, or which one is not said.
    #[error("{0}")]
    Which(String),
    /// The scenario cannot be read.
    #[error("scenario {0}: {1}")]
    Scenario(String, String),
    /// A law was broken: an error in Serin, or a world that nobody could serve in.
    #[error("a law was broken: {0}")]
    Law(String),
    /// The files cannot be looked at.
    #[error("cannot look at the files")]
    Lint(#[from] LintError),
    /// Nobody reads what we print.
    #[error("cannot print")]
    Print(#[from] io::Error),
}

/// What was played.
pub struct Played {
    /// The Rollout's name.
    pub rollout: String,
    /// What the scenario shows, in a sentence.
    pub about: String,
    /// The simulation at its end.
    pub simulation: Simulation,
    /// How long it was played, where it went on even then.
    pub unfinished: Option<SignedDuration>,
}

/// The command.
pub fn run(options: &Options) -> Result<(), SimulateError> {
    let sources = read(&options.files);
    let played = play(&sources, options.rollout.as_deref(), &options.scenario)?;
    let text = match options.output {
        Output::Text => played.text(),
        Output::Json => played.json(),
    };
    io::stdout().write_all(text.as_bytes())?;
    match played.simulation.timeline.broken.first() {
        Some(law) => Err(SimulateError::Law(law.clone())),
        None => Ok(()),
    }
}

/// Plays the Rollout of some files: `good`, `bad`, or the scenario of a file.
pub fn play(
    sources: &[Source],
    name: Option<&str>,
    scenario: &str,
) -> Result<Played, SimulateError> {
    let examined = lint::told(lint::examine(sources)?);
    if examined.count(Severity::Error) > 0 {
        return Err(SimulateError::Broken(examined.text()));
    }
    let (mut rollout, mut templates) = cast(sources, name)?;
    let title = rollout.metadata.name.clone().unwrap_or_default();
    let simulation = match scenario {
        "good" | "bad" => {
            complete(&rollout, &templates)?;
            let day = day(&rollout, &templates, scenario == "good");
            let (simulation, unfinished) = until_rest(&day, &rollout, &templates)
                .map_err(|e| SimulateError::Scenario(scenario.to_owned(), e))?;
            return Ok(Played {
                rollout: title,
                about: day.about,
                simulation,
                unfinished,
            });
        }
        path => {
            let failed = |e: String| SimulateError::Scenario(path.to_owned(), e);
            let mut scenario =
                Scenario::read(Path::new(path)).map_err(|e| match Path::new(path).exists() {
                    true => failed(e),
                    false => failed(format!("{e}; there are good and bad, and files")),
                })?;
            for (name, template) in &scenario.given.templates {
                let spec = serde_json::from_value(template.clone());
                let spec = spec.map_err(|e| failed(format!("template {name}: {e}")))?;
                let (cluster, name) = (false, name.clone());
                templates
                    .entry(TemplateKey { cluster, name })
                    .or_insert(spec);
            }
            complete(&rollout, &templates)?;
            rollout.spec.template = with_version(&rollout.spec.template, &scenario.given.version);
            let given = scenario.given.annotations.clone();
            rollout
                .metadata
                .annotations
                .get_or_insert_default()
                .extend(given);
            // The world answers these two by itself, and the scenario may answer others.
            let own = ["success-rate", "latency"];
            let told = scenario.events.iter().flat_map(|e| e.metrics.keys());
            let told: BTreeSet<String> = told.cloned().collect();
            let named = named(&rollout);
            let mut asked = templates.clone();
            asked.retain(|key, _| named.contains(key));
            let others = answers(&asked, true).into_iter();
            let metrics: BTreeMap<_, _> = others
                .filter(|(m, _)| !own.contains(&&**m) && !told.contains(m))
                .collect();
            if !metrics.is_empty() {
                let first = Event {
                    metrics,
                    ..Event::default()
                };
                scenario.events.insert(0, first);
            }
            let until = scenario.until.parse().map_err(failed)?;
            let until = SignedDuration::try_from(until).map_err(|e| failed(e.to_string()))?;
            let simulation = Simulation::with(&scenario, rollout, templates).map_err(failed)?;
            Played {
                rollout: title,
                about: scenario.about,
                simulation: simulation.play(until),
                unfinished: None,
            }
        }
    };
    Ok(simulation)
}

type Templates = BTreeMap<TemplateKey, AnalysisTemplateSpec>;

/// The Rollout and the templates of some files.
fn cast(sources: &[Source], name: Option<&str>) -> Result<(Rollout, Templates), SimulateError> {
    let (mut rollouts, mut templates): (Vec<Rollout>, _) = (vec![], Templates::new());
    let mut deployments: Vec<Value> = vec![];
    let texts = sources
        .iter()
        .flat_map(|s| Some((&s.name, s.text.as_ref().ok()?)));
    for document in texts
        .flat_map(|(name, text)| documents(name, text))
        .flatten()
    {
        let value = document.value;
        let text = |path: &str| {
            value
                .pointer(path)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        if text("/apiVersion") == DEPLOYMENT.api_version() && text("/kind") == DEPLOYMENT.kind {
            deployments.push(value);
            continue;
        }
        if text("/apiVersion") != API_VERSION {
            continue;
        }
        let kind = text("/kind").to_owned();
        let name = text("/metadata/name").to_owned();
        match kind.as_str() {
            "Rollout" => rollouts.extend(serde_json::from_value(value).ok()),
            "AnalysisTemplate" | "ClusterAnalysisTemplate" => {
                let spec = value.get("spec").cloned().unwrap_or_default();
                let cluster = kind == "ClusterAnalysisTemplate";
                let spec = serde_json::from_value(spec).ok();
                templates.extend(spec.map(|spec| (TemplateKey { cluster, name }, spec)));
            }
            _ => {}
        }
    }
    let named = |r: &Rollout| r.metadata.name.clone().unwrap_or_default();
    let all: Vec<String> = rollouts.iter().map(named).collect();
    rollouts.retain(|r| name.is_none_or(|n| named(r) == n));
    match rollouts.len() {
        1 => {}
        _ if all.is_empty() => {
            return Err(SimulateError::Which(
                "there is no Rollout in these files".into(),
            ));
        }
        0 => {
            let name = name.unwrap_or_default();
            let all = all.join(", ");
            let message = format!("{name:?}: there is no such Rollout in these files, but {all}");
            return Err(SimulateError::Which(message));
        }
        n => {
            let message = format!(
                "there are {n} Rollouts: say which with --rollout: {}",
                all.join(", ")
            );
            return Err(SimulateError::Which(message));
        }
    }
    let Some(mut rollout) = rollouts.pop() else {
        return Err(SimulateError::Which(
            "there is no Rollout in these files".into(),
        ));
    };
    rollout.status = None;
    adopt(&mut rollout, deployments)?;
    Ok((rollout, templates))
}

/// A Rollout that adopts a Deployment is played as one that has the template itself.
fn adopt(rollout: &mut Rollout, deployments: Vec<Value>) -> Result<(), SimulateError> {
    let Some(workload) = rollout.spec.workload_ref.take() else {
        return Ok(());
    };
    let named = |d: &Value| {
        let name = d.pointer("/metadata/name").and_then(Value::as_str);
        name == Some(workload.name.as_str())
    };
    let Some(found) = deployments.into_iter().find(named) else {
        return Err(SimulateError::Which(format!(
            "Deployment {:?} is not in these files: add the file that holds it",
            workload.name
        )));
    };
    Workload::of(Some(found)).fill(rollout, &[]);
    Ok(())
}

/// The templates that a Rollout names.
fn named(rollout: &Rollout) -> Vec<TemplateKey> {
    let spec = Spec::examine(rollout).0;
    let analyses = spec.iter().flat_map(|s| &s.course.analyses);
    analyses.flat_map(|(_, a)| template_keys(a)).collect()
}

/// Without its templates a Rollout would wait for ever.
fn complete(rollout: &Rollout, templates: &Templates) -> Result<(), SimulateError> {
    let keys = named(rollout);
    match keys.into_iter().find(|key| !templates.contains_key(key)) {
        None => Ok(()),
        Some(key) => Err(SimulateError::Which(format!(
            "AnalysisTemplate {:?} is not in these files: add the file that holds it",
            key.name
        ))),
    }
}

/// A day of ours: the first deploy, then a new version; whoever must promote does.
fn day(rollout: &Rollout, templates: &Templates, good: bool) -> Scenario {
    let at = |seconds: u64| Some(HumanDuration(format!("{seconds}s")));
    let mut events = vec![];
    let say = |metrics: BTreeMap<String, String>| {
        let event = Event {
            metrics,
            ..Event::default()
        };
        (!event.metrics.is_empty()).then_some(event)
    };
    events.extend(say(answers(templates, true)));
    events.push(Event {
        at: at(10),
        when: Some("phase Healthy".into()),
        version: Some(NEXT.into()),
        ..Event::default()
    });
    if !good {
        events.extend(say(answers(templates, false)));
    }
    let spec = Spec::examine(rollout).0;
    let steps = spec.iter().flat_map(|s| s.course.steps.iter());
    for (i, step) in steps.enumerate() {
        if step.pause.as_ref().is_some_and(|p| p.duration.is_none()) {
            let name = step.name.clone().unwrap_or_else(|| i.to_string());
            events.push(Event {
                when: Some(format!("step {i}")),
                annotate: [(
                    format!("{COMMAND_PREFIX}promote"),
                    format!("$canary@{name}/1"),
                )]
                .into(),
                ..Event::default()
            });
        }
    }
    let about = match (good, templates.is_empty()) {
        (true, _) => "A good day: the first deploy, then a new version whose metrics are good.",
        (false, false) => "A bad day: the first deploy, then a new version whose metrics are bad.",
        (false, true) => {
            "A bad day, but there are no AnalysisTemplates: nothing is measured, so nobody notices."
        }
    };
    Scenario {
        about: about.into(),
        lab: false,
        given: Given {
            spec: Value::Null,
            version: String::new(),
            adopt: None,
            templates: BTreeMap::new(),
            annotations: BTreeMap::new(),
            route: Some((100, 0)),
        },
        world: World::default(),
        events,
        until: HumanDuration("1h".into()),
        expect: Expect::default(),
    }
}

/// Plays until nothing goes on any more; each longer play begins anew.
fn until_rest(
    day: &Scenario,
    rollout: &Rollout,
    templates: &Templates,
) -> Result<(Simulation, Option<SignedDuration>), String> {
    let mut last = Err("it was not played".to_owned());
    for hours in HOURS {
        let until = SignedDuration::from_hours(hours);
        let simulation = Simulation::with(day, rollout.clone(), templates.clone())?.play(until);
        if at_rest(&simulation) {
            return Ok((simulation, None));
        }
        last = Ok((simulation, Some(until)));
    }
    last
}

fn at_rest(simulation: &Simulation) -> bool {
    let rollout = simulation.cluster.rollout.as_ref();
    let Some(status) = rollout.and_then(|r| r.status.as_ref()) else {
        return false;
    };
    let second = |a: &crate::api::status::Attempt| a.number > 1 && a.stage == "Done";
    let phase = status.phase.as_deref();
    status.attempt.as_ref().is_some_and(second)
        && (phase == Some("Healthy") || phase == Some("Degraded"))
        && status.draining.is_empty()
        && status.tracks.len() <= 1
}

/// What each metric answers about a good release, or about a bad one.
fn answers(templates: &Templates, good: bool) -> BTreeMap<String, String> {
    let mut thresholds: BTreeMap<&str, Vec<&Threshold>> = BTreeMap::new();
    for metric in templates.values().flat_map(|t| &t.metrics) {
        let all = thresholds.entry(&metric.name).or_default();
        all.extend(metric.judge.threshold.as_ref());
    }
    let mut answers = BTreeMap::new();
    for (name, thresholds) in thresholds {
        let read = |text: &str| Comparison::parse(text).ok();
        let limits: Vec<f64> = thresholds
            .iter()
            .flat_map(|t| [read(&t.pass), t.fail.as_deref().and_then(read)])
            .flatten()
            .map(|c| c.limit)
            .collect();
        let near = limits.iter().flat_map(|limit| {
            let step = (limit.abs() / 10.0).max(0.01);
            [*limit, limit + step, limit - step]
        });
        let passes = |t: &Threshold, value: f64| read(&t.pass).is_some_and(|c| c.holds(value));
        let fails = |t: &Threshold, value: f64| match t.fail.as_deref().and_then(read) {
            Some(fail) => fail.holds(value),
            None => !passes(t, value),
        };
        let wanted = |value: &f64| {
            let mut all = thresholds.iter();
            if good {
                all.all(|t| passes(t, *value))
            } else {
                all.all(|t| fails(t, *value))
            }
        };
        if let Some(value) = near.into_iter().find(wanted) {
            // Short, and still on the right side.
            let short = format!("{value:.4}").parse().unwrap_or(value);
            let value = if wanted(&short) { short } else { value };
            answers.insert(name.to_owned(), value.to_string());
        }
    }
    answers
}

impl Played {
    /// How it ends: phase, version of the stable revision, message.
    fn end(&self) -> (String, String, String) {
        let cluster = &self.simulation.cluster;
        let status = cluster.rollout.as_ref().and_then(|r| r.status.clone());
        let status = status.unwrap_or_default();
        let stable = cluster.version_of(&status.stable_revision.unwrap_or_default());
        (
            status.phase.unwrap_or_else(|| "gone".into()),
            stable,
            status.message.unwrap_or_default(),
        )
    }

    /// The timeline as text, with what it shows before it and how it ends after it.
    pub fn text(&self) -> String {
        let (phase, stable, message) = self.end();
        let mut out = format!("# Rollout {}. {}\n", self.rollout, self.about);
        out.push_str(&self.simulation.timeline.text());
        let _ = writeln!(
            out,
            "# At the end: {phase}, version {stable:?} is stable: {message}"
        );
        let served = &self.simulation.cluster.gateway.served;
        let served: Vec<String> = served.iter().map(|w| format!("{w} %")).collect();
        if served.len() > 1 {
            let served = served.join(", ");
            let _ = writeln!(out, "# The new revision's share of the traffic: {served}");
        }
        if let Some(played) = self.unfinished {
            let _ = writeln!(out, "# It went on after {}h", played.as_hours());
        }
        out.push_str(LIMITS);
        out
    }

    /// The same as one JSON document.
    pub fn json(&self) -> String {
        let (phase, stable, message) = self.end();
        let timeline = &self.simulation.timeline;
        let text = timeline.text();
        let value = json!({
            "rollout": self.rollout, "about": self.about,
            "timeline": text.lines().collect::<Vec<&str>>(),
            "history": timeline.history, "brokenLaws": timeline.broken,
            "weights": self.simulation.cluster.gateway.served,
            "notPlayed": timeline.not_played, "unfinished": self.unfinished.is_some(), "phase": phase, "stableVersion": stable, "message": message,
        });
        serde_json::to_string_pretty(&value).unwrap_or_default() + "\n"
    }
}
