//! Commands: each token is handled once, and its outcome is recorded.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use crate::{
    api::{
        names::{COMMAND_PREFIX, STAMP_SUFFIX, reason},
        status::{Attempt, HandledCommand, RolloutStatus},
    },
    model::{
        command::{Command, Target, Verb, annotate_with, given, pending},
        object::{ObjectRef, ROLLOUT},
        observed::{Observed, TemplateKey},
        plan::{Action, Intent},
        progress::{Stage, brief, note},
        spec::template_keys,
    },
};

use super::{
    Context,
    attempt::{begin, by_person, enter, enter_step, give_up, pause, resume},
    background::{is_unjudged, unsaid},
    bake, steps,
    verbs::{
        answer::{Answer, did},
        restart::restart,
        undo::undo,
    },
};

/// The most commands that are remembered.
const REMEMBERED: usize = 16;

/// Handles the commands that stand on the object: the first in order is carried out, the others
/// have lost. Whether anything was handled.
pub fn handle(cx: &Context<'_>, status: &mut RolloutStatus) -> bool {
    let annotations = annotations(cx);
    let commands: Vec<Command> = pending(annotations, &status.commands)
        .into_iter()
        .filter(|c| !spent(status, c) && !ahead(status, c))
        .collect();
    let first_sight = !status.seen();
    let mut winner: Option<Verb> = None;
    for command in &commands {
        let answer = match winner {
            Some(verb) => Answer(
                "Superseded",
                format!("{} was given too and comes first", verb.as_str()),
            ),
            None if first_sight && !command.verb.takes_anything() => Answer(
                "Recorded",
                "it stood on the object when it was first seen, so it is not carried out".into(),
            ),
            None => {
                winner = Some(command.verb);
                answer(cx, status, command)
            }
        };
        record(cx, status, command, answer, annotations);
    }
    !commands.is_empty()
}

/// Records what stands on the object when a lost status was rebuilt: what was carried out before is not
/// carried out again.
pub fn let_stand(cx: &Context<'_>, status: &mut RolloutStatus) {
    let annotations = annotations(cx);
    for command in pending(annotations, &status.commands) {
        if !command.verb.takes_anything() {
            let why = "it stood on the object when the status was lost, so it is not carried out";
            let answer = Answer("Recorded", why.into());
            record(cx, status, &command, answer, annotations);
        }
    }
}

fn annotations<'a>(cx: &Context<'a>) -> &'a BTreeMap<String, String> {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    let meta = &cx.observed.rollout.metadata;
    meta.annotations.as_ref().unwrap_or(&NONE)
}

/// A plain value that was handled and is about to be taken off: it stands only because that has not
/// happened yet.
fn spent(status: &RolloutStatus, command: &Command) -> bool {
    command.verb.takes_anything()
        && command.target.is_err()
        && status.commands.iter().any(|h| {
            h.name == command.verb.as_str() && h.token == command.token && h.outcome == "Removing"
        })
}

/// A promote for a step that is still ahead waits for it.
fn ahead(status: &RolloutStatus, command: &Command) -> bool {
    let (
        Some(attempt),
        Ok(Target {
            step: Some(step),
            hash,
        }),
    ) = (&status.attempt, &command.target)
    else {
        return false;
    };
    let ours = hash
        .as_ref()
        .is_none_or(|h| attempt.hash.starts_with(h.as_str()));
    let Some(stage) = Stage::parse(&attempt.stage).filter(|s| s.can_abort()) else {
        return false;
    };
    let at = index_of(attempt, step).filter(|at| *at < attempt.steps.len());
    let index = usize::try_from(attempt.step_index).unwrap_or(0);
    // Before the first step all of them are ahead.
    let later = |at: usize| at > index || stage == Stage::Starting;
    command.verb == Verb::Promote && ours && at.is_some_and(later)
}

fn index_of(attempt: &crate::api::status::Attempt, step: &str) -> Option<usize> {
    step.parse().ok().or_else(|| {
        attempt
            .steps
            .iter()
            .position(|s| s.name.as_deref() == Some(step))
    })
}

fn record(
    cx: &Context<'_>,
    status: &mut RolloutStatus,
    command: &Command,
    Answer(outcome, message): Answer,
    annotations: &BTreeMap<String, String>,
) {
    let name = command.verb.as_str();
    status
        .commands
        .retain(|h| !(h.name == name && h.token == command.token));
    let plain = command.verb.takes_anything() && command.target.is_err();
    status.commands.push(HandledCommand {
        name: name.to_owned(),
        token: command.token.clone(),
        outcome: if plain { "Removing" } else { outcome }.to_owned(),
        message: Some(brief(&message)),
        by: command.by.clone(),
        at: Time(cx.now),
    });
    // What still stands on the object must not be forgotten.
    let stands = |h: &HandledCommand| {
        annotations
            .get(&format!("{COMMAND_PREFIX}{}", h.name))
            .is_some_and(|v| v.starts_with(&h.token))
    };
    while status.commands.len() > REMEMBERED {
        let oldest = status.commands.iter().position(|h| !stands(h)).unwrap_or(0);
        status.commands.remove(oldest);
    }
    let token: String = command.token.chars().take(80).collect();
    let by = command.by.as_ref();
    let by = by.map(|who| format!(" by {who}")).unwrap_or_default();
    let text = format!("{name} {token:?}{by}: {message}");
    match outcome {
        "Done" => note(status, cx.now, "Normal", reason::COMMAND_DONE, &text),
        "Refused" | "Stale" => note(status, cx.now, "Warning", reason::COMMAND_REFUSED, &text),
        _ => {}
    }
}

/// What people can do where stable would serve worse than what is to be left.
pub fn way_out(observed: &Observed, status: &RolloutStatus) -> String {
    let attempt = status.attempt.as_ref();
    let current = status.current_revision.as_deref();
    let by = |verb: Verb, hash: &str| annotate_with(verb, hash, &status.commands);
    let take = |hash: &str| by(Verb::PromoteFull, hash);
    let way = match attempt.map(|a| (a.hash.as_str(), a.outcome.is_some())) {
        _ if observed.deleting() => return "mend stable".into(),
        Some((hash, false)) => format!(
            "promote revision {hash} without its steps: annotate {}",
            take(hash)
        ),
        Some((hash, true)) if current == Some(hash) => format!(
            "take revision {hash} after all: annotate {}, then {}",
            by(Verb::Retry, hash),
            take(hash)
        ),
        _ => format!("apply another template, and annotate {}", take("HASH")),
    };
    format!("mend stable, or {way}")
}

/// Takes plain values off that were handled, so that giving them again works.
pub fn tidy(observed: &Observed, status: &mut RolloutStatus) -> Vec<Intent> {
    let meta = &observed.rollout.metadata;
    let stands = |name: &str| {
        let annotations = meta.annotations.as_ref()?;
        annotations.get(&format!("{COMMAND_PREFIX}{name}"))
    };
    for handled in status
        .commands
        .iter_mut()
        .filter(|h| h.outcome == "Removing")
    {
        if stands(&handled.name) != Some(&handled.token) {
            handled.outcome = "Done".into();
        }
    }
    let handled = status.commands.iter().filter(|h| h.outcome == "Removing");
    let keys = handled.flat_map(|h| {
        let stamp = format!("{}{STAMP_SUFFIX}", h.name);
        [
            Some(h.name.clone()),
            stands(&stamp).is_some().then_some(stamp),
        ]
    });
    let removals: Vec<Value> = keys
        .flatten()
        .map(|k| json!({"op": "remove", "path": format!("/metadata/annotations/serin.dev~1{k}")}))
        .collect();
    if removals.is_empty() {
        return vec![];
    }
    vec![Intent::harmless(Action::Patch {
        target: crate::model::object::Target {
            object: ObjectRef::new(ROLLOUT, meta.name.clone().unwrap_or_default()),
            uid: meta.uid.clone().unwrap_or_default(),
            // The commit that comes before has changed it; the driver fills in the fresh one.
            resource_version: String::new(),
        },
        operations: removals,
    })]
}

fn answer(cx: &Context<'_>, status: &mut RolloutStatus, command: &Command) -> Answer {
    let attempt = status.attempt.clone();
    let stage = Stage::of(status);
    let hash = attempt.as_ref().map(|a| a.hash.clone()).unwrap_or_default();
    let in_flight = stage.is_some_and(Stage::can_abort);
    let target = match &command.target {
        Ok(target) => Some(target.clone()),
        Err(_) if command.verb.takes_anything() => None,
        Err(_) => {
            let verb = command.verb.as_str();
            let stable = status.stable_revision.clone();
            let example = match stable.filter(|_| command.verb == Verb::Restart) {
                Some(stable) => stable,
                None if hash.is_empty() => "<hash>".to_owned(),
                None => hash,
            };
            return Answer(
                "Refused",
                format!(
                    "a {verb} names what it means: kubectl annotate rollout {} --overwrite serin.dev/{verb}={example}/{}",
                    cx.name(),
                    cx.now.as_second()
                ),
            );
        }
    };
    // These mean another revision than the one in flight.
    let others = [Verb::Undo, Verb::Restart];
    let of_attempt = target.as_ref().filter(|_| !others.contains(&command.verb));
    if let Some(stale) = of_attempt.and_then(|t| stale(cx, status, t)) {
        return Answer("Stale", stale);
    }
    match command.verb {
        Verb::Abort if in_flight => {
            give_up(
                cx,
                status,
                reason::ABORTED,
                reason::ABORTED,
                &did(command, "aborted"),
                &given(command.verb, command.by.as_ref()),
            );
            Answer("Done", format!("revision {hash} is given up"))
        }
        Verb::Abort => Answer(
            "Done",
            "nothing is in flight that an abort could change".into(),
        ),
        Verb::Pause if in_flight && !status.pause.as_ref().is_some_and(by_person) => {
            pause(cx, status, "Command", &did(command, "paused"));
            Answer("Done", "paused".into())
        }
        Verb::Pause => Answer(
            "Done",
            "nothing is in flight that is not paused already".into(),
        ),
        Verb::Resume => resume_command(cx, status, command),
        Verb::Retry => retry(cx, status, &hash, stage),
        Verb::Promote => promote(cx, status, command, stage),
        Verb::PromoteFull if stage == Some(Stage::Baking) => prove(cx, status, command),
        Verb::Undo => undo(cx, status, command, stage),
        Verb::Restart => restart(cx, status, command, stage),
        Verb::PromoteFull if in_flight => {
            status.pause = None;
            let unjudged = is_unjudged(status);
            // One that cannot say is skipped; one that still may goes on.
            let skips = |a: &&mut Attempt| unjudged || unsaid(cx, a);
            if let Some(live) = status.attempt.as_mut().filter(skips) {
                live.analysis = None;
            }
            // What nobody can measure is not measured after it either.
            let gone = |key: &TemplateKey| !cx.observed.templates.contains_key(key);
            let bake = status.attempt.as_mut().and_then(|a| a.bake.as_mut());
            if let Some(bake) = bake
                && let Some(analysis) = &bake.analysis
                && template_keys(analysis).iter().any(gone)
            {
                bake.analysis = None;
            }
            moved_by(status, command);
            let end = attempt.map_or(0, |a| a.steps.len());
            enter_step(cx, status, end);
            enter(cx, status, Stage::Promoting);
            note(
                status,
                cx.now,
                "Normal",
                reason::PROMOTING,
                &format!(
                    "{}: the steps left are skipped",
                    did(command, "promoted it in full")
                ),
            );
            Answer(
                "Done",
                format!("revision {hash} is promoted without the steps that were left"),
            )
        }
        Verb::PromoteFull => Answer(
            "Refused",
            "nothing is in flight that could be promoted".into(),
        ),
    }
}

/// A command moves the attempt on: where that leads to its promotion, it is told.
fn moved_by(status: &mut RolloutStatus, command: &Command) {
    if let Some(live) = &mut status.attempt {
        live.decided_by = Some(given(command.verb, command.by.as_ref()));
    }
}

/// Why a command does not mean what is in flight.
fn stale(cx: &Context<'_>, status: &RolloutStatus, target: &Target) -> Option<String> {
    let attempt = status.attempt.as_ref()?;
    if let Some(prefix) = &target.hash {
        let matching = cx
            .observed
            .revisions
            .iter()
            .filter(|r| r.hash.starts_with(prefix.as_str()))
            .count();
        if !attempt.hash.starts_with(prefix.as_str()) {
            return Some(format!(
                "it means revision {prefix}, but {} is the one concerned: nothing is done",
                attempt.hash
            ));
        }
        if matching > 1 {
            return Some(format!(
                "{matching} revisions begin with {prefix}: give more of the hash ({})",
                attempt.hash
            ));
        }
    }
    let step = target.step.as_ref()?;
    match index_of(attempt, step) {
        None => Some(format!("there is no step {step:?}")),
        Some(at) if i32::try_from(at) != Ok(attempt.step_index) => Some(format!(
            "it means step {at}, but the attempt is at step {}: nothing is done",
            attempt.step_index
        )),
        Some(_) => None,
    }
}

fn resume_command(cx: &Context<'_>, status: &mut RolloutStatus, command: &Command) -> Answer {
    let Some(paused) = status.pause.clone() else {
        return Answer("Refused", "it is not paused".into());
    };
    if paused.reason == "Spec" {
        return Answer(
            "Refused",
            "spec.paused is true: set it to false where the spec is written".into(),
        );
    }
    if let Some(attempt) = &mut status.attempt {
        match paused.reason.as_str() {
            "Analysis" => attempt.step_try += 1,
            "BackgroundAnalysis" => attempt.background_try += 1,
            _ => {}
        }
    }
    if paused.reason == "Bake" {
        bake::anew(cx, status);
    }
    resume(cx, status, &did(command, "resumed"));
    Answer(
        "Done",
        "it goes on; an analysis that could not say measures anew".into(),
    )
}

fn retry(cx: &Context<'_>, status: &mut RolloutStatus, hash: &str, stage: Option<Stage>) -> Answer {
    let given_up = status
        .attempt
        .as_ref()
        .and_then(|a| a.outcome.as_deref())
        .is_some_and(|o| o == reason::ROLLED_BACK || o == reason::ABORTED);
    let current = status.current_revision.as_deref() == Some(hash);
    // On its way back, too: where stable cannot take the traffic, that way has no end.
    let over = matches!(stage, Some(Stage::RollingBack | Stage::Done));
    if over && given_up && current && !cx.deleting() {
        begin(cx, status, hash, Stage::Starting);
        return Answer("Done", format!("revision {hash} is tried again"));
    }
    Answer("Refused", "there is no attempt that was given up".into())
}

/// Somebody says that a promoted revision is good.
fn prove(cx: &Context<'_>, status: &mut RolloutStatus, command: &Command) -> Answer {
    bake::end(cx, status, &did(command, "ended the bake"));
    Answer("Done", "the bake is ended: the revision is good".into())
}

fn promote(
    cx: &Context<'_>,
    status: &mut RolloutStatus,
    command: &Command,
    stage: Option<Stage>,
) -> Answer {
    let flight = stage.is_some_and(Stage::can_abort);
    if flight && (cx.spec.paused || status.pause.as_ref().is_some_and(by_person)) {
        return Answer("Refused", "it is paused: resume it first".into());
    }
    if stage == Some(Stage::Baking) {
        return prove(cx, status, command);
    }
    if flight
        && status
            .pause
            .as_ref()
            .is_some_and(|p| p.reason == "BackgroundAnalysis")
    {
        if let Some(live) = &mut status.attempt {
            live.background_try += 1;
        }
        resume(
            cx,
            status,
            &format!(
                "{} although the analysis in the background could not say",
                did(command, "promoted")
            ),
        );
        return Answer(
            "Done",
            "it goes on; the analysis in the background measures anew".into(),
        );
    }
    let stepping = stage == Some(Stage::Stepping);
    let Some(attempt) = status.attempt.clone().filter(|_| stepping) else {
        return Answer("Refused", "no step is in progress".into());
    };
    if cx.spec.replicas == 0 {
        let why = "no step is passed where no pods are wanted: spec.replicas is 0";
        return Answer("Refused", why.into());
    }
    let index = usize::try_from(attempt.step_index).unwrap_or(usize::MAX);
    let title = steps::title(&attempt.steps, index);
    if attempt.steps.get(index).is_none_or(steps::changes) {
        return Answer(
            "Refused",
            format!("{title} does not wait for a person: it ends by itself"),
        );
    }
    status.pause = None;
    moved_by(status, command);
    enter_step(cx, status, index + 1);
    Answer("Done", format!("{title} is ended"))
}
