//! Serin, a progressive delivery controller for Kubernetes. The floors of the house, from the
//! ground up; `ARCHITECTURE.md` is the map.

pub mod api;
pub mod engine;
pub mod model;
pub mod sim;
