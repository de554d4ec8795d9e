//! Prometheus, or whatever speaks its HTTP API. Only one finite and fresh number is a value.

use std::time::Duration;

use jiff::Timestamp;
use prometheus_http_query::{
    Client,
    response::{InstantVector, Sample},
};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use crate::model::measurement::{Query, Reading};

use super::provider::{Answer, Provider};

/// The longest that connecting may take.
const CONNECT: Duration = Duration::from_secs(3);
/// The longest that a whole question may take.
const TOTAL: Duration = Duration::from_secs(10);
/// The longest answer that is read.
const BODY_MAX: usize = 1024 * 1024;
/// The longest piece of somebody else's message that is passed on.
const SAID_MAX: usize = 200;

/// Why an address cannot be used.
#[derive(Debug, Error)]
pub enum AddressError {
    /// It is no address of HTTP.
    #[error("it is not an http or https URL")]
    Url,
    /// No client can be made.
    #[error("no HTTP client can be made")]
    Client(#[source] reqwest::Error),
}

/// A server with Prometheus' HTTP API.
pub struct Prometheus(Client);

impl std::fmt::Debug for Prometheus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Prometheus")
    }
}

/// The envelope of every answer.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    status: String,
    #[serde(default)]
    data: Option<Data>,
    #[serde(default)]
    error_type: Option<String>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    warnings: Vec<String>,
    /// As VictoriaMetrics says that a part did not answer.
    #[serde(default)]
    is_partial: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: Value,
}

impl Prometheus {
    /// At an address, such as `http://prometheus:9090` or `https://mimir/prometheus`.
    pub fn new(url: &str) -> Result<Self, AddressError> {
        let parsed = reqwest::Url::parse(url).map_err(|_| AddressError::Url)?;
        if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
            return Err(AddressError::Url);
        }
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .timeout(TOTAL)
            // A redirect could lead anywhere, a secret in hand.
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(4)
            .user_agent(concat!("serin/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(AddressError::Client)?;
        Client::from(http, url)
            .map(Self)
            .map_err(|_| AddressError::Url)
    }

    async fn ask(&self, query: &Query) -> Result<Reading, String> {
        let at = query.at.as_millisecond();
        let time = format!("{}.{:03}", at.div_euclid(1000), at.rem_euclid(1000));
        let sent = self
            .0
            .query(&query.text)
            .query("time", time)
            .post_raw()
            .await;
        let mut answer = sent.map_err(no_answer)?;
        let status = answer.status();
        if status.is_redirection() {
            return Err(format!(
                "HTTP {}: it redirects, which is not followed; the provider needs its final address",
                status.as_u16()
            ));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|e| failure(&e))? {
            if body.len() + chunk.len() > BODY_MAX {
                return Err(format!("the answer is longer than {} KiB", BODY_MAX / 1024));
            }
            body.extend_from_slice(&chunk);
        }
        understand(status.as_u16(), &body, query)
    }
}

/// What an answer says: its status code and its body, to this question. An error says in words why it
/// is no measurement.
pub fn understand(code: u16, body: &[u8], query: &Query) -> Result<Reading, String> {
    let envelope: Envelope = serde_json::from_slice(body)
        .map_err(|_| format!("HTTP {code}: the answer is not that of Prometheus' API"))?;
    read(envelope, query)
}

impl Provider for Prometheus {
    fn query<'a>(&'a self, query: &'a Query) -> Answer<'a> {
        Box::pin(async move {
            match tokio::time::timeout(TOTAL + CONNECT, self.ask(query)).await {
                Ok(answer) => answer.unwrap_or_else(Reading::Error),
                Err(_) => Reading::Error("no answer in time".to_owned()),
            }
        })
    }
}

/// What happened to a request, without its address.
fn no_answer(error: prometheus_http_query::Error) -> String {
    let source = std::error::Error::source(&error).and_then(|s| s.downcast_ref::<reqwest::Error>());
    source.map_or_else(|| "the question could not be sent".to_owned(), failure)
}

/// What happened to a request, without its address.
fn failure(error: &reqwest::Error) -> String {
    let what = if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "cannot connect"
    } else {
        "the connection broke"
    };
    // Only the operating system's own words: the chain between may hold the address.
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    match cause.downcast_ref::<std::io::Error>() {
        Some(io) if io.raw_os_error().is_some() => format!("{what}: {}", io.kind()),
        _ => what.to_owned(),
    }
}

/// Somebody else's words, cut.
fn said(text: &str) -> String {
    text.chars().take(SAID_MAX).collect()
}

fn read(envelope: Envelope, query: &Query) -> Result<Reading, String> {
    if envelope.status != "success" {
        let kind = envelope.error_type.as_deref().unwrap_or("error");
        return Err(format!(
            "{}: {}",
            said(kind),
            said(envelope.error.as_deref().unwrap_or("no message"))
        ));
    }
    if let Some(warning) = envelope.warnings.first() {
        return Err(format!("partial answer: {}", said(warning)));
    }
    if envelope.is_partial {
        return Err("partial answer".to_owned());
    }
    let Some(data) = envelope.data else {
        return Err("the answer holds no data".to_owned());
    };
    match data.result_type.as_str() {
        "scalar" => {
            let sample: Sample = serde_json::from_value(data.result)
                .map_err(|_| "the answer's scalar cannot be read".to_owned())?;
            Ok(judge_sample(&sample, query))
        }
        "vector" => {
            let count = data.result.as_array().map_or(0, Vec::len);
            if count == 0 {
                return Ok(Reading::NoData("the query gives no series".to_owned()));
            }
            if count > 1 {
                return Err(format!(
                    "the query gives {count} series, one is wanted: aggregate it"
                ));
            }
            let series: Vec<InstantVector> = serde_json::from_value(data.result)
                .map_err(|_| "the answer's sample is not a number".to_owned())?;
            let Some(one) = series.first() else {
                return Err("the answer cannot be read".to_owned());
            };
            Ok(judge_sample(one.sample(), query))
        }
        other => Err(format!(
            "the query gives a {}, a number is wanted",
            said(other)
        )),
    }
}

fn judge_sample(sample: &Sample, query: &Query) -> Reading {
    let value = sample.value();
    if !value.is_finite() {
        let name = if value.is_nan() {
            "NaN"
        } else if value > 0.0 {
            "+Inf"
        } else {
            "-Inf"
        };
        return Reading::NoData(format!("not a number: {name}"));
    }
    match age(sample.timestamp(), query.at) {
        Some(age) if age <= query.freshness.as_secs_f64() => Reading::Value(value),
        Some(age) => Reading::NoData(format!(
            "stale: the sample is {age:.0} s old, {} s at most",
            query.freshness.as_secs()
        )),
        None => Reading::NoData("stale: the sample has no time".to_owned()),
    }
}

/// How much older than `at` a sample is, in seconds.
fn age(timestamp: f64, at: Timestamp) -> Option<f64> {
    let sampled = jiff::SignedDuration::try_from_secs_f64(timestamp).ok()?;
    let at = at.duration_since(Timestamp::UNIX_EPOCH);
    Some(at.as_secs_f64() - sampled.as_secs_f64())
}

#[cfg(test)]
#[path = "prometheus_tests.rs"]
mod tests;
