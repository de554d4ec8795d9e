//! The simulator: the same decisions on a virtual cluster in virtual time. It shows what would
//! happen; the tests hold it against what does happen.

mod adopted;
pub mod cluster;
mod events;
pub mod expect;
mod laws;
pub mod moment;
pub mod run;
pub mod scenario;
pub mod timeline;
pub mod world;

pub use cluster::names::with_version;
pub use events::holds;
pub use run::Simulation;
pub use scenario::Scenario;
pub use timeline::Timeline;
