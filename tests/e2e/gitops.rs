//! Beside tools that own what users own: Helm and whoever applies the route again and again.

use std::sync::Arc;

use serin_lab::Lab;

use crate::world::{LIMIT, Result, Setup, World, ensure, hash};

/// The app's own chart: a Service, a route, a Rollout.
fn chart(w: &World, version: &str, note: &str) -> Result<std::path::PathBuf> {
    let dir = w.lab.run_dir().join(format!("chart-{}", w.namespace));
    std::fs::create_dir_all(dir.join("templates"))?;
    std::fs::write(
        dir.join("Chart.yaml"),
        "apiVersion: v2\nname: app\nversion: 0.1.0\n",
    )?;
    let rollout = serde_json::json!({
        "apiVersion": "serin.dev/v1alpha1", "kind": "Rollout",
        "metadata": {"name": "app", "annotations": {"example.com/note": note}},
        "spec": w.spec(version),
    });
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: app}\nspec: {selector: {app: app}, ports: [{name: http, port: 80, targetPort: http}]}\n";
    std::fs::write(dir.join("templates/rollout.yaml"), rollout.to_string())?;
    std::fs::write(dir.join("templates/service.yaml"), service)?;
    std::fs::write(dir.join("templates/route.yaml"), w.route_yaml(100, 0))?;
    Ok(dir)
}

async fn upgrade(
    w: &World,
    version: &str,
    note: &str,
) -> std::result::Result<String, serin_lab::Error> {
    let dir = chart(w, version, note).map_err(|e| serin_lab::Error::Invalid(e.to_string()))?;
    w.lab
        .helm(&[
            "upgrade",
            "--install",
            "app",
            &dir.display().to_string(),
            "-n",
            &w.namespace,
        ])
        .await
}

/// `helm upgrade` with its default flags: at rest, with a new version, and in mid-flight.
pub async fn chart_upgraded_at_rest_and_in_flight(lab: Arc<Lab>) -> Result {
    let setup = Setup {
        steps: "[{setWeight: 20}, {pause: {}}]",
        ..Setup::default()
    };
    let mut w = World::bare(lab, "helm", setup).await?;
    w.start_serin()?;
    upgrade(&w, "v1", "one").await?;
    w.done("Healthy").await?;
    w.first_answer().await?;
    w.start_load()?;
    upgrade(&w, "v1", "two").await?;
    w.done("Healthy").await?;
    upgrade(&w, "v2", "two").await?;
    let status = w.step(1).await?;
    w.served_by("v2").await?;
    // In mid-flight the route differs from the chart's. Either Helm leaves the weights alone, or it
    // says who holds them; either way the canary is not above its step, and nobody is harmed.
    match upgrade(&w, "v2", "three").await {
        Ok(_) => {}
        Err(e) => ensure(
            e.to_string().contains("serin") && e.to_string().contains("conflict"),
            format!("Helm does not name the conflict: {e}"),
        )?,
    }
    let status_now = w
        .until("the weight to stand", |s| s.weight.as_deref() == Some("20"))
        .await?;
    ensure(
        hash(&status) == hash(&status_now),
        "it is the same revision",
    )?;
    w.annotate(&[("promote", &format!("{}/1", hash(&status)))])
        .await?;
    w.done("Healthy").await?;
    // And after the promotion the chart fits again.
    upgrade(&w, "v2", "four").await?;
    w.done("Healthy").await?;
    w.farewell().await?;
    Ok(())
}

/// Somebody applies the route by force every 5 s: the canary is never above its step, and the
/// conflict is named with its remedy.
pub async fn route_applied_again_and_again(lab: Arc<Lab>) -> Result {
    let setup = Setup {
        steps: "[{setWeight: 20}, {pause: {}}]",
        ..Setup::default()
    };
    let mut w = World::new(lab, "forced", setup).await?;
    w.deploy("v2").await?;
    w.step(1).await?;
    w.served_by("v2").await?;
    let yaml = w.route_yaml(100, 0);
    let applying = {
        let (lab, namespace) = (w.lab.clone(), w.namespace.clone());
        tokio::spawn(async move {
            loop {
                // The interval is the test's subject, not a wait for something.
                tokio::time::sleep(std::time::Duration::from_secs(5)).await;
                if lab.apply_yaml_in(&namespace, &yaml).await.is_err() {
                    return;
                }
            }
        })
    };
    let status = w
        .until("the conflict to be named", |s| {
            s.history.iter().any(|h| h.reason == "RouteConflict")
        })
        .await;
    applying.abort();
    let status = status?;
    let told = status
        .history
        .iter()
        .find(|h| h.reason == "RouteConflict")
        .map(|h| h.message.clone())
        .unwrap_or_default();
    ensure(
        told.contains("\"lab\"") && told.contains("ignore"),
        format!("who and what to do is not in {told:?}"),
    )?;
    let window = w.load().window(std::time::Duration::ZERO, true);
    let share = window.share("v2").unwrap_or(0.0);
    ensure(
        share <= 0.25,
        format!("{share} of the users were served by the canary, 0.2 at most were meant"),
    )?;
    // When it stops, the weight is set again and the attempt goes on.
    w.lab
        .within("the weight to stand again", LIMIT, w.step(1))
        .await??;
    w.until("the weight to stand again", |s| {
        s.weight.as_deref() == Some("20")
    })
    .await?;
    w.farewell().await?;
    Ok(())
}
