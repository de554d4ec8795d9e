//! `serin list`: a line for each Rollout.

use clap::Args;
use kube::{Api, api::ListParams};
use serde_json::Value;

use crate::{
    api::Rollout,
    cli::{
        CliError,
        connect::{Access, Door},
        output::{self, Cell, Format, Table, Tone},
    },
};

use super::{
    parts,
    standing::{Standing, message},
    words,
};

/// Flags of `serin list`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Those of all namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
    /// Those with these labels, as in `app=web,tier!=test`
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// As one List, for machines
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub output: Option<Format>,
    #[command(flatten)]
    pub(crate) access: Access,
}

/// Lists them.
pub async fn run(options: &Options) -> Result<(), CliError> {
    let mut door = Door::open(&options.access).await?;
    let mut api = door.rollouts();
    if options.all_namespaces {
        api = Api::all(door.client.clone());
        "(all)".clone_into(&mut door.namespace);
    }
    let mut params = ListParams::default();
    if let Some(selector) = &options.selector {
        params = params.labels(selector);
    }
    let list = door.answer("list rollouts", api.list(&params)).await?;
    let text = match options.output {
        Some(format) => {
            let items = list
                .items
                .iter()
                .map(|r| serde_json::to_value(r).unwrap_or(Value::Null));
            output::encode(format, &parts::list(items.collect()))?
        }
        None if list.items.is_empty() && options.all_namespaces => "no rollouts\n".to_owned(),
        None if list.items.is_empty() => format!("no rollouts in namespace {}\n", door.namespace),
        None => table(&list.items, options.all_namespaces),
    };
    Ok(output::print(&text)?)
}

/// The longest message in a line; `why` has the whole.
const MESSAGE_MAX: usize = 100;

fn cut(text: &str) -> String {
    match text.char_indices().nth(MESSAGE_MAX) {
        Some((at, _)) => format!("{}...", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// A line for each.
pub fn table(rollouts: &[Rollout], namespaces: bool) -> String {
    let titles = [
        "NAMESPACE",
        "NAME",
        "STRATEGY",
        "PHASE",
        "STEP",
        "WEIGHT",
        "PODS",
        "STABLE",
        "MESSAGE",
    ];
    let skip = usize::from(!namespaces);
    let mut table = Table::new(titles.get(skip..).unwrap_or_default());
    for rollout in rollouts.iter().map(output::tame) {
        let rollout = &rollout;
        let status = words::status(rollout);
        let phase = match Standing::of(rollout) {
            other @ (Standing::Unseen | Standing::Leaving) => other.as_str().to_owned(),
            _ => status.phase.clone().unwrap_or_default(),
        };
        let percent = status
            .weight
            .clone()
            .map_or_else(|| "-".to_owned(), |w| format!("{w}%"));
        let dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let mut cells: Vec<Cell> = vec![
            words::name(rollout).into(),
            words::strategy(rollout).0.into(),
            Cell(phase.clone(), Tone::of(&phase)),
            dash(status.step.clone()).into(),
            percent.into(),
            format!("{}/{}", status.available_replicas, words::wanted(rollout)).into(),
            dash(status.stable_revision.clone()).into(),
            cut(&message(rollout)).into(),
        ];
        if namespaces {
            cells.insert(0, words::namespace(rollout).into());
        }
        table.row(cells);
    }
    table.text()
}
