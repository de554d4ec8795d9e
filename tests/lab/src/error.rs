//! What can go wrong in the lab, each said so that a reader knows what to do next.

use std::path::PathBuf;

/// Every failure of the lab.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Something that the machine lacks: one line, with the way to get it.
    #[error("missing: {0}")]
    Missing(String),
    /// A file, folder or socket did not do as asked.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A command failed; its output is in the message.
    #[error("{command}: {status}\n{output}")]
    Command {
        /// The command line.
        command: String,
        /// How it ended.
        status: String,
        /// What it wrote, standard output first.
        output: String,
    },
    /// A part of the lab ended or did not become ready.
    #[error(
        "lab part {part}: {why}\n--- end of {log}:\n{tail}\n--- everything of this lab: {run_dir}"
    )]
    Part {
        /// Which part.
        part: String,
        /// What happened to it.
        why: String,
        /// Its log.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
        /// The folder that holds every log.
        run_dir: PathBuf,
    },
    /// Something awaited did not come.
    #[error("gave up waiting for {what} (everything of this lab: {run_dir})")]
    Timeout {
        /// What was awaited.
        what: String,
        /// The folder that holds every log.
        run_dir: PathBuf,
    },
    /// The API server refused a request, or could not be asked.
    #[error("{what}: {source}")]
    Kube {
        /// What was asked.
        what: String,
        /// Its answer.
        source: Box<kube::Error>,
    },
    /// Something given to the lab makes no sense.
    #[error("{0}")]
    Invalid(String),
}

/// The lab's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Says what was being done when something failed.
pub(crate) trait Context<T> {
    /// Turns the failure into the lab's own, with `what` in front.
    fn context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T> Context<T> for std::io::Result<T> {
    fn context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|source| Error::Io {
            what: what().into(),
            source,
        })
    }
}

impl<T> Context<T> for std::result::Result<T, kube::Error> {
    fn context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|source| Error::Kube {
            what: what().into(),
            source: Box::new(source),
        })
    }
}

impl<T> Context<T> for serde_json::Result<T> {
    fn context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|e| Error::Invalid(format!("{}: {e}", what().into())))
    }
}

impl<T> Context<T> for nix::Result<T> {
    fn context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|e| Error::Io {
            what: what().into(),
            source: e.into(),
        })
    }
}
