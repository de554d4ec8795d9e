//! One row for each fault.

use std::fmt;

/// What came of a fault.
#[derive(Clone, Debug, Default)]
pub struct Row {
    pub fault: String,
    pub sent: u64,
    /// Failed while, or soon after, the fault hit the data plane itself.
    pub explained: u64,
    pub unexplained: u64,
    /// How often the fault struck.
    pub struck: u64,
    /// Copies of the controller that ended, and were started again.
    pub ends: u32,
    /// How each rollout ended: the canary's, the blue-green one's.
    pub end: [String; 2],
    /// The laws that were broken, and other things that should not be.
    pub wrong: Vec<String>,
    pub took: u64,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = self.explained + self.unexplained;
        let laws = if self.wrong.is_empty() {
            "held"
        } else {
            "**broken**"
        };
        write!(
            f,
            "| {} | {} | {failed} | {} | {} | {} | {} | {} | {} | {laws} | {} |",
            self.fault,
            self.sent,
            self.explained,
            self.unexplained,
            self.struck,
            self.ends,
            self.end[0],
            self.end[1],
            self.took
        )
    }
}
