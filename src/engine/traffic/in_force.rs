//! What is accepted, and what the data plane may be serving: an interval until a share has settled.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

use crate::{
    api::status::{RolloutStatus, TrafficStatus},
    model::{
        progress::after,
        share::FULL,
        traffic::{InForce, RouteFault, Written},
    },
};

/// Notes in the status what the routes' controllers have accepted.
pub fn accept(status: &mut RolloutStatus, written: &Written, delay: Duration, now: Timestamp) {
    let (Ok(share), true) = (&written.share, written.accepted) else {
        return;
    };
    let share = int(*share);
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
        repairs: old.as_ref().map_or(0, |t| t.repairs),
        repaired_at: old.and_then(|t| t.repaired_at),
    });
}

/// Whether the routes as they are seen are older than those that were accepted before: a cache that
/// is behind. One that was made anew counts from the beginning, so only a live look can tell.
pub fn behind(status: &RolloutStatus, written: &Written) -> bool {
    let read = |text: &str| -> BTreeMap<String, i64> {
        let pairs = text.split(',').filter_map(|p| p.split_once('='));
        let read = pairs.filter_map(|(name, n)| Some((name.to_owned(), n.parse().ok()?)));
        read.collect()
    };
    let accepted = status
        .traffic
        .as_ref()
        .and_then(|t| t.generations.as_deref());
    let accepted = accepted.map(read).unwrap_or_default();
    let seen = read(&written.generations);
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
    let Some(accepted) = &status.traffic else {
        return InForce {
            low: 0,
            high: written_high.unwrap_or(FULL),
            settled: None,
            settles_at: None,
        };
    };
    let (share, highest) = (parts(accepted.share), parts(accepted.highest));
    let stands = written.accepted
        && written.share == Ok(share)
        && accepted.generations.as_ref() == Some(&written.generations);
    let settles_at = after(accepted.since.0, delay);
    if stands && now >= settles_at {
        return InForce {
            low: share,
            high: share,
            settled: Some(share),
            settles_at: None,
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
        settles_at: stands.then_some(settles_at),
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

    #[test]
    fn routes_that_were_accepted_are_no_older_than_that() {
        let status = |generations: &str| RolloutStatus {
            traffic: Some(TrafficStatus {
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
            accepted: true,
            lacking: None,
            generations: generations.into(),
            decision: 0,
            foreign_writer: None,
        };
        let behind = |accepted: &str, now: &str| behind(&status(accepted), &seen(now));
        assert!(behind("app=4", "app=3") && behind("app=4,b=2", "app=4,b=1"));
        assert!(behind("app=10", "app=9"), "numbers, not text");
        assert!(!behind("app=4", "app=4") && !behind("app=4", "app=5"));
        assert!(!behind("app=4", "other=1") && !behind("", "app=1"));
        assert!(!super::behind(&RolloutStatus::default(), &seen("app=1")));
    }
}
