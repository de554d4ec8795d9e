//! What may become of a request, and which requests it is for.

use std::time::Duration;

use super::{Asked, Requests};

/// What becomes of a request, or of a watch that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is sent on only after a while, up to so long.
    Delay(Duration),
    /// It never arrives; the connection is reset.
    Lost,
    /// It is done; the connection is reset before the answer.
    Unknown,
    /// The connection is reset at once, and it is done after a while, up to so long.
    Late(Duration),
    /// It is sent twice; the second answer counts.
    Twice,
    /// It is refused with this code, and not done.
    Refused(u16),
    /// It is answered with 500, and done.
    FailedButDone,
    /// It is never answered, and not done.
    Hangs,
    /// The answer comes in small pieces.
    Slow,
    /// The connection is reset in the middle of the answer.
    Torn,
    /// A watch says nothing any more, and is never closed.
    Silent,
    /// A watch ends with 410, so that everything must be listed anew.
    Gone,
    /// A watch is reset.
    Reset,
    /// Watches are late, each resource by a lag of its own up to so long.
    Lag(Duration),
}

impl Fault {
    /// In a word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Delay(_) => "delayed",
            Self::Lost => "lost",
            Self::Unknown => "done, answer lost",
            Self::Late(_) => "done late",
            Self::Twice => "sent twice",
            Self::Refused(409) => "409",
            Self::Refused(429) => "429",
            Self::Refused(500) => "500",
            Self::Refused(503) => "503",
            Self::Refused(_) => "refused",
            Self::FailedButDone => "500, but done",
            Self::Hangs => "never answered",
            Self::Slow => "slow body",
            Self::Torn => "body torn",
            Self::Silent => "watch hung",
            Self::Gone => "watch 410",
            Self::Reset => "watch reset",
            Self::Lag(_) => "watch late",
        }
    }

    pub(super) fn is_for_open_watches(self) -> bool {
        matches!(self, Self::Silent | Self::Gone | Self::Reset | Self::Lag(_))
    }
}

/// A fault, and what it strikes.
#[derive(Debug, Clone)]
pub struct Rule {
    /// What becomes of them.
    pub fault: Fault,
    /// Of these requests ..
    pub requests: Requests,
    /// .. for these resources, all but leases where it is empty, ..
    pub resources: &'static [&'static str],
    /// .. so many of a thousand. Of a watch that is open: of its pieces.
    pub permille: u32,
}

impl Rule {
    /// A fault of some requests for any resource but leases.
    #[must_use]
    pub fn new(fault: Fault, requests: Requests, permille: u32) -> Self {
        Self {
            fault,
            requests,
            resources: &[],
            permille,
        }
    }

    pub(super) fn fits(&self, asked: &Asked) -> bool {
        let about = if self.resources.is_empty() {
            asked.resource != "leases"
        } else {
            self.resources.contains(&asked.resource.as_str())
        };
        about && (self.requests == Requests::All || self.requests == asked.requests)
    }
}
