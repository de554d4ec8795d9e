//! Leader election by a Lease. It keeps two controllers from working against each other most of the
//! time; what keeps them apart always is the resourceVersion that every write carries.

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client, Config,
    api::{ObjectMeta, PostParams},
};
use thiserror::Error;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{Now, once};

/// How long a lease lasts that is not renewed.
const DURATION: Duration = Duration::from_secs(15);
/// A leader that could not renew for so long gives up, well before another may take over.
const RENEW: Duration = Duration::from_secs(10);
/// Time between two tries.
const RETRY: Duration = Duration::from_secs(2);
/// The longest that one request may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Why the lease is not ours.
#[derive(Debug, Error)]
pub enum LeaseError {
    /// No way to the API server.
    #[error("cannot make a client for the lease")]
    Client(#[source] Box<kube::Error>),
    /// A request failed.
    #[error("cannot read or write the lease")]
    Request(#[source] Box<kube::Error>),
    /// No answer in time.
    #[error("no answer about the lease within {} s", LIMIT.as_secs())]
    Timeout,
    /// It was ours and is no more.
    #[error("the lease was lost")]
    Lost,
}

impl LeaseError {
    /// A word for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Client(_) => "client",
            Self::Request(_) => "request",
            Self::Timeout => "timeout",
            Self::Lost => "lost",
        }
    }
}

/// A client of its own: an election must not wait behind anything, nor be tried again for minutes.
pub fn client(config: Config) -> Result<Client, LeaseError> {
    let mut config = once(config, Duration::from_secs(3));
    config.read_timeout = Some(LIMIT);
    config.reset_reader_on_write = true;
    config.write_timeout = Some(LIMIT);
    Client::try_from(config).map_err(|e| LeaseError::Client(Box::new(e)))
}

/// Takes part in an election.
pub struct Elector {
    api: Api<Lease>,
    name: String,
    id: String,
    now: Now,
    leads: watch::Sender<bool>,
}

/// The lease as it was last seen, and when: its expiry is told by our own clock alone.
#[derive(Default)]
struct Seen {
    version: Option<String>,
    at: Option<Instant>,
    /// As we wrote it last: it is renewed without a look, under its resourceVersion.
    ours: Option<Lease>,
}

impl std::fmt::Debug for Elector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Elector")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Elector {
    /// For the lease `name` in `namespace`, as `id`.
    pub fn new(client: Client, namespace: &str, name: &str, id: &str, now: Now) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            id: id.to_owned(),
            now,
            leads: watch::Sender::new(false),
        }
    }

    /// Whether we lead.
    pub fn leads(&self) -> watch::Receiver<bool> {
        self.leads.subscribe()
    }

    /// Takes part until the lease is lost, or until `stop`, which hands it over.
    pub async fn run(&self, stop: impl Future<Output = ()>) -> Result<(), LeaseError> {
        let mut stop = std::pin::pin!(stop);
        let mut seen = Seen::default();
        let mut renewed: Option<Instant> = None;
        loop {
            let began = Instant::now();
            let outcome = tokio::select! {
                biased;
                () = &mut stop => return self.release(renewed.is_some()).await,
                outcome = self.attempt(&mut seen) => outcome,
            };
            match outcome {
                Ok(true) => {
                    renewed = Some(began);
                    self.leads.send_if_modified(|l| !std::mem::replace(l, true));
                }
                Ok(false) if renewed.is_some() => return self.lost(),
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "lease not renewed"),
            }
            let wait = match renewed {
                Some(at) if at.elapsed() >= RENEW => return self.lost(),
                Some(at) => RETRY.min(RENEW.saturating_sub(at.elapsed())),
                None => RETRY,
            };
            tokio::select! {
                biased;
                () = &mut stop => return self.release(renewed.is_some()).await,
                () = sleep(wait) => {}
            }
        }
    }

    fn lost(&self) -> Result<(), LeaseError> {
        self.leads.send_replace(false);
        Err(LeaseError::Lost)
    }

    /// One try to take or renew the lease: whether it is ours.
    async fn attempt(&self, seen: &mut Seen) -> Result<bool, LeaseError> {
        match timeout(LIMIT, self.try_once(seen)).await {
            Ok(Ok(ours)) => Ok(ours),
            // Also where somebody else was faster: the next look tells who leads.
            Ok(Err(e)) => Err(LeaseError::Request(Box::new(e))),
            Err(_) => Err(LeaseError::Timeout),
        }
    }

    async fn try_once(&self, seen: &mut Seen) -> kube::Result<bool> {
        // Where that is refused, the next try looks who leads.
        if let Some(mut lease) = seen.ours.take() {
            let before = lease.spec.unwrap_or_default();
            lease.spec = Some(self.held(&before));
            seen.ours = Some(self.replace(&lease).await?);
            return Ok(true);
        }
        let Some(mut lease) = self.api.get_opt(&self.name).await? else {
            let meta = ObjectMeta {
                name: Some(self.name.clone()),
                ..ObjectMeta::default()
            };
            let lease = Lease {
                metadata: meta,
                spec: Some(self.held(&LeaseSpec::default())),
            };
            seen.ours = Some(self.api.create(&PostParams::default(), &lease).await?);
            return Ok(true);
        };
        if lease.metadata.resource_version != seen.version {
            let version = lease.metadata.resource_version.clone();
            *seen = Seen {
                version,
                at: Some(Instant::now()),
                ours: None,
            };
        }
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        let lasts = u64::try_from(spec.lease_duration_seconds.unwrap_or(0)).unwrap_or(0);
        let expired = seen
            .at
            .is_some_and(|at| at.elapsed() >= Duration::from_secs(lasts));
        if holder != self.id && !holder.is_empty() && !expired {
            return Ok(false);
        }
        lease.spec = Some(self.held(&spec));
        seen.ours = Some(self.replace(&lease).await?);
        Ok(true)
    }

    /// Writes the lease under the resourceVersion that was read.
    async fn replace(&self, lease: &Lease) -> kube::Result<Lease> {
        self.api
            .replace(&self.name, &PostParams::default(), lease)
            .await
    }

    /// The lease as ours, after `before`.
    fn held(&self, before: &LeaseSpec) -> LeaseSpec {
        let now = MicroTime((self.now)());
        let ours = before.holder_identity.as_deref() == Some(self.id.as_str());
        let turns = before.lease_transitions.unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.id.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: before
                .acquire_time
                .clone()
                .filter(|_| ours)
                .or(Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(if ours { turns } else { turns.saturating_add(1) }),
            ..LeaseSpec::default()
        }
    }

    /// Hands the lease over: without a holder the next one takes it at once.
    async fn release(&self, held: bool) -> Result<(), LeaseError> {
        self.leads.send_replace(false);
        if !held {
            return Ok(());
        }
        let work = async {
            let mut lease = self.api.get(&self.name).await?;
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_deref() == Some(self.id.as_str()) {
                spec.holder_identity = Some(String::new());
                spec.lease_duration_seconds = Some(1);
                self.api
                    .replace(&self.name, &PostParams::default(), &lease)
                    .await?;
            }
            Ok(())
        };
        match timeout(LIMIT, work).await {
            Ok(done) => done.map_err(|e| LeaseError::Request(Box::new(e))),
            Err(_) => Err(LeaseError::Timeout),
        }
    }
}
