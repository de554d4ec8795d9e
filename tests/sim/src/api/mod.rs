//! The simulated API server: objects, their history, and what it answers.

pub mod answer;
pub mod kinds;
pub mod store;
pub mod watch;
pub mod write;
