//! What Prometheus is asked: by the alerts and by the Grafana dashboard.

use std::fs;

use serde_json::Value;

/// The alerts.
pub const RULES: &str = "charts/serin/files/prometheus-rules.yaml";
/// The dashboard.
pub const DASHBOARD: &str = "charts/serin/files/dashboard.json";

/// An expression and where it stands.
#[derive(Clone, Debug)]
pub struct Expression {
    /// Where it stands.
    pub place: String,
    /// PromQL, with Grafana's variables filled in.
    pub text: String,
    /// Text for people with the labels that it names in double braces.
    #[allow(dead_code, reason = "the lab needs the expression only")]
    pub said: String,
}

/// A JSON or YAML file.
pub fn read(path: &str) -> Value {
    let text = fs::read_to_string(path).expect("the file can be read");
    serde_saphyr::from_str(&text).expect("the file can be understood")
}

/// Fills in what Grafana fills in.
fn filled(text: &str) -> String {
    [
        ("$__rate_interval", "5m"),
        ("$namespace", ".*"),
        ("$rollout", ".*"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (variable, value)| {
        text.replace(variable, value)
    })
}

/// What the dashboard asks.
pub fn dashboard() -> Vec<Expression> {
    let dashboard = read(DASHBOARD);
    let mut all = vec![];
    for panel in dashboard["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().into_iter().flatten() {
            all.push(Expression {
                place: format!("panel {}", panel["title"]),
                text: filled(target["expr"].as_str().expect("an expression")),
                said: target["legendFormat"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
            });
        }
    }
    for variable in dashboard["templating"]["list"]
        .as_array()
        .expect("variables")
    {
        // label_values(METRIC, LABEL)
        let query = variable["query"]["query"].as_str().unwrap_or_default();
        let inside = query
            .strip_prefix("label_values(")
            .and_then(|q| q.strip_suffix(')'));
        if let Some((metric, label)) = inside.and_then(|i| i.rsplit_once(", ")) {
            all.push(Expression {
                place: format!("variable {}", variable["name"]),
                text: filled(metric),
                said: format!("{{{{{label}}}}}"),
            });
        }
    }
    all
}

/// What the alerts ask.
pub fn rules() -> Vec<Expression> {
    let rules = read(RULES);
    let groups = rules["groups"].as_array().expect("groups");
    let rules = groups
        .iter()
        .flat_map(|g| g["rules"].as_array().expect("rules"));
    rules
        .map(|rule| {
            let said: Vec<&str> = rule["annotations"]
                .as_object()
                .into_iter()
                .flat_map(|a| a.values().filter_map(Value::as_str))
                .collect();
            Expression {
                place: format!("alert {}", rule["alert"]),
                text: rule["expr"].as_str().expect("an expression").to_owned(),
                said: said.join("\n"),
            }
        })
        .collect()
}
