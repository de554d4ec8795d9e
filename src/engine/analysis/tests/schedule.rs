//! When metrics are measured.

use super::*;
use crate::engine::analysis::{due, record};

const STEADY: i64 = -1000;

/// Seconds at which questions are due now, and when next.
fn look(run: &AnalysisRun, steady: Option<i64>, now: i64) -> (Vec<usize>, Option<i64>) {
    let due = due(run, steady.map(t), t(now));
    assert!(due.queries.iter().all(|q| q.at == t(now)));
    let next = due.next.map(|n| n.as_second() - t(0).as_second());
    (due.queries.iter().map(|q| q.metric).collect(), next)
}

#[test]
fn nothing_is_measured_before_start_and_window_and_delay() {
    for (fields, first, interval) in [
        (json!({}), 0, 30),
        (json!({"window": "60s"}), 60, 60),
        (json!({"window": "60s", "interval": "20s"}), 60, 20),
        (json!({"initialDelay": "15s"}), 15, 30),
        (
            json!({"window": "1m", "initialDelay": "15s", "interval": "2m"}),
            75,
            120,
        ),
        (json!({"window": "100ms"}), 1, 1),
    ] {
        let run = run("0", vec![metric(fields.clone())]);
        if first > 1 {
            let soon = look(&run, Some(STEADY), first - 1);
            assert_eq!(soon, (vec![], Some(first)), "{fields}");
        }
        let then = look(&run, Some(STEADY), first);
        assert_eq!(then.0, [0], "{fields}");
        assert_eq!(then.1, Some(first + interval), "{fields}");
    }
}

#[test]
fn a_change_of_the_split_delays() {
    let run = run("background", vec![metric(json!({"window": "30s"}))]);
    assert_eq!(
        look(&run, None, 500),
        (vec![], None),
        "while it changes nothing is due"
    );
    assert_eq!(look(&run, Some(490), 500), (vec![], Some(520)));
    assert_eq!(look(&run, Some(490), 519), (vec![], Some(520)));
    assert_eq!(look(&run, Some(490), 520).0, [0]);
    assert_eq!(
        look(&run, Some(-5), 20),
        (vec![], Some(30)),
        "the start counts as well"
    );
}

#[test]
fn turns_do_not_drift_and_do_not_pile_up() {
    let mut run = run("background", vec![metric(json!({"interval": "30s"}))]);
    let mut asked = vec![];
    for now in 0..=200 {
        // Every answer comes two seconds late; nobody looks from 100 to 170.
        if (100..170).contains(&now) || now % 30 == 0 || now % 30 == 1 {
            continue;
        }
        if look(&run, Some(STEADY), now).0 == [0] {
            asked.push(now);
            take(&mut run, t(now), pass());
        }
    }
    assert_eq!(
        asked,
        [2, 32, 62, 92, 170, 200],
        "one for the time without looks, then a whole interval"
    );
}

#[test]
fn small_delays_do_not_add_up() {
    let mut run = run("background", vec![metric(json!({"interval": "30s"}))]);
    for turn in 0..10 {
        let at = 30 * turn;
        assert_eq!(look(&run, Some(STEADY), at).0, [0], "turn {turn}");
        assert_eq!(look(&run, Some(STEADY), at + 3).1, Some(at + 30));
        take(&mut run, t(at + 3), pass());
    }
    assert_eq!(
        look(&run, Some(STEADY), 304).1,
        Some(334),
        "a large one counts"
    );
}

#[test]
fn each_metric_has_its_own_turn() {
    let mut run = run(
        "0",
        vec![
            metric(json!({"name": "a", "window": "10s", "count": 2})),
            metric(json!({"name": "b", "window": "25s", "count": 1})),
        ],
    );
    assert_eq!(look(&run, Some(STEADY), 5), (vec![], Some(10)));
    assert_eq!(look(&run, Some(STEADY), 10), (vec![0], Some(20)));
    assert_eq!(look(&run, Some(STEADY), 30), (vec![0, 1], Some(40)));
    let both = [answer(0, t(30), pass()), answer(1, t(30), pass())];
    run.status = Some(record(&run, &both, Some(t(STEADY)), t(31)));
    assert_eq!(look(&run, Some(STEADY), 100).0, [0], "b is complete");
    run.status = Some(record(
        &run,
        &[answer(0, t(100), pass())],
        Some(t(STEADY)),
        t(100),
    ));
    assert_eq!(phase(&run), "Successful");
    assert_eq!(
        look(&run, Some(STEADY), 1000),
        (vec![], None),
        "the run has ended"
    );
}

#[test]
fn what_is_asked() {
    let mut all = run(
        "0",
        vec![
            metric(
                json!({"window": "10m", "provider": {"ref": "thanos", "prometheus": {"query": "a"}}}),
            ),
            metric(json!({"name": "b", "window": "1m"})),
        ],
    );
    let asked = due(&all, Some(t(STEADY)), t(600)).queries;
    assert_eq!(
        (asked[0].provider.as_str(), asked[0].text.as_str()),
        ("thanos", "a")
    );
    assert_eq!(
        (asked[1].provider.as_str(), asked[1].text.as_str()),
        ("default", "up")
    );
    assert_eq!(asked[0].freshness, Duration::from_secs(600));
    assert_eq!(asked[1].freshness, Duration::from_secs(300));
    all.spec.terminate = true;
    assert_eq!(look(&all, Some(STEADY), 600), (vec![], None), "terminated");
    let mut no_start = run("0", vec![metric(json!({"window": "10s"}))]);
    no_start.spec.start = None;
    assert_eq!(
        look(&no_start, Some(STEADY), 600),
        (vec![], None),
        "no start: it holds"
    );
    no_start.metadata.creation_timestamp = Some(Time(t(100)));
    assert_eq!(look(&no_start, Some(STEADY), 105), (vec![], Some(110)));
}
