//! Serin, a progressive delivery controller for Kubernetes. The floors of the house, from the
//! ground up; `ARCHITECTURE.md` is the map.

pub mod api;
pub mod model;

#[cfg(feature = "shell")]
pub mod adapters;
pub mod engine;

#[cfg(feature = "shell")]
pub mod controller;
#[cfg(feature = "shell")]
pub mod server;
pub mod sim;

#[cfg(feature = "shell")]
pub mod cli;
