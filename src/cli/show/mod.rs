//! What people look at: `get`, `history`, `why`, `list`, `status`. What is drawn is pure: objects in, text out.

pub mod get;
pub mod history;
pub mod list;
pub mod parts;
pub mod standing;
pub mod status;
pub mod tree;
pub mod why;
pub mod words;

use clap::Args;

use crate::cli::{connect::Access, output::Format};

/// Flags of what tells of one Rollout once: `history`, `why`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Name of the Rollout
    #[arg(value_name = "NAME", value_parser = crate::cli::rollout_name)]
    pub name: String,
    /// For machines
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub output: Option<Format>,
    #[command(flatten)]
    pub(crate) access: Access,
}
