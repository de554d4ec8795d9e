//! How people speak to Serin: arguments, dispatch, exit codes.

pub mod crds;
pub mod lint;
pub mod rbac;
pub mod run;
pub mod simulate;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use thiserror::Error;

/// A progressive delivery controller for Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "serin", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the controller
    Run(Box<run::Options>),
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
    Version,
}

/// Why a command failed.
#[derive(Debug, Error)]
pub enum CliError {
    /// The controller.
    #[error("cannot run the controller")]
    Run(#[from] run::RunError),
    /// The CustomResourceDefinitions.
    #[error("cannot write the CustomResourceDefinitions")]
    Crds(#[from] crds::CrdError),
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

/// The program.
pub fn main() -> ExitCode {
    // Before any client is made: without a provider of cryptography, making one panics.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match dispatch(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = format!("error: {error}");
            let mut cause: &dyn std::error::Error = &error;
            while let Some(source) = cause.source() {
                text = format!("{text}: {source}");
                cause = source;
            }
            // Nothing is left to do where even this cannot be said.
            let _ = writeln!(io::stderr(), "{text}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<(), CliError> {
    match command {
        Command::Run(options) => Ok(run::run(&options)?),
        Command::Crds { dir: Some(dir) } => Ok(crds::write(&dir)?),
        Command::Crds { dir: None } => Ok(io::stdout().write_all(crds::all()?.as_bytes())?),
        Command::Lint(options) => Ok(lint::run(&options)?),
        Command::Simulate(options) => Ok(simulate::run(&options)?),
        Command::Version => Ok(writeln!(
            io::stdout(),
            "serin {}",
            env!("CARGO_PKG_VERSION")
        )?),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

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
        }) = Cli::try_parse_from(args)
        else {
            panic!("it parses")
        };
        assert_eq!(options.namespaces, ["a", "b"]);
        assert!(!options.leader_elect);
    }
}
