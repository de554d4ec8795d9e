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

/// By so much a wall clock was set, or the machine slept: what is less may be a correction that is taken back.
const SET: SignedDuration = SignedDuration::from_secs(10);

/// The time of day, told from one look at the wall clock and the time that has passed since, so that it does not
/// jump with every correction, and stands still where a test lets it. The time that passed knows nothing of a
/// machine that slept, nor of a wall clock that was wrong at the start: where the two are far apart, the wall
/// clock is right, by which everybody else goes.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    epoch: Timestamp,
    start: Instant,
    wall: Option<fn() -> Timestamp>,
}

impl Clock {
    /// From the wall clock.
    #[allow(
        clippy::disallowed_methods,
        reason = "the one reader of the wall clock"
    )]
    pub fn wall() -> Self {
        Self::by(Timestamp::now)
    }
    /// From a wall clock.
    fn by(wall: fn() -> Timestamp) -> Self {
        Self {
            wall: Some(wall),
            ..Self::starting_at(wall())
        }
    }
    /// It is `epoch` now.
    pub fn starting_at(epoch: Timestamp) -> Self {
        Self {
            epoch,
            start: Instant::now(),
            wall: None,
        }
    }
    /// The time.
    pub fn now(&self) -> Timestamp {
        let passed = SignedDuration::try_from(self.start.elapsed()).unwrap_or(SignedDuration::MAX);
        let told = self.epoch.saturating_add(passed).unwrap_or(Timestamp::MAX);
        let wall = self.wall.map(|wall| wall());
        let was_set = |wall: &Timestamp| wall.duration_since(told).abs() >= SET;
        wall.filter(was_set).unwrap_or(told)
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
    /// How fast Rollouts are acted on.
    pub pace: Pace,
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
    refused: Option<String>,
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
    /// What was decided is refused, and why.
    pub fn refuse(&self, controller: &'static str, key: &Key, why: String) {
        let mut map = self.lock();
        map.entry((controller, key.clone())).or_default().refused = Some(why);
    }
    /// Why what was decided last is refused.
    pub fn refused(&self, controller: &'static str, key: &Key) -> Option<String> {
        self.lock().get(&(controller, key.clone()))?.refused.clone()
    }
    /// It went well.
    pub fn clear(&self, controller: &'static str, key: &Key) {
        self.lock().remove(&(controller, key.clone()));
    }
}

/// Rounds that act on one Rollout come no faster than this, in the long run.
const EACH: Duration = Duration::from_millis(200);
/// So many come at once: more than any stage needs.
const AT_ONCE: u32 = 20;

/// How fast Rollouts are acted on: whoever writes what we put right, such as another process that takes
/// itself for the leader and sees another world, is not answered without end.
#[derive(Debug, Default)]
pub struct Pace(Mutex<BTreeMap<Key, Instant>>);

impl Pace {
    /// How long to wait before the next round of a Rollout; none where it may come.
    pub fn wait(&self, key: &Key) -> Option<Duration> {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ahead = map.get(key)?.checked_duration_since(Instant::now())?;
        ahead
            .checked_sub(EACH * (AT_ONCE - 1))
            .filter(|w| !w.is_zero())
    }
    /// A round acts.
    pub fn acts(&self, key: &Key) {
        let now = Instant::now();
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What was acted on a while ago begins anew.
        map.retain(|_, until| *until > now);
        let until = map.entry(key.clone()).or_insert(now);
        *until += EACH;
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
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_passes_with_the_clock_of_the_runtime() {
        let epoch = Timestamp::from_second(1_000).expect("a time");
        let clock = Clock::starting_at(epoch);
        tokio::time::advance(Duration::from_secs(90)).await;
        assert_eq!(clock.now().as_second(), 1_090);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_answered_without_end() {
        let (pace, key) = (Pace::default(), Key::new("ns", "app"));
        let mut rounds = 0;
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(10) {
            match pace.wait(&key) {
                Some(wait) => tokio::time::advance(wait).await,
                None => {
                    pace.acts(&key);
                    rounds += 1;
                }
            }
        }
        assert_eq!(rounds, 20 + 49, "at once, then five a second");
        assert_eq!(pace.wait(&Key::new("ns", "other")), None);
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(pace.wait(&key), None);
        pace.acts(&Key::new("ns", "other"));
        assert_eq!(pace.0.lock().expect("lock").len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wall_clock_that_was_set_is_followed_and_one_that_trembles_is_not() {
        // One that goes on by itself while this runtime's time stands still, as while a machine sleeps.
        static WALL: AtomicI64 = AtomicI64::new(1_000);
        let wall = || Timestamp::from_second(WALL.load(Ordering::SeqCst)).unwrap_or_default();
        let clock = Clock::by(wall);
        for (shown, told) in [(1_003, 1_000), (997, 1_000), (9_000, 9_000), (500, 500)] {
            WALL.store(shown, Ordering::SeqCst);
            assert_eq!(clock.now().as_second(), told);
        }
        WALL.store(1_060, Ordering::SeqCst);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(clock.now().as_second(), 1_060);
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
        failures.refuse("x", &a, "no".to_owned());
        assert_eq!(failures.refused("x", &a).as_deref(), Some("no"));
        failures.clear("x", &a);
        assert!(!failures.in_doubt("x", &a) && failures.refused("x", &a).is_none());
        assert_eq!(failures.add("x", &a), 1);
    }
}
