//! Commands that ask for another revision: what comes of each.

pub mod answer;
pub mod restart;
pub mod undo;
