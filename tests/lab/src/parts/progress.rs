//! Telling a person how far the preparation is.

use std::{
    cell::Cell,
    io::{IsTerminal, Write, stderr},
    time::Duration,
};

/// One part being prepared.
#[derive(Debug, Clone)]
pub struct Step {
    /// Which part, and what is done with it.
    pub what: String,
    /// Its place among all.
    pub number: usize,
    /// How many there are.
    pub of: usize,
    /// About how long it takes on two cores when nothing is cached.
    pub about: Duration,
}

/// Hears how far the preparation is; nothing is said of what is there already.
pub trait Progress {
    /// A part is being prepared since `elapsed`.
    fn working(&self, step: &Step, elapsed: Duration);
    /// A part is ready, after `elapsed`.
    fn ready(&self, step: &Step, elapsed: Duration);
}

/// Says nothing.
#[derive(Debug, Clone, Copy)]
pub struct Quiet;

impl Progress for Quiet {
    fn working(&self, _: &Step, _: Duration) {}
    fn ready(&self, _: &Step, _: Duration) {}
}

/// Writes to standard error: one moving line on a terminal, else a line every 20 seconds.
#[derive(Debug)]
pub struct Terminal {
    moving: bool,
    said: Cell<u64>,
}

impl Default for Terminal {
    fn default() -> Self {
        Self::new()
    }
}

impl Terminal {
    /// One for this process's standard error.
    #[must_use]
    pub fn new() -> Self {
        Self {
            moving: stderr().is_terminal(),
            said: Cell::new(0),
        }
    }
}

impl Progress for Terminal {
    fn working(&self, step: &Step, elapsed: Duration) {
        let (secs, about) = (elapsed.as_secs(), step.about.as_secs());
        let line = format!(
            "lab [{}/{}] {}: {secs} s (about {about} s when nothing is cached)",
            step.number, step.of, step.what
        );
        if self.moving {
            drop(write!(stderr(), "\r\x1b[K{line}"));
        } else if secs == 0 && self.said.get() == 0 || secs >= self.said.get() + 20 {
            self.said.set(secs.max(1));
            drop(writeln!(stderr(), "{line}"));
        }
    }

    fn ready(&self, step: &Step, elapsed: Duration) {
        self.said.set(0);
        let start = if self.moving { "\r\x1b[K" } else { "" };
        drop(writeln!(
            stderr(),
            "{start}lab [{}/{}] {}: ready after {} s",
            step.number,
            step.of,
            step.what,
            elapsed.as_secs()
        ));
    }
}
