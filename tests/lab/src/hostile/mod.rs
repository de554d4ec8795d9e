//! A hostile way to the API server: a proxy that ends TLS, passes everybody's own token on, and
//! does to requests and watches what networks and busy servers do. What it does is switched while it
//! runs, by verb and resource, and how often each fault struck is counted.
//!
//! Dice decide which requests meet with a fault. Their seed is told; which request throws which die
//! depends on how fast everything is, so a seed gives the same weather, not the same run.

mod asked;
mod fault;
mod metrics;
mod serve;
mod stream;
mod tls;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kube::Client;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{sync::watch, task::JoinHandle};

pub use self::{
    asked::{Asked, Requests},
    fault::{Fault, Rule},
    metrics::{Metrics, Sick},
};
use crate::{
    error::{Error, Result},
    inside::{HOST_IP, listen},
    pki::Authority,
};

/// A running proxy; it ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    ca_pem: String,
    url: String,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What all connections share.
pub(crate) struct Shared {
    upstream: Client,
    rules: watch::Sender<Arc<Vec<Rule>>>,
    apart: watch::Sender<bool>,
    struck: Mutex<BTreeMap<&'static str, u64>>,
    dice: Mutex<u64>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("rules", &*self.rules.borrow())
            .finish_non_exhaustive()
    }
}

impl Proxy {
    /// Listens on a port of its own; `upstream` has no identity.
    pub(crate) async fn start(upstream: Client, seed: u64) -> Result<Self> {
        let authority = Authority::new("hostile proxy")?;
        let pair = authority.issue("hostile proxy", &[HOST_IP])?;
        let config = Arc::new(server_config(&pair.cert, &pair.key)?);
        let (listener, port) = listen("hostile proxy").await?;
        let shared = Arc::new(Shared {
            upstream,
            rules: watch::Sender::default(),
            apart: watch::Sender::new(false),
            struck: Mutex::default(),
            dice: Mutex::new(seed),
        });
        let task = tokio::spawn(serve::accept(listener, config, shared.clone()));
        Ok(Self {
            shared,
            ca_pem: authority.pem(),
            url: format!("https://{HOST_IP}:{port}"),
            task,
        })
    }

    pub(crate) fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// These faults from now on, and no others; open watches are told, too. None: fine weather.
    pub fn set(&self, rules: Vec<Rule>) {
        self.shared.rules.send_replace(Arc::new(rules));
    }

    /// Nothing goes through any more, and nothing is closed: what is sent is kept, as by a network
    /// that is cut, and goes on when it is whole again.
    pub fn cut_off(&self, apart: bool) {
        self.shared.apart.send_replace(apart);
    }

    /// How often each fault struck so far.
    #[must_use]
    pub fn struck(&self) -> BTreeMap<&'static str, u64> {
        self.shared.struck().clone()
    }
}

impl Shared {
    fn struck(&self) -> MutexGuard<'_, BTreeMap<&'static str, u64>> {
        self.struck.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn strike(&self, what: &'static str) {
        *self.struck().entry(what).or_default() += 1;
    }

    /// From 0 to `below`, by splitmix.
    fn below(&self, below: u64) -> u64 {
        let mut state = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below.max(1)
    }

    /// Up to so long.
    fn some(&self, most: Duration) -> Duration {
        let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.below(most.saturating_add(1)))
    }

    /// The fault that a request meets with, or the next piece of a watch that is open.
    fn draw(&self, asked: &Asked, open: bool) -> Option<Fault> {
        let rules = self.rules.borrow().clone();
        let hit = rules.iter().find(|r| {
            r.fault.is_for_open_watches() == open
                && r.fits(asked)
                && self.below(1000) < u64::from(r.permille)
        });
        let fault = hit.map(|r| r.fault)?;
        self.strike(fault.word());
        Some(fault)
    }
}

fn server_config(cert: &str, key: &str) -> Result<ServerConfig> {
    let wrong = |e: &dyn std::fmt::Display| Error::Invalid(format!("the proxy's TLS: {e}"));
    let cert = CertificateDer::from_pem_slice(cert.as_bytes()).map_err(|e| wrong(&e))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|e| wrong(&e))?;
    ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)
        .map_err(|e| wrong(&e))
}
