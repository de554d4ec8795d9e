//! Serin's processes: the controller as it is, started and ended.

use std::sync::Arc;

use jiff::Timestamp;
use serin::{
    adapters::{
        cluster::{Cluster, Now, lease::Elector, world::stores::Scope},
        providers::Providers,
        telemetry::metrics::Metrics,
    },
    api::names::CONTROLLER_NAME,
    controller::{
        context::{Clock, Context, Failures, Pace},
        lead, rollouts,
    },
};
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    nature::metrics,
    wire,
    world::{EPOCH, Shared, lock},
};

/// A process of Serin's.
pub struct Copy {
    /// Its number: each start has its own.
    pub life: usize,
    task: JoinHandle<()>,
    // It never stops by itself: who is told to goes at once, as after a crash.
    _stop: watch::Sender<bool>,
}

impl Drop for Copy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts a process; `elects`, as one of two.
pub fn start(world: &Shared, life: usize, elects: bool) -> Copy {
    let client = wire::client(world, life);
    let past = {
        let mut world = lock(world);
        i64::try_from(world.now()).unwrap_or(0) + world.weather.off(life)
    };
    let now = Timestamp::from_millisecond(EPOCH * 1000 + past);
    let clock = Clock::starting_at(now.unwrap_or(Timestamp::MAX));
    let now: Now = Arc::new(move || clock.now());
    let id = format!("serin-{life}");
    let elector =
        elects.then(|| Elector::new(client.clone(), "ns", "serin", &id, Arc::clone(&now)));
    let (stop, stopped) = watch::channel(false);
    let shared = Arc::clone(world);
    let task = tokio::spawn(async move {
        let scope = Scope {
            namespaces: vec![],
            routes: rollouts::route_kinds(),
            references: Arc::new(rollouts::references),
        };
        let (cluster, signals) = Cluster::start(client, scope, Arc::new(|_, _, _| {}), now, id);
        let cx = Context {
            cluster,
            providers: Providers::default()
                .with("default", Arc::new(metrics::Metrics(Arc::clone(&shared)))),
            metrics: Metrics::default(),
            clock,
            controller_name: CONTROLLER_NAME.to_owned(),
            // What is stamped is believed, as where the chart's policy stamps it.
            trust_command_actor: true,
            failures: Failures::default(),
            pace: Pace::default(),
        };
        // Who ends by itself has lost the lease, and is started anew.
        drop(lead::work(elector, Arc::new(cx), signals, stopped).await);
        lock(&shared).kill(life);
    });
    Copy {
        life,
        task,
        _stop: stop,
    }
}
