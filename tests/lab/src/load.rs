//! The load generator: requests at fixed times, whatever becomes of them, and every one counted.
//!
//! It is an open loop: a request is sent when its time has come, even if none was answered yet
//! (up to [`MOST_IN_FLIGHT`]; those beyond are counted as failures of kind `overflow`). It never
//! retries. Connections are kept and used again, as a real client's are. When the other end has
//! closed one meanwhile, two cases differ: if nothing of the request was sent, it goes out on a
//! new connection (nobody has seen it yet, so this is no retry); if anything was, it has failed,
//! with kind `closed`. A failure is *explained* only by the header `x-injected: error`.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use http::{HeaderValue, Response, Uri, header};
use hyper::{body::Bytes, client::conn::http1::SendRequest};
use serde::Serialize;
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{MissedTickBehavior, interval},
};

use crate::{
    error::{Error, Result},
    net::{self, Body, Fault},
};

/// More requests than this never wait for their answers.
pub const MOST_IN_FLIGHT: usize = 2048;
/// An answer that takes longer has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);
const SAMPLES: usize = 20;

/// Running load.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    stop: tokio::sync::watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// What becomes of a connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connections {
    /// It is kept for a later request, as browsers do it.
    Kept,
    /// It is closed: each request has one of its own, so that a share of connections is one of
    /// requests.
    Fresh,
}

#[derive(Debug)]
struct Shared {
    address: String,
    path: String,
    host: String,
    connections: Connections,
    start: Instant,
    idle: Mutex<VecDeque<SendRequest<Body>>>,
    counts: Mutex<Counted>,
}

/// The answers of one version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Good answers.
    pub ok: u64,
    /// Errors that the sample application was told to give.
    pub injected: u64,
    /// Bad answers without that excuse.
    pub unexplained: u64,
}

impl Counts {
    /// All answers.
    #[must_use]
    pub fn all(&self) -> u64 {
        self.ok + self.injected + self.unexplained
    }
}

/// A failure that nobody was told to cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unexplained {
    /// `status`, `connect`, `closed`, `body`, `timeout` or `overflow`.
    pub kind: String,
    /// When it was sent, after the load began.
    pub at: Duration,
    /// The status, for an answer.
    pub status: Option<u16>,
    /// Who answered; empty when it was not the application.
    pub version: String,
    /// The start of the body, or the fault.
    pub detail: String,
}

/// What the load has seen so far. Times are durations since its beginning.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// When it began.
    pub began: SystemTime,
    /// For how long it has run.
    pub elapsed: Duration,
    /// Requests whose time came.
    pub sent: u64,
    /// Requests that got an answer, good or bad.
    pub answered: u64,
    /// Answers by the header `x-version`; `""` is the proxy's own.
    pub by_version: BTreeMap<String, Counts>,
    /// Failures without excuse, with or without an answer.
    pub unexplained: u64,
    /// The first of them.
    pub unexplained_samples: Vec<Unexplained>,
    /// The first bad answer of each version.
    pub first_bad_at: BTreeMap<String, Duration>,
    /// The newest answer of each version.
    pub last_seen_at: BTreeMap<String, Duration>,
    /// Half of the answers came within this time.
    pub p50: Duration,
    /// 99 of 100 answers came within this time.
    pub p99: Duration,
}

impl Report {
    /// Answers of a version; zeros when there were none.
    #[must_use]
    pub fn of(&self, version: &str) -> Counts {
        self.by_version.get(version).cloned().unwrap_or_default()
    }
}

/// The answers within some time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Window {
    /// Answers by version.
    pub by_version: BTreeMap<String, Counts>,
}

impl Window {
    /// All answers.
    #[must_use]
    pub fn answers(&self) -> u64 {
        self.by_version.values().map(Counts::all).sum()
    }

    /// Answers of a version; zeros when there were none.
    #[must_use]
    pub fn of(&self, version: &str) -> Counts {
        self.by_version.get(version).cloned().unwrap_or_default()
    }

    /// A version's share of all answers, from 0 to 1; nothing without answers.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    pub fn share(&self, version: &str) -> Option<f64> {
        let all = self.answers();
        (all > 0).then(|| self.of(version).all() as f64 / all as f64)
    }
}

/// One answer, as it is kept for windows.
#[derive(Debug, Clone, Copy)]
struct Record {
    answered_ms: u32,
    took_us: u32,
    version: u16,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Ok,
    Injected,
    Unexplained,
}

#[derive(Debug, Default)]
struct Counted {
    sent: u64,
    in_flight: usize,
    unexplained: u64,
    samples: Vec<Unexplained>,
    versions: Vec<String>,
    records: Vec<Record>,
}

impl Load {
    /// Begins to send GET requests for `url`, with `host` as their host, `rate` times a second.
    ///
    /// # Errors
    /// When the URL is not one, or the rate is not above 0.
    pub fn start(url: &str, host: &str, rate: f64) -> Result<Self> {
        Self::over(Connections::Kept, url, host, rate)
    }

    /// The same, with a choice of what becomes of connections.
    ///
    /// # Errors
    /// When the URL is not one, or the rate is not above 0.
    pub fn over(connections: Connections, url: &str, host: &str, rate: f64) -> Result<Self> {
        let uri: Uri = url
            .parse()
            .map_err(|e| Error::Invalid(format!("{url}: {e}")))?;
        let address =
            net::address_of(&uri).ok_or_else(|| Error::Invalid(format!("{url}: no host")))?;
        if !(rate > 0.0 && rate.is_finite()) {
            return Err(Error::Invalid(format!(
                "a rate of {rate} requests a second"
            )));
        }
        let shared = Arc::new(Shared {
            address,
            path: uri
                .path_and_query()
                .map_or_else(|| "/".into(), ToString::to_string),
            host: host.to_owned(),
            connections,
            start: Instant::now(),
            idle: Mutex::default(),
            counts: Mutex::default(),
        });
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let every = Duration::from_secs_f64(1.0 / rate);
        let task = tokio::spawn(send_all(shared.clone(), every, stopped));
        Ok(Self { shared, stop, task })
    }

    /// What was seen so far.
    #[must_use]
    pub fn snapshot(&self) -> Report {
        self.shared.report()
    }

    /// Now, on the clock of reports and windows.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.shared.start.elapsed()
    }

    /// The answers that came after `since` (a time of [`Load::now`]). With `began_after` only
    /// those count whose requests were sent after it too.
    #[must_use]
    pub fn window(&self, since: Duration, began_after: bool) -> Window {
        let counts = self.shared.counts();
        let mut window = Window::default();
        for record in &counts.records[counts.first_after(since)..] {
            if !began_after || record.sent() >= since {
                let version = counts.versions[usize::from(record.version)].clone();
                record
                    .what
                    .count(window.by_version.entry(version).or_default());
            }
        }
        window
    }

    /// The answers of the last `time`.
    #[must_use]
    pub fn recent(&self, time: Duration) -> Window {
        self.window(self.now().saturating_sub(time), false)
    }

    /// Sends no more, awaits what is in flight, and gives the final account.
    pub async fn stop(self) -> Report {
        self.stop.send_replace(true);
        drop(self.task.await);
        self.shared.report()
    }
}

async fn send_all(
    shared: Arc<Shared>,
    every: Duration,
    mut stopped: tokio::sync::watch::Receiver<bool>,
) {
    let mut due = interval(every);
    // Late is late, but not left out: the schedule is the load.
    due.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            _ = due.tick() => {}
            _ = stopped.wait_for(|s| *s) => break,
        }
        while running.try_join_next().is_some() {}
        let at = shared.start.elapsed();
        let room = {
            let mut counts = shared.counts();
            counts.sent += 1;
            let room = counts.in_flight < MOST_IN_FLIGHT;
            counts.in_flight += usize::from(room);
            room
        };
        if room {
            let shared = shared.clone();
            running.spawn(async move { shared.send_one(at).await });
        } else {
            shared
                .counts()
                .failed(at, &Fault::new("overflow", "too many in flight"));
        }
    }
    while running.join_next().await.is_some() {}
}

impl Shared {
    fn counts(&self) -> MutexGuard<'_, Counted> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send_one(&self, at: Duration) {
        let start = Instant::now();
        let answer = match tokio::time::timeout(PATIENCE, self.exchange()).await {
            Ok(answer) => answer,
            Err(_) => Err(Fault::new("timeout", format!("no answer in {PATIENCE:?}"))),
        };
        let took = start.elapsed();
        let mut counts = self.counts();
        counts.in_flight -= 1;
        match answer {
            Ok(answer) => counts.answered(at, took, self.start.elapsed(), &answer),
            Err(fault) => counts.failed(at, &fault),
        }
    }

    async fn exchange(&self) -> std::result::Result<Response<Bytes>, Fault> {
        let close = (header::CONNECTION, HeaderValue::from_static("close"));
        let fresh = self.connections == Connections::Fresh;
        let headers: &[_] = if fresh { &[close] } else { &[] };
        let mut request = net::get(&self.path, &self.host, headers)?;
        loop {
            let kept = self.kept();
            let used_before = kept.is_some();
            let mut connection = match kept {
                Some(connection) => connection,
                None => net::connect(&self.address).await?,
            };
            match connection.try_send_request(request).await {
                Ok(answer) => {
                    let answer = net::collect(answer).await?;
                    self.keep(connection).await;
                    return Ok(answer);
                }
                Err(mut refused) => match refused.take_message() {
                    // Nothing of it was sent.
                    Some(message) if used_before => request = message,
                    _ => return Err(Fault::new("closed", refused.error())),
                },
            }
        }
    }

    /// A connection that was used before and still seems open.
    fn kept(&self) -> Option<SendRequest<Body>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(connection) = idle.pop_back() {
            if connection.is_ready() && !connection.is_closed() {
                return Some(connection);
            }
        }
        None
    }

    /// Unless one of the two said `connection: close`.
    async fn keep(&self, mut connection: SendRequest<Body>) {
        if self.connections == Connections::Kept && connection.ready().await.is_ok() {
            self.idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push_back(connection);
        }
    }

    fn report(&self) -> Report {
        let elapsed = self.start.elapsed();
        let counts = self.counts();
        let mut report = Report {
            began: SystemTime::now() - elapsed,
            elapsed,
            sent: counts.sent,
            answered: counts.records.len() as u64,
            by_version: BTreeMap::new(),
            unexplained: counts.unexplained,
            unexplained_samples: counts.samples.clone(),
            first_bad_at: BTreeMap::new(),
            last_seen_at: BTreeMap::new(),
            p50: Duration::ZERO,
            p99: Duration::ZERO,
        };
        for record in &counts.records {
            let version = &counts.versions[usize::from(record.version)];
            let at = Duration::from_millis(record.answered_ms.into());
            record
                .what
                .count(report.by_version.entry(version.clone()).or_default());
            report.last_seen_at.insert(version.clone(), at);
            if record.what != What::Ok {
                report.first_bad_at.entry(version.clone()).or_insert(at);
            }
        }
        let mut times: Vec<u32> = counts.records.iter().map(|r| r.took_us).collect();
        times.sort_unstable();
        let of = |part: usize| {
            let at = times.len().saturating_sub(1) * part / 100;
            Duration::from_micros(times.get(at).copied().unwrap_or(0).into())
        };
        (report.p50, report.p99) = (of(50), of(99));
        report
    }
}

impl Counted {
    /// Records are kept in the order of their answers.
    fn first_after(&self, since: Duration) -> usize {
        self.records
            .partition_point(|r| Duration::from_millis(r.answered_ms.into()) < since)
    }

    fn answered(&mut self, at: Duration, took: Duration, now: Duration, answer: &Response<Bytes>) {
        let header = |name: &str| answer.headers().get(name).and_then(|v| v.to_str().ok());
        let version = header("x-version").unwrap_or_default();
        let status = answer.status().as_u16();
        let what = match (status, header("x-injected")) {
            (200..400, _) => What::Ok,
            (_, Some("error")) => What::Injected,
            _ => What::Unexplained,
        };
        let index = self
            .versions
            .iter()
            .position(|v| v == version)
            .unwrap_or_else(|| {
                self.versions.push(version.to_owned());
                self.versions.len() - 1
            });
        self.records.push(Record {
            answered_ms: now.as_millis().try_into().unwrap_or(u32::MAX),
            took_us: took.as_micros().try_into().unwrap_or(u32::MAX),
            version: index.try_into().unwrap_or(u16::MAX),
            what,
        });
        if what == What::Unexplained {
            let body = String::from_utf8_lossy(answer.body())
                .chars()
                .take(200)
                .collect();
            self.unexplained(Unexplained {
                kind: "status".into(),
                at,
                status: Some(status),
                version: version.to_owned(),
                detail: body,
            });
        }
    }

    fn failed(&mut self, at: Duration, fault: &Fault) {
        self.unexplained(Unexplained {
            kind: fault.kind.to_owned(),
            at,
            status: None,
            version: String::new(),
            detail: fault.detail.clone(),
        });
    }

    fn unexplained(&mut self, sample: Unexplained) {
        self.unexplained += 1;
        if self.samples.len() < SAMPLES {
            self.samples.push(sample);
        }
    }
}

impl Record {
    fn sent(&self) -> Duration {
        let answered = Duration::from_millis(self.answered_ms.into());
        answered.saturating_sub(Duration::from_micros(self.took_us.into()))
    }
}

impl What {
    fn count(self, counts: &mut Counts) {
        match self {
            Self::Ok => counts.ok += 1,
            Self::Injected => counts.injected += 1,
            Self::Unexplained => counts.unexplained += 1,
        }
    }
}
