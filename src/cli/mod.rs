//! How people speak to Serin: arguments, dispatch, exit codes.

pub mod act;
pub mod check;
pub mod connect;
pub mod crds;
pub mod lint;
mod nearest;
pub mod output;
pub mod place;
pub mod rbac;
pub mod run;
pub mod show;
pub mod simulate;
pub mod watch;

use std::{
    future::Future,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use serde_json::json;
use thiserror::Error;

use crate::{api::names::API_VERSION, model::command::Verb};

use connect::{Access, OperateError};
use output::Format;
use place::Place;
use show::words::program;

/// A progressive delivery controller for Kubernetes, and the commands of those who operate it.
#[derive(Debug, Parser)]
#[command(name = "serin", version, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    access: Access,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show a Rollout with its revisions, pods, analyses and weights
    Get(show::get::Options),
    /// Show what became of each revision, when, and by whom or what
    History(show::Options),
    /// Say what was decided last, on what evidence, what is awaited, and what to do
    Why(show::Options),
    /// List Rollouts
    List(show::list::Options),
    /// Wait until a Rollout is finished; the exit code says how it ended
    #[command(after_help = show::status::CODES)]
    Status(show::status::Options),
    /// End the step that waits, or skip all that are left
    Promote {
        /// Skip all steps that are left
        #[arg(long)]
        full: bool,
        #[command(flatten)]
        options: act::command::Options,
    },
    /// Give the revision in flight up: the traffic goes back to stable
    Abort(act::command::Options),
    /// Go back to a revision that was good; the template stays as it is, and is not deployed until it is another one
    Undo {
        /// Number of the revision, as `history` shows it; default: the one that was good before
        #[arg(long, value_name = "NUMBER")]
        to_revision: Option<i64>,
        #[command(flatten)]
        options: act::command::Options,
    },
    /// Replace all pods by fresh ones of the same template; those that serve stay until the fresh ones serve
    Restart(act::command::Options),
    /// Try the revision again that was given up
    Retry(act::command::Options),
    /// Stop where it is; the traffic stays as it is
    Pause(act::command::Options),
    /// End a pause; an analysis that could not say measures anew
    Resume(act::command::Options),
    /// Change a Rollout's template
    #[command(subcommand)]
    Set(Set),
    /// Run the controller
    Run(Box<run::Options>),
    /// Check an install: rights, kinds, a copy that leads
    Check(Place),
    /// Print the CustomResourceDefinitions as YAML
    Crds {
        /// Write one file for each kind into this directory instead
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Tell everything that is wrong with manifests, without a cluster
    Lint(lint::Options),
    /// Play a Rollout on a virtual cluster and print what would happen
    Simulate(simulate::Options),
    /// Print the version
    Version {
        /// For machines
        #[arg(short, long, value_enum, value_name = "FORMAT")]
        output: Option<Format>,
    },
    /// Print a script that completes commands and flags in a shell
    Completion {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
enum Set {
    /// Set the images of containers
    Image(act::image::Options),
}

impl Command {
    /// Where its cluster is named; none for what speaks to no cluster, or names it otherwise.
    fn access(&mut self) -> Option<&mut Access> {
        match self {
            Self::Get(o) => Some(&mut o.access),
            Self::History(o) => Some(&mut o.access),
            Self::Why(o) => Some(&mut o.access),
            Self::List(o) => Some(&mut o.access),
            Self::Status(o) => Some(&mut o.access),
            Self::Promote { options: o, .. }
            | Self::Undo { options: o, .. }
            | Self::Abort(o)
            | Self::Restart(o)
            | Self::Retry(o)
            | Self::Pause(o)
            | Self::Resume(o) => Some(&mut o.access),
            Self::Set(Set::Image(o)) => Some(&mut o.access),
            _ => None,
        }
    }
}

/// Why a command failed.
#[derive(Debug, Error)]
pub enum CliError {
    /// The controller.
    #[error("cannot run the controller")]
    Run(#[from] run::RunError),
    /// The check of an install.
    #[error("the install does not work")]
    Check(#[from] check::CheckError),
    /// The CustomResourceDefinitions.
    #[error("cannot write the CustomResourceDefinitions")]
    Crds(#[from] crds::CrdError),
    /// What people ask of the cluster.
    #[error(transparent)]
    Operate(#[from] OperateError),
    /// With an exit code of its own.
    #[error("{1}")]
    Coded(u8, Box<CliError>),
    /// The manifests.
    #[error("the manifests are not as they should be")]
    Lint(#[from] lint::LintError),
    /// The simulation.
    #[error("cannot simulate")]
    Simulate(#[from] simulate::SimulateError),
    /// Nobody reads what we print.
    #[error("cannot print")]
    Print(#[from] io::Error),
}

/// The arguments as clap reads them, by the name of the program.
pub fn arguments(program: &'static str) -> clap::Command {
    // An address among the controller's flags may hold a password: help shows no values.
    let hidden = |run: clap::Command| run.mut_args(|flag| flag.hide_env_values(true));
    let command = Cli::command()
        .bin_name(program)
        .mut_subcommand("run", hidden);
    if program == "serin" {
        command
    } else {
        // Where kubectl is asked, it is the plugin's name that people know.
        command.display_name(program)
    }
}

/// A Rollout's name; also as kubectl writes it, `rollout/NAME`.
pub(crate) fn rollout_name(text: &str) -> Result<String, String> {
    let kinds = [
        "rollout",
        "rollouts",
        "ro",
        "rollout.serin.dev",
        "rollouts.serin.dev",
    ];
    let name = match text.split_once('/') {
        Some((kind, name)) if kinds.contains(&kind) => name,
        Some((kind, _)) => {
            return Err(format!("{kind:?} is no rollout: give NAME or rollout/NAME"));
        }
        None => text,
    };
    if name.is_empty() {
        return Err("it is empty: give the name of a rollout".to_owned());
    }
    let sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    if name.chars().all(sound) {
        Ok(name.to_owned())
    } else {
        Err("a rollout's name has lower case letters, digits, '-' and '.'".to_owned())
    }
}

/// The program.
pub fn main() -> ExitCode {
    // Before any client is made: without a provider of cryptography, making one panics.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let read = arguments(program())
        .try_get_matches()
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let Cli { access, command } = match read {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    match with_access(command, &access).and_then(dispatch) {
        Ok(code) => code,
        Err(error) => fail(&error),
    }
}

/// Help and version are no failure. A wrong flag is one like any other: the exit codes above 1 have a
/// meaning of their own.
fn misused(error: &clap::Error) -> ExitCode {
    // Nothing is left to do where even this cannot be said.
    let _ = error.print();
    if error.use_stderr() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn fail(error: &CliError) -> ExitCode {
    // As other programs do where the reader of their output is gone.
    if matches!(error, CliError::Print(e) if e.kind() == io::ErrorKind::BrokenPipe) {
        return ExitCode::SUCCESS;
    }
    let mut text = format!("error: {error}");
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        text = format!("{text}: {source}");
        cause = source;
    }
    // Nothing is left to do where even this cannot be said.
    let _ = writeln!(io::stderr(), "{}", output::plain(&text));
    match error {
        CliError::Coded(code, _) => ExitCode::from(*code),
        _ => ExitCode::FAILURE,
    }
}

/// Takes over what was said of the cluster before the command.
fn with_access(mut command: Command, before: &Access) -> Result<Command, CliError> {
    match command.access() {
        Some(access) => *access = access.clone().or(before),
        None if before.is_empty() => {}
        None => {
            let text = "this command takes no --namespace, --context or --kubeconfig";
            return Err(OperateError::Usage(text.to_owned()).into());
        }
    }
    if let Command::List(list) = &command
        && list.all_namespaces
        && list.access.namespace.is_some()
    {
        let text = "--all-namespaces and --namespace exclude each other";
        return Err(OperateError::Usage(text.to_owned()).into());
    }
    Ok(command)
}

fn dispatch(command: Command) -> Result<ExitCode, CliError> {
    match command {
        Command::Get(options) => block(show::get::run(&options))?,
        Command::History(options) => block(show::history::run(&options))?,
        Command::Why(options) => block(show::why::run(&options))?,
        Command::List(options) => block(show::list::run(&options))?,
        Command::Status(options) => return block(show::status::run(&options)),
        Command::Promote { full, options } => {
            let verb = if full {
                Verb::PromoteFull
            } else {
                Verb::Promote
            };
            block(act::command::run(verb, &options))?;
        }
        Command::Abort(options) => block(act::command::run(Verb::Abort, &options))?,
        Command::Undo {
            to_revision,
            options,
        } => block(act::command::undo(&options, to_revision))?,
        Command::Restart(options) => block(act::command::run(Verb::Restart, &options))?,
        Command::Retry(options) => block(act::command::run(Verb::Retry, &options))?,
        Command::Pause(options) => block(act::command::run(Verb::Pause, &options))?,
        Command::Resume(options) => block(act::command::run(Verb::Resume, &options))?,
        Command::Set(Set::Image(options)) => block(act::image::run(&options))?,
        Command::Run(options) => run::run(&options)?,
        Command::Check(options) => check::check(&options)?,
        Command::Crds { dir: Some(dir) } => crds::write(&dir)?,
        Command::Crds { dir: None } => io::stdout().write_all(crds::all()?.as_bytes())?,
        Command::Lint(options) => lint::run(&options)?,
        Command::Simulate(options) => simulate::run(&options)?,
        Command::Version { output } => output::print(&version(output)?)?,
        Command::Completion { shell } => {
            let mut script = vec![];
            clap_complete::generate(shell, &mut Cli::command(), "serin", &mut script);
            io::stdout().write_all(&script)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn version(format: Option<Format>) -> io::Result<String> {
    let version = env!("CARGO_PKG_VERSION");
    match format {
        None => Ok(format!("serin {version} ({API_VERSION})\n")),
        Some(format) => output::encode(
            format,
            &json!({"version": version, "apiVersion": API_VERSION}),
        ),
    }
}

/// Runs what waits for the cluster, on this thread.
fn block<T>(work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| OperateError::System(format!("cannot start: {e}")))?;
    runtime.block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_sound() {
        Cli::command().debug_assert();
        let args = [
            "serin",
            "run",
            "--namespaces",
            "a,b",
            "--metric-provider",
            "default=http://p",
            "--leader-elect=false",
        ];
        let Ok(Cli {
            command: Command::Run(options),
            ..
        }) = Cli::try_parse_from(args)
        else {
            panic!("it parses")
        };
        assert_eq!(options.place.namespaces, ["a", "b"]);
        assert!(!options.place.leader_elect);
    }

    #[test]
    fn help_shows_no_value_of_the_environment() {
        let command = arguments("serin");
        let run = command.find_subcommand("run").expect("it is there");
        let flags = run.get_arguments().filter(|a| a.get_env().is_some());
        let flags: Vec<_> = flags.collect();
        assert!(flags.len() > 5);
        for flag in flags {
            assert!(flag.is_hide_env_values_set(), "{}", flag.get_id());
        }
    }

    #[test]
    fn the_cluster_may_be_named_before_the_command() {
        let args = [
            "serin",
            "-n",
            "shop",
            "get",
            "rollout/web",
            "--context",
            "c",
        ];
        let cli = Cli::try_parse_from(args).expect("it parses");
        let Ok(Command::Get(options)) = with_access(cli.command, &cli.access) else {
            panic!("it is taken over")
        };
        assert_eq!(options.name, "web");
        assert_eq!(options.access.namespace.as_deref(), Some("shop"));
        assert_eq!(options.access.context.as_deref(), Some("c"));
        // The controller would not notice: its namespaces are named otherwise.
        let cli = Cli::try_parse_from(["serin", "-n", "shop", "run"]).expect("it parses");
        assert!(with_access(cli.command, &cli.access).is_err());
    }
}
