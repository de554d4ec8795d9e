//! Progress: how far an attempt has come, and what there is to say about it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::status::{HistoryEntry, RolloutStatus};

/// Where an attempt stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The first deploy: pods come up, there is nothing to split.
    Deploying,
    /// The canary gets its Service while all traffic goes to stable.
    Starting,
    /// The steps.
    Stepping,
    /// The canary grows to full size and takes all traffic.
    Promoting,
    /// It is promoted, has all traffic, and must still prove good.
    Baking,
    /// It is promoted; the stable Service turns to it.
    Switching,
    /// The traffic returns to the stable Service.
    Returning,
    /// The traffic goes back to the old stable revision.
    RollingBack,
    /// Finished.
    Done,
}

impl Stage {
    const ALL: [(Self, &'static str); 9] = [
        (Self::Deploying, "Deploying"),
        (Self::Starting, "Starting"),
        (Self::Stepping, "Stepping"),
        (Self::Promoting, "Promoting"),
        (Self::Baking, "Baking"),
        (Self::Switching, "Switching"),
        (Self::Returning, "Returning"),
        (Self::RollingBack, "RollingBack"),
        (Self::Done, "Done"),
    ];

    /// Its word in the status.
    pub fn as_str(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(s, _)| *s == self)
            .map_or("Done", |(_, word)| word)
    }
    /// Reads the status's word; none for one that a newer Serin wrote.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, w)| *w == word).map(|(s, _)| *s)
    }
    /// That of the attempt; none before the first, or where a newer Serin wrote it.
    pub fn of(status: &RolloutStatus) -> Option<Self> {
        status.attempt.as_ref().and_then(|a| Self::parse(&a.stage))
    }
    /// Whether the canary can still be given up.
    pub fn can_abort(self) -> bool {
        matches!(
            self,
            Self::Starting | Self::Stepping | Self::Promoting | Self::Baking
        )
    }

    /// Whether a pause holds it. A first deploy, a way back and what only ends go on.
    pub fn pauses(self) -> bool {
        self.can_abort() || self == Self::Switching
    }
}

/// A time and a duration after it; the end of time where there is none.
pub fn after(t: Timestamp, d: Duration) -> Timestamp {
    t.saturating_add(SignedDuration::try_from(d).unwrap_or(SignedDuration::MAX))
        .unwrap_or(Timestamp::MAX)
}

/// The longest message in a status.
pub const MESSAGE_MAX: usize = 400;
/// The longest text of who or what decided something.
pub const FEW_WORDS_MAX: usize = 200;
/// The longest history.
pub const HISTORY_MAX: usize = 20;

/// Text cut to what a status may hold.
pub fn brief(text: &str) -> String {
    cut(text, MESSAGE_MAX)
}

/// By whom or by what something came about, cut to what stands on a record.
pub fn few_words(text: &str) -> String {
    cut(text, FEW_WORDS_MAX)
}

fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let cut = (0..=most.saturating_sub(3))
        .rev()
        .find(|i| text.is_char_boundary(*i))
        .unwrap_or(0);
    format!("{}...", text.get(..cut).unwrap_or_default())
}

/// Adds an entry to the history; the oldest goes when it is full.
pub fn note(status: &mut RolloutStatus, now: Timestamp, type_: &str, reason: &str, message: &str) {
    let told = status.decision.as_ref().map_or(0, |d| d.told);
    let number = status
        .history
        .iter()
        .map(|h| h.number)
        .max()
        .unwrap_or(0)
        .max(told)
        + 1;
    status.history.push(HistoryEntry {
        number,
        at: Time(now),
        type_: type_.to_owned(),
        reason: reason.to_owned(),
        message: brief(message),
    });
    let excess = status.history.len().saturating_sub(HISTORY_MAX);
    status.history.drain(..excess);
}

/// Adds an entry, unless the newest one of the same reason says the same.
pub fn note_once(
    status: &mut RolloutStatus,
    now: Timestamp,
    type_: &str,
    reason: &str,
    message: &str,
) {
    let said = status.history.iter().rev().find(|h| h.reason == reason);
    if said.is_none_or(|h| h.message != brief(message)) {
        note(status, now, type_, reason, message);
    }
}
