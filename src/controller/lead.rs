//! Lead: works while the lease is ours.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::adapters::cluster::{
    lease::{Elector, LeaseError},
    world::stores::Signals,
};

use super::context::Context;

/// How long the rounds in progress may take to end.
const GRACE: Duration = Duration::from_secs(20);

/// Works until `stop`: at once without an election, otherwise while we lead. Losing the lease is an
/// error that ends the process: another may be at work already.
pub async fn work(
    elector: Option<Elector>,
    cx: Arc<Context>,
    signals: Signals,
    stop: watch::Receiver<bool>,
) -> Result<(), LeaseError> {
    match elector {
        Some(elector) => lead(elector, cx, signals, stop).await,
        None => {
            cx.metrics.leads(true);
            control(&cx, signals, stop).await;
            Ok(())
        }
    }
}

async fn lead(
    elector: Elector,
    cx: Arc<Context>,
    signals: Signals,
    mut stop: watch::Receiver<bool>,
) -> Result<(), LeaseError> {
    let mut leads = elector.leads();
    let (over, mut hand_over) = watch::channel(false);
    let election = elector.run(async move { drop(hand_over.wait_for(|o| *o).await) });
    let mut election = std::pin::pin!(election);
    let control = async {
        tokio::select! {
            biased;
            _ = stop.wait_for(|s| *s) => return,
            _ = leads.wait_for(|l| *l) => {}
        }
        tracing::info!("this copy leads");
        cx.metrics.leads(true);
        control(&cx, signals, stop.clone()).await;
        cx.metrics.leads(false);
    };
    tokio::select! {
        biased;
        lost = &mut election => return lost,
        () = control => {}
    }
    over.send_replace(true);
    // Who cannot hand the lease over lets it expire: that is no failure of a shutdown.
    if let Err(error) = election.await {
        tracing::warn!(%error, "the lease is not handed over and will expire");
    }
    Ok(())
}

/// Works until `stop`, once everything was listed that may be.
async fn control(cx: &Arc<Context>, signals: Signals, mut stop: watch::Receiver<bool>) {
    tokio::select! {
        biased;
        _ = stop.wait_for(|s| *s) => return,
        () = cx.cluster.world().ready() => {}
    }
    let refused = cx.cluster.world().refused();
    if refused.is_empty() {
        tracing::info!("everything is listed, the work begins");
    } else {
        tracing::warn!(
            namespaces = ?refused,
            "the work begins, but not in namespaces that may not be listed: each is looked after once it is there and the rights are granted"
        );
    }
    let work = super::run(Arc::clone(cx), signals, stop.clone());
    let late = async {
        drop(stop.wait_for(|s| *s).await);
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        biased;
        () = work => {}
        () = late => tracing::warn!("rounds in progress do not end, leaving them"),
    }
}
