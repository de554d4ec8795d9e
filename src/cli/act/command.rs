//! `serin promote`, `abort`, `undo`, `restart`, `retry`, `pause`, `resume`: one annotation, whose token names what is
//! meant, and the controller's answer.

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::{
    api::{Rollout, names::POD_TEMPLATE_HASH, status::HandledCommand},
    cli::{
        CliError,
        connect::{Access, Door, OperateError},
        output::{self, Tone, paint},
        show::{parts, standing::NOT_FINISHED, words},
        watch::{limit, until},
    },
    model::{command::Verb, object::CONTROLLER_REVISION},
};

use super::MANAGER;

/// Flags of every command.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Name of the Rollout
    #[arg(value_name = "NAME", value_parser = crate::cli::rollout_name)]
    pub name: String,
    /// Wait for the controller's answer
    #[arg(long, default_value_t = true, num_args = 0..=1, default_missing_value = "true",
        require_equals = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub wait: bool,
    /// The longest to wait for the answer
    #[arg(long, value_parser = limit, value_name = "DURATION", default_value = "30s")]
    pub timeout: Duration,
    #[command(flatten)]
    pub(crate) access: Access,
}

/// The token: the revision that is in flight, for a promote its step, for a restart what is stable, and what
/// makes it another token than any before. So it cannot hit what comes later.
pub fn token(verb: Verb, rollout: &Rollout, now: Timestamp) -> Result<String, OperateError> {
    let status = words::status(rollout);
    let Some(attempt) = &status.attempt else {
        return Err(OperateError::Refused(format!(
            "rollout {:?} has no attempt that could be meant: no controller has looked at it yet",
            words::name(rollout)
        )));
    };
    let step = if verb == Verb::Promote {
        format!("@{}", attempt.step_index)
    } else {
        String::new()
    };
    let stable = status.stable_revision.as_ref();
    let hash = stable.filter(|_| verb == Verb::Restart);
    Ok(format!("{}{step}/{now:.6}", hash.unwrap_or(&attempt.hash)))
}

/// The patch: one annotation, of this very Rollout.
pub fn patch(verb: Verb, rollout: &Rollout, token: &str) -> Value {
    json!({"metadata": {
        "uid": rollout.metadata.uid,
        "annotations": {verb.annotation(): token},
    }})
}

/// Asks, and waits for the answer.
pub async fn run(verb: Verb, options: &Options) -> Result<(), CliError> {
    let door = Door::open(&options.access).await?;
    let rollout = door.rollout(&options.name).await?;
    let token = token(verb, &rollout, door.now())?;
    give(&door, verb, options, &rollout, token).await
}

/// Asks for a way back: to the revision of that number, or else to the one that was good before.
pub async fn undo(options: &Options, to_revision: Option<i64>) -> Result<(), CliError> {
    let door = Door::open(&options.access).await?;
    let rollout = door.rollout(&options.name).await?;
    let hash = match to_revision {
        Some(number) => numbered(&door, &rollout, number).await?,
        // What was seen is what is meant; without it, the controller says what is amiss.
        None => {
            let seen = words::status(&rollout).previous_revision;
            seen.unwrap_or_else(|| "*".to_owned())
        }
    };
    let token = format!("{hash}/{:.6}", door.now());
    give(&door, Verb::Undo, options, &rollout, token).await
}

/// The hash of the revision with that number.
async fn numbered(door: &Door, rollout: &Rollout, number: i64) -> Result<String, OperateError> {
    let params = ListParams::default().labels(&parts::ours(rollout));
    let api = parts::api(door, CONTROLLER_REVISION);
    let list = api.list(&params);
    let list = door.answer("list controllerrevisions", list).await?;
    let of = |object: &DynamicObject| object.data.get("revision").and_then(Value::as_i64);
    let found = list.items.iter().find(|o| of(o) == Some(number));
    let hash = found.and_then(|o| o.metadata.labels.as_ref()?.get(POD_TEMPLATE_HASH));
    hash.cloned().ok_or_else(|| {
        let mut there: Vec<i64> = list.items.iter().filter_map(of).collect();
        there.sort_unstable();
        let there: Vec<String> = there.iter().map(ToString::to_string).collect();
        OperateError::Refused(format!(
            "rollout {:?} has no revision {number}; it has: {}",
            words::name(rollout),
            there.join(", ")
        ))
    })
}

/// Writes the annotation, and waits for the answer.
async fn give(
    door: &Door,
    verb: Verb,
    options: &Options,
    rollout: &Rollout,
    token: String,
) -> Result<(), CliError> {
    let params = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let patch = Patch::Merge(patch(verb, rollout, &token));
    let api = door.rollouts();
    let patched = api.patch(&options.name, &params, &patch);
    door.answer("patch rollouts", patched).await?;
    let word = verb.as_str();
    if !options.wait {
        return Ok(output::print(&format!(
            "{word}: asked with the token {token}\n"
        ))?);
    }
    let found = until(door, &options.name, Some(options.timeout), |rollout| {
        let status = words::status(rollout);
        let mut handled = status.commands.into_iter();
        handled.find(|h| h.name == word && h.token == token)
    })
    .await?;
    match found {
        Some(handled) => answer(word, &handled),
        None => {
            let limit = crate::api::units::short(options.timeout);
            let text = format!(
                "{word}: no answer by the controller within {limit}; the annotation {} stands, and is \
                 carried out when a controller looks at it",
                verb.annotation()
            );
            let error = CliError::Operate(OperateError::Refused(text));
            Err(CliError::Coded(NOT_FINISHED, Box::new(error)))
        }
    }
}

fn answer(word: &str, handled: &HandledCommand) -> Result<(), CliError> {
    let message = output::plain(handled.message.as_deref().unwrap_or_default());
    if handled.outcome == "Done" {
        let done = paint(Tone::Good, "done");
        return Ok(output::print(&format!("{word} {done}: {message}\n"))?);
    }
    let outcome = handled.outcome.to_lowercase();
    Err(OperateError::Refused(format!("{word} {outcome}: {message}")).into())
}

#[cfg(test)]
mod tests {
    use crate::model::command::parse;

    use super::*;

    #[test]
    fn a_promote_names_the_step_and_everything_the_revision() {
        let rollout: Rollout = serde_json::from_value(json!({
            "metadata": {"name": "web", "uid": "u"},
            "spec": {"selector": {}, "template": {}, "strategy": {}},
            "status": {"stableRevision": "old", "attempt": {"number": 2, "hash": "abc", "stage": "Stepping", "stepIndex": 3,
                "startedAt": "2026-01-01T00:00:00Z", "progressAt": "2026-01-01T00:00:00.000000Z"}},
        }))
        .expect("a Rollout");
        let now = "2026-01-01T00:00:01.5Z".parse().expect("a time");
        for (verb, hash, step) in [
            (Verb::Promote, "abc", Some("3")),
            (Verb::Abort, "abc", None),
            (Verb::PromoteFull, "abc", None),
            (Verb::Restart, "old", None),
        ] {
            let token = token(verb, &rollout, now).expect("a token");
            let target = parse(&token).expect("it is well formed");
            assert_eq!(target.hash.as_deref(), Some(hash));
            assert_eq!(target.step.as_deref(), step);
        }
    }
}
