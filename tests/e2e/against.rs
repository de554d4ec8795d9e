//! The simulated API server beside the real one: the same requests to both, and the same answers.

use std::{path::PathBuf, sync::Arc};

use serin_lab::Lab;
use tokio::process::Command;

use crate::world::{LIMIT, Result, Setup, World, ensure};

/// So many seeds: in each some forty requests.
const SEEDS: &str = "20";

/// The simulation, as `make e2e` builds it before the tests begin.
fn simulation() -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let target = this.ancestors().nth(3).ok_or("no target folder")?;
    let path = target.join("figures/serin-sim");
    let hint = "cargo build --profile figures -p serin-sim";
    ensure(
        path.exists(),
        format!("{} is not there: {hint}", path.display()),
    )?;
    Ok(path)
}

pub async fn simulated_api_server_answers_as_the_real_one(lab: Arc<Lab>) -> Result {
    let world = World::bare(lab, "against", Setup::default()).await?;
    let mut compare = Command::new(simulation()?);
    compare
        .arg("--against")
        .arg(world.lab.kubeconfig())
        .args(["--seeds", SEEDS])
        .kill_on_drop(true);
    let done = world
        .lab
        .within("the comparison", LIMIT, compare.output())
        .await??;
    let said = String::from_utf8_lossy(&done.stdout);
    let wrong = String::from_utf8_lossy(&done.stderr);
    ensure(done.status.success(), format!("{said}{wrong}"))
}
