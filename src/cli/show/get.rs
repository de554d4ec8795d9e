//! `serin get`: the picture of one Rollout, once or until it is finished.

use std::time::Duration;

use clap::Args;

use crate::cli::{
    CliError,
    connect::{Access, Door},
    output::{self, Format},
    watch::follow,
};

use super::{
    parts::Parts,
    standing::Standing,
    tree::{draw, ending},
};

/// Ages grow on the screen.
const TICK: Duration = Duration::from_secs(1);

/// Flags of `serin get`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Name of the Rollout
    #[arg(value_name = "NAME", value_parser = crate::cli::rollout_name)]
    pub name: String,
    /// Draw it anew at each change until it is promoted, rolled back or stalled
    #[arg(short, long, conflicts_with = "output")]
    pub watch: bool,
    /// The Rollout and its parts as one List, for machines
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub output: Option<Format>,
    #[command(flatten)]
    pub(crate) access: Access,
}

/// Draws it.
pub async fn run(options: &Options) -> Result<(), CliError> {
    let door = Door::open(&options.access).await?;
    let rollout = door.rollout(&options.name).await?;
    if !options.watch {
        let parts = Parts::read(&door, rollout).await?;
        let text = match options.output {
            Some(format) => output::encode(format, &parts.list())?,
            None => draw(&parts.tamed(), door.now()),
        };
        return Ok(output::print(&text)?);
    }
    let every = output::on_terminal().then_some(TICK);
    let mut last = String::new();
    follow(&door, Parts::of(rollout), every, |parts| {
        let parts = parts.tamed();
        let over = Standing::of(&parts.rollout).is_final();
        let end = if over { ending(&parts) } else { String::new() };
        let text = format!("{}{end}", draw(&parts, door.now()));
        if text != last {
            let apart = if last.is_empty() { "" } else { "\n" };
            output::redraw(apart, &text)?;
            last = text;
        }
        Ok::<_, CliError>(over)
    })
    .await
}
