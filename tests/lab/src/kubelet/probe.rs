//! Probes, with a real kubelet's thresholds.

use std::{collections::BTreeMap, time::Duration};

use http::{HeaderName, HeaderValue};
use k8s_openapi::{
    api::core::v1::{Container, HTTPGetAction, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};
use tokio::{
    net::TcpStream,
    sync::mpsc,
    time::{sleep, timeout},
};

use crate::net;

/// What the probes of a container have to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The startup probe succeeded, or there is none.
    Started,
    /// The readiness probe changed its mind.
    Ready(bool),
    /// The liveness or startup probe failed for good: the container is to be restarted.
    Unhealthy(String),
}

/// While a container has never been ready it is asked this often, if its probe's period is longer:
/// a lab should not wait 10 s for what is there after 1.
const EAGER: Duration = Duration::from_millis(250);

struct Target {
    ip: String,
    ports: BTreeMap<String, i32>,
}

/// Runs all probes of a container that has just started; ends when it is dropped.
pub(super) async fn run(container: Container, ip: String, say: mpsc::UnboundedSender<Verdict>) {
    let ports = container.ports.into_iter().flatten();
    let ports = ports
        .filter_map(|p| Some((p.name?, p.container_port)))
        .collect();
    let target = Target { ip, ports };
    if let Some(probe) = &container.startup_probe
        && let Err(why) = until_decided(probe, &target).await
    {
        drop(say.send(Verdict::Unhealthy(format!("Startup probe failed: {why}"))));
        return;
    }
    drop(say.send(Verdict::Started));
    let readiness = async {
        match &container.readiness_probe {
            Some(probe) => readiness(probe, &target, &say).await,
            None => drop(say.send(Verdict::Ready(true))),
        }
    };
    let liveness = async {
        if let Some(probe) = &container.liveness_probe {
            sleep(seconds(probe.initial_delay_seconds, 0)).await;
            let why = until_failed(probe, &target).await;
            drop(say.send(Verdict::Unhealthy(format!("Liveness probe failed: {why}"))));
        }
    };
    futures::join!(readiness, liveness);
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    let given = value.and_then(|v| u64::try_from(v).ok()).filter(|v| *v > 0);
    Duration::from_secs(given.unwrap_or(default))
}

fn threshold(value: Option<i32>, default: u32) -> u32 {
    value
        .and_then(|v| u32::try_from(v).ok())
        .filter(|v| *v > 0)
        .unwrap_or(default)
}

/// The startup probe: until it succeeds or has failed too often.
async fn until_decided(probe: &Probe, target: &Target) -> Result<(), String> {
    sleep(seconds(probe.initial_delay_seconds, 0)).await;
    let mut failures = 0;
    loop {
        match ask(probe, target).await {
            Ok(()) => return Ok(()),
            Err(why) => {
                failures += 1;
                if failures >= threshold(probe.failure_threshold, 3) {
                    return Err(why);
                }
            }
        }
        sleep(seconds(probe.period_seconds, 10)).await;
    }
}

async fn until_failed(probe: &Probe, target: &Target) -> String {
    let mut failures = 0;
    loop {
        match ask(probe, target).await {
            Ok(()) => failures = 0,
            Err(why) => {
                failures += 1;
                if failures >= threshold(probe.failure_threshold, 3) {
                    return why;
                }
            }
        }
        sleep(seconds(probe.period_seconds, 10)).await;
    }
}

async fn readiness(probe: &Probe, target: &Target, say: &mpsc::UnboundedSender<Verdict>) {
    sleep(seconds(probe.initial_delay_seconds, 0)).await;
    let (mut ready, mut ever, mut in_a_row) = (false, false, 0);
    let period = seconds(probe.period_seconds, 10);
    loop {
        let well = ask(probe, target).await.is_ok();
        in_a_row = if well == ready { 0 } else { in_a_row + 1 };
        let needed = match well {
            true => threshold(probe.success_threshold, 1),
            false => threshold(probe.failure_threshold, 3),
        };
        if in_a_row >= needed {
            (ready, in_a_row) = (well, 0);
            ever |= ready;
            drop(say.send(Verdict::Ready(ready)));
        }
        sleep(if ever { period } else { period.min(EAGER) }).await;
    }
}

async fn ask(probe: &Probe, target: &Target) -> Result<(), String> {
    let limit = seconds(probe.timeout_seconds, 1);
    let answer = async {
        if let Some(action) = &probe.http_get {
            http_get(action, target).await
        } else if let Some(action) = &probe.tcp_socket {
            let address = format!(
                "{}:{}",
                action.host.as_ref().unwrap_or(&target.ip),
                port(&action.port, target)?
            );
            TcpStream::connect(&address)
                .await
                .map(drop)
                .map_err(|e| e.to_string())
        } else {
            Err("the lab's kubelet knows httpGet and tcpSocket probes only".into())
        }
    };
    timeout(limit, answer)
        .await
        .unwrap_or_else(|_| Err(format!("no answer in {limit:?}")))
}

async fn http_get(action: &HTTPGetAction, target: &Target) -> Result<(), String> {
    let host = action.host.as_ref().unwrap_or(&target.ip);
    let address = format!("{host}:{}", port(&action.port, target)?);
    let path = action.path.as_deref().unwrap_or("/");
    let headers: Vec<_> = action
        .http_headers
        .iter()
        .flatten()
        .filter_map(|h| {
            let name = HeaderName::try_from(&h.name).ok()?;
            Some((name, HeaderValue::try_from(&h.value).ok()?))
        })
        .collect();
    let request = net::get(path, &address, &headers).map_err(|f| f.detail)?;
    let answer = net::once(&address, request).await.map_err(|f| f.detail)?;
    match answer.status().as_u16() {
        200..400 => Ok(()),
        code => Err(format!("HTTP probe failed with statuscode: {code}")),
    }
}

fn port(port: &IntOrString, target: &Target) -> Result<i32, String> {
    match port {
        IntOrString::Int(number) => Ok(*number),
        IntOrString::String(name) => match target.ports.get(name) {
            Some(number) => Ok(*number),
            None => name.parse().map_err(|_| format!("no port is named {name}")),
        },
    }
}
