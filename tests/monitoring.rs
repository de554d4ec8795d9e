//! The alerts and the dashboard ask for metrics that there are, by labels that they have.

#[path = "support/dashboard.rs"]
mod dashboard;
#[path = "support/exposed.rs"]
mod exposed;

use std::collections::{BTreeMap, BTreeSet};

use dashboard::{DASHBOARD, Expression, RULES, read};
use serde_json::{Value, json};

type Names = BTreeSet<String>;

/// Every series that is exposed, with its labels.
fn exposed() -> BTreeMap<String, Names> {
    let text = exposed::exposed();
    let mut all = BTreeMap::new();
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').expect("a series and a value");
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels.trim_end_matches('}').split("\",");
        let labels = labels.filter_map(|l| Some(l.split_once('=')?.0.to_owned()));
        all.insert(name.to_owned(), labels.collect());
    }
    all
}

/// Each selector of an expression: a metric and the labels that it is narrowed by.
fn selectors(text: &str) -> Vec<(String, Names)> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts = text.match_indices("serin_").map(|(at, _)| &text[at..]);
    starts
        .map(|rest| {
            let end = rest.find(|c| !word(c)).unwrap_or(rest.len());
            let inside = rest[end..]
                .strip_prefix('{')
                .and_then(|r| r.split_once('}'));
            let inside = inside.map_or("", |(inside, _)| inside);
            let labels = inside.split("\",").filter(|l| !l.is_empty());
            let name = |l: &str| l.split(|c| !word(c)).next().unwrap_or_default().to_owned();
            (rest[..end].to_owned(), labels.map(name).collect())
        })
        .collect()
}

/// The labels that an expression groups by.
fn grouped(text: &str) -> Names {
    let lists = text.split("by (").skip(1).filter_map(|r| r.split_once(')'));
    let labels = lists.flat_map(|(list, _)| list.split(','));
    labels.map(|l| l.trim().to_owned()).collect()
}

/// The labels that are said: `{{name}}` of a legend, `$labels.name` of an alert.
fn said(text: &str) -> Names {
    let word = |t: &str| {
        let end = t.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        t[..end.unwrap_or(t.len())].to_owned()
    };
    let alert = text.split("$labels.").skip(1).map(word);
    let legend = text.split("{{").skip(1).map(word).filter(|w| !w.is_empty());
    alert.chain(legend).collect()
}

/// What is wrong with an expression.
fn faults(expression: &Expression, exposed: &BTreeMap<String, Names>) -> Vec<String> {
    let mut faults = vec![];
    let found = selectors(&expression.text);
    if found.is_empty() {
        faults.push("asks for nothing of Serin's".to_owned());
    }
    let mut there: Option<Names> = None;
    for (name, labels) in &found {
        match exposed.get(name) {
            None => faults.push(format!("{name} is not there")),
            Some(has) => {
                let lacks: Vec<_> = labels.difference(has).collect();
                if !lacks.is_empty() {
                    faults.push(format!("{name} has no {lacks:?}"));
                }
                let common = there.map_or(has.clone(), |t| t.intersection(has).cloned().collect());
                there = Some(common);
            }
        }
    }
    let (there, grouped) = (there.unwrap_or_default(), grouped(&expression.text));
    let lacks: Vec<_> = grouped.difference(&there).collect();
    if !lacks.is_empty() {
        faults.push(format!("groups by {lacks:?}"));
    }
    // What is not grouped by is not left to be said.
    let left = if grouped.is_empty() { &there } else { &grouped };
    let lacks: Vec<_> = said(&expression.said)
        .into_iter()
        .filter(|l| !left.contains(l))
        .collect();
    if !lacks.is_empty() {
        faults.push(format!("says {lacks:?}"));
    }
    let place = &expression.place;
    faults.iter().map(|f| format!("{place}: {f}")).collect()
}

#[test]
fn what_is_asked_for_is_there() {
    let exposed = exposed();
    let (rules, dashboard) = (dashboard::rules(), dashboard::dashboard());
    assert!(rules.len() >= 6 && dashboard.len() >= 20);
    let all = rules.iter().chain(&dashboard);
    let faults: Vec<String> = all.flat_map(|e| faults(e, &exposed)).collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    // All that stands is shown.
    let asked: Names = dashboard
        .iter()
        .flat_map(|e| selectors(&e.text))
        .map(|(name, _)| name)
        .collect();
    let hidden: Vec<_> = exposed
        .keys()
        .filter(|n| !asked.contains(*n) && !n.ends_with("_sum"))
        .collect();
    assert!(hidden.is_empty(), "{hidden:?} are not on the dashboard");
}

#[test]
fn what_is_not_there_is_found() {
    let exposed = exposed();
    let found = |text: &str, said: &str| {
        let expression = Expression {
            place: "here".into(),
            text: text.into(),
            said: said.into(),
        };
        faults(&expression, &exposed).join("\n")
    };
    let by = "max by (namespace) (serin_rollout_phase)";
    assert_eq!(found(by, "{{namespace}}"), "");
    assert!(found("serin_gone", "").contains("serin_gone is not there"));
    assert!(found("up", "").contains("nothing"));
    assert!(
        found(r#"serin_leader{a=~"x",namespace="y"}"#, "").contains(r#"no ["a", "namespace"]"#)
    );
    assert!(found("sum by (pod) (serin_leader)", "").contains("groups by"));
    assert!(found(by, "{{ $labels.rollout }}").contains(r#"says ["rollout"]"#));
}

#[test]
fn every_alert_says_what_it_means() {
    let rules = read(RULES);
    let mut names = BTreeSet::new();
    for rule in rules["groups"][0]["rules"].as_array().expect("rules") {
        let name = rule["alert"].as_str().expect("a name");
        assert!(names.insert(name), "{name} is there twice");
        let severity = rule["labels"]["severity"].as_str().unwrap_or_default();
        assert!(
            matches!(severity, "warning" | "critical" | "info"),
            "{name}"
        );
        for field in ["summary", "description"] {
            let text = rule["annotations"][field].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "{name}: {field}");
        }
        let tests = std::fs::read_to_string("tests/prometheus/rules-test.yaml").expect("tests");
        assert!(
            tests.contains(&format!("alertname: {name}")),
            "{name} has no test"
        );
        // A counter that is born at 1 never alerts.
        let expression = rule["expr"].as_str().unwrap_or_default();
        assert!(!expression.contains("_total"), "{name} stands on a counter");
    }
}

#[test]
fn grafana_can_import_the_dashboard() {
    let dashboard = read(DASHBOARD);
    for field in ["uid", "title"] {
        assert!(
            dashboard[field].as_str().is_some_and(|t| !t.is_empty()),
            "{field}"
        );
    }
    // A number here would be that of somebody else's dashboard.
    assert_eq!(dashboard["id"], Value::Null);
    assert!(dashboard["schemaVersion"].as_i64() >= Some(36));
    assert_eq!(
        dashboard["__inputs"],
        json!([]),
        "the source is a variable, which is also provisioned"
    );
    let variables = dashboard["templating"]["list"]
        .as_array()
        .expect("variables");
    let names: Vec<&Value> = variables.iter().map(|v| &v["name"]).collect();
    assert_eq!(names, ["datasource", "namespace", "rollout"]);
    let source = json!({"type": "prometheus", "uid": "${datasource}"});
    let required = dashboard["__requires"].as_array().expect("a list");
    let (mut ids, mut rows, mut below) = (BTreeSet::new(), vec![], 0);
    for panel in dashboard["panels"].as_array().expect("panels") {
        let (title, kind) = (&panel["title"], &panel["type"]);
        assert!(
            ids.insert(panel["id"].as_i64().expect("a number")),
            "{title}"
        );
        let place = &panel["gridPos"];
        let at = |field: &str| place[field].as_i64().expect("a number");
        assert!(
            at("x") + at("w") <= 24 && at("h") > 0 && at("y") >= below,
            "{title}: {place}"
        );
        below = at("y");
        if kind == "row" {
            rows.push(title.as_str().unwrap_or_default().to_owned());
            continue;
        }
        assert!(
            required
                .iter()
                .any(|r| r["type"] == "panel" && r["id"] == *kind),
            "{kind}"
        );
        assert_eq!(panel["datasource"], source, "{title}");
        assert!(
            panel["description"]
                .as_str()
                .is_some_and(|d| d.ends_with('.')),
            "{title}"
        );
        let targets = panel["targets"].as_array().expect("targets");
        let references: BTreeSet<_> = targets.iter().filter_map(|t| t["refId"].as_str()).collect();
        assert!(
            references.len() == targets.len() && !targets.is_empty(),
            "{title}"
        );
        for target in targets {
            assert_eq!(target["datasource"], source, "{title}");
        }
    }
    let wanted = [
        "Rollouts by phase",
        "Weights",
        "Outcomes and rollbacks",
        "Analysis",
        "Controller",
    ];
    assert_eq!(rows, wanted);
}
