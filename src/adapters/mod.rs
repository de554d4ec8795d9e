//! Four doors to the world. They know the nouns, not the verbs, and not each other.

pub mod cluster;
pub mod notify;
pub mod providers;
pub mod telemetry;
