//! Annotations of a Rollout: commands, who gave them, and whatever else stands there.

use serin::model::command::Verb;

use super::{decide, look, moment, pairs};

/// A first byte names the instant; then `name=value` in each line, where a digit stands for a command's
/// name, and a capital for its stamp's.
pub fn target(data: &[u8]) {
    let [at, rest @ ..] = data else { return };
    let mut moment = moment(*at);
    let hash = moment.rollout.status.as_ref();
    let hash = hash.and_then(|s| s.attempt.as_ref().map(|a| a.hash.clone()));
    let annotations = moment.rollout.metadata.annotations.get_or_insert_default();
    for (name, value) in pairs(rest) {
        let verb = |first: u8| {
            let (all, n) = (&Verb::ALL, usize::from(first));
            let annotation = all
                .get(n.wrapping_sub(usize::from(b'0')))
                .map(|v| v.annotation());
            let stamp = all
                .get(n.wrapping_sub(usize::from(b'A')))
                .map(|v| v.stamp());
            annotation.or(stamp)
        };
        let name = match name.as_bytes() {
            [one] => verb(*one).unwrap_or(name),
            _ => name,
        };
        let value = value.replace("$canary", hash.as_deref().unwrap_or_default());
        annotations.insert(name, value);
    }
    if let Some((observed, now)) = look(moment) {
        decide(observed, now);
    }
}
