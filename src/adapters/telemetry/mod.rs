//! What Serin says about itself: logs and metrics.

pub mod logs;
pub mod metrics;
pub mod standing;
