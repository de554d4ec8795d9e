//! The merge patch that leads from one JSON object to another.

use serde_json::{Map, Value};

/// The merge patch (RFC 7386) from `old` to `new`; none where they are equal. What stands in
/// neither is not touched by it, so fields that a newer version wrote survive.
pub fn merge_patch(old: &Value, new: &Value) -> Option<Value> {
    let (Value::Object(before), Value::Object(after)) = (old, new) else {
        return (old != new).then(|| new.clone());
    };
    let gone = before
        .keys()
        .filter(|k| !after.contains_key(*k))
        .map(|k| (k.clone(), Value::Null));
    let changed = after.iter().filter_map(|(key, value)| {
        let patch = match before.get(key) {
            Some(was) => merge_patch(was, value)?,
            None => value.clone(),
        };
        Some((key.clone(), patch))
    });
    let patch: Map<String, Value> = gone.chain(changed).collect();
    (!patch.is_empty()).then_some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn leads_from_one_to_the_other_and_spares_the_unknown() {
        let old = json!({"phase": "Healthy", "a": {"b": 1, "c": 2}, "list": [1, 2], "gone": true});
        let new = json!({"phase": "Healthy", "a": {"b": 1, "c": 3}, "list": [2], "new": {"x": 1}});
        let patch = merge_patch(&old, &new).expect("they differ");
        assert_eq!(
            patch,
            json!({"a": {"c": 3}, "list": [2], "gone": null, "new": {"x": 1}})
        );

        let mut live = old.clone();
        live["future"] = json!(1);
        live["a"]["future"] = json!(2);
        json_patch::merge(&mut live, &patch);
        let mut wanted = new.clone();
        wanted["future"] = json!(1);
        wanted["a"]["future"] = json!(2);
        assert_eq!(live, wanted);
        assert_eq!(merge_patch(&new, &new), None);
    }
}
