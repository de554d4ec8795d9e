//! What a step is made of.

use jiff::Timestamp;

use crate::{api::status::Attempt, model::desired::DesiredRun};

use super::super::{Context, Wait};

/// What the steps so far ask to hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stance {
    /// The canary's share of the traffic, in percent.
    pub weight: u32,
    /// The fewest pods of the canary; none where its share of the traffic says it.
    pub scale: Option<Scale>,
}

/// A number of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// So many.
    Pods(u32),
    /// So many percent of those that are wanted.
    Percent(u32),
}

/// What a step decides from.
pub struct StepContext<'a> {
    /// The world and the spec.
    pub cx: &'a Context<'a>,
    /// The attempt.
    pub attempt: &'a Attempt,
    /// Index of the step.
    pub index: usize,
    /// Hash of the stable revision.
    pub stable: &'a str,
    /// When the step began to count.
    pub started: Timestamp,
    /// Why the stance has not been reached; none when it has.
    pub unreached: Option<Wait>,
    /// Whether the split is in force, pods or no pods: from then on there is something to measure.
    pub in_force: bool,
}

impl StepContext<'_> {
    /// Finished once the stance is reached.
    pub fn reached(&self) -> Outcome {
        match &self.unreached {
            Some(wait) => Outcome::Wait(wait.clone()),
            None => Outcome::Done,
        }
    }
    /// What follows when the step is finished, as a sentence.
    pub fn next(&self) -> String {
        let next = self.index + 1;
        if next < self.attempt.steps.len() {
            format!("step {next} begins")
        } else {
            "the promotion begins".to_owned()
        }
    }
}

/// How a step stands.
#[derive(Debug)]
pub enum Outcome {
    /// Finished: the next one begins.
    Done,
    /// Not yet.
    Wait(Wait),
    /// Not yet, and this analysis must run for it.
    Measure(Box<DesiredRun>, Wait),
    /// The canary is given up.
    Fail {
        /// Why, in a word.
        why: String,
        /// Why, in a sentence.
        message: String,
        /// By what.
        by: String,
    },
    /// A person must say how to go on: why.
    Ask(String),
}
