//! Foreign changes of the weights: put right, and when they keep coming back, named.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

use crate::{
    api::{
        names::reason,
        status::{RolloutStatus, TrafficStatus},
    },
    model::{
        progress::{note, note_once},
        share::{FULL, percent, show},
        traffic::{RouteFault, Written},
    },
};

/// So many repairs in a row are made at once.
const REPAIRS: i32 = 3;
/// After them, one in this many seconds.
const RESPITE: i64 = 60;
/// Without a foreign change for so many seconds, the count begins anew.
const FORGET: i64 = 300;

/// How the usual tools are told to leave a field alone.
const ALONE: &str = "Argo CD: ignoreDifferences with RespectIgnoreDifferences=true; Flux: \
    kustomize.toolkit.fluxcd.io/ssa: Merge or an ignore rule; Helm: no --force-conflicts";

/// What to do about a foreign change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody else changed the weights.
    None,
    /// Put it right; what is said of it once that is done.
    Repair(String),
    /// Somebody keeps changing them: leave it until then, and say so.
    Conflict(Timestamp, String),
}

/// Whether somebody else changed the weights since Serin wrote them, and what to do about it. Being
/// above the plan is always put right at once.
pub fn judge(
    status: &mut RolloutStatus,
    written: &Written,
    weight: u32,
    now: Timestamp,
) -> Verdict {
    let wanted = percent(weight);
    let (found, high) = match &written.share {
        Ok(w) => (*w, *w),
        Err(RouteFault::Disagree(w)) => (FULL + 1, *w),
        Err(_) => return Verdict::None,
    };
    let Some(traffic) = status.traffic.clone() else {
        return Verdict::None;
    };
    // Before the first write, what was accepted last is what it was.
    let ours = u32::try_from(traffic.written.unwrap_or(traffic.share)).unwrap_or(0);
    let landed = written.decision >= traffic.written_by;
    if found == wanted || ours == found || !landed {
        return Verdict::None;
    }
    let last = traffic.repaired_at.as_ref().map(|t| t.0);
    let age = last.map_or(i64::MAX, |t| now.duration_since(t).as_secs());
    let repairs = counted(&traffic, now);
    let who = written
        .foreign_writer
        .clone()
        .unwrap_or_else(|| "somebody".into());
    if repairs >= REPAIRS && age < RESPITE && high <= wanted {
        let message = format!(
            "field manager {who:?} keeps changing the route's weights: let it leave \
             .spec.rules[].backendRefs[].weight alone ({ALONE} while an attempt is in flight)"
        );
        note_once(status, now, "Warning", reason::ROUTE_CONFLICT, &message);
        let until = last
            .unwrap_or(now)
            .saturating_add(SignedDuration::from_secs(RESPITE))
            .unwrap_or(Timestamp::MAX);
        return Verdict::Conflict(until, message);
    }
    Verdict::Repair(format!(
        "field manager {who:?} set the canary's weight to {}, it is put back to {weight}",
        show(high),
    ))
}

/// What is said where somebody put the user's Service back under way: users reach pods unasked, so that it is put
/// right at once, always.
pub fn unbound(written: &Written) -> Verdict {
    let who = written.foreign_writer.as_deref().unwrap_or("somebody");
    Verdict::Repair(format!(
        "field manager {who:?} took the role Services out of the route, so that users reach the pods of every \
         revision; they are put in again: let it leave .spec.rules[].backendRefs alone ({ALONE})"
    ))
}

/// A foreign change is put right now. What is held up is not counted: nobody fights over it.
pub fn made(status: &mut RolloutStatus, message: &str, now: Timestamp) {
    if let Some(traffic) = &mut status.traffic {
        traffic.repairs = counted(traffic, now).saturating_add(1);
        traffic.repaired_at = Some(MicroTime(now));
    }
    note(status, now, "Warning", reason::ROUTE_REPAIRED, message);
}

/// The repairs in a row that still count.
fn counted(traffic: &TrafficStatus, now: Timestamp) -> i32 {
    let last = traffic.repaired_at.as_ref();
    let fresh = |t: &MicroTime| now.duration_since(t.0).as_secs() <= FORGET;
    last.filter(|t| fresh(t)).map_or(0, |_| traffic.repairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    /// A status as it is after a write of 10 percent with decision 7.
    fn status() -> RolloutStatus {
        let traffic = serde_json::json!({
            "share": 100_000, "since": "1970-01-01T00:00:00.000000Z",
            "written": 100_000, "writtenBy": 7,
        });
        RolloutStatus {
            traffic: serde_json::from_value(traffic).expect("a split"),
            ..RolloutStatus::default()
        }
    }

    fn found(share: Result<u32, RouteFault>) -> Written {
        Written {
            share,
            highest: None,
            accepted: true,
            lacking: None,
            generations: String::new(),
            decision: 7,
            foreign_writer: Some("flux".into()),
            loose: false,
            strayed: false,
            bound: false,
        }
    }

    /// What becomes of a foreign weight, where 10 is wanted, in a word.
    fn judged(status: &mut RolloutStatus, percents: u32, second: i64) -> &'static str {
        match judge(status, &found(Ok(percent(percents))), 10, at(second)) {
            Verdict::None => "none",
            Verdict::Repair(message) => {
                made(status, &message, at(second));
                "repair"
            }
            Verdict::Conflict(..) => "conflict",
        }
    }

    #[test]
    fn three_repairs_at_once_then_one_a_minute() {
        let mut live = status();
        for second in [0, 1, 2] {
            assert_eq!(judged(&mut live, 5, second), "repair");
        }
        assert_eq!(judged(&mut live, 5, 61), "conflict");
        assert_eq!(judged(&mut live, 50, 61), "repair", "above the plan");
        assert_eq!(judged(&mut live, 5, 120), "conflict");
        let told = judge(&mut live, &found(Ok(percent(5))), 10, at(100));
        assert!(matches!(told, Verdict::Conflict(until, _) if until == at(121)));
        assert_eq!(
            judged(&mut live, 5, 121),
            "repair",
            "a minute after the last"
        );
        assert_eq!(judged(&mut live, 5, 122), "conflict");
    }

    #[test]
    fn what_is_not_put_right_is_not_counted() {
        let mut live = status();
        for second in [0, 1, 2, 3, 4] {
            let told = judge(&mut live, &found(Ok(percent(5))), 10, at(second));
            assert!(matches!(told, Verdict::Repair(_)), "{second}");
        }
        assert_eq!(live, status());
    }

    #[test]
    fn after_five_quiet_minutes_the_count_begins_anew() {
        let mut live = status();
        for second in [0, 1, 2, 302] {
            assert_eq!(judged(&mut live, 5, second), "repair");
        }
        assert_eq!(
            judged(&mut live, 5, 303),
            "conflict",
            "300 seconds are not enough"
        );
        let mut live = status();
        for second in [0, 1, 2, 303, 304, 305] {
            assert_eq!(judged(&mut live, 5, second), "repair", "{second}");
        }
        assert_eq!(judged(&mut live, 5, 306), "conflict");
    }

    #[test]
    fn what_is_wanted_or_ours_or_not_read_is_no_foreign_change() {
        assert_eq!(judged(&mut status(), 10, 0), "none");
        let mut live = status();
        live.traffic.as_mut().expect("a split").written = Some(50_000);
        assert_eq!(judged(&mut live, 5, 0), "none", "ours, on its way");
        live.traffic.as_mut().expect("a split").written_by = 8;
        assert_eq!(judged(&mut live, 50, 0), "none", "ours has not landed");
        let missing = found(Err(RouteFault::Missing("x".into())));
        assert_eq!(judge(&mut status(), &missing, 10, at(0)), Verdict::None);
        let disagree = found(Err(RouteFault::Disagree(percent(10))));
        let told = judge(&mut status(), &disagree, 10, at(0));
        assert!(matches!(told, Verdict::Repair(_)));
        assert_eq!(judged(&mut RolloutStatus::default(), 50, 0), "none");
        // Before the first write it was what was accepted.
        let mut live = status();
        live.traffic.as_mut().expect("a split").written = None;
        assert_eq!(judged(&mut live, 10, 0), "none");
        assert_eq!(judged(&mut live, 5, 0), "repair");
    }
}
