//! The world turns hostile while a canary and a blue-green rollout are under load: between Serin and
//! the API server, in etcd, in the metrics, in Serin's own processes. A fault is on for some seconds in
//! the midst of both rollouts, one of which is aborted meanwhile. Not the outcome is asserted but what
//! may never be, over everything that happened: see `checker`. Each fault gives a row of a table.

mod arena;
mod checker;
mod copies;
mod history;
mod table;

use std::{sync::Arc, time::Duration};

use futures::future::try_join_all;
use serin_lab::{Fault, Lab, Piece, Requests, Rule, Sick};

use crate::world::{Result, ensure};
use arena::{Arena, Trouble};
use copies::Manner;

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Runs each list of faults in an arena of its own, all of them at once.
async fn all(lab: Arc<Lab>, lists: Vec<(&'static str, Vec<(&'static str, Trouble)>)>) -> Result {
    let playing = lists
        .into_iter()
        .map(|(name, list)| one(lab.clone(), name, list));
    let wrong = try_join_all(playing).await?.concat();
    ensure(wrong.is_empty(), wrong.join("\n"))
}

async fn one(
    lab: Arc<Lab>,
    name: &'static str,
    list: Vec<(&'static str, Trouble)>,
) -> Result<Vec<String>> {
    let mut arena = Arena::new(lab, name).await?;
    let mut wrong = vec![];
    for (fault, trouble) in list {
        let row = arena.round(fault, &trouble).await?;
        println!("{row}");
        wrong.extend(row.wrong.iter().map(|w| format!("{fault}: {w}")));
    }
    wrong.extend(arena.last_look());
    Ok(wrong)
}

/// What a network or a server under stress does to single requests.
pub async fn hostile_requests(lab: Arc<Lab>) -> Result {
    let (writes, any) = (Requests::Writes, Requests::All);
    let one = |name, fault, requests, permille| {
        (
            name,
            Trouble::Weather(vec![Rule::new(fault, requests, permille)]),
        )
    };
    let broken = vec![
        one("request lost", Fault::Lost, any, 300),
        one("write done, answer lost", Fault::Unknown, writes, 400),
        one(
            "write done up to 8 s late",
            Fault::Late(secs(8)),
            writes,
            300,
        ),
        one("write sent twice", Fault::Twice, writes, 500),
        one("write: 500, but done", Fault::FailedButDone, writes, 400),
        one("body torn", Fault::Torn, any, 300),
    ];
    let refused = vec![
        one("write: 409", Fault::Refused(409), writes, 500),
        one("429 with Retry-After", Fault::Refused(429), any, 500),
        one("500, not done", Fault::Refused(500), any, 300),
        one("never answered", Fault::Hangs, any, 400),
        one("delayed up to 3 s", Fault::Delay(secs(3)), any, 700),
        one("slow body", Fault::Slow, any, 500),
    ];
    all(lab, vec![("broken", broken), ("refused", refused)]).await
}

/// What becomes of watches, of whole connections, and of the lease.
pub async fn hostile_watches(lab: Arc<Lab>) -> Result {
    let watches = |name, fault, permille| {
        (
            name,
            Trouble::Weather(vec![Rule::new(fault, Requests::Watches, permille)]),
        )
    };
    let lease = |name, fault| {
        let rule = Rule {
            resources: &["leases"],
            ..Rule::new(fault, Requests::All, 1000)
        };
        (name, Trouble::Weather(vec![rule]))
    };
    let streams = vec![
        watches("watch: 410", Fault::Gone, 200),
        watches("watch reset", Fault::Reset, 200),
        watches(
            "watches late, each kind by its own lag up to 8 s",
            Fault::Lag(secs(8)),
            1000,
        ),
    ];
    let networks = vec![
        ("cut off for 10 s", Trouble::CutOff(secs(10))),
        (
            "cut off for 25 s, longer than the lease",
            Trouble::CutOff(secs(25)),
        ),
        lease("lease: 500", Fault::Refused(500)),
        lease("lease never answered", Fault::Hangs),
    ];
    let hung = vec![watches("watch hung for good", Fault::Silent, 100)];
    all(
        lab,
        vec![("streams", streams), ("networks", networks), ("hung", hung)],
    )
    .await
}

/// A little of everything that may happen between Serin and the API server.
pub async fn hostile_mix(lab: Arc<Lab>) -> Result {
    let bad = |fault, requests, permille| Rule::new(fault, requests, permille);
    let everything = vec![
        bad(Fault::Lost, Requests::All, 60),
        bad(Fault::Unknown, Requests::Writes, 80),
        bad(Fault::Late(secs(5)), Requests::Writes, 80),
        bad(Fault::FailedButDone, Requests::Writes, 80),
        bad(Fault::Refused(409), Requests::Writes, 80),
        bad(Fault::Refused(429), Requests::All, 80),
        bad(Fault::Delay(secs(2)), Requests::All, 200),
        bad(Fault::Gone, Requests::Watches, 30),
        bad(Fault::Reset, Requests::Watches, 30),
        bad(Fault::Lag(secs(4)), Requests::Watches, 1000),
    ];
    let list = vec![("much of it at once", Trouble::Weather(everything))];
    all(lab, vec![("mix", list)]).await
}

/// What a metrics server says when it is sick.
pub async fn hostile_metrics(lab: Arc<Lab>) -> Result {
    let odd = vec![
        ("metrics: NaN", Trouble::Sick(Sick::NotANumber)),
        ("metrics: no series", Trouble::Sick(Sick::Empty)),
        ("metrics: HTML with 200", Trouble::Sick(Sick::Html)),
        ("metrics: 500", Trouble::Sick(Sick::Fails)),
    ];
    let slow = vec![
        ("metrics: a byte a second", Trouble::Sick(Sick::Trickles)),
        ("metrics never answered", Trouble::Sick(Sick::Hangs)),
        ("metrics: 64 MiB", Trouble::Sick(Sick::Huge)),
    ];
    all(lab, vec![("odd", odd), ("sluggish", slow)]).await
}

/// Parts of the cluster stop or die, and Serin itself.
pub async fn hostile_parts(lab: Arc<Lab>) -> Result {
    let parts = vec![
        ("etcd stopped", Trouble::Frozen(Piece::Etcd)),
        ("etcd killed", Trouble::Crashed(Piece::Etcd)),
        ("API server stopped", Trouble::Frozen(Piece::ApiServer)),
        ("API server killed", Trouble::Crashed(Piece::ApiServer)),
        ("Envoy Gateway stopped", Trouble::Frozen(Piece::Gateway)),
        ("Prometheus killed", Trouble::NoPrometheus),
    ];
    all(lab, vec![("parts", parts)]).await
}

/// Serin itself dies, stops, or runs in a poor place.
pub async fn hostile_copies(lab: Arc<Lab>) -> Result {
    let killed = vec![
        ("Serin killed three times", Trouble::Killed),
        (
            "Serin's log cannot be written",
            Trouble::Poor(Manner::FullDisk),
        ),
    ];
    let two = vec![
        (
            "Serin in little memory",
            Trouble::Poor(Manner::Narrow(NARROW)),
        ),
        // Last, for two copies are left.
        (
            "leader stopped beyond its lease, then two",
            Trouble::TwoLeaders,
        ),
    ];
    all(lab, vec![("killed", killed), ("two", two)]).await
}

/// KiB of address space that Serin may take beyond what it took so far.
const NARROW: u32 = 512;
