//! `serin status`: waits until a Rollout is finished, and says in its exit code how.

use std::{process::ExitCode, time::Duration};

use clap::Args;
use serde::Serialize;

use crate::{
    api::Rollout,
    cli::{
        CliError,
        connect::{Access, Door, OperateError},
        output::{self, Format, Tone, paint},
        watch::{limit, until},
    },
};

use super::{
    standing::{NOT_FINISHED, Standing, message},
    why::next,
    words,
};

/// What the exit codes mean, for `--help`.
pub const CODES: &str = "Exit codes:
  0  healthy: the revision that the template describes is stable and ready
  1  error: no such Rollout, no access, no cluster, a wrong flag
  2  rolled back, or aborted by somebody
  3  stalled: it cannot go on without help (invalid spec, deadline passed, ...)
  4  not finished when the time was up, or at all with --watch=false

A pause that waits for a person is waited through.";

/// Flags of `serin status`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Name of the Rollout
    #[arg(value_name = "NAME", value_parser = crate::cli::rollout_name)]
    pub name: String,
    /// The longest to wait, such as 10m. Default: as long as it takes
    #[arg(long, value_parser = limit, value_name = "DURATION")]
    pub timeout: Option<Duration>,
    /// Wait until it is finished. With `=false` it is told how it stands now
    #[arg(short, long, default_value_t = true, num_args = 0..=1, default_missing_value = "true",
        require_equals = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub watch: bool,
    /// How it stands at the end, for machines
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub output: Option<Format>,
    #[command(flatten)]
    pub(crate) access: Access,
}

/// How it stands, for machines.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    name: String,
    namespace: String,
    standing: &'static str,
    finished: bool,
    exit_code: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<String>,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_revision: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stable_revision: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<String>,
}

/// Waits, and tells.
pub async fn run(options: &Options) -> Result<ExitCode, CliError> {
    let door = Door::open(&options.access).await?;
    let mut seen = door.rollout(&options.name).await?;
    if options.watch && !Standing::of(&seen).is_final() {
        let mut last = line(&seen);
        let mut broken = None;
        if options.output.is_none() {
            output::print(&last)?;
        }
        let found = until(&door, &options.name, options.timeout, |rollout| {
            let standing = Standing::of(rollout);
            seen = rollout.clone();
            if standing.is_final() {
                return Some(());
            }
            let text = line(rollout);
            if options.output.is_none() && text != last {
                broken = output::print(&text).err();
                last = text;
            }
            // Nobody reads what is printed: there is no use in going on.
            broken.is_some().then_some(())
        })
        .await?;
        if let Some(error) = broken {
            return Err(error.into());
        }
        if found.is_none() {
            return out_of_time(options, &seen);
        }
    }
    let code = Standing::of(&seen).code();
    output::print(&match options.output {
        Some(format) => output::encode(format, &told(&seen))?,
        None => line(&seen),
    })?;
    Ok(ExitCode::from(code))
}

fn out_of_time(options: &Options, seen: &Rollout) -> Result<ExitCode, CliError> {
    if let Some(format) = options.output {
        output::print(&output::encode(format, &told(seen))?)?;
    }
    let limit = crate::api::units::short(options.timeout.unwrap_or_default());
    let why = OperateError::Refused(format!(
        "rollout {:?} is not finished after {limit}: {}",
        options.name,
        message(seen)
    ));
    Err(CliError::Coded(NOT_FINISHED, Box::new(why.into())))
}

/// A line for people: how it stands, and where a person is asked, what to say.
fn line(rollout: &Rollout) -> String {
    let rollout = &output::tame(rollout);
    let standing = Standing::of(rollout);
    let status = words::status(rollout);
    let tone = match standing {
        Standing::Healthy => Tone::Good,
        Standing::RolledBack | Standing::Aborted | Standing::Stalled => Tone::Bad,
        Standing::Paused => Tone::Asks,
        _ => Tone::Busy,
    };
    let place = match (&status.step, &status.weight, standing) {
        (Some(step), Some(weight), Standing::Busy | Standing::Paused) => {
            format!(" (step {step}, weight {weight}%)")
        }
        _ => String::new(),
    };
    let mut out = format!(
        "{}{place}: {}\n",
        paint(tone, standing.as_str()),
        message(rollout)
    );
    if standing == Standing::Paused {
        out.push_str("  a person is asked; the ways on:\n");
        for way in next(rollout, standing, words::program()) {
            out.push_str(&format!("    {way}\n"));
        }
    }
    out
}

fn told(rollout: &Rollout) -> Told {
    let standing = Standing::of(rollout);
    let status = words::status(rollout);
    Told {
        name: words::name(rollout).to_owned(),
        namespace: words::namespace(rollout).to_owned(),
        standing: standing.as_str(),
        finished: standing.is_final(),
        exit_code: standing.code(),
        phase: status.phase,
        message: message(rollout),
        current_revision: status.current_revision,
        stable_revision: status.stable_revision,
        step: status.step,
        weight: status.weight,
    }
}
