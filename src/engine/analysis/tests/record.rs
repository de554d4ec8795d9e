//! What readings make of a run.

use super::*;
use crate::{api::AnalysisRunStatus, engine::analysis::record};

/// Takes readings, a letter each (pass, fail, inconclusive, no data, error), one every 30 seconds,
/// and says the run's phase and message.
fn after(step: &str, fields: &Value, readings: &str) -> (String, String) {
    let mut run = run(step, vec![metric(fields.clone())]);
    for (at, letter) in (0..).step_by(30).zip(readings.chars()) {
        let reading = match letter {
            'P' => pass(),
            'F' => fail(),
            'I' => between(),
            'N' => no_data(),
            _ => error(),
        };
        take(&mut run, t(at), reading);
    }
    let status = run.status.unwrap_or_default();
    let ended = status.phase.as_deref() != Some("Running");
    assert_eq!(status.completed_at.is_some(), ended, "{fields}");
    (
        status.phase.unwrap_or_default(),
        status.message.unwrap_or_default(),
    )
}

/// Step | fields of the metric | readings | phase | message.
const ENDS: &str = r#"
2 | {} | P | Successful | passed: 1 of 1 measurements
2 | {} | F | Failed | failed: 0.902, wanted >= 0.99 (failed below 0.95)
2 | {} | IP | Successful | passed: 1 of 1 measurements
2 | {"count": 3} | PP | Running |
2 | {"count": 3} | PPP | Successful | passed: 3 of 3 measurements
2 | {"count": 3} | PF | Failed | failed: 0.902, wanted >= 0.99 (failed below 0.95)
2 | {"count": 3, "failureLimit": 1} | PFP | Successful | passed: 2 of 3 measurements
2 | {"count": 3, "failureLimit": 1} | FF | Failed | failed: 0.902, wanted >= 0.99 (failed below 0.95); 2 failed, 1 tolerated
2 | {"count": 2, "failureLimit": 2} | FF | Failed | failed: 0.902, wanted >= 0.99 (failed below 0.95); none of 2 measurements passed
2 | {} | III | Running |
2 | {} | IIII | Inconclusive | inconclusive: 4 times in a row, 3 tolerated: 0.97, wanted >= 0.99 (fails below 0.95)
2 | {} | NNN | Running |
2 | {} | NNNN | Inconclusive | inconclusive: no data 4 times in a row, 3 tolerated: the result is empty
2 | {} | EEE | Running |
2 | {} | EEEE | Inconclusive | inconclusive: an error 4 times in a row, 3 tolerated: the server did not answer within 10s
2 | {"error": {"limit": 0}} | E | Inconclusive | inconclusive: an error once, 0 tolerated: the server did not answer within 10s
2 | {"error": {"then": "abort"}} | EEEE | Failed | failed: an error 4 times in a row, 3 tolerated: the server did not answer within 10s
2 | {"noData": {"limit": 1, "then": "abort"}} | NN | Failed | failed: no data 2 times in a row, 1 tolerated: the result is empty
2 | {"inconclusive": {"limit": 0, "then": "abort"}} | I | Failed | failed: once, 0 tolerated: 0.97, wanted >= 0.99 (fails below 0.95)
2 | {"noData": {"limit": 1}} | NEN | Inconclusive | inconclusive: no data or an error 3 times in a row, 1 tolerated: the result is empty
2 | {"noData": {"limit": 1}} | NE | Running |
2 | {"noData": {"limit": 1}} | NIN | Running |
background | {"noData": {"limit": 1}} | NPN | Running |
background | {"noData": {"limit": 1}} | NPNN | Inconclusive | inconclusive: no data 2 times in a row, 1 tolerated: the result is empty
background | {} | PPPPPPPPPPPPPPPPPPPP | Running |
background | {"count": 2} | PP | Successful | passed: 2 of 2 measurements
background | {} | PPF | Failed | failed: 0.902, wanted >= 0.99 (failed below 0.95)
"#;

#[test]
fn every_way_to_end() {
    for row in ENDS.trim().lines() {
        let columns: Vec<_> = row.split('|').map(str::trim).collect();
        let [step, fields, readings, phase, message] = columns[..] else {
            unreachable!("five columns: {row}");
        };
        let fields = serde_json::from_str(fields).expect("fields");
        let message = match message {
            "" => String::new(),
            text => format!("metric \"success-rate\" {text}"),
        };
        assert_eq!(
            after(step, &fields, readings),
            (phase.to_owned(), message),
            "{row}"
        );
    }
}

#[test]
fn what_is_not_finite_is_no_data_even_here() {
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for pass in [">= 0", "<= 0"] {
            let fields = json!({"judge": {"threshold": {"pass": pass, "fail": null}}});
            let mut run = run("0", vec![metric(fields)]);
            take(&mut run, t(0), Reading::Value(value));
            let result = run.status.expect("recorded").metric_results.remove(0);
            assert_eq!((result.passed, result.failed, result.no_data), (0, 0, 1));
        }
    }
}

#[test]
fn counts_are_kept_and_measurements_are_few() {
    let mut run = run("background", vec![metric(json!({"failureLimit": 9}))]);
    take(&mut run, t(0), between());
    for i in 1..=12 {
        take(
            &mut run,
            t(30 * i),
            if i % 4 == 0 { fail() } else { pass() },
        );
    }
    take(&mut run, t(30 * 13), error());
    take(&mut run, t(30 * 14), error());
    let status = run.status.clone().expect("recorded");
    assert_eq!(status.started_at, Some(Time(t(0))));
    let result = &status.metric_results[0];
    assert_eq!(
        (result.passed, result.failed, result.inconclusive),
        (9, 3, 1)
    );
    assert_eq!((result.errors, result.no_data, result.in_a_row), (2, 0, 2));
    assert_eq!(result.next_at, Some(Time(t(30 * 15))));
    assert_eq!(result.measurements.len(), 10);
    let last = result.measurements.last().expect("one");
    assert_eq!(
        (last.verdict.as_str(), last.at.0, last.value.as_ref()),
        ("error", t(30 * 14), None)
    );
    assert_eq!(
        last.message.as_deref(),
        Some("the server did not answer within 10s")
    );
    let first = result.measurements.first().expect("one");
    assert_eq!(
        (first.verdict.as_str(), first.value.as_deref()),
        ("pass", Some("0.999"))
    );
    take(&mut run, t(30 * 15), pass());
    assert_eq!(run.status.expect("recorded").metric_results[0].in_a_row, 0);
}

#[test]
fn a_window_across_a_change_counts_for_nothing() {
    for step in ["0", "background"] {
        let run = run(step, vec![metric(json!({"window": "30s"}))]);
        let at = |at, reading, steady: Option<i64>| {
            record(&run, &[answer(0, t(at), reading)], steady.map(t), t(at))
        };
        for reading in [pass, fail, between, no_data, error] {
            assert_eq!(
                at(100, reading(), None),
                AnalysisRunStatus::default(),
                "changing"
            );
            assert_eq!(
                at(100, reading(), Some(71)),
                AnalysisRunStatus::default(),
                "changed within"
            );
            assert_eq!(
                at(29, reading(), Some(-50)),
                AnalysisRunStatus::default(),
                "before the start"
            );
            assert_ne!(
                at(100, reading(), Some(70)),
                AnalysisRunStatus::default(),
                "just not"
            );
        }
    }
}

#[test]
fn a_metric_that_was_not_measured_yet_is_running() {
    let metrics = ["a", "b"].map(|name| metric(json!({"name": name, "count": 2})));
    let run = run("1", metrics.to_vec());
    let status = record(&run, &[answer(0, t(0), pass())], Some(t(-9)), t(5));
    let phases: Vec<&str> = status
        .metric_results
        .iter()
        .map(|r| r.phase.as_str())
        .collect();
    assert_eq!(phases, ["Running", "Running"]);
}

#[test]
fn what_was_not_due_is_not_taken() {
    let mut run = run("background", vec![metric(json!({"interval": "30s"}))]);
    take(&mut run, t(0), pass());
    let before = run.status.clone();
    take(&mut run, t(0), fail());
    assert_eq!(run.status, before, "recorded already");
    take(&mut run, t(29), fail());
    assert_eq!(run.status, before, "not its turn");
    let early = record(&run, &[answer(0, t(90), fail())], Some(t(-9)), t(60));
    assert_eq!(Some(early), before, "from the future");
    let unknown = record(&run, &[answer(7, t(60), fail())], Some(t(-9)), t(60));
    assert_eq!(Some(unknown), before, "no such metric");
    let twice = [answer(0, t(60), pass()), answer(0, t(60), pass())];
    let status = record(&run, &twice, Some(t(-9)), t(60));
    assert_eq!(status.metric_results[0].passed, 2, "one of the two");
}

#[test]
fn a_metric_that_is_complete_takes_no_more() {
    let metrics = ["a", "b"].map(|name| metric(json!({"name": name})));
    let mut run = run("0", metrics.to_vec());
    take(&mut run, t(0), pass());
    let before = run.status.clone();
    assert_eq!(phase(&run), "Running");
    take(&mut run, t(60), fail());
    assert_eq!(run.status, before);
}

#[test]
fn one_failure_ends_all_and_an_end_is_final() {
    let metrics = ["a", "b", "c"]
        .map(|name| metric(json!({"name": name, "count": 2, "noData": {"limit": 0}})));
    let run = run("1", metrics.to_vec());
    let three = |a, b, c| {
        let readings = [answer(0, t(0), a), answer(1, t(0), b), answer(2, t(0), c)];
        record(&run, &readings, Some(t(-9)), t(5))
    };
    for (status, phase, message) in [
        (
            three(pass(), fail(), no_data()),
            "Failed",
            r#"metric "b" failed: 0.902"#,
        ),
        (
            three(no_data(), pass(), fail()),
            "Failed",
            r#"metric "c" failed: 0.902"#,
        ),
        (
            three(fail(), pass(), fail()),
            "Failed",
            "(failed below 0.95) (and 1 more)",
        ),
        (
            three(pass(), no_data(), pass()),
            "Inconclusive",
            r#"metric "b" inconclusive: no data once"#,
        ),
    ] {
        assert_eq!(status.phase.as_deref(), Some(phase));
        let told = status.message.clone().unwrap_or_default();
        assert!(told.contains(message), "{told}");
        assert_eq!(status.completed_at, Some(Time(t(5))));
        assert!(status.metric_results.iter().all(|r| r.next_at.is_none()));
        let mut ended = run.clone();
        ended.status = Some(status.clone());
        for terminate in [false, true] {
            ended.spec.terminate = terminate;
            let more = record(&ended, &[answer(0, t(60), pass())], Some(t(-9)), t(60));
            assert_eq!(more, status, "an end is final");
        }
    }
    assert_eq!(
        three(pass(), pass(), pass()).phase.as_deref(),
        Some("Running")
    );
}

#[test]
fn a_run_that_is_terminated_is_never_successful() {
    let mut run = run("0", vec![metric(json!({}))]);
    run.spec.terminate = true;
    for readings in [
        vec![],
        vec![answer(0, t(0), pass())],
        vec![answer(0, t(0), fail())],
    ] {
        let status = record(&run, &readings, Some(t(-9)), t(1));
        assert_eq!(status.phase.as_deref(), Some("Terminated"));
        assert_eq!(status.completed_at, Some(Time(t(1))));
        assert!(status.metric_results.is_empty());
    }
}

#[test]
fn nothing_measured_is_never_successful() {
    let empty = record(&run("0", vec![]), &[], Some(t(-9)), t(1));
    assert_eq!(empty.phase.as_deref(), Some("Inconclusive"));
    let none = record(&run("0", vec![metric(json!({}))]), &[], Some(t(-9)), t(1));
    assert_eq!(
        none,
        AnalysisRunStatus::default(),
        "nothing came, nothing is written"
    );
}

#[test]
fn results_of_another_metric_are_no_evidence() {
    let mut run = run("0", vec![metric(json!({"count": 2}))]);
    take(&mut run, t(0), pass());
    run.spec.metrics = vec![metric(json!({"name": "latency", "count": 2}))];
    take(&mut run, t(60), pass());
    let result = &run.status.as_ref().expect("recorded").metric_results[0];
    assert_eq!((result.name.as_str(), result.passed), ("latency", 1));
}

#[test]
fn messages_stay_short() {
    let long = Reading::Error("é".repeat(100_000));
    let mut run = run(
        "0",
        vec![metric(
            json!({"name": "n".repeat(63), "error": {"limit": 0}}),
        )],
    );
    take(&mut run, t(0), long);
    let status = run.status.expect("recorded");
    assert!(status.message.expect("one").chars().count() <= 300);
    let result = &status.metric_results[0];
    assert!(result.message.as_ref().expect("one").chars().count() <= 300);
    let measured = result.measurements[0].message.as_ref().expect("one");
    assert!(measured.chars().count() <= 160);
}
