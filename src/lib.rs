//! Serin, a progressive delivery controller for Kubernetes. The floors of the house, from the
//! ground up; `ARCHITECTURE.md` is the map.

#[cfg(feature = "shell")]
pub mod adapters;
pub mod api;
#[cfg(feature = "shell")]
pub mod cli;
#[cfg(feature = "shell")]
pub mod controller;
pub mod engine;
pub mod model;
#[cfg(feature = "shell")]
pub mod server;
