//! When to look again.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    api::status::RolloutStatus,
    model::{plan::Requeue, progress::Stage},
};

use super::strategy::Decided;

/// With something in flight, a change that was missed is found after this time.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// At rest, after this time.
pub(super) const LOOK_AGAIN_AT_REST: Duration = Duration::from_secs(300);

/// When to look again, after a decision with so many hazardous intents.
pub(super) fn requeue(
    decided: &Decided,
    hazards: usize,
    status: &RolloutStatus,
    now: Timestamp,
) -> Requeue {
    if decided.moved || hazards > 1 {
        return Requeue::Now;
    }
    let flight = status
        .attempt
        .as_ref()
        .is_some_and(|a| Stage::parse(&a.stage) != Some(Stage::Done));
    let most = if flight || decided.waiting.is_some() {
        LOOK_AGAIN
    } else {
        LOOK_AGAIN_AT_REST
    };
    match decided.wake.filter(|w| *w > now) {
        Some(wake)
            if wake.duration_since(now)
                < jiff::SignedDuration::try_from(most).unwrap_or_default() =>
        {
            Requeue::At(wake)
        }
        _ => Requeue::OnChange(most),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::strategy::Wait, *};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    #[test]
    fn it_looks_again_when_something_is_due_and_else_by_and_by() {
        let attempt = |stage: &str| RolloutStatus {
            attempt: serde_json::from_value(serde_json::json!({
                "number": 1, "hash": "new", "stage": stage,
                "startedAt": "1970-01-01T00:00:00Z", "progressAt": "1970-01-01T00:00:00.000000Z",
            }))
            .expect("an attempt"),
            ..RolloutStatus::default()
        };
        let due = |second| Decided {
            wake: Some(at(second)),
            ..Decided::default()
        };
        let (flight, done) = (attempt("Stepping"), attempt("Done"));
        let look = |decided: &Decided, hazards, status| requeue(decided, hazards, status, at(100));
        let nothing = Decided::default();
        assert_eq!(look(&nothing, 1, &flight), Requeue::OnChange(LOOK_AGAIN));
        assert_eq!(
            look(&nothing, 1, &done),
            Requeue::OnChange(LOOK_AGAIN_AT_REST)
        );
        let none = RolloutStatus::default();
        assert_eq!(
            look(&nothing, 0, &none),
            Requeue::OnChange(LOOK_AGAIN_AT_REST)
        );
        assert_eq!(look(&nothing, 2, &done), Requeue::Now);
        assert_eq!(look(&Decided::moved(), 0, &done), Requeue::Now);
        let waits = Decided::wait(Wait::until("rain", at(101), "it grows"));
        assert_eq!(look(&waits, 0, &done), Requeue::At(at(101)));
        let waits = Decided::wait(Wait::new("rain", "it grows"));
        assert_eq!(look(&waits, 0, &done), Requeue::OnChange(LOOK_AGAIN));

        assert_eq!(look(&due(129), 0, &flight), Requeue::At(at(129)));
        assert_eq!(look(&due(130), 0, &flight), Requeue::OnChange(LOOK_AGAIN));
        assert_eq!(look(&due(130), 0, &done), Requeue::At(at(130)));
        // What is due now was just decided on: it is no reason to go round and round.
        assert_eq!(
            look(&due(100), 0, &done),
            Requeue::OnChange(LOOK_AGAIN_AT_REST)
        );
    }
}
