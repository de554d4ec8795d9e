//! Timeline: what happened, as text that reviews like prose.

use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};

use crate::api::{Rollout, status::HistoryEntry};

/// What happened.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    begin: Option<Timestamp>,
    lines: Vec<String>,
    last: String,
    told: i64,
    /// Everything that the history ever said.
    pub history: Vec<HistoryEntry>,
    /// Laws that were broken.
    pub broken: Vec<String>,
    /// Writes to the virtual cluster.
    pub writes: u64,
    /// Rounds of deciding.
    pub rounds: u64,
    /// Faults that cannot be played here.
    pub not_played: Vec<String>,
}

impl Timeline {
    fn stamp(&mut self, now: Timestamp) -> String {
        let begin = *self.begin.get_or_insert(now);
        let millis = now.duration_since(begin).as_millis();
        format!(
            "{:02}:{:02}.{}",
            millis / 60_000,
            millis / 1000 % 60,
            millis / 100 % 10
        )
    }

    /// Something happened from outside.
    pub fn event(&mut self, now: Timestamp, what: &str) {
        let at = self.stamp(now);
        self.lines.push(format!("{at}  * {what}"));
    }

    /// A fault is left out.
    pub fn not_played(&mut self, now: Timestamp, fault: String) {
        self.event(now, &format!("not played here: {fault}"));
        self.not_played.push(fault);
    }

    /// A law was broken.
    pub fn broke(&mut self, now: Timestamp, what: &str) {
        let at = self.stamp(now);
        self.lines.push(format!("{at}  ! {what}"));
        self.broken.push(format!("{at} {what}"));
    }

    /// How the Rollout looks now; a line if that is new.
    pub fn look(&mut self, now: Timestamp, rollout: &Rollout, served: u32) {
        let Some(status) = &rollout.status else {
            return;
        };
        let at = self.stamp(now);
        for entry in &status.history {
            if entry.number > self.told {
                self.told = entry.number;
                self.lines
                    .push(format!("{at}    {}: {}", entry.reason, entry.message));
                self.history.push(entry.clone());
            }
        }
        let stage = status.attempt.as_ref().map_or("-", |a| a.stage.as_str());
        let mut line = String::new();
        let _ = write!(
            line,
            "{:<12} {stage:<12} step {:<5}",
            status.phase.as_deref().unwrap_or("-"),
            status.step.as_deref().unwrap_or("-")
        );
        for track in &status.tracks {
            let _ = write!(
                line,
                " {} {}/{}",
                track.name, track.replicas.available, track.replicas.desired
            );
        }
        let _ = write!(line, "  serves {served} %");
        if line != self.last {
            self.lines.push(format!("{at}  {line}"));
            self.last = line;
        }
    }

    /// All of it as text.
    pub fn text(&self) -> String {
        self.lines.join("\n") + "\n"
    }
}

/// A point in time as the timeline writes it.
pub fn after(begin: Timestamp, d: SignedDuration) -> Timestamp {
    begin.saturating_add(d).unwrap_or(Timestamp::MAX)
}
