//! Queries of templates, and arguments that are filled in.

use std::sync::OnceLock;

use serde_json::json;
use serin::{
    api::Rollout,
    engine,
    model::{object::ANALYSIS_RUN, observed::Observed, plan::Action},
    sim::moment::Moment,
};

use super::{decide, look, moments};

/// An instant at which a run is about to be made, with the name of its template.
fn about_to_measure() -> &'static (Moment, String) {
    static ONE: OnceLock<(Moment, String)> = OnceLock::new();
    ONE.get_or_init(|| {
        let mut found = moments().iter().filter_map(|m| {
            let (observed, now) = look(m.clone())?;
            let plan = engine::plan(&observed, now);
            let makes = |a: &Action| matches!(a, Action::Create { object, .. } if object.kind == ANALYSIS_RUN);
            plan.actions.iter().any(makes).then(|| m.clone())
        });
        let moment = found.next().expect("there is such an instant");
        let spec = serde_json::to_string(&moment.rollout.spec).expect("json");
        let names: Vec<&String> = moment.templates.keys().collect();
        let name = names.iter().find(|n| spec.contains(&format!("\"templateName\":\"{n}\"")));
        let name = (*name.expect("it names a template")).clone();
        (moment, name)
    })
}

/// The runs that are made where each argument is `value` and each query is `query`.
fn filled(query: &str, value: &str) -> Option<(Observed, Vec<String>)> {
    let (moment, _) = about_to_measure();
    let mut moment = moment.clone();
    let mut rollout = serde_json::to_value(&moment.rollout).ok()?;
    give(&mut rollout["spec"]["strategy"], value);
    moment.rollout = serde_json::from_value::<Rollout>(rollout).ok()?;
    let now = moment.now;
    let (mut observed, _) = look(moment)?;
    for spec in observed.templates.values_mut() {
        let mut new = serde_json::to_value(&*spec).ok()?;
        for metric in new["metrics"].as_array_mut().into_iter().flatten() {
            metric["provider"] = json!({"prometheus": {"query": query}});
        }
        *spec = serde_json::from_value(new).ok()?;
    }
    let plan = engine::plan(&observed, now);
    let queries = plan.actions.iter().filter_map(|a| match a {
        Action::Create { object, value } if object.kind == ANALYSIS_RUN => value
            .pointer("/spec/metrics/0/provider/prometheus/query")
            .and_then(|q| q.as_str())
            .map(str::to_owned),
        _ => None,
    });
    let queries = queries.collect();
    Some((observed, queries))
}

/// Every argument that is given gets this value.
fn give(strategy: &mut serde_json::Value, value: &str) {
    match strategy {
        serde_json::Value::Object(fields) => {
            for (name, field) in fields {
                match (name.as_str(), field) {
                    ("args", serde_json::Value::Array(args)) => {
                        args.iter_mut().for_each(|a| a["value"] = json!(value));
                    }
                    (_, field) => give(field, value),
                }
            }
        }
        serde_json::Value::Array(all) => all.iter_mut().for_each(|one| give(one, value)),
        _ => {}
    }
}

/// The first line is an argument's value, the rest a query. No value becomes a piece of a query that is
/// known, and an unknown query is filled in or refused.
pub fn target(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (value, query) = text.split_once('\n').unwrap_or((text, "up"));
    let known = [
        (r#"up{a="{{args.service}}"}"#, '"'),
        ("up{a='{{args.service}}'}", '\''),
    ];
    for (query, quote) in known {
        for filled in filled(query, value).into_iter().flat_map(|(_, q)| q) {
            let inner = filled
                .strip_prefix(&format!("up{{a={quote}"))
                .and_then(|q| q.strip_suffix(&format!("{quote}}}")))
                .expect("the query around the value stays");
            assert!(
                closed(inner, quote),
                "{value:?} leaves its quotes: {filled}"
            );
        }
    }
    if let Some((observed, _)) = filled(query, value) {
        decide(observed, about_to_measure().0.now);
    }
}

/// Whether a text ends no quotation: each quote and the last backslash stand after a backslash.
fn closed(text: &str, quote: char) -> bool {
    let mut escaped = false;
    for c in text.chars() {
        match (escaped, c) {
            (true, _) => escaped = false,
            (false, '\\') => escaped = true,
            (false, c) if c == quote || c == '\n' => return false,
            _ => {}
        }
    }
    !escaped
}
