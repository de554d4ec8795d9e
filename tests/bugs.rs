//! The table of the bugs of others, `docs/bugs.md`: each bug has a row, what a row names is there,
//! and each scenario that is named after a bug stands in its row.

#![allow(
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot read its data says so"
)]

use std::{collections::BTreeMap, fs, path::Path};

/// The last bug that has a row.
const LAST: u32 = 77;

/// Rows by bug: their third cell, what answers the bug here.
fn rows(table: &str) -> BTreeMap<String, String> {
    let mut rows = BTreeMap::new();
    for line in table
        .lines()
        .filter(|l| l.starts_with("| B") && !l.starts_with("| Bug"))
    {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 3, "cells of the row {line}");
        assert!(cells.iter().all(|c| !c.is_empty()), "empty cell: {line}");
        let twice = rows.insert(cells[0].to_owned(), cells[2].to_owned());
        assert!(twice.is_none(), "two rows of {}", cells[0]);
    }
    rows
}

/// What stands between backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The bug that a scenario is named after: `b07_…` is B07.
fn bug_of(scenario: &str) -> Option<String> {
    let (number, _) = scenario.strip_prefix('b')?.split_once('_')?;
    let digits = number.len() == 2 && number.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| format!("B{number}"))
}

/// What is wrong with one quoted name: a scenario or a test `file::function`.
fn fault(bug: &str, name: &str) -> Option<String> {
    if let Some((file, function)) = name.split_once("::") {
        let text = fs::read_to_string(file).unwrap_or_default();
        let found = text.contains(&format!("fn {function}("));
        return (!found).then(|| format!("{bug}: there is no test {name}"));
    }
    if !Path::new(&format!("tests/scenarios/{name}.yaml")).exists() {
        return Some(format!("{bug}: there is no scenario {name}"));
    }
    let other = bug_of(name).filter(|of| of != bug)?;
    Some(format!("{bug}: the scenario {name} is about {other}"))
}

#[test]
fn every_bug_has_an_answer_that_is_there() {
    let table = fs::read_to_string("docs/bugs.md").expect("the table");
    let rows = rows(&table);
    let wanted: Vec<String> = (1..=LAST).map(|n| format!("B{n:02}")).collect();
    assert_eq!(rows.keys().cloned().collect::<Vec<_>>(), wanted, "rows");
    let mut faults: Vec<String> = Vec::new();
    for (bug, here) in &rows {
        faults.extend(quoted(here).into_iter().filter_map(|name| fault(bug, name)));
    }
    for entry in fs::read_dir("tests/scenarios").expect("the scenarios") {
        let name = entry.expect("an entry").file_name();
        let name = name.to_string_lossy();
        let Some(name) = name.strip_suffix(".yaml") else {
            continue;
        };
        let Some(bug) = bug_of(name) else { continue };
        let stands = rows.get(&bug).is_some_and(|c| quoted(c).contains(&name));
        if !stands {
            faults.push(format!("{name} does not stand in the row of {bug}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn what_is_not_there_is_found_out() {
    assert!(fault("B01", "b01_not_there").is_some());
    assert!(fault("B01", "tests/bugs.rs::not_there").is_some());
    assert!(fault("B01", "tests/bugs.rs::what_is_not_there_is_found_out").is_none());
    assert_eq!(bug_of("b07_back"), Some("B07".to_owned()));
    assert_eq!(bug_of("blue-green-abort"), None);
}
