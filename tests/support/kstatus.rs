//! kstatus as it is published (cli-utils, `pkg/kstatus`), for kinds that it has no rules of their own
//! for: what Flux, Helm 4 and kpt understand of an object.

use serde_json::Value;

/// What who waits makes of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Waits on.
    InProgress,
    /// Is content.
    Current,
    /// Gives up at once.
    Failed,
    /// It is being deleted.
    Terminating,
}

/// What kstatus says of an object, or why it cannot read it.
pub fn kstatus(object: &Value) -> Result<Verdict, String> {
    let text = |path: &str| -> Result<Option<&str>, String> {
        match object.pointer(path) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(format!("{path} is {other}, not a text")),
        }
    };
    // A text here, as Argo Rollouts writes it, is an error, and whoever waits does so for ever.
    let number = |path: &str| -> Result<Option<i64>, String> {
        match object.pointer(path) {
            None | Some(Value::Null) => Ok(None),
            Some(other) => {
                let number = other.as_i64();
                number
                    .map(Some)
                    .ok_or(format!("{path} is {other}, not an integer"))
            }
        }
    };
    if text("/metadata/deletionTimestamp")?.is_some_and(|t| !t.is_empty()) {
        return Ok(Verdict::Terminating);
    }
    if let Some(generation) = number("/metadata/generation")? {
        let observed = number("/status/observedGeneration")?;
        if observed.is_some_and(|o| o != generation) {
            return Ok(Verdict::InProgress);
        }
    }
    let none = vec![];
    let conditions = match object.pointer("/status/conditions") {
        None | Some(Value::Null) => &none,
        Some(Value::Array(all)) => all,
        Some(other) => return Err(format!("status.conditions is {other}, not a list")),
    };
    // The first of these two that is true wins.
    for condition in conditions {
        match (condition["type"].as_str(), condition["status"].as_str()) {
            (Some("Reconciling"), Some("True")) => return Ok(Verdict::InProgress),
            (Some("Stalled"), Some("True")) => return Ok(Verdict::Failed),
            _ => {}
        }
    }
    let ready = conditions.iter().find(|c| c["type"] == "Ready");
    Ok(match ready.map(|c| c["status"].as_str()) {
        // Nothing speaks against it.
        None | Some(Some("True")) => Verdict::Current,
        Some(_) => Verdict::InProgress,
    })
}
