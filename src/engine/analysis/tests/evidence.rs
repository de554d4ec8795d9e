//! S16: every short sequence of verdicts, against what it must mean.

use super::*;

const KINDS: [fn() -> Reading; 5] = [pass, fail, between, no_data, error];

/// What a sequence means, by its definition: the shortest beginning that ends the run decides.
fn meaning(sequence: &[usize], limit: usize, count: Option<usize>, abort: bool) -> &'static str {
    for end in 1..=sequence.len() {
        let so_far = &sequence[..end];
        let of = |kind: usize| so_far.iter().filter(|k| **k == kind).count();
        let last = so_far[end - 1];
        // No data and errors count in one row.
        let alike = |k: &&usize| **k == last || (**k > 2 && last > 2);
        let row = so_far.iter().rev().take_while(alike).count();
        if of(1) > limit {
            return "Failed";
        }
        if last > 1 && row > limit {
            return if abort { "Failed" } else { "Inconclusive" };
        }
        if count.is_some_and(|count| of(0) + of(1) >= count) {
            return if of(0) > 0 { "Successful" } else { "Failed" };
        }
    }
    "Running"
}

struct Case {
    limit: usize,
    count: Option<usize>,
    abort: bool,
    seen: usize,
}

/// Walks all sequences that begin with `sequence`.
fn walk(case: &mut Case, run: &AnalysisRun, sequence: &mut Vec<usize>) {
    if sequence.len() == 5 {
        return;
    }
    for (kind, reading) in KINDS.iter().enumerate() {
        let mut run = run.clone();
        let at = t(30 * i64::try_from(sequence.len()).expect("short"));
        take(&mut run, at, reading());
        sequence.push(kind);
        case.seen += 1;
        let wanted = meaning(sequence, case.limit, case.count, case.abort);
        assert_eq!(
            phase(&run),
            wanted,
            "{sequence:?} limit {} count {:?}",
            case.limit,
            case.count
        );
        if phase(&run) == "Successful" {
            let result = &run.status.as_ref().expect("recorded").metric_results[0];
            let as_size = |n: i32| usize::try_from(n).expect("a count");
            assert!(result.passed >= 1 && as_size(result.failed) <= case.limit);
            assert!(as_size(result.passed + result.failed) >= case.count.expect("a count"));
        }
        walk(case, &run, sequence);
        sequence.pop();
    }
}

#[test]
fn only_evidence_makes_a_run_successful() {
    for limit in 0..=2 {
        for count in [None, Some(1), Some(2), Some(3)] {
            for abort in [false, true] {
                let then = if abort { "abort" } else { "pause" };
                let tolerance = json!({"limit": limit, "then": then});
                let fields = json!({
                    "count": count, "failureLimit": limit,
                    "noData": tolerance, "inconclusive": tolerance, "error": tolerance,
                });
                let step = if count.is_some() { "0" } else { "background" };
                let run = run(step, vec![metric(fields)]);
                let mut case = Case {
                    limit,
                    count,
                    abort,
                    seen: 0,
                };
                walk(&mut case, &run, &mut vec![]);
                assert_eq!(case.seen, 5 + 25 + 125 + 625 + 3125);
            }
        }
    }
}

#[test]
fn without_a_pass_no_length_helps() {
    // B39: all measurements failed, were errors, or had no data, with limits that forgive all.
    let forgiving = json!({"limit": 10000});
    for count in 1..=3 {
        for reading in [fail, between, no_data, error] {
            let mut run = run(
                "0",
                vec![metric(json!({
                    "count": count, "failureLimit": 10000,
                    "noData": forgiving, "inconclusive": forgiving, "error": forgiving,
                }))],
            );
            for i in 0..50 {
                take(&mut run, t(30 * i), reading());
                assert_ne!(phase(&run), "Successful");
            }
        }
    }
}
