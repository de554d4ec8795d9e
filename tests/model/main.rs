//! The small world, searched to the end around the real `plan`: every state, every law at every
//! write, and from every state a way home. `make model` searches further than `make test`.

#![allow(clippy::panic, clippy::print_stdout, reason = "it tells what it found")]

mod flight;
mod landing;
mod laws;
mod moves;
mod plain;
mod saboteurs;
mod search;
mod world;

use serde_json::{Value, json};

use crate::{
    moves::{Mind, Move, make, sound},
    search::{Report, line, search},
    world::{Case, State, VERSIONS},
};

/// Every strategy that there is, each with every way to shift traffic: one line for each.
fn cases() -> Vec<Case> {
    vec![
        Case::new("canary by route", &canary(Some(1))),
        Case::new("canary by route, scaled", &scaled()),
        Case::new("canary by pods", &canary(None)),
        Case::new("blue-green by Service", &blue_green(false)),
        Case::new("blue-green by route", &blue_green(true)),
        Case::new("rolling", &rolling()),
    ]
}

fn routing() -> Value {
    json!({"gatewayAPI": {"httpRoutes": [{"name": "app"}]}, "propagationDelay": "60s"})
}

fn canary(routed: Option<u8>) -> Value {
    let steps = json!([{"setWeight": 50}, {"analysis": {"templates": [{"templateName": "check"}]}}, {"pause": {"duration": "60s"}}]);
    let mut canary = json!({"steps": steps});
    if routed.is_some() {
        canary["service"] = json!("app");
        canary["trafficRouting"] = routing();
        canary["scaleDownDelay"] = json!("60s");
        canary["abortScaleDownDelay"] = json!("60s");
    }
    json!({"canary": canary})
}

/// More pods than the traffic needs, then as many again.
fn scaled() -> Value {
    let mut strategy = canary(Some(1));
    strategy["canary"]["dynamicStableScale"] = json!(true);
    strategy["canary"]["steps"] = json!([
        {"setCanaryScale": {"weight": 100}}, {"setWeight": 50}, {"setCanaryScale": {"matchTrafficWeight": true}},
        {"pause": {}, "timeout": "60s"}
    ]);
    strategy
}

fn blue_green(routed: bool) -> Value {
    let mut spec = json!({
        "service": "app", "scaleDownDelay": "60s", "abortScaleDownDelay": "60s",
        "prePromotionAnalysis": {"templates": [{"templateName": "check"}]},
    });
    if routed {
        spec["trafficRouting"] = routing();
    }
    json!({"blueGreen": spec})
}

fn rolling() -> Value {
    json!({"rolling": {"postPromotionAnalysis": {"templates": [{"templateName": "check"}]}}})
}

/// The world after the first deploy, at rest: every move that leads home is made until none is left.
fn deployed(case: &Case, mind: Mind<'_>) -> State {
    let mut state = case.empty();
    for _ in 0..200 {
        let mut home = vec![Move::Look, Move::Act, Move::Accept, Move::Tick];
        home.extend((0..VERSIONS).map(Move::Follow));
        home.extend((0..VERSIONS).map(Move::Ready));
        let next = home.into_iter().find_map(|m| make(case, &state, m, mind));
        match next {
            Some(next) => state = next.state,
            None => return state,
        }
    }
    panic!(
        "{}: the first deploy does not come to rest: {}",
        case.name,
        line(case, &state)
    );
}

/// The beginnings of a search: after the first deploy, and before it, each with so many acts of users
/// and so many faults to come; a `near` search has one act less before the first deploy.
fn starts(case: &Case, mind: Mind<'_>, (hands, faults): (u8, u8), near: bool) -> Vec<State> {
    let with = |mut state: State, hands: u8| {
        (state.hands, state.faults) = (hands, faults);
        state
    };
    let early = hands.saturating_sub(u8::from(near));
    vec![with(deployed(case, mind), hands), with(case.empty(), early)]
}

/// So many acts of users and so many faults, in every order and at every moment: what `make test`
/// searches, in a minute, and what `make model` does.
const NEAR: &[(u8, u8)] = &[(2, 0), (1, 1)];
const FAR: &[(u8, u8)] = &[(2, 0), (1, 1), (2, 1)];

fn setting(name: &str) -> Option<String> {
    std::env::var_os(name)?.into_string().ok()
}

fn row(case: &Case, (hands, faults): (u8, u8), report: &Report) -> String {
    let rests = report.rests.iter();
    let rests: Vec<String> = rests
        .map(|(name, n)| format!("{} {n}", name.trim()))
        .collect();
    format!(
        "| {} | {hands} | {faults} | {} | {} | {} | {} | {} | {} |",
        case.name,
        report.states,
        report.transitions,
        report.depth,
        report.home,
        report.broken.len(),
        rests.join(", "),
    )
}

/// Does the same for every case, two at a time, and gives what it finds in their order.
fn for_each_case<T: Send>(of: impl Fn(&Case) -> T + Sync) -> Vec<T> {
    let all: Vec<Case> = cases();
    let only = setting("CASE");
    let wanted = all
        .iter()
        .filter(|c| only.as_deref().is_none_or(|o| o == c.name));
    // The first, a large one, together with the smallest.
    let (first, second): (Vec<_>, Vec<_>) = wanted.enumerate().partition(|(i, _)| i % 3 < 2);
    let mut found = vec![];
    std::thread::scope(|scope| {
        let of = &of;
        let halves = [first, second].map(|half| {
            scope.spawn(move || {
                half.into_iter()
                    .map(|(i, c)| (i, of(c)))
                    .collect::<Vec<_>>()
            })
        });
        for half in halves {
            found.extend(half.join().expect("a search"));
        }
    });
    found.sort_by_key(|(i, _)| *i);
    found.into_iter().map(|(_, t)| t).collect()
}

#[test]
fn every_state_of_a_small_world() {
    let near = setting("MODEL").as_deref() != Some("far");
    let sizes = if near { NEAR } else { FAR };
    let found = for_each_case(|case| {
        let search = |budget: &(u8, u8)| {
            let starts = starts(case, &sound, *budget, near);
            let report = search(case, &sound, &starts, false);
            (row(case, *budget, &report), report.broken)
        };
        sizes.iter().map(search).collect::<Vec<_>>()
    });
    let (rows, broken): (Vec<String>, Vec<Vec<String>>) = found.into_iter().flatten().unzip();
    println!(
        "| strategy | acts of users | faults | states | transitions | deepest | longest way home | laws broken | where it came to rest |\n|---|---|---|---|---|---|---|---|---|\n{}",
        rows.join("\n")
    );
    let broken = broken.concat();
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

/// A search that finds nothing proves nothing unless it finds what was put there.
#[test]
fn every_saboteur_is_found_out() {
    let found = for_each_case(|case| {
        let first = |saboteur: &saboteurs::Saboteur| {
            let starts = [starts(case, &sound, saboteur.budget, true).remove(0)];
            let report = search(case, &saboteur.mind, &starts, true);
            let law = report.broken.first().and_then(|t| t.split(": ").nth(1));
            let law = law.map(str::to_owned);
            println!(
                "{:36} {:22} {:>7} states: {}",
                saboteur.name,
                case.name,
                report.states,
                law.as_deref().unwrap_or("not found")
            );
            law
        };
        saboteurs::ALL.iter().map(first).collect::<Vec<_>>()
    });
    for (index, saboteur) in saboteurs::ALL.iter().enumerate() {
        let laws: Vec<&str> = found.iter().filter_map(|f| f[index].as_deref()).collect();
        assert!(
            laws.iter().any(|l| saboteur.laws.contains(l)),
            "{}: found by {laws:?}, not by {:?}",
            saboteur.name,
            saboteur.laws
        );
    }
}
