//! The door to the API server: the watched world, and the five verbs' requests.

pub mod act;
mod adopted;
pub mod commit;
mod current;
pub mod lease;
mod merge;
pub mod observe;
pub mod rest;
pub mod tell;
pub mod world;
mod written;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::{Client, Config};

use rest::{Count, Rest};
use world::stores::{self, ReferencesOf, Scope, Signals, World};
use written::Written;

/// The clock, as it is handed in.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// How long it may take to connect to the API server.
pub const CONNECT: Duration = Duration::from_secs(5);

/// A way to the API server without the library's own retries: each round and each command has a time
/// limit and tries again by itself, and no write is ever sent twice unseen. `connect` is how long it
/// may take to connect.
pub fn once(mut config: Config, connect: Duration) -> Config {
    config.default_retry = false;
    config.connect_timeout = Some(connect);
    config
}

/// The one handle on the API server.
pub struct Cluster {
    rest: Rest,
    world: World,
    written: Arc<Written>,
    memo: current::Memo,
    references: ReferencesOf,
    now: Now,
    instance: String,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("instance", &self.instance)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// Starts to watch. `instance` names this process in Events.
    pub fn start(
        client: Client,
        scope: Scope,
        count: Count,
        now: Now,
        instance: String,
    ) -> (Self, Signals) {
        let written = Arc::<Written>::default();
        let (world, signals) = stores::start(&client, &scope, &written);
        let cluster = Self {
            rest: Rest::new(client, count),
            world,
            written,
            memo: current::Memo::default(),
            references: scope.references,
            now,
            instance,
        };
        (cluster, signals)
    }

    /// The watched world.
    pub fn world(&self) -> &World {
        &self.world
    }
}
