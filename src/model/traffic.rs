//! The split of the traffic: as written, as accepted, and as it may still be in force.

use jiff::Timestamp;

/// What the route objects say.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// The canary's share in millionths, the same in every route and rule.
    pub share: Result<u32, RouteFault>,
    /// The largest share of the canary in any rule that can be read, in millionths; none where none can.
    pub highest: Option<u32>,
    /// Whether every controller of every route's parents has accepted what is written.
    pub accepted: bool,
    /// What an acceptance still lacks, in a sentence.
    pub lacking: Option<String>,
    /// The generations that were read, as text: `checkout=7`.
    pub generations: String,
    /// The highest decision number that stands on all of the routes.
    pub decision: i64,
    /// Who wrote the routes' rules last, apart from Serin.
    pub foreign_writer: Option<String>,
    /// Whether a rule names the user's Service in the place of the role Services: users reach every pod.
    pub loose: bool,
    /// Whether one does while pods of another revision than stable are there.
    pub strayed: bool,
    /// Whether a route remembers the backends that Serin took out of it.
    pub bound: bool,
}

impl Written {
    /// The share that an acceptance is about. Nobody comes by a route that does not exist: what is left says it,
    /// once that gives the canary nothing.
    pub fn acceptable(&self) -> Option<u32> {
        match &self.share {
            Ok(share) => Some(*share),
            Err(RouteFault::Missing(_)) => self.highest.filter(|h| *h == 0),
            Err(_) => None,
        }
    }
}

/// Why no split can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteFault {
    /// A route does not exist yet.
    Missing(String),
    /// A route cannot be used as it is: field path and what is wrong.
    Unfit {
        /// Path of the Rollout's field that names it.
        path: String,
        /// What was found and what would be right.
        message: String,
    },
    /// Routes or rules disagree; the largest share of the canary in any of them, in millionths.
    Disagree(u32),
}

/// What the data plane may be serving now: shares in millionths.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InForce {
    /// The smallest share that the canary may have.
    pub low: u32,
    /// The largest share that the canary may have.
    pub high: u32,
    /// The share, once it is accepted and the propagation delay has passed.
    pub settled: Option<u32>,
    /// When it will have settled, if nothing changes.
    pub settles_at: Option<Timestamp>,
    /// Whether a route does not exist and what is left gives the canary nothing, settled: nothing can be straightened.
    pub gone: bool,
}

impl InForce {
    /// Whether the data plane serves exactly `weight` percent.
    pub fn settled_at(&self, weight: u32) -> bool {
        self.settled == Some(super::share::percent(weight))
    }
}
