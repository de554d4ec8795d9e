//! The simulator: the same decisions on a virtual cluster in virtual time. It shows what would
//! happen; the tests hold it against what does happen.

pub mod cluster;
pub mod data_plane;
mod events;
mod laws;
pub mod names;
mod observe;
pub mod pods;
pub mod run;
pub mod scenario;
pub mod timeline;
pub mod world;

pub use events::holds;
pub use names::with_version;
pub use run::Simulation;
pub use scenario::Scenario;
pub use timeline::Timeline;
