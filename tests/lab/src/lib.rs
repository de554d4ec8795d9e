//! A real cluster with a real data plane, without root or containers.
//!
//! A program calls [`enter`] first thing in `main`, which prepares the parts and takes it into
//! namespaces of its own; then [`Lab::up`] starts a control plane, Envoy Gateway with Envoy,
//! Prometheus, Alertmanager and a kubelet whose pods are processes. [`Load`] sends requests and
//! counts every answer. [`Suite`] runs tests that share one lab. See `README.md`.

mod access;
mod app;
mod apply;
mod audit;
mod control_plane;
mod error;
mod gateway;
mod harm;
mod hostile;
mod inside;
mod kubelet;
mod lab;
mod load;
mod metrics;
mod net;
mod paper;
mod parts;
mod pki;
mod process;
mod relay;
mod roles;
mod roots;
mod suite;

pub use self::{
    audit::AuditEntry,
    error::{Error, Result},
    gateway::{GATEWAY_NAME, GATEWAY_NAMESPACE, GATEWAY_PORT, GATEWAY_TCP_PORT},
    harm::Piece,
    hostile::{Asked, Fault, Metrics, Proxy, Requests, Rule, Sick},
    inside::{HOST_IP, enter},
    kubelet::{Images, NODE},
    lab::{Lab, Options},
    load::{Connections, Counts, Load, MOST_IN_FLIGHT, PATIENCE, Report, Unexplained, Window},
    metrics::{ALERTMANAGER_PORT, Alert, PROMETHEUS_PORT, Series},
    parts::{Parts, Progress, Quiet, Step, Terminal, Tool, prepare},
    relay::Hold,
    suite::{CaseResult, Suite},
};

/// Runs the sample application in this process, as its environment says; gives the exit code.
#[must_use]
pub fn run_app() -> i32 {
    app::main()
}
