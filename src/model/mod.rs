//! The nouns: plain values with small pure methods.

pub mod command;
pub mod desired;
pub mod glance;
pub mod measurement;
pub mod object;
pub mod observed;
pub mod plan;
pub mod progress;
pub mod revisions;
pub mod share;
pub mod spec;
pub mod traffic;
pub mod workload;
