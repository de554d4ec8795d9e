//! Read your own writes: a look at the cache counts only once it shows what we wrote last.
//!
//! Rests on resourceVersions of one kind being numbers that grow, which Kubernetes promises from
//! 1.35 on and has kept since long before. What cannot be read as a number is not guarded here; the
//! resourceVersion that each write carries still is.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::time::Instant;

/// After this time a write counts as seen, in case resourceVersions began anew (a restored etcd) or
/// somebody deleted what was made before it was seen. Longer than a watch may be silent before it is
/// taken for dead.
const FORGET: Duration = Duration::from_secs(330);

/// So long an API server keeps an Event unless it is told otherwise, and until then takes no other of its name.
const EVENT: Duration = Duration::from_secs(3600);

/// Our last write to each object, until the cache has caught up; and of each Rollout, what was told
/// and when its status was written.
#[derive(Debug, Default)]
pub struct Written {
    versions: Mutex<Swept<(u64, Instant)>>,
    rollouts: Mutex<Swept<Own>>,
}

/// Notes by uid. An answer may arrive after its object was seen to be gone, so what is old is swept
/// out: each time when there are twice as many as the last sweep left.
#[derive(Debug)]
struct Swept<T> {
    notes: BTreeMap<String, T>,
    most: usize,
}

/// So few are no trouble.
const FEW: usize = 64;

impl<T> Default for Swept<T> {
    fn default() -> Self {
        Self {
            notes: BTreeMap::new(),
            most: FEW,
        }
    }
}

impl<T> Swept<T> {
    /// The note of an object, to be changed; a new one where there is none.
    fn at(&mut self, uid: &str, new: impl FnOnce() -> T, keep: impl Fn(&T) -> bool) -> &mut T {
        if self.notes.len() >= self.most {
            self.notes.retain(|_, note| keep(note));
            self.most = FEW.max(2 * self.notes.len());
        }
        self.notes.entry(uid.to_owned()).or_insert_with(new)
    }
}

/// What this process did about a Rollout that its status does not say yet.
#[derive(Debug)]
struct Own {
    /// When something of it was noted last.
    noted: Instant,
    /// The last entry of the history that was told and is not recorded as told, and since when.
    told: Option<(i64, Instant)>,
    /// The first entry of the history that was not told, and since when that is known.
    untold: Option<(i64, Instant)>,
    /// When its status was written last.
    committed: Option<Instant>,
    /// What was made for it and has not been seen, by uid.
    made: BTreeMap<String, Made>,
}

/// An object that was made.
#[derive(Debug)]
pub struct Made {
    /// Its kind.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    at: Instant,
}

impl Own {
    fn new() -> Self {
        Self {
            noted: Instant::now(),
            told: None,
            untold: None,
            committed: None,
            made: BTreeMap::new(),
        }
    }
}

impl Swept<Own> {
    /// What is known of a Rollout, to be noted.
    fn of(&mut self, uid: &str) -> &mut Own {
        // What was told and is not recorded as told would be told again. Of one that was let go of,
        // the last is told when it is gone, and is recorded nowhere.
        let keep = |own: &Own| {
            let age = own.noted.elapsed();
            age < FORGET || own.told.is_some() && age < EVENT
        };
        let own = self.at(uid, Own::new, keep);
        own.noted = Instant::now();
        own
    }
}

impl Written {
    /// Remembers a write by the API server's answer to it.
    pub fn note(&self, answer: &Value) {
        if let (Some(uid), Some(version)) = (meta(answer, "uid"), meta(answer, "resourceVersion")) {
            self.at_least(uid, version.parse().ok());
        }
    }

    /// Remembers an object that was made for a Rollout, by the API server's answer.
    pub fn note_made(&self, rollout: &str, kind: &'static str, answer: &Value) {
        self.note(answer);
        if let (Some(uid), Some(name)) = (meta(answer, "uid"), meta(answer, "name")) {
            let mut map = lock(&self.rollouts);
            let made = Made {
                kind,
                name: name.to_owned(),
                at: Instant::now(),
            };
            map.of(rollout).made.insert(uid.to_owned(), made);
        }
    }

    /// Something that was made for a Rollout, is not among what is seen of it and `matters`. What is
    /// seen is not asked for again, and nothing is where nothing was made.
    pub fn lacking<'a>(
        &self,
        rollout: &str,
        seen: impl FnOnce() -> BTreeSet<&'a str>,
        matters: impl Fn(&Made) -> bool,
    ) -> Option<String> {
        let mut map = lock(&self.rollouts);
        let made = &mut map.notes.get_mut(rollout)?.made;
        if made.is_empty() {
            return None;
        }
        let seen = seen();
        made.retain(|uid, made| !seen.contains(uid.as_str()) && made.at.elapsed() < FORGET);
        let lacking = made.values().find(|made| matters(made))?;
        Some(format!("{} {}", lacking.kind, lacking.name))
    }

    /// Remembers a deletion of an object as it was read: seen once it is gone or changed.
    pub fn note_deleted(&self, uid: &str, version: &str) {
        self.at_least(
            uid,
            version.parse::<u64>().ok().map(|v| v.saturating_add(1)),
        );
    }

    fn at_least(&self, uid: &str, version: Option<u64>) {
        let Some(version) = version else { return };
        let mut map = lock(&self.versions);
        let young = |(_, at): &(u64, Instant)| at.elapsed() < FORGET;
        let entry = map.at(uid, || (0, Instant::now()), young);
        *entry = (entry.0.max(version), Instant::now());
    }

    /// Whether an object as the cache has it is older than our last write to it.
    pub fn stale(&self, uid: &str, version: &str) -> bool {
        let mut map = lock(&self.versions);
        let Some((ours, at)) = map.notes.get(uid).copied() else {
            return false;
        };
        let behind = version.parse::<u64>().is_ok_and(|cached| cached < ours);
        if behind && at.elapsed() < FORGET {
            return true;
        }
        map.notes.remove(uid);
        false
    }

    /// Whether a version of an object is our own write, or was overtaken by it. Where the API server
    /// tells of a write before it answers it, the echo is not known for one.
    pub fn echo(&self, uid: &str, version: &str) -> bool {
        let map = lock(&self.versions);
        let ours = map.notes.get(uid);
        ours.is_some_and(|(ours, at)| {
            at.elapsed() < FORGET && version.parse::<u64>().is_ok_and(|told| told <= *ours)
        })
    }

    /// Forgets an object that is gone.
    pub fn gone(&self, uid: &str) {
        let known = lock(&self.versions).notes.remove(uid).is_some();
        let mut rollouts = lock(&self.rollouts);
        rollouts.notes.remove(uid);
        if known {
            for own in rollouts.notes.values_mut() {
                own.made.remove(uid);
            }
        }
    }

    /// Remembers that a Rollout's history was told up to an entry.
    pub fn note_told(&self, uid: &str, number: i64) {
        let mut map = lock(&self.rollouts);
        let told = &mut map.of(uid).told;
        let since = told.map_or_else(Instant::now, |(_, since)| since);
        *told = Some((number, since));
    }

    /// For how long it is known that an entry of a Rollout's history is the first that was not told.
    pub fn untold(&self, uid: &str, number: i64) -> Duration {
        let mut map = lock(&self.rollouts);
        let untold = &mut map.of(uid).untold;
        let (_, since) = *untold
            .take_if(|(n, _)| *n == number)
            .get_or_insert_with(|| (number, Instant::now()));
        *untold = Some((number, since));
        since.elapsed()
    }

    /// Up to which entry a Rollout's history was told, and for how long that is not recorded.
    pub fn told(&self, uid: &str) -> Option<(i64, Duration)> {
        let map = lock(&self.rollouts);
        let (number, since) = map.notes.get(uid)?.told?;
        Some((number, since.elapsed()))
    }

    /// Remembers that a Rollout's status was written, which now says up to which entry it was told.
    pub fn note_committed(&self, uid: &str, told: i64) {
        let mut map = lock(&self.rollouts);
        let own = map.of(uid);
        own.committed = Some(Instant::now());
        own.told = own.told.filter(|(number, _)| *number > told);
    }

    /// How long ago a Rollout's status was written by this process.
    pub fn committed(&self, uid: &str) -> Option<Duration> {
        Some(lock(&self.rollouts).notes.get(uid)?.committed?.elapsed())
    }
}

/// A text in an object's metadata.
fn meta<'a>(object: &'a Value, field: &str) -> Option<&'a str> {
    object.get("metadata")?.get(field)?.as_str()
}

fn lock<T>(map: &Mutex<T>) -> MutexGuard<'_, T> {
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(version: &str) -> Value {
        serde_json::json!({"metadata": {"uid": "u", "resourceVersion": version}})
    }

    #[tokio::test(start_paused = true)]
    async fn a_cache_that_is_behind_does_not_count() {
        let written = Written::default();
        assert!(!written.stale("u", "5"), "nothing was written");
        written.note(&answer("9"));
        written.note(&answer("10"));
        assert!(written.stale("u", "9"), "numbers, not text");
        assert!(!written.stale("u", "10"));
        assert!(!written.stale("u", "9"), "caught up once is enough");

        written.note(&answer("12"));
        let echoes = ["11", "12", "13", "odd"].map(|v| written.echo("u", v));
        assert_eq!(echoes, [true, true, false, false]);
        assert!(!written.stale("u", "12") && !written.echo("u", "12"));

        written.note_deleted("u", "10");
        assert!(written.stale("u", "10") && !written.stale("u", "11"));

        written.note(&answer("99"));
        tokio::time::advance(FORGET).await;
        assert!(
            !written.stale("u", "1"),
            "numbers that begin anew do not stop us for ever"
        );
        written.note(&answer("odd"));
        assert!(!written.stale("u", "1"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_noted_after_its_object_went_does_not_pile_up() {
        let written = Written::default();
        for n in 0..1000 {
            let uid = format!("run-{n}");
            written.gone(&uid);
            written.note_deleted(&uid, "7");
            written.note_committed(&format!("rollout-{n}"), 0);
            tokio::time::advance(FORGET / 10).await;
        }
        assert!(lock(&written.versions).notes.len() <= FEW);
        assert!(lock(&written.rollouts).notes.len() <= FEW);

        written.note_told("rollout", 3);
        for n in 0..1000 {
            written.note_committed(&format!("rollout-{n}"), 0);
        }
        assert!(written.told("rollout").is_some(), "it is not told again");
        assert_eq!(lock(&written.rollouts).notes.len(), 1001, "none is old");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_told_of_those_that_are_gone_does_not_pile_up() {
        let written = Written::default();
        for n in 0..1000 {
            let uid = format!("rollout-{n}");
            written.gone(&uid);
            written.untold(&uid, 7);
            written.note_told(&uid, 7);
            tokio::time::advance(EVENT / 100).await;
            assert!(written.told(&uid).is_some());
        }
        assert!(lock(&written.rollouts).notes.len() <= 4 * FEW);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_made_must_be_seen() {
        let written = Written::default();
        let answer = |uid: &str| serde_json::json!({"metadata": {"uid": uid, "name": "web-1", "resourceVersion": "3"}});
        assert_eq!(written.lacking("rollout", BTreeSet::new, |_| true), None);
        written.note_made("rollout", "ReplicaSet", &answer("a"));
        let seen = |seen: &[&'static str]| seen.iter().copied().collect();
        let lacking = |all: &[&'static str]| written.lacking("rollout", || seen(all), |_| true);
        let another = written.lacking("rollout", || seen(&[]), |made| made.name != "web-1");
        assert_eq!(another, None, "it does not matter now");
        assert_eq!(lacking(&["b"]).as_deref(), Some("ReplicaSet web-1"));
        assert_eq!(lacking(&["a", "b"]), None);
        assert_eq!(lacking(&[]), None, "seen once is enough");
        written.note_made("rollout", "ReplicaSet", &answer("c"));
        written.gone("c");
        assert_eq!(lacking(&[]), None, "it is gone");
        written.note_made("rollout", "ReplicaSet", &answer("d"));
        tokio::time::advance(FORGET).await;
        assert_eq!(lacking(&[]), None, "it does not stop us for ever");
    }
}
