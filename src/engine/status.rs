//! Status: what is told of a Rollout, derived from what was decided and seen.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};

use crate::{
    api::{
        names::{condition, reason},
        status::{RolloutStatus, Track, TrackReplicas, TrackWeight, Waiting},
    },
    model::{
        command::{Verb, annotate_with},
        observed::{Current, Observed},
        progress::{Stage, brief, note_once},
        share::rounded,
        spec::FieldError,
    },
};

use super::{
    World,
    strategy::{Decided, previous, restarts},
    workload::{adoption, left},
};

/// What a Rollout is doing, for conditions and columns.
struct Summary {
    phase: &'static str,
    reason: String,
    message: String,
}

/// Fills in everything of the status that is derived.
pub fn summarize(world: &World<'_>, decided: &Decided, status: &mut RolloutStatus) {
    let (spec, observed, now) = (world.spec, world.observed, world.now);
    status.observed_generation = observed.rollout.metadata.generation;
    if !adoption::lost(observed) {
        status.workload_observed_generation = adoption::generation(observed);
        status.selector = Some(selector_text(&spec.selector));
    }
    status.previous_revision = previous(observed, status);
    status.role_services = left::turned(spec, observed);
    counts(observed, status);
    if decided.moved {
        status.waiting = None;
    } else {
        wait(status, decided, now);
        tracks(world, decided, status);
    }
    let mut summary = summary(world, decided, status);
    if decided.moved && summary.phase == "Healthy" {
        // The next look, which comes at once, tells whether it is.
        summary = Summary {
            phase: "Progressing",
            reason: "Deciding".into(),
            message: "finishing".into(),
        };
    }
    // What is awaited may tell of it, or nothing is awaited.
    let untold = |why: &&String| !summary.message.contains(why.as_str());
    if let Some(why) = observed.refused.as_ref().filter(untold) {
        summary.message = format!("{}; not carried out: {why}", summary.message);
    }
    conditions(world, status, &summary, decided.stalled.is_some());
    status.step = step_text(status);
    status.weight = weight_text(world, status);
    status.phase = Some(summary.phase.to_owned());
    status.message = Some(brief(&summary.message));
}

/// Says that the spec cannot be carried out; everything else stays as it is.
pub fn reject(
    observed: &Observed,
    status: &mut RolloutStatus,
    faults: &[FieldError],
    now: Timestamp,
) {
    let all: Vec<String> = faults.iter().map(ToString::to_string).collect();
    let message = all.join("; ");
    note_once(status, now, "Warning", reason::INVALID_SPEC, &message);
    status.observed_generation = observed.rollout.metadata.generation;
    status.phase = Some("Degraded".into());
    status.message = Some(brief(&message));
    let summary = Summary {
        phase: "Degraded",
        reason: reason::INVALID_SPEC.into(),
        message,
    };
    set(status, condition::READY, "False", &summary, now);
    set(status, condition::STALLED, "True", &summary, now);
    set(status, condition::PROGRESSING, "False", &summary, now);
    set(status, condition::PAUSED, "False", &summary, now);
    status
        .conditions
        .retain(|c| c.type_ != condition::RECONCILING);
}

fn summary(world: &World<'_>, decided: &Decided, status: &RolloutStatus) -> Summary {
    let attempt = status.attempt.as_ref();
    let stage = Stage::of(status);
    let stable = status.stable_revision.clone().unwrap_or_default();
    let make = |phase, reason: &str, message: String| Summary {
        phase,
        reason: reason.to_owned(),
        message,
    };
    if let Some((why, message)) = &decided.stalled {
        return make("Degraded", why, message.clone());
    }
    let wait = status
        .waiting
        .as_ref()
        .map(|w| format!("waiting for {}, then {}", w.for_, w.then));
    let person = stage == Some(Stage::Stepping)
        && attempt.is_some_and(|a| {
            let index = usize::try_from(a.step_index).unwrap_or(usize::MAX);
            a.steps
                .get(index)
                .is_some_and(|s| s.pause.as_ref().is_some_and(|p| p.duration.is_none()))
        });
    let flight = stage.is_some_and(|s| s != Stage::Done);
    let paused = status.pause.is_some() && stage.is_some_and(Stage::pauses);
    if person || paused {
        return make(
            "Paused",
            reason::PAUSED,
            wait.unwrap_or_else(|| "paused".into()),
        );
    }
    if flight && !decided.serves {
        let word = stage.map_or("Progressing", Stage::as_str);
        return make("Progressing", word, wait.unwrap_or_else(|| word.to_owned()));
    }
    let current = status.current_revision.clone().unwrap_or_default();
    if let Some(a) = attempt.filter(|a| current != stable && a.hash == current) {
        let outcome = a
            .outcome
            .clone()
            .unwrap_or_else(|| reason::ROLLED_BACK.into());
        let why = a.message.clone().unwrap_or_default();
        let what = if outcome == reason::ABORTED {
            "was aborted"
        } else {
            "was rolled back"
        };
        let by = |verb: Verb, hash: &str| annotate_with(verb, hash, &status.commands);
        let way = match &status.undo {
            Some(undo) => format!("annotate {}, another template,", by(Verb::Undo, &undo.over)),
            // What is written is the old template already.
            None if restarts(world.observed, &current, &stable) => {
                let stay = by(Verb::Undo, &stable);
                format!("annotate {stay} to leave it, a new template,")
            }
            None => "the old template, a new one,".to_owned(),
        };
        let message = format!(
            "stable revision {stable} is serving; desired revision {current} {what}: {why}. \
             The way on: {way} or annotate {}",
            by(Verb::Retry, &current)
        );
        return make("Degraded", &outcome, message);
    }
    if let Current::New(hash) = &world.observed.current {
        // Nothing looks finished before the new template is even recorded.
        return make(
            "Progressing",
            reason::REVISION_CREATED,
            format!("revision {hash} is being recorded"),
        );
    }
    let available = world
        .observed
        .revision(&stable)
        .map_or(0, |r| r.available());
    if current != stable || decided.waiting.is_some() && !decided.serves {
        return make(
            "Progressing",
            "Waiting",
            wait.unwrap_or_else(|| "working".into()),
        );
    }
    if available < world.spec.replicas {
        let message = format!(
            "{available} of {} stable pods are available",
            world.spec.replicas
        );
        return make("Progressing", "Unavailable", message);
    }
    make(
        "Healthy",
        reason::HEALTHY,
        match (&status.bake, &status.undo) {
            (Some(bake), _) => format!(
                "stable revision {stable} is serving and must prove good until {:.0}: a failure or an abort goes back to {} at once",
                bake.until.0, bake.from
            ),
            (None, Some(undo)) => format!(
                "stable revision {stable} is serving in place of {}, which the template describes: another template ends that",
                undo.over
            ),
            (None, None) => format!("stable revision {stable} is serving"),
        },
    )
}

fn conditions(world: &World<'_>, status: &mut RolloutStatus, summary: &Summary, stalled: bool) {
    let now = world.now;
    let healthy = summary.phase == "Healthy";
    let given_up = summary.reason == reason::ROLLED_BACK || summary.reason == reason::ABORTED;
    set(
        status,
        condition::READY,
        if healthy { "True" } else { "False" },
        summary,
        now,
    );
    for (type_, holds) in [
        (
            condition::RECONCILING,
            matches!(summary.phase, "Progressing" | "Paused"),
        ),
        (condition::STALLED, stalled || given_up),
    ] {
        if holds {
            set(status, type_, "True", summary, now);
        } else {
            status.conditions.retain(|c| c.type_ != type_);
        }
    }
    let truth = |b: bool| if b { "True" } else { "False" };
    set(
        status,
        condition::PROGRESSING,
        truth(summary.phase != "Degraded"),
        summary,
        now,
    );
    set(
        status,
        condition::PAUSED,
        truth(summary.phase == "Paused"),
        summary,
        now,
    );
    let wanted = world.spec.replicas;
    let enough = u32::try_from(status.available_replicas).is_ok_and(|a| a >= wanted);
    let available = Summary {
        phase: "",
        reason: if enough {
            "MinimumReplicasAvailable"
        } else {
            "MinimumReplicasUnavailable"
        }
        .into(),
        message: format!(
            "{} of {wanted} pods are available",
            status.available_replicas
        ),
    };
    set(status, condition::AVAILABLE, truth(enough), &available, now);
}

fn set(status: &mut RolloutStatus, type_: &str, value: &str, summary: &Summary, now: Timestamp) {
    let generation = status.observed_generation;
    let old = status.conditions.iter_mut().find(|c| c.type_ == type_);
    let since = old
        .as_ref()
        .filter(|c| c.status == value)
        .map_or(now, |c| c.last_transition_time.0);
    let new = Condition {
        type_: type_.to_owned(),
        status: value.to_owned(),
        reason: summary.reason.clone(),
        message: brief(&summary.message),
        last_transition_time: Time(since),
        observed_generation: generation,
    };
    match old {
        Some(old) => *old = new,
        None => status.conditions.push(new),
    }
}

fn wait(status: &mut RolloutStatus, decided: &Decided, now: Timestamp) {
    let old = status.waiting.take();
    status.waiting = decided.waiting.as_ref().map(|w| Waiting {
        since: old
            .as_ref()
            .filter(|o| w.is_told(o))
            .map_or(Time(now), |o| o.since.clone()),
        for_: brief(&w.text()),
        until: w.until.map(Time),
        then: brief(&w.then),
    });
}

fn counts(observed: &Observed, status: &mut RolloutStatus) {
    let sum = |f: &dyn Fn(&crate::model::revisions::ReplicaSetView) -> u32| -> i32 {
        let all: u32 = observed
            .revisions
            .iter()
            .filter_map(|r| r.replica_set.as_ref())
            .map(f)
            .sum();
        i32::try_from(all).unwrap_or(i32::MAX)
    };
    status.replicas = sum(&|s| s.current);
    status.ready_replicas = sum(&|s| s.ready);
    status.available_replicas = sum(&|s| s.available);
    let current = status
        .current_revision
        .as_deref()
        .and_then(|h| observed.revision(h));
    status.updated_replicas = current.map_or(0, |r| i32::try_from(r.current()).unwrap_or(i32::MAX));
}

fn tracks(world: &World<'_>, decided: &Decided, status: &mut RolloutStatus) {
    let (spec, observed) = (world.spec, world.observed);
    let stage = Stage::of(status);
    let flight = stage.is_some_and(|s| s != Stage::Done);
    let canary = status.attempt.as_ref().map(|a| a.hash.clone()).filter(|h| {
        Some(h) != status.stable_revision.as_ref()
            && (flight || observed.revision(h).is_some_and(|r| r.desired() > 0))
    });
    let int = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    let accepted = status
        .traffic
        .as_ref()
        .map(|t| int(rounded(u32::try_from(t.share).unwrap_or(0))))
        .filter(|_| {
            let written = world.written.filter(|w| w.accepted && !w.strayed);
            written.is_some_and(|w| w.acceptable().is_some())
        });
    let available = |h: Option<&String>| {
        h.and_then(|h| observed.revision(h))
            .map_or(0, |r| r.available())
    };
    let (s, c) = (
        available(status.stable_revision.as_ref()),
        available(canary.as_ref()),
    );
    let measured = (!spec.shifted() && s + c > 0).then(|| int(c * 100 / (s + c)));
    // Until it has proved good, stable is served where the canary was.
    let baking = stage == Some(Stage::Baking) && spec.course.routing.is_some();
    let weight = |canary: bool| {
        let part = |w: i32| if canary { w } else { 100 - w };
        (spec.shifted() || measured.is_some()).then(|| TrackWeight {
            desired: part(
                decided
                    .desired
                    .weight
                    .map_or_else(|| measured.unwrap_or(0), int),
            ),
            accepted: accepted.map(part),
            measured: measured.map(part),
        })
    };
    let service = |canary: bool| {
        let services = spec.course.services.as_ref()?;
        Some(if canary {
            services.canary.clone()
        } else {
            services.stable.clone()
        })
    };
    let track = |name: &str, hash: &String, is_canary: bool| {
        let revision = observed.revision(hash);
        Track {
            name: name.to_owned(),
            hash: hash.clone(),
            service: service(is_canary || baking),
            replicas: TrackReplicas {
                desired: int(decided
                    .desired
                    .replicas
                    .get(hash)
                    .copied()
                    .unwrap_or_else(|| revision.map_or(0, |r| r.desired()))),
                current: int(revision.map_or(0, |r| r.current())),
                available: int(revision.map_or(0, |r| r.available())),
            },
            weight: weight(is_canary || baking),
        }
    };
    let words = spec.course.words;
    let mut all = vec![];
    all.extend(
        status
            .stable_revision
            .as_ref()
            .map(|h| track(words.stable, h, false)),
    );
    all.extend(canary.as_ref().map(|h| track(words.canary, h, true)));
    status.tracks = all;
}

fn step_text(status: &RolloutStatus) -> Option<String> {
    let attempt = status.attempt.as_ref().filter(|a| !a.steps.is_empty())?;
    let total = attempt.steps.len();
    let index = usize::try_from(attempt.step_index)
        .unwrap_or(total)
        .min(total);
    Some(format!("{index}/{total}"))
}

fn weight_text(world: &World<'_>, status: &RolloutStatus) -> Option<String> {
    let word = world.spec.course.words.canary;
    let Some(canary) = status.tracks.iter().find(|t| t.name == word) else {
        return Some("0".to_owned());
    };
    let weight = canary.weight.as_ref()?;
    let told = if world.spec.shifted() {
        weight.accepted
    } else {
        weight.measured
    };
    Some(told.map_or_else(|| "?".to_owned(), |w| w.to_string()))
}

/// A label selector as text.
fn selector_text(selector: &LabelSelector) -> String {
    let mut parts: Vec<String> = selector
        .match_labels
        .iter()
        .flatten()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    for e in selector.match_expressions.iter().flatten() {
        let values = e.values.clone().unwrap_or_default().join(",");
        parts.push(match e.operator.as_str() {
            "In" => format!("{} in ({values})", e.key),
            "NotIn" => format!("{} notin ({values})", e.key),
            "DoesNotExist" => format!("!{}", e.key),
            _ => e.key.clone(),
        });
    }
    parts.join(",")
}
