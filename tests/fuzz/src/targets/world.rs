//! Objects that others can write, the status among them.

use serde_json::{Value, json};

use super::{decide, look, moment};

/// The first byte names the instant, the second the object, those up to a line's end a way through
/// it; the rest is what stands there then.
pub fn target(data: &[u8]) {
    let [at, object, rest @ ..] = data else {
        return;
    };
    let mut moment = moment(*at);
    let end = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
    let (way, new) = rest.split_at(end);
    let new = new.get(1..).unwrap_or_default();
    let new: Option<Value> = match new {
        [] => None,
        _ => Some(
            serde_json::from_slice(new).unwrap_or_else(|_| json!(String::from_utf8_lossy(new))),
        ),
    };
    let Ok(rollout) = serde_json::to_value(&moment.rollout) else {
        return;
    };
    let n = usize::from(*object) % (moment.objects.len() + 1);
    let mut changed = moment.objects.get(n).cloned().unwrap_or(rollout);
    edit(&mut changed, way, new);
    match moment.objects.get_mut(n) {
        Some(object) => {
            // Whose it is and what it is called are the API server's to keep.
            for kept in ["/kind", "/metadata/name"] {
                if changed.pointer(kept) != object.pointer(kept) {
                    return;
                }
            }
            *object = changed;
        }
        None => match serde_json::from_value(changed) {
            Ok(rollout) => moment.rollout = rollout,
            Err(_) => return,
        },
    }
    if let Some((observed, now)) = look(moment) {
        decide(observed, now);
    }
}

/// Goes in by each byte: which field, which item. Where the way ends, something else stands, or nothing.
fn edit(value: &mut Value, way: &[u8], new: Option<Value>) {
    let Some((step, way)) = way.split_first() else {
        *value = new.unwrap_or(Value::Null);
        return;
    };
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let n = usize::from(*step) % fields.len();
            let name = fields.keys().nth(n).cloned().unwrap_or_default();
            match (way, &new) {
                ([], None) => drop(fields.remove(&name)),
                _ => edit(&mut fields[&name], way, new),
            }
        }
        Value::Array(items) if !items.is_empty() => {
            let n = usize::from(*step) % items.len();
            match (way, &new) {
                ([], None) => drop(items.remove(n)),
                _ => edit(&mut items[n], way, new),
            }
        }
        value => *value = new.unwrap_or(Value::Null),
    }
}
