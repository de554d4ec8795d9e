//! Two answers side by side: what differs, but for what is known and named.

use serde_json::Value;

use crate::api::kinds::Id;

use super::{exceptions::excepted, side::Answer};

/// What the real one and the simulated one say differently.
pub fn differences(simulated: &Answer, real: &Answer) -> Vec<String> {
    let mut found = vec![];
    if simulated.code != real.code {
        found.push(format!(
            "code {}, really {} ({} for {})",
            simulated.code, real.code, simulated.body, real.body
        ));
        return found;
    }
    walk(real.kind, "", &simulated.body, &real.body, &mut found);
    found
}

fn walk(kind: Id, path: &str, simulated: &Value, real: &Value, found: &mut Vec<String>) {
    if simulated == real || excepted(kind, path) {
        return;
    }
    match (simulated, real) {
        (Value::Object(simulated), Value::Object(real)) => {
            let mut names: Vec<&String> = simulated.keys().chain(real.keys()).collect();
            names.sort_unstable();
            names.dedup();
            for name in names {
                let path = format!("{path}/{name}");
                let of = |map: &serde_json::Map<String, Value>| map.get(name).cloned();
                match (of(simulated), of(real)) {
                    (Some(simulated), Some(real)) => walk(kind, &path, &simulated, &real, found),
                    _ if excepted(kind, &path) => {}
                    (Some(simulated), None) => {
                        found.push(format!("{path}: {simulated}, really not there"));
                    }
                    (None, real) => {
                        let real = real.unwrap_or_default();
                        found.push(format!("{path}: not there, really {real}"));
                    }
                }
            }
        }
        (Value::Array(simulated), Value::Array(real)) if simulated.len() == real.len() => {
            for (simulated, real) in simulated.iter().zip(real) {
                walk(kind, &format!("{path}/*"), simulated, real, found);
            }
        }
        _ => found.push(format!("{path}: {simulated}, really {real}")),
    }
}
