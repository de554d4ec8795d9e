//! What the README has a newcomer do in the lab, by the file and the commands that stand there.

use std::{path::Path, sync::Arc};

use kube::{Api, api::ListParams};
use serin::api::{AnalysisRun, Rollout};
use serin_lab::{Lab, Load};
use tokio::process::Command;

use crate::world::{LIMIT, Result, Setup, World, ensure, hash, phase};

/// Types a command of `serin`; gives what it printed.
async fn types(w: &World, args: &[&str]) -> Result<String> {
    let typed = Command::new(env!("CARGO_BIN_EXE_serin"))
        .args(args)
        .args(["-n", &w.namespace])
        .env("KUBECONFIG", w.lab.kubeconfig())
        .output();
    let out = w.lab.within(&format!("{args:?}"), LIMIT, typed).await??;
    let said = [out.stdout, out.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    ensure(out.status.success(), format!("{args:?}: {said}"))?;
    Ok(said)
}

pub async fn first_rollout_of_the_readme(lab: Arc<Lab>) -> Result {
    let mut w = World::bare(lab, "first", Setup::default()).await?;
    w.start_serin()?;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples/lab.yaml");
    let file = file.display().to_string();
    w.lab
        .kubectl(&["-n", &w.namespace, "apply", "-f", &file])
        .await?;
    types(&w, &["status", "checkout", "--timeout", "3m"]).await?;

    let users = Load::start(&w.lab.gateway_url(), "checkout.example.com", 10.0)?;
    w.lab
        .until("the first answer", LIMIT, || async {
            (users.snapshot().of("v1").all() > 0).then_some(())
        })
        .await?;
    let image = ["set", "image", "checkout", "checkout=lab/app:v2"];
    types(&w, &image).await?;
    let rollouts: Api<Rollout> = Api::namespaced(w.lab.client(), &w.namespace);
    let at_the_last_pause = w
        .lab
        .until("the last pause, or an end", LIMIT, || async {
            let status = rollouts.get("checkout").await.ok()?.status?;
            let attempt = status.attempt.as_ref()?;
            (attempt.number == 2 && (attempt.step_index == 4 || phase(&status) == "Degraded"))
                .then_some(status)
        })
        .await?;
    ensure(
        phase(&at_the_last_pause) != "Degraded",
        format!("{:?}", at_the_last_pause.message),
    )?;

    // It came here because both metrics were measured, and not by luck.
    let runs: Api<AnalysisRun> = Api::namespaced(w.lab.client(), &w.namespace);
    let runs = runs.list(&ListParams::default()).await?.items;
    ensure(runs.len() == 2, format!("{} runs", runs.len()))?;
    for run in runs {
        let name = run.metadata.name.clone().unwrap_or_default();
        let metrics = run.status.unwrap_or_default().metric_results;
        ensure(
            !metrics.is_empty() && metrics.iter().all(|m| m.passed > 0 && m.failed == 0),
            format!("{name}: {metrics:?}"),
        )?;
    }

    types(&w, &["promote", "checkout"]).await?;
    types(&w, &["status", "checkout", "--timeout", "3m"]).await?;
    let status = rollouts.get("checkout").await?.status.unwrap_or_default();
    ensure(
        status.stable_revision.as_deref() == Some(&hash(&at_the_last_pause)),
        format!("{status:?}"),
    )?;
    let report = users.stop().await;
    ensure(
        report.unexplained == 0,
        format!("{:?}", report.unexplained_samples),
    )
}
