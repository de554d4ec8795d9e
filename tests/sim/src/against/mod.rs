//! The simulated API server held against a real one: the same requests to both, the answers compared.

mod ask;
mod bodies;
mod differ;
mod exceptions;
mod side;
mod watches;

use std::{path::Path, process::ExitCode, sync::Arc};

use futures::{StreamExt, stream};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use crate::{
    cases::cases,
    laws::Laws,
    wire,
    world::{Shared, World},
};

use self::{
    ask::Ask,
    side::{Answer, Side},
};

/// So many seeds are under way at a time.
const AT_ONCE: usize = 4;

/// Any error ends the comparison.
type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Compares so many seeds; red where one of them differs.
pub fn compare(kubeconfig: &Path, from: u64, seeds: u64) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let done = runtime
        .map_err(Into::into)
        .and_then(|r| r.block_on(all(kubeconfig, from, seeds)));
    match done {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("serin-sim: {error}");
            ExitCode::FAILURE
        }
    }
}

/// How many seeds differ.
async fn all(kubeconfig: &Path, from: u64, seeds: u64) -> Result<usize> {
    let config = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    let client = Client::try_from(config)?;
    let compared = stream::iter(from..from + seeds)
        .map(|seed| {
            let client = client.clone();
            async move { (seed, one(seed, client).await) }
        })
        .buffered(AT_ONCE)
        .collect::<Vec<_>>()
        .await;
    let (mut differ, mut requests) = (0, 0);
    for (seed, done) in compared {
        let (asked, differences) = done.map_err(|e| format!("seed {seed}: {e}"))?;
        requests += asked;
        differ += usize::from(!differences.is_empty());
        for difference in differences {
            println!("seed {seed}: {difference}");
        }
    }
    println!("{seeds} seeds, {requests} answers compared, {differ} seeds differ");
    Ok(differ)
}

/// One seed on both: how many answers were compared, and what differs.
async fn one(seed: u64, client: Client) -> Result<(usize, Vec<String>)> {
    let asks = Ask::draw(seed);
    let simulated = simulated(seed, asks.clone())?;
    let real = real(seed, client, &asks).await?;
    let mut differences = vec![];
    if simulated.len() != real.len() {
        differences.push(format!(
            "{} answers of the simulated one, {} of the real one",
            simulated.len(),
            real.len()
        ));
    }
    let pairs = simulated.iter().zip(&real);
    let mut before = vec![];
    for (number, (simulated, real)) in pairs.enumerate() {
        if simulated.to != real.to {
            // What follows stands beside something else.
            differences.push(format!("{number} {}, really {}", simulated.to, real.to));
            break;
        }
        for difference in differ::differences(simulated, real) {
            // What led there, once.
            differences.append(&mut before);
            differences.push(format!("{number} {}: {difference}", real.to));
        }
        before.push(format!("{number} {}: {}, the same", real.to, real.code));
    }
    Ok((real.len(), differences))
}

/// The simulated one, in simulated time.
fn simulated(seed: u64, asks: Vec<Ask>) -> Result<Vec<Answer>> {
    let thread = std::thread::spawn(move || -> Result<Vec<Answer>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()?;
        runtime.block_on(async {
            let world = World::new(seed, Laws::new(cases()[0].clone()), false);
            let world: Shared = Arc::new(std::sync::Mutex::new(world));
            let client = wire::client(&world, 0);
            Side::new(client, "ns".into(), Some(world))
                .whole(&asks)
                .await
        })
    });
    thread.join().map_err(|_| "the simulated one panicked")?
}

/// The real one, in a namespace that goes afterwards.
async fn real(seed: u64, client: Client, asks: &[Ask]) -> Result<Vec<Answer>> {
    let namespace = side::make_namespace(&client, seed).await?;
    let mut side = Side::new(client, namespace, None);
    let answers = side.whole(asks).await;
    side.leave().await;
    answers
}
