//! Command `undo`: back to a revision that was good, or forward again to the template's.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    api::{
        names::reason,
        status::{RolloutStatus, Undo},
    },
    model::{
        command::{Command, Verb, annotate_with},
        observed::Observed,
        progress::{Stage, note},
        revisions::Revision,
    },
};

use super::{
    super::{
        Context,
        attempt::begin,
        back::{held, previous},
    },
    answer::{Answer, did},
};

/// Whether that only ends the undo that holds: the template's own revision needs no record.
fn forward(observed: &Observed, status: &RolloutStatus, hash: &str) -> bool {
    held(observed, status).is_some_and(|undo| undo.over == hash)
}

/// Why a revision is no way back, and how it is tried all the same.
fn no_way(status: &RolloutStatus, revision: &Revision) -> Answer {
    let hash = &revision.hash;
    let asked = status.current_revision.as_ref() == Some(hash);
    if asked && status.attempt.as_ref().is_some_and(|a| a.outcome.is_none()) {
        return Answer(
            "Refused",
            format!("revision {hash} is what is tried already"),
        );
    }
    let what = match revision.given_up() {
        None => "was not promoted".to_owned(),
        Some(_) => format!("has a verdict against it ({})", revision.verdict),
    };
    let way = match asked {
        true => format!(
            "annotate {}",
            annotate_with(Verb::Retry, hash, &status.commands)
        ),
        false => "put its template into the spec".to_owned(),
    };
    let why = format!("revision {hash} {what}, so it is no way back: to try it, {way}");
    Answer("Refused", why)
}

/// Which revision a command means.
fn meant(observed: &Observed, status: &RolloutStatus, command: &Command) -> Result<String, Answer> {
    let target = command.target.as_ref().ok();
    let Some(prefix) = target.and_then(|t| t.hash.as_ref()) else {
        return previous(observed, status).ok_or_else(|| {
            let why = "no older revision that was promoted is recorded: name the one that is meant";
            Answer("Refused", why.to_owned())
        });
    };
    let all = observed.revisions.iter();
    let all: Vec<&Revision> = all.filter(|r| r.hash.starts_with(prefix)).collect();
    match all.as_slice() {
        [] => Err(Answer(
            "Refused",
            format!("no revision {prefix} is recorded"),
        )),
        [one] if !one.good() && !forward(observed, status, &one.hash) => Err(no_way(status, one)),
        [one] => Ok(one.hash.clone()),
        more => {
            let many = more.len();
            let why = format!("{many} revisions begin with {prefix}: give more of the hash");
            Err(Answer("Refused", why))
        }
    }
}

/// Goes back to an earlier revision, or forward again to the template's.
pub fn undo(
    cx: &Context<'_>,
    status: &mut RolloutStatus,
    command: &Command,
    stage: Option<Stage>,
) -> Answer {
    let Some(over) = cx.observed.current.hash().cloned() else {
        let why = "the API server refuses the template: put that right first";
        return Answer("Refused", why.to_owned());
    };
    let Some(stable) = status.stable_revision.clone().filter(|_| !cx.deleting()) else {
        return Answer("Refused", "there is nothing to go back from".to_owned());
    };
    let to = match meant(cx.observed, status, command) {
        Ok(to) => to,
        Err(answer) => return answer,
    };
    let tried = status.attempt.as_ref().is_some_and(|a| a.hash == to);
    if tried && stage == Some(Stage::RollingBack) {
        let why = format!("revision {to} is being given up: ask again when that is over");
        return Answer("Refused", why);
    }
    let back = to != over;
    let now = held(cx.observed, status).map_or(&over, |u| &u.revision);
    if *now == to && stable == to {
        return Answer("Done", format!("revision {to} is what is deployed"));
    }
    status.undo = back.then(|| Undo {
        revision: to.clone(),
        over: over.clone(),
        since: Time(cx.now),
        by: command.by.clone(),
    });
    let what = did(command, "went back");
    let until = if back {
        format!("; the template, revision {over}, is not deployed until it is another one")
    } else {
        String::new()
    };
    let message = format!("{what} to revision {to}{until}");
    note(status, cx.now, "Normal", reason::UNDONE, &message);
    // What was given up is not tried again by itself; that it is asked for is enough.
    if stage == Some(Stage::Done) && tried && stable != to {
        status.current_revision = Some(to.clone());
        begin(cx, status, &to, Stage::Starting);
    }
    Answer("Done", format!("revision {to} is asked for{until}"))
}
