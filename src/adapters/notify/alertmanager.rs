//! Alertmanager: what stands rolled back is told again and again, until it no longer stands.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use thiserror::Error;
use tokio::{sync::watch, time::Instant};

/// How often an alert is sent again.
const INTERVAL: Duration = Duration::from_secs(30);
/// After this many intervals without being sent again, an alert resolves by itself.
const LASTS: u32 = 3;
/// Changes that come close together are sent together.
const GATHER: Duration = Duration::from_millis(500);

/// A Rollout that stands rolled back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alert {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub rollout: String,
    /// Hash of the revision that was left.
    pub revision: String,
    /// Why, in a sentence.
    pub description: String,
    /// Since when.
    pub since: Timestamp,
}

/// What makes two alerts the same to Alertmanager.
type Identity = (String, String, String);

impl Alert {
    fn identity(&self) -> Identity {
        (
            self.namespace.clone(),
            self.rollout.clone(),
            self.revision.clone(),
        )
    }

    fn body(&self, ends: Timestamp) -> Value {
        let Self {
            namespace,
            rollout,
            revision,
            description,
            since,
        } = self;
        json!({
            "labels": {
                "alertname": "RolloutRolledBack",
                "namespace": namespace,
                "rollout": rollout,
                "revision": revision,
                "severity": "warning",
            },
            "annotations": {
                "summary": format!("Rollout {namespace}/{rollout} was rolled back"),
                "description": description,
            },
            "startsAt": since.to_string(),
            "endsAt": ends.to_string(),
        })
    }
}

/// Why alerts were not sent. They are sent again.
#[derive(Debug, Error)]
pub enum AlertError {
    /// The address cannot be used.
    #[error("the address of Alertmanager is not an http or https URL")]
    Address,
    /// No client can be made, or no answer was given.
    #[error("cannot reach Alertmanager")]
    Request(#[source] reqwest::Error),
    /// Alertmanager says no.
    #[error("Alertmanager answers HTTP {0}")]
    Refused(u16),
}

impl AlertError {
    /// A word for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Request(_) => "request",
            Self::Refused(_) => "refused",
        }
    }
}

/// Sends alerts.
pub struct Alertmanager {
    http: reqwest::Client,
    url: reqwest::Url,
    sent: BTreeMap<Identity, Alert>,
}

impl std::fmt::Debug for Alertmanager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Alertmanager")
    }
}

impl Alertmanager {
    /// At an address, such as `http://alertmanager:9093`.
    pub fn new(url: &str) -> Result<Self, AlertError> {
        let url = format!("{}/api/v2/alerts", url.trim_end_matches('/'));
        let url = reqwest::Url::parse(&url).map_err(|_| AlertError::Address)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(AlertError::Address);
        }
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(3))
            .timeout(Duration::from_secs(10))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|e| AlertError::Request(e.without_url()))?;
        Ok(Self {
            http,
            url,
            sent: BTreeMap::new(),
        })
    }

    /// Sends what stands, at once on a change and every 30 s, and resolves what no longer stands.
    /// `standing` gives nothing to send while somebody else leads, and then nothing is resolved.
    pub async fn run(
        mut self,
        standing: impl Fn() -> Option<Vec<Alert>> + Send,
        now: impl Fn() -> Timestamp + Send,
        mut changes: watch::Receiver<u64>,
    ) {
        let mut due = Instant::now();
        loop {
            match standing() {
                None => {
                    self.sent.clear();
                    due = Instant::now();
                }
                Some(alerts) if Instant::now() >= due || self.differs(&alerts) => {
                    if let Err(error) = self.send(&alerts, now()).await {
                        tracing::warn!(%error, source = source(&error), "alerts not sent, trying again");
                        due = Instant::now() + INTERVAL / 6;
                        tokio::time::sleep_until(due).await;
                        continue;
                    }
                    due = Instant::now() + INTERVAL;
                }
                Some(_) => {}
            }
            tokio::select! {
                biased;
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    tokio::time::sleep(GATHER).await;
                }
                () = tokio::time::sleep_until(due.max(Instant::now() + 2 * GATHER)) => {}
            }
        }
    }

    fn differs(&self, alerts: &[Alert]) -> bool {
        alerts.len() != self.sent.len()
            || alerts
                .iter()
                .any(|a| self.sent.get(&a.identity()) != Some(a))
    }

    async fn send(&mut self, alerts: &[Alert], now: Timestamp) -> Result<(), AlertError> {
        let standing: BTreeMap<_, _> = alerts.iter().map(|a| (a.identity(), a.clone())).collect();
        let body = bodies(&standing, &self.sent, now);
        if !body.is_empty() {
            let sent = self.http.post(self.url.clone()).json(&body).send().await;
            let answer = sent.map_err(|e| AlertError::Request(e.without_url()))?;
            if !answer.status().is_success() {
                return Err(AlertError::Refused(answer.status().as_u16()));
            }
        }
        self.sent = standing;
        Ok(())
    }
}

fn source(error: &AlertError) -> String {
    std::error::Error::source(error)
        .map(ToString::to_string)
        .unwrap_or_default()
}

/// What stands, and what stood and is resolved.
fn bodies(
    standing: &BTreeMap<Identity, Alert>,
    sent: &BTreeMap<Identity, Alert>,
    now: Timestamp,
) -> Vec<Value> {
    let lasts = SignedDuration::try_from(INTERVAL * LASTS).unwrap_or(SignedDuration::ZERO);
    let ends = now.saturating_add(lasts).unwrap_or(now);
    let firing = standing.values().map(|a| a.body(ends));
    let resolved = sent
        .iter()
        .filter(|(id, _)| !standing.contains_key(*id))
        .map(|(_, a)| a.body(now));
    firing.chain(resolved).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::{Json, Router, extract::State, routing::post};

    use super::*;

    fn alert(since: i64) -> Alert {
        Alert {
            namespace: "ns".into(),
            rollout: "web".into(),
            revision: "abc".into(),
            description: "error rate 10 %".into(),
            since: Timestamp::from_second(since).expect("a time"),
        }
    }

    type Got = Arc<Mutex<Vec<Value>>>;

    async fn server(got: Got) -> String {
        let route = post(
            |State(got): State<Got>, Json(body): Json<Value>| async move {
                got.lock().expect("lock").push(body);
            },
        );
        let app = Router::new()
            .route("/am/api/v2/alerts", route)
            .with_state(got);
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, app).await });
        format!("http://{address}/am/")
    }

    #[tokio::test]
    async fn is_sent_while_it_stands_and_resolved_after() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let got = Got::default();
        let mut manager = Alertmanager::new(&server(Arc::clone(&got)).await).expect("an address");
        let now = Timestamp::from_second(1000).expect("a time");
        assert!(manager.differs(&[alert(900)]));
        manager.send(&[alert(900)], now).await.expect("is sent");
        assert!(!manager.differs(&[alert(900)]));
        assert!(manager.differs(&[]));
        manager.send(&[], now).await.expect("is sent");
        manager.send(&[], now).await.expect("nothing to send");
        let got = got.lock().expect("lock");
        assert_eq!(got.len(), 2);
        assert_eq!(got[0][0]["labels"]["alertname"], "RolloutRolledBack");
        assert_eq!(got[0][0]["startsAt"], "1970-01-01T00:15:00Z");
        assert_eq!(
            got[0][0]["endsAt"], "1970-01-01T00:18:10Z",
            "now and three intervals"
        );
        assert_eq!(got[1][0]["endsAt"], "1970-01-01T00:16:40Z", "resolved now");
    }

    #[tokio::test]
    async fn is_sent_at_once_when_it_changes() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let got = Got::default();
        let manager = Alertmanager::new(&server(Arc::clone(&got)).await).expect("an address");
        let (changed, changes) = watch::channel(0);
        let standing = Arc::new(Mutex::new(Some(vec![])));
        let read = Arc::clone(&standing);
        let now = || Timestamp::UNIX_EPOCH;
        let run =
            tokio::spawn(manager.run(move || read.lock().expect("lock").clone(), now, changes));
        *standing.lock().expect("lock") = Some(vec![alert(0)]);
        changed.send(1).expect("somebody listens");
        for _ in 0..50 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if !got.lock().expect("lock").is_empty() {
                break;
            }
        }
        assert_eq!(got.lock().expect("lock").len(), 1);
        drop(changed);
        run.await.expect("ends with its source");
    }
}
