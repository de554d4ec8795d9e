//! What is accepted, and what the data plane may be serving: an interval until a share has settled.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

use crate::{
    api::status::{RolloutStatus, TrafficStatus},
    model::{
        progress::{Stage, after},
        share::FULL,
        traffic::{InForce, RouteFault, Written},
    },
};

/// Notes in the status what the routes' controllers have accepted.
pub fn accept(status: &mut RolloutStatus, written: &Written, delay: Duration, now: Timestamp) {
    // Users who come by their own Service reach whatever pods there are: that is no share.
    let accepted = written.accepted && !written.strayed;
    let Some(share) = written.acceptable().filter(|_| accepted) else {
        return;
    };
    let share = int(share);
    let old = status.traffic.clone();
    if old
        .as_ref()
        .is_some_and(|t| t.share == share && t.generations.as_ref() == Some(&written.generations))
    {
        return;
    }
    let highest = old.as_ref().map_or(share, |t| {
        let settled = now >= after(t.since.0, delay);
        share.max(t.share).max(if settled { 0 } else { t.highest })
    });
    status.traffic = Some(TrafficStatus {
        share,
        since: MicroTime(now),
        highest,
        generations: Some(written.generations.clone()),
        written: old.as_ref().and_then(|t| t.written),
        written_by: old.as_ref().map_or(0, |t| t.written_by),
        strategy: old.as_ref().and_then(|t| t.strategy.clone()),
        repairs: old.as_ref().map_or(0, |t| t.repairs),
        repaired_at: old.and_then(|t| t.repaired_at),
    });
}

/// Forgets by what the traffic was shifted once all of it is back, or cannot be brought back since the routes are
/// gone or are used otherwise. On the way `down` what can be read is straightened first.
pub fn forget(
    status: &mut RolloutStatus,
    written: &Written,
    force: &InForce,
    former: bool,
    down: bool,
    deleted: bool,
) {
    let starting = Stage::of(status) == Some(Stage::Starting);
    let Some(traffic) = &mut status.traffic else {
        return;
    };
    // What was written later than what stands there has landed, or no longer can. Before the first step that may be
    // what puts backends in, with a share of nothing.
    let nothing = traffic.written.unwrap_or(0) == 0 && !starting;
    let landed = nothing || written.decision >= traffic.written_by;
    let back = force.settled_at(0) && landed && !written.bound;
    let given_up = matches!(
        written.share,
        Err(RouteFault::Missing(_) | RouteFault::Unfit { .. })
    ) && !(down && (written.highest > Some(0) || written.bound));
    match former {
        // One that is being deleted has nothing to shift by what is written now, right or wrong.
        true if back && deleted => {}
        // What it says is about other routes.
        true if back || given_up => status.traffic = None,
        false if back => traffic.strategy = None,
        _ => {}
    }
}

/// Whether the routes as they are seen are older than those that were accepted before: a cache that
/// is behind. One that was made anew counts from the beginning, so only a live look can tell.
pub fn behind(status: &RolloutStatus, written: &Written) -> bool {
    let accepted = status.traffic.as_ref();
    let Some(accepted) = accepted.and_then(|t| t.generations.as_deref()) else {
        return false;
    };
    // Most looks: there is nothing to read.
    if accepted == written.generations {
        return false;
    }
    let read = |text: &str| -> BTreeMap<String, i64> {
        let pairs = text.split(',').filter_map(|p| p.split_once('='));
        let read = pairs.filter_map(|(name, n)| Some((name.to_owned(), n.parse().ok()?)));
        read.collect()
    };
    let (accepted, seen) = (read(accepted), read(&written.generations));
    let older = |(name, known): (&String, &i64)| accepted.get(name).is_some_and(|a| a > known);
    seen.iter().any(older)
}

/// What the data plane may be serving.
pub fn in_force(
    status: &RolloutStatus,
    written: &Written,
    delay: Duration,
    now: Timestamp,
) -> InForce {
    let written_high = match &written.share {
        Ok(w) | Err(RouteFault::Disagree(w)) => Some(*w),
        Err(_) => None,
    };
    let missing = matches!(written.share, Err(RouteFault::Missing(_)));
    let nothing_left = missing && written.highest.is_none();
    let Some(accepted) = &status.traffic else {
        return InForce {
            low: 0,
            high: written_high.unwrap_or(FULL),
            settled: None,
            settles_at: None,
            gone: nothing_left,
        };
    };
    let (share, highest) = (parts(accepted.share), parts(accepted.highest));
    let stands = written.accepted
        && !written.strayed
        && written.acceptable() == Some(share)
        && accepted.generations.as_ref() == Some(&written.generations);
    let settles_at = after(accepted.since.0, delay);
    let settled = stands && now >= settles_at;
    // A route that is not seen may be there all the same: what is left settles nothing but for itself.
    if settled && !missing {
        return InForce {
            low: share,
            high: share,
            settled: Some(share),
            settles_at: None,
            gone: false,
        };
    }
    InForce {
        low: if stands {
            0
        } else {
            written_high.unwrap_or(0).min(share)
        },
        high: written_high.unwrap_or(FULL).max(share).max(highest),
        settled: None,
        settles_at: (stands && !settled).then_some(settles_at),
        gone: nothing_left || settled,
    }
}

fn parts(share: i32) -> u32 {
    u32::try_from(share).unwrap_or(0).min(FULL)
}

fn int(share: u32) -> i32 {
    i32::try_from(share).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::share::percent;

    const DELAY: Duration = Duration::from_secs(5);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn routes(percents: u32, generation: i64, accepted: bool) -> Written {
        Written {
            share: Ok(percent(percents)),
            highest: Some(percent(percents)),
            accepted,
            lacking: None,
            generations: format!("app={generation}"),
            decision: 0,
            foreign_writer: None,
            loose: false,
            strayed: false,
            bound: false,
        }
    }

    /// What may be served, in percent, and whether it has settled.
    fn force(status: &RolloutStatus, written: &Written, now: i64) -> (u32, u32, bool) {
        let force = in_force(status, written, DELAY, at(now));
        (
            force.low / 10_000,
            force.high / 10_000,
            force.settled.is_some(),
        )
    }

    #[test]
    fn a_share_is_in_force_a_while_after_it_was_accepted() {
        let mut status = RolloutStatus::default();
        assert_eq!(force(&status, &routes(0, 1, true), 0), (0, 0, false));
        accept(&mut status, &routes(0, 1, true), DELAY, at(0));
        assert_eq!(force(&status, &routes(0, 1, true), 4), (0, 0, false));
        assert_eq!(force(&status, &routes(0, 1, true), 5), (0, 0, true));

        // Written, not accepted: it may be served already, or not yet.
        assert_eq!(force(&status, &routes(50, 2, false), 10), (0, 50, false));
        // So it may where only one of generation and share is what was accepted.
        assert_eq!(force(&status, &routes(0, 2, true), 10), (0, 0, false));
        assert_eq!(force(&status, &routes(50, 1, true), 10), (0, 50, false));
        assert_eq!(force(&status, &routes(0, 1, false), 10), (0, 0, false));

        accept(&mut status, &routes(50, 2, false), DELAY, at(10));
        assert_eq!(status.traffic.as_ref().map(|t| t.share), Some(0));
        accept(&mut status, &routes(50, 2, true), DELAY, at(11));
        accept(&mut status, &routes(50, 2, true), DELAY, at(14));
        assert_eq!(force(&status, &routes(50, 2, true), 15), (0, 50, false));
        assert_eq!(force(&status, &routes(50, 2, true), 16), (50, 50, true));
        let wake = in_force(&status, &routes(50, 2, true), DELAY, at(15)).settles_at;
        assert_eq!(wake, Some(at(16)), "what is seen again does not begin anew");
    }

    #[test]
    fn what_was_served_before_counts_until_the_next_has_settled() {
        let mut status = RolloutStatus::default();
        accept(&mut status, &routes(80, 1, true), DELAY, at(0));
        accept(&mut status, &routes(20, 2, true), DELAY, at(10));
        assert_eq!(force(&status, &routes(20, 2, true), 12), (0, 80, false));
        // Before that, too, where the one in between had not settled.
        accept(&mut status, &routes(10, 3, true), DELAY, at(12));
        assert_eq!(force(&status, &routes(10, 3, true), 13), (0, 80, false));
        // Where it had, only that one.
        accept(&mut status, &routes(5, 4, true), DELAY, at(17));
        assert_eq!(force(&status, &routes(5, 4, true), 18), (0, 10, false));
        assert_eq!(force(&status, &routes(30, 5, false), 30), (5, 30, false));
    }

    #[test]
    fn where_users_reach_every_pod_nothing_is_in_force() {
        let mut status = RolloutStatus::default();
        accept(&mut status, &routes(50, 1, true), DELAY, at(0));
        let strayed = Written {
            loose: true,
            strayed: true,
            ..routes(0, 2, true)
        };
        accept(&mut status, &strayed, DELAY, at(10));
        assert_eq!(force(&status, &strayed, 60), (0, 50, false));
        // With stable's pods alone it is a share of nothing.
        let loose = Written {
            strayed: false,
            ..strayed
        };
        accept(&mut status, &loose, DELAY, at(60));
        assert_eq!(force(&status, &loose, 65), (0, 0, true));
    }

    #[test]
    fn what_is_left_of_routes_is_straight_a_while_after_it_was_accepted() {
        let left = |highest: Option<u32>| Written {
            share: Err(RouteFault::Missing("b".into())),
            highest,
            ..routes(0, 2, true)
        };
        let gone = |status: &RolloutStatus, written: &Written, now: i64| {
            let force = in_force(status, written, DELAY, at(now));
            assert_eq!((force.high, force.settled), (FULL, None), "b may be there");
            force.gone
        };
        let mut status = RolloutStatus::default();
        assert!(gone(&status, &left(None), 0), "none is left");
        accept(&mut status, &routes(50, 1, true), DELAY, at(0));
        accept(&mut status, &left(Some(percent(50))), DELAY, at(10));
        assert!(!gone(&status, &left(Some(percent(50))), 20));
        accept(&mut status, &left(Some(0)), DELAY, at(20));
        assert!(!gone(&status, &left(Some(0)), 24));
        assert!(gone(&status, &left(Some(0)), 25));
    }

    #[test]
    fn routes_that_were_accepted_are_no_older_than_that() {
        let status = |generations: &str| RolloutStatus {
            traffic: Some(TrafficStatus {
                strategy: None,
                share: 0,
                since: MicroTime(Timestamp::UNIX_EPOCH),
                highest: 0,
                generations: Some(generations.into()),
                written: None,
                written_by: 0,
                repairs: 0,
                repaired_at: None,
            }),
            ..RolloutStatus::default()
        };
        let seen = |generations: &str| Written {
            share: Ok(0),
            highest: Some(0),
            accepted: true,
            lacking: None,
            generations: generations.into(),
            decision: 0,
            foreign_writer: None,
            loose: false,
            strayed: false,
            bound: false,
        };
        let behind = |accepted: &str, now: &str| behind(&status(accepted), &seen(now));
        assert!(behind("app=4", "app=3") && behind("app=4,b=2", "app=4,b=1"));
        assert!(behind("app=10", "app=9"), "numbers, not text");
        assert!(!behind("app=4", "app=4") && !behind("app=4", "app=5"));
        assert!(!behind("app=4", "other=1") && !behind("", "app=1"));
        assert!(!super::behind(&RolloutStatus::default(), &seen("app=1")));
    }
}
