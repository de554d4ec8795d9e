//! What a status tells is what was seen, at every look of every scenario.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serin::{
    api::{
        RolloutStatus,
        status::{Attempt, Superseded},
    },
    engine::{plan, strategy::wanted_hash},
    model::{
        observed::{Current, Observed},
        plan::{Plan, Requeue},
        revisions::ReplicaSetView,
        spec::Spec,
    },
};

use super::{
    Sight, edit, last, moment, patches,
    sights::{play, scenarios},
};

fn sum(observed: &Observed, of: impl Fn(&ReplicaSetView) -> u32) -> i32 {
    let sets = observed
        .revisions
        .iter()
        .filter_map(|r| r.replica_set.as_ref());
    i32::try_from(sets.map(of).sum::<u32>()).expect("few pods")
}

/// The route's weights, where there is one that can be read.
fn route(observed: &Observed) -> Option<(i64, i64)> {
    let weight = |at: usize| {
        let route = observed.routes.values().next()?;
        route
            .pointer(&format!("/spec/rules/0/backendRefs/{at}/weight"))?
            .as_i64()
    };
    Some((weight(0)?, weight(1)?))
}

/// What is wrong with the numbers.
fn counts(observed: &Observed, status: &RolloutStatus) -> Vec<String> {
    let current = match &observed.current {
        // Which one a restart asks for, only the next look can tell.
        _ if status.current_revision.is_none() => None,
        // An undo may ask for another one; where the template is refused it is the one before.
        Current::Recorded(_) | Current::Refused(_) => {
            wanted_hash(observed, status).and_then(|hash| observed.revision(&hash))
        }
        Current::New(_) | Current::Unknown => None,
    };
    let updated = current
        .and_then(|r| r.replica_set.as_ref())
        .map_or(0, |s| s.current);
    let wanted = observed.rollout.spec.replicas;
    let available = sum(observed, |s| s.available);
    let said = format!("{available} of {wanted} pods are available");
    let holds = status.conditions.iter().find(|c| c.type_ == "Available");
    let enough = if available >= wanted {
        ("True", said)
    } else {
        ("False", said)
    };
    let mut faults = vec![];
    let mut same = |what: &str, told: String, seen: String| {
        if told != seen {
            faults.push(format!("{what}: told {told}, seen {seen}"));
        }
    };
    same(
        "pods",
        status.replicas.to_string(),
        sum(observed, |s| s.current).to_string(),
    );
    same(
        "ready",
        status.ready_replicas.to_string(),
        sum(observed, |s| s.ready).to_string(),
    );
    same(
        "available",
        status.available_replicas.to_string(),
        available.to_string(),
    );
    same(
        "updated",
        status.updated_replicas.to_string(),
        updated.to_string(),
    );
    same(
        "selector",
        status.selector.clone().unwrap_or_default(),
        match &observed.workload {
            // Without its Deployment it is what it was.
            Some(w) if w.deployment.is_none() => status.selector.clone().unwrap_or_default(),
            _ => "app=app".into(),
        },
    );
    same(
        "condition Available",
        format!(
            "{:?}",
            holds.map(|c| (c.status.as_str(), c.message.clone()))
        ),
        format!("{:?}", Some(enough)),
    );
    faults
}

/// What is wrong with what the tracks and the columns say.
fn tracks(observed: &Observed, status: &RolloutStatus) -> Vec<String> {
    let mut faults = vec![];
    // By whose routes traffic is shifted, else what is written.
    let shifting = status.traffic.as_ref().and_then(|t| t.strategy.clone());
    let shifting = shifting.and_then(|s| serde_json::from_value(s).ok());
    let strategy = shifting.unwrap_or_else(|| observed.rollout.spec.strategy.clone());
    let routed = strategy
        .canary
        .as_ref()
        .is_some_and(|c| c.traffic_routing.is_some());
    let pods = strategy.blue_green.is_none() && !routed;
    let attempt = status.attempt.as_ref();
    for track in &status.tracks {
        let revision = observed.revision(&track.hash);
        let set = revision
            .and_then(|r| r.replica_set.clone())
            .unwrap_or_default();
        let told = (track.replicas.current, track.replicas.available);
        let available = if set.seen {
            set.available.min(set.desired)
        } else {
            0
        };
        let seen = (set.current.cast_signed(), available.cast_signed());
        if told != seen {
            faults.push(format!("{}: told {told:?}, seen {seen:?}", track.name));
        }
        let named = track.service.clone().unwrap_or_default();
        let (green, canary) = (strategy.blue_green.as_ref(), strategy.canary.as_ref());
        let bakes = attempt.is_some_and(|a| a.stage == "Baking");
        let routes = [
            canary.and_then(|c| c.traffic_routing.as_ref()),
            green.and_then(|g| g.traffic_routing.as_ref()),
        ];
        let elsewhere = bakes && routes.iter().any(Option::is_some);
        let role = match track.name.as_str() {
            "active" if elsewhere => "preview",
            "stable" if elsewhere => "canary",
            name => name,
        };
        let given = match role {
            "active" => green.and_then(|g| g.active_service.clone()),
            "preview" => green.and_then(|g| g.preview_service.clone()),
            "stable" => canary.and_then(|c| c.stable_service.clone()),
            _ => canary.and_then(|c| c.canary_service.clone()),
        };
        let service = if pods {
            String::new()
        } else {
            given.unwrap_or_else(|| format!("app-{role}"))
        };
        if named != service {
            faults.push(format!("{}: its Service is called {named:?}", track.name));
        }
    }
    for drained in &status.draining {
        if observed
            .revision(&drained.hash)
            .is_none_or(|r| r.desired() == 0)
        {
            faults.push(format!("{} has no pods to drain", drained.hash));
        }
    }
    let total: i32 = status
        .tracks
        .iter()
        .filter_map(|t| t.weight.as_ref())
        .map(|w| w.desired)
        .sum();
    // Pods make up no share where none is available.
    let known = !pods || status.tracks.iter().any(|t| t.replicas.available > 0);
    if status.tracks.len() == 2 && known && total != 100 {
        faults.push(format!("{total} % are wanted of all tracks"));
    }
    let weight = status.weight.as_deref();
    let of_two = status.tracks.get(1).filter(|_| status.tracks.len() == 2);
    match of_two.and_then(|t| Some((t, t.weight.as_ref()?))) {
        Some((canary, told)) if pods => {
            let c = canary.replicas.available;
            let all = c + status.tracks[0].replicas.available;
            let seen = Some(c * 100 / all.max(1));
            if told.measured != seen || weight.map(str::to_owned) != seen.map(|s| s.to_string()) {
                faults.push(format!(
                    "measured: told {told:?} and {weight:?}, seen {seen:?}"
                ));
            }
        }
        Some((_, told)) if routed => {
            // Where it has been accepted it is what stands there; a trace is told as nothing.
            let whole = route(observed)
                .filter(|(s, c)| s + c == 100)
                .map(|(_, c)| c);
            let differs = |a: i32| whole.is_some_and(|c| i64::from(a) != c);
            if told.accepted.is_some_and(differs) || told.measured.is_some() {
                faults.push(format!("accepted: told {told:?}, the route says {whole:?}"));
            }
            let text = told.accepted.map_or("?".to_owned(), |a| a.to_string());
            if weight != Some(text.as_str()) {
                faults.push(format!("weight {weight:?} where the track says {text}"));
            }
        }
        Some(_) => {}
        None if status.tracks.len() == 1
            && status.stable_revision.is_some()
            && weight != Some("0") =>
        {
            faults.push(format!("weight {weight:?} without anybody beside stable"));
        }
        None => {}
    }
    let step = attempt.filter(|a| !a.steps.is_empty()).map(|a| {
        let index = usize::try_from(a.step_index)
            .expect("an index")
            .min(a.steps.len());
        format!("{index}/{}", a.steps.len())
    });
    if status.step != step {
        faults.push(format!("step {:?}, the attempt says {step:?}", status.step));
    }
    faults
}

/// What is wrong with times: what stays keeps its time, what changes gets a new one.
fn times(before: &RolloutStatus, after: &RolloutStatus, now: Timestamp) -> Vec<String> {
    let mut faults = vec![];
    for new in &after.conditions {
        let same = |c: &&Condition| c.type_ == new.type_ && c.status == new.status;
        let old = before.conditions.iter().find(same);
        let since = old.map_or(now, |c| c.last_transition_time.0);
        // Several moves are one commit: it may have changed to and fro in between.
        if new.last_transition_time.0 != since && new.last_transition_time.0 != now {
            faults.push(format!(
                "{} since {:?}",
                new.type_, new.last_transition_time
            ));
        }
        if new.observed_generation != after.observed_generation {
            faults.push(format!("{} is of another generation", new.type_));
        }
    }
    if let (Some(old), Some(new)) = (&before.waiting, &after.waiting)
        && old.for_ == new.for_
        && before.attempt.as_ref().map(|a| &a.stage) == after.attempt.as_ref().map(|a| &a.stage)
        // What is told in between moves the status on, and it is awaited anew.
        && before.history.last() == after.history.last()
        && new.since != old.since
    {
        faults.push(format!("{:?} is awaited since {:?}", new.for_, new.since));
    }
    faults
}

/// Whether it looks again in time.
fn requeue(decided: &Plan, now: Timestamp) -> Vec<String> {
    let mut faults = vec![];
    let status = &decided.status;
    let stage = status.attempt.as_ref().map(|a| a.stage.as_str());
    let flight = stage.is_some_and(|s| s != "Done");
    let longest = match decided.requeue {
        Requeue::Now => return faults,
        Requeue::At(at) => at.duration_since(now).as_secs(),
        Requeue::OnChange(most) => i64::try_from(most.as_secs()).expect("minutes"),
    };
    if longest > if flight { 30 } else { 300 } {
        faults.push(format!("it looks again in {longest} s at {stage:?}"));
    }
    let due = status.waiting.as_ref().and_then(|w| w.until.as_ref());
    if due.is_some_and(|t| t.0 > now && t.0.duration_since(now).as_secs() < longest) {
        faults.push(format!("it looks again in {longest} s, due is {due:?}"));
    }
    faults
}

#[test]
fn a_status_tells_what_was_seen() {
    let mut wrong = vec![];
    let mut looks = 0;
    for (name, scenario) in scenarios() {
        for sight in play(&scenario).0 {
            // Of a spec that is wrong nothing is made: that is said, and only its change ends it.
            if sight.rollout.metadata.deletion_timestamp.is_some()
                || Spec::resolve(&sight.rollout).is_err()
            {
                continue;
            }
            let before = sight.rollout.status.clone().unwrap_or_default();
            let decided = plan(&sight.observed, sight.at);
            let after = &decided.status;
            looks += 1;
            let mut faults = requeue(&decided, sight.at);
            faults.extend(times(&before, after, sight.at));
            if after.observed_generation != sight.rollout.metadata.generation {
                faults.push("it tells of another generation".into());
            }
            faults.extend(counts(&sight.observed, after));
            // What moves on tells its tracks with the next look, which comes at once.
            if decided.requeue != Requeue::Now || !decided.actions.is_empty() {
                faults.extend(tracks(&sight.observed, after));
            }
            wrong.extend(
                faults
                    .into_iter()
                    .map(|f| format!("{name} {}: {f}", sight.at)),
            );
        }
    }
    assert!(looks > 1000, "{looks} looks");
    wrong.truncate(20);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Events of these are warnings; a pause is one where an analysis cannot say.
const WARNINGS: [&str; 11] = [
    "AbortHeld",
    "Aborted",
    "CommandRefused",
    "DeploymentResumed",
    "InvalidSpec",
    "LeftPaused",
    "ProgressDeadlineExceeded",
    "RolledBack",
    "RouteConflict",
    "RouteRepaired",
    "StatusRebuilt",
];

#[test]
fn bad_news_are_warnings_and_nothing_else_is() {
    for (name, scenario) in scenarios() {
        for entry in play(&scenario).1.timeline.history {
            let doubts = entry.reason == "Paused" && entry.message.starts_with("analysis ");
            let bad = doubts || WARNINGS.contains(&entry.reason.as_str());
            let wanted = if bad { "Warning" } else { "Normal" };
            assert_eq!(
                entry.type_, wanted,
                "{name}: {} {}",
                entry.reason, entry.message
            );
        }
    }
}

/// One after the other gives way before a record tells of the first: none of them is forgotten, and what was
/// good stays so.
#[test]
fn what_gave_way_twice_is_recorded_beside_the_third() {
    let third = |s: &Sight| {
        let attempt = s.rollout.status.clone().and_then(|s| s.attempt);
        attempt.is_some_and(|a| a.number == 5)
    };
    let (mut observed, at) = moment("verdict-of-what-gave-way-in-a-crash", third);
    let hash = |number: usize| observed.revisions[number - 1].hash.clone();
    let (good, first, second) = (hash(1), hash(3), hash(4));
    let superseded = vec![Superseded {
        hash: first.clone(),
        next: second.clone(),
        by: "the template".into(),
    }];
    observed.revisions[2].verdict.clear();
    edit(&mut observed)
        .attempt
        .as_mut()
        .expect("one")
        .superseded = superseded;
    observed.current = Current::Recorded(good.clone());
    let decided = plan(&observed, at);
    let attempt = decided.status.attempt.clone().expect("one");
    assert_eq!((attempt.number, &attempt.hash), (6, &good));
    let owed = |a: &Attempt| -> Vec<(String, String)> {
        let all = a.superseded.iter();
        all.map(|s| (s.hash.clone(), s.next.clone())).collect()
    };
    assert_eq!(
        owed(&attempt),
        [(first.clone(), second.clone()), (second.clone(), good)]
    );
    let verdict = "/metadata/annotations/serin.dev~1verdict";
    let recorded: Vec<String> = patches(&decided)
        .into_iter()
        .filter(|(_, paths)| paths.iter().any(|p| p == verdict))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(recorded, [format!("app-{first}"), format!("app-{second}")]);
    // The status still owes it, and the records tell it: nothing is written.
    observed.rollout.status = Some(decided.status);
    for (at, next) in [(2, attempt.superseded[0].next.clone()), (3, attempt.hash)] {
        observed.revisions[at].verdict = format!("Superseded: {next}");
        observed.revisions[at].verdict_by = Some("the template".into());
    }
    let again = patches(&plan(&observed, at));
    assert!(
        again.iter().all(|(_, p)| p.iter().all(|p| p != verdict)),
        "{again:?}"
    );
}

/// It may be so for long: it stands where people look, and who serves well does so all the same.
#[test]
fn what_is_refused_stands_in_the_status() {
    let why = "ReplicaSet web-1 exists and is not of this Rollout: delete it";
    let waits = |sight: &Sight| {
        let status = sight.observed.rollout.status.as_ref();
        status.is_some_and(|s| s.waiting.is_some())
    };
    for (observed, at) in [moment("promote", waits), last("promote")] {
        let plain = plan(&observed, at).status;
        let refused = Observed {
            refused: Some(why.to_owned()),
            ..observed
        };
        let told = plan(&refused, at).status;
        assert_eq!(told.phase, plain.phase);
        assert_eq!(told.waiting.is_some(), plain.waiting.is_some());
        let ready = told.conditions.iter().find(|c| c.type_ == "Ready");
        let ready = ready.map(|c| c.message.clone());
        for text in [told.message, ready] {
            let text = text.unwrap_or_default();
            assert!(text.contains(why), "{text}");
        }
    }
}
