//! Context: what a round needs beside the object that it looks at.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::{
    adapters::{
        cluster::{Cluster, world::mirror::Key},
        providers::Providers,
        telemetry::metrics::Metrics,
    },
    api::names::CONTROLLER_NAME,
};

/// The time of day, told from one look at the wall clock and the time that has passed since: it
/// never jumps, and stands still where a test lets it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    epoch: Timestamp,
    start: Instant,
}

impl Clock {
    /// From the wall clock.
    #[allow(
        clippy::disallowed_methods,
        reason = "the one reader of the wall clock"
    )]
    pub fn wall() -> Self {
        Self::starting_at(Timestamp::now())
    }
    /// It is `epoch` now.
    pub fn starting_at(epoch: Timestamp) -> Self {
        Self {
            epoch,
            start: Instant::now(),
        }
    }
    /// The time.
    pub fn now(&self) -> Timestamp {
        let passed = SignedDuration::try_from(self.start.elapsed()).unwrap_or(SignedDuration::MAX);
        self.epoch.saturating_add(passed).unwrap_or(Timestamp::MAX)
    }
}

/// What a round needs beside the object that it looks at.
#[derive(Debug)]
pub struct Context {
    /// The API server.
    pub cluster: Cluster,
    /// Who answers questions about metrics.
    pub providers: Providers,
    /// What is counted.
    pub metrics: Metrics,
    /// The time.
    pub clock: Clock,
    /// `spec.controllerName` of the Rollouts that are ours.
    pub controller_name: String,
    /// Whether it is the API server's word who gave a command.
    pub trust_command_actor: bool,
    /// Rounds in a row that failed, by controller and object.
    pub failures: Failures,
}

impl Context {
    /// Whether a Rollout with this `spec.controllerName` is ours.
    pub fn ours(&self, controller: Option<&str>) -> bool {
        controller.unwrap_or(CONTROLLER_NAME) == self.controller_name
    }
}

/// Rounds in a row that failed.
#[derive(Debug, Default)]
pub struct Failures(Mutex<Map>);

/// By controller and object.
type Map = BTreeMap<(&'static str, Key), Failed>;

#[derive(Debug, Default)]
struct Failed {
    count: u32,
    in_doubt: bool,
}

impl Failures {
    fn lock(&self) -> MutexGuard<'_, Map> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// One more; how many there are now.
    pub fn add(&self, controller: &'static str, key: &Key) -> u32 {
        let mut map = self.lock();
        let failed = map.entry((controller, key.clone())).or_default();
        failed.count = failed.count.saturating_add(1);
        failed.count
    }
    /// What is cached may not be what stands: the next look is a live one.
    pub fn doubt(&self, controller: &'static str, key: &Key) {
        let mut map = self.lock();
        map.entry((controller, key.clone())).or_default().in_doubt = true;
    }
    /// Whether it may not be.
    pub fn in_doubt(&self, controller: &'static str, key: &Key) -> bool {
        self.lock()
            .get(&(controller, key.clone()))
            .is_some_and(|failed| failed.in_doubt)
    }
    /// It went well.
    pub fn clear(&self, controller: &'static str, key: &Key) {
        self.lock().remove(&(controller, key.clone()));
    }
}

/// How long to wait after the `count`th failure in a row: twice as long each time, and not for all
/// objects the same.
pub fn backoff(first: Duration, longest: Duration, count: u32, key: &Key) -> Duration {
    let doubled = first
        .saturating_mul(1 << count.saturating_sub(1).min(16))
        .min(longest);
    doubled.mul_f64(1.0 - 0.4 * spread(key, count))
}

/// A number from 0 to 1 that differs between objects and is the same in every run.
pub fn spread(key: &Key, salt: u32) -> f64 {
    let mut state: u32 = 0x811c_9dc5 ^ salt;
    for byte in key.namespace.bytes().chain([b'/']).chain(key.name.bytes()) {
        state = (state ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    f64::from(state >> 8) / f64::from(1 << 24)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_passes_with_the_clock_of_the_runtime() {
        let epoch = Timestamp::from_second(1_000).expect("a time");
        let clock = Clock::starting_at(epoch);
        tokio::time::advance(Duration::from_secs(90)).await;
        assert_eq!(clock.now().as_second(), 1_090);
    }

    #[test]
    fn backoff_grows_is_bounded_and_differs() {
        let (a, b) = (Key::new("ns", "a"), Key::new("ns", "b"));
        let wait = |count, key| {
            backoff(
                Duration::from_millis(500),
                Duration::from_secs(30),
                count,
                key,
            )
        };
        assert!(
            wait(1, &a) <= Duration::from_millis(500) && wait(1, &a) >= Duration::from_millis(300)
        );
        assert!(wait(4, &a) > wait(2, &a));
        assert!(wait(40, &a) <= Duration::from_secs(30) && wait(40, &a) >= Duration::from_secs(18));
        assert_ne!(wait(3, &a), wait(3, &b));
        let failures = Failures::default();
        assert_eq!(
            (
                failures.add("x", &a),
                failures.add("x", &a),
                failures.add("x", &b)
            ),
            (1, 2, 1)
        );
        failures.doubt("x", &a);
        assert!(failures.in_doubt("x", &a) && !failures.in_doubt("x", &b));
        failures.clear("x", &a);
        assert!(!failures.in_doubt("x", &a));
        assert_eq!(failures.add("x", &a), 1);
    }
}
