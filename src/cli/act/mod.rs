//! What people ask for: commands, and another image.

pub mod command;
pub mod image;

/// Field manager of what people write with this program. A GitOps tool that applies leaves the fields of
/// another manager alone.
pub const MANAGER: &str = "serin-cli";
