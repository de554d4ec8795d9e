//! The sample application: an HTTP service that behaves as its environment says.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `VERSION` | said in the header `x-version` of every answer; default: the image's tag |
//! | `SERVICE` | the label `service` of its metrics; default `app` |
//! | `PORT` | where it listens, on `LAB_POD_IP`; default 8080 |
//! | `ERROR_RATE` | 0 to 1: that share of answers is 500 with the header `x-injected: error` |
//! | `LATENCY` | added to every answer, such as `20ms` |
//! | `START_DELAY` | it listens only after this time |
//! | `CRASH_AFTER` | it exits with code 1 after this time |
//! | `NEVER_READY` | any value but `false`: `/readyz` says 503 for ever |
//! | `DRAIN` | after SIGTERM it serves on for this time, not ready; default `1s` |
//!
//! Errors are spread evenly by counting, so their rate is exact. `/readyz` is for probes,
//! `/metrics` for Prometheus; `/stream` says the version line by line until the application is told
//! to end, and then `bye`; `PUT /lab?error_rate=0.5&latency=20ms&ready=false` changes a running
//! one.

use std::{
    env,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{RawQuery, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, put},
};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};
use tokio::{net::TcpListener, signal::unix::SignalKind, time::sleep};

use crate::error::{Context, Error, Result};

#[derive(Debug, Clone, Copy, PartialEq)]
struct Behaviour {
    error_rate: f64,
    latency: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    code: u16,
    version: String,
    service: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TimeLabels {
    version: String,
    service: String,
}

struct App {
    version: String,
    service: String,
    behaviour: Mutex<Behaviour>,
    asked: AtomicU64,
    ready: AtomicBool,
    draining: AtomicBool,
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    times: Family<TimeLabels, Histogram>,
}

/// Runs the application until it is told to end; gives the exit code.
pub(crate) fn main() -> i32 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let served = runtime
        .context(|| "starting a runtime")
        .and_then(|r| r.block_on(serve()));
    match served {
        Ok(code) => code,
        Err(e) => {
            eprintln!("{e}");
            2
        }
    }
}

fn var(name: &str) -> Option<String> {
    env::var(name).ok().filter(|v| !v.is_empty())
}

fn duration(name: &str, default: Duration) -> Result<Duration> {
    let wrong = |e| Error::Invalid(format!("{name}: {e}"));
    var(name).map_or(Ok(default), |v| {
        humantime::parse_duration(&v).map_err(wrong)
    })
}

fn rate(text: &str) -> Result<f64> {
    match text.parse::<f64>() {
        Ok(rate) if (0.0..=1.0).contains(&rate) => Ok(rate),
        _ => Err(Error::Invalid(format!(
            "an error rate is from 0 to 1, not {text}"
        ))),
    }
}

async fn serve() -> Result<i32> {
    let mut terminate =
        tokio::signal::unix::signal(SignalKind::terminate()).context(|| "handling SIGTERM")?;
    let drain = duration("DRAIN", Duration::from_secs(1))?;
    let crash = var("CRASH_AFTER")
        .map(|_| duration("CRASH_AFTER", Duration::ZERO))
        .transpose()?;
    let crash = async {
        match crash {
            Some(after) => sleep(after).await,
            None => std::future::pending().await,
        }
    };
    let app = Arc::new(App::from_env()?);
    let start_delay = duration("START_DELAY", Duration::ZERO)?;
    let draining = app.clone();
    let served = async {
        sleep(start_delay).await;
        let ip = var("LAB_POD_IP").unwrap_or_else(|| "0.0.0.0".into());
        let address = format!("{ip}:{}", var("PORT").unwrap_or_else(|| "8080".into()));
        let listener = TcpListener::bind(&address)
            .await
            .context(|| format!("listening on {address}"))?;
        println!("version {} listens on {address}", app.version);
        let stop = async move {
            terminate.recv().await;
            println!("told to end: serving on for {drain:?}");
            draining.draining.store(true, Ordering::SeqCst);
            sleep(drain).await;
        };
        axum::serve(listener, router(app))
            .with_graceful_shutdown(stop)
            .await
            .context(|| "serving")
    };
    tokio::select! {
        served = served => served.map(|()| 0),
        () = crash => {
            println!("crashing, as told by CRASH_AFTER");
            Ok(1)
        }
    }
}

fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/lab", put(change))
        .route("/stream", get(endless))
        .fallback(answer)
        .with_state(app)
}

impl App {
    fn from_env() -> Result<Self> {
        let tag = var("LAB_IMAGE").and_then(|i| Some(i.rsplit_once(':')?.1.to_owned()));
        let behaviour = Behaviour {
            error_rate: var("ERROR_RATE").map_or(Ok(0.0), |r| rate(&r))?,
            latency: duration("LATENCY", Duration::ZERO)?,
        };
        let requests = Family::<RequestLabels, Counter>::default();
        let times = Family::<TimeLabels, Histogram>::new_with_constructor(|| {
            Histogram::new([
                0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
            ])
        });
        let mut registry = Registry::default();
        registry.register("http_requests", "Answers given", requests.clone());
        registry.register(
            "http_request_duration_seconds",
            "Time to answer",
            times.clone(),
        );
        Ok(Self {
            version: var("VERSION").or(tag).unwrap_or_else(|| "none".into()),
            service: var("SERVICE").unwrap_or_else(|| "app".into()),
            behaviour: Mutex::new(behaviour),
            asked: AtomicU64::new(0),
            ready: AtomicBool::new(var("NEVER_READY").is_none_or(|v| v == "false")),
            draining: AtomicBool::new(false),
            registry,
            requests,
            times,
        })
    }

    fn behaviour(&self) -> Behaviour {
        *self
            .behaviour
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn times(&self) -> TimeLabels {
        TimeLabels {
            version: self.version.clone(),
            service: self.service.clone(),
        }
    }

    fn count(&self, code: u16, since: Instant) {
        let (version, service) = (self.version.clone(), self.service.clone());
        self.requests
            .get_or_create(&RequestLabels {
                code,
                version,
                service,
            })
            .inc();
        self.times
            .get_or_create(&self.times())
            .observe(since.elapsed().as_secs_f64());
    }
}

/// Whether the `n`th answer (from 0) is an error, so that any run of them has exactly their share.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "counts far below 2^52, rates from 0 to 1"
)]
fn is_error(n: u64, rate: f64) -> bool {
    let due = |n: u64| (n as f64 * rate + 1e-9) as u64;
    due(n + 1) > due(n)
}

async fn answer(State(app): State<Arc<App>>) -> Response {
    let start = Instant::now();
    let behaviour = app.behaviour();
    if !behaviour.latency.is_zero() {
        sleep(behaviour.latency).await;
    }
    let bad = is_error(
        app.asked.fetch_add(1, Ordering::Relaxed),
        behaviour.error_rate,
    );
    let mut headers = HeaderMap::new();
    let version = HeaderValue::from_str(&app.version);
    headers.insert(
        "x-version",
        version.unwrap_or(HeaderValue::from_static("unprintable")),
    );
    if app.draining.load(Ordering::SeqCst) {
        // The other end had better not send the next request here.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let status = if bad {
        StatusCode::INTERNAL_SERVER_ERROR
    } else {
        StatusCode::OK
    };
    if bad {
        headers.insert("x-injected", HeaderValue::from_static("error"));
    }
    app.count(status.as_u16(), start);
    (
        status,
        headers,
        if bad { "injected error\n" } else { "ok\n" },
    )
        .into_response()
}

/// Lines without an end, and a last one when the application has drained.
async fn endless(State(app): State<Arc<App>>) -> Response {
    let lines = futures::stream::unfold(false, move |over| {
        let app = app.clone();
        async move {
            if over {
                return None;
            }
            sleep(Duration::from_millis(100)).await;
            let over = app.draining.load(Ordering::SeqCst);
            let line = if over {
                "bye\n".to_owned()
            } else {
                format!("{}\n", app.version)
            };
            Some((Ok::<_, std::convert::Infallible>(line), over))
        }
    });
    axum::body::Body::from_stream(lines).into_response()
}

async fn readyz(State(app): State<Arc<App>>) -> StatusCode {
    let ready = app.ready.load(Ordering::SeqCst) && !app.draining.load(Ordering::SeqCst);
    if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    let mut text = String::new();
    match encode(&mut text, &app.registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()).into_response(),
    }
}

async fn change(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Response {
    let mut new = app.behaviour();
    for pair in query
        .unwrap_or_default()
        .split('&')
        .filter(|p| !p.is_empty())
    {
        let changed = match pair.split_once('=') {
            Some(("error_rate", value)) => rate(value).map(|r| new.error_rate = r),
            Some(("latency", value)) => humantime::parse_duration(value)
                .map(|l| new.latency = l)
                .map_err(|e| Error::Invalid(e.to_string())),
            Some(("ready", value)) => value
                .parse()
                .map(|r| app.ready.store(r, Ordering::SeqCst))
                .map_err(|_| Error::Invalid(format!("ready={value}: must be true or false"))),
            _ => Err(Error::Invalid(format!("unknown: {pair}"))),
        };
        if let Err(e) = changed {
            return (StatusCode::BAD_REQUEST, e.to_string()).into_response();
        }
    }
    *app.behaviour.lock().unwrap_or_else(PoisonError::into_inner) = new;
    StatusCode::NO_CONTENT.into_response()
}

#[cfg(test)]
mod tests {
    use super::is_error;

    #[test]
    fn errors_are_spread_and_their_rate_is_exact() {
        for (rate, per_thousand) in [(0.0, 0), (0.1, 100), (0.333, 333), (0.5, 500), (1.0, 1000)] {
            let errors = (0..1000).filter(|n| is_error(*n, rate)).count();
            assert_eq!(errors, per_thousand, "{rate}");
        }
        let at: Vec<u64> = (0..40).filter(|n| is_error(*n, 0.1)).collect();
        assert_eq!(at, [9, 19, 29, 39]);
    }
}
