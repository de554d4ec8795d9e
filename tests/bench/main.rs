//! The figures: what Serin asks of the API server, how fast it is, what it holds in memory.
//!
//! A build of the profile `figures` works against the lab's control plane (etcd, API server, controller manager),
//! whose pods are ready and whose routes are accepted at once, on paper; the last figures are taken at
//! the real gateway. Requests are counted in the audit log, reactions are timed by watches. `FIGURE`
//! chooses by parts of names, `SIZE=small` takes each in small for a look at the bench itself. The table is
//! `tests/bench/TABLE.md`: a run writes the rows that it took anew.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench says what it does, and stops where it cannot go on"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "what is taken is chosen by the environment, and times are those of the wall"
)]
#![allow(
    missing_docs,
    reason = "the figures' names and texts are their documentation"
)]

mod fleet;
mod gateway;
mod provider;
mod reaction;
mod requests;
mod rest;
mod seen;
mod serin;
mod soak;
mod table;

use std::{sync::Arc, time::Duration};

use serin_lab::{Lab, Options};

use soak::Soak;

/// Any error ends the bench.
pub type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How much is measured.
#[derive(Clone, Copy)]
pub struct Sizes {
    /// Rollouts in flight together.
    pub together: usize,
    /// Rollouts that are taken one after the other.
    pub alone: usize,
    /// Rollouts at rest, in steps.
    pub rest: [usize; 3],
    /// No more at rest than this: what is beyond takes long to deploy.
    pub most: usize,
    /// No fewer than this.
    pub least: usize,
    /// Seconds for which requests at rest are counted.
    pub quiet: u64,
    /// Aborts at the gateway.
    pub gateway: usize,
    /// Releases for an hour.
    pub soak: Soak,
}

const FULL: Sizes = Sizes {
    together: 100,
    alone: 20,
    rest: [1_000, 3_000, 10_000],
    most: 10_000,
    least: 0,
    quiet: 60,
    gateway: 25,
    soak: Soak {
        rollouts: 20,
        time: Duration::from_secs(3600),
        table: "tests/bench/SOAK.md",
    },
};
const SMALL: Sizes = Sizes {
    together: 5,
    alone: 2,
    rest: [5, 10, 20],
    most: 20,
    least: 0,
    quiet: 5,
    gateway: 2,
    soak: Soak {
        rollouts: 3,
        time: Duration::from_secs(120),
        table: "target/soak-small.md",
    },
};

fn main() {
    let wanted = std::env::var("FIGURE").unwrap_or_default();
    let small = std::env::var("SIZE").is_ok_and(|s| s == "small");
    let mut sizes = if small { SMALL } else { FULL };
    if let Ok(least) = std::env::var("LEAST") {
        sizes.least = least.parse().expect("LEAST is a number of Rollouts");
    }
    if let Ok(most) = std::env::var("MOST") {
        sizes.most = most.parse().expect("MOST is a number of Rollouts");
    }
    if let Ok(minutes) = std::env::var("MINUTES") {
        let minutes: u64 = minutes.parse().expect("MINUTES is a number");
        sizes.soak.time = Duration::from_secs(60 * minutes);
    }
    serin_lab::enter();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match runtime.block_on(run(&wanted, sizes)) {
        Ok(rows) => table::write(&rows, small).expect("the table can be written"),
        Err(error) => {
            println!("the bench ends: {error}");
            std::process::exit(1);
        }
    }
    // Ends whatever still runs in the lab's namespaces.
    std::process::exit(0);
}

/// Whether a group of figures is wanted.
fn is_wanted(wanted: &str, group: &str) -> bool {
    wanted.is_empty() || wanted.split(',').any(|w| group.contains(w))
}

async fn run(wanted: &str, sizes: Sizes) -> Result<Vec<table::Row>> {
    let mut rows = vec![];
    let on_paper = ["requests", "abort", "failure", "rest"];
    for group in on_paper.into_iter().filter(|g| is_wanted(wanted, g)) {
        // A lab for each: what one leaves behind is no burden to the next.
        println!("\n{group}");
        let lab = Arc::new(Lab::up(Options::on_paper()).await?);
        let found = match group {
            "requests" => requests::figures(&lab, sizes).await,
            "abort" => reaction::aborts(&lab, sizes).await,
            "failure" => reaction::failures(&lab, sizes).await,
            _ => rest::figures(&lab, sizes).await,
        }?;
        rows.extend(found);
        down(lab).await;
    }
    let at_the_gateway = [
        ("gateway", is_wanted(wanted, "gateway")),
        // An hour is taken only where it is asked for.
        ("soak", !wanted.is_empty() && is_wanted(wanted, "soak")),
    ];
    for (group, _) in at_the_gateway.into_iter().filter(|(_, wanted)| *wanted) {
        println!("\n{group}");
        let lab = Arc::new(Lab::up(Options::default()).await?);
        rows.extend(match group {
            "gateway" => gateway::figures(&lab, sizes).await?,
            _ => soak::figures(&lab, sizes.soak).await?,
        });
        down(lab).await;
    }
    Ok(rows)
}

async fn down(lab: Arc<Lab>) {
    if let Ok(lab) = Arc::try_unwrap(lab) {
        lab.down().await;
    }
}
