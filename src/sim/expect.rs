//! What came of a scenario, held against what must come of it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    api::{
        Rollout,
        status::{HandledCommand, HistoryEntry},
    },
    model::object::{ANALYSIS_RUN, Objects},
};

use super::scenario::Expect;

/// The largest status, in bytes.
pub const STATUS_MAX: usize = 32 * 1024;

/// What came of a scenario.
pub struct End<'a> {
    /// The Rollout; none once it is gone.
    pub rollout: Option<&'a Rollout>,
    /// Every other object.
    pub objects: &'a Objects,
    /// Versions and the hashes of their revisions.
    pub revisions: Vec<(String, String)>,
    /// Pods by version.
    pub pods: BTreeMap<String, usize>,
    /// The weights that the data plane served, one after the other; none where that is not known.
    pub served: Option<Vec<u32>>,
    /// Everything that the history ever said.
    pub history: Vec<HistoryEntry>,
    /// Writes and rounds; none where they were not counted.
    pub counts: Option<(u64, u64)>,
}

/// A text in which `$v1` stands for the hash of version `v1`.
pub fn with_hashes(text: &str, revisions: &[(String, String)]) -> String {
    let revisions = revisions.iter();
    revisions.fold(text.to_owned(), |text, (version, hash)| {
        text.replace(&format!("${version}"), hash)
    })
}

impl End<'_> {
    /// The object that a scenario names, `HTTPRoute/app`.
    fn named(&self, name: &str) -> Option<&Value> {
        let (kind, name) = name.split_once('/')?;
        let name = with_hashes(name, &self.revisions);
        let mut all = self.objects.iter();
        let found = all.find(|(r, _)| r.kind.kind == kind && r.name == name);
        found.map(|(_, object)| object)
    }

    fn version_of(&self, hash: &str) -> String {
        let of = self.revisions.iter().find(|(_, h)| h == hash);
        of.map(|(version, _)| version.clone()).unwrap_or_default()
    }
}

/// What is not as it was wanted.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn wants(&mut self, what: &str, wanted: impl Into<String>, found: impl Into<String>) {
        let (wanted, found) = (wanted.into(), found.into());
        if wanted != found {
            self.0
                .push(format!("{what}: wanted {wanted}, found {found}"));
        }
    }
}

impl Expect {
    /// What is not as the scenario wants it.
    pub fn faults(&self, end: &End<'_>) -> Vec<String> {
        let mut faults = Faults::default();
        let gone = end.rollout.is_none();
        faults.wants("gone", self.gone.to_string(), gone.to_string());
        if let (Some(wanted), Some(served)) = (&self.weights, &end.served) {
            faults.wants("weights", format!("{wanted:?}"), format!("{served:?}"));
        }
        self.objects(end, &mut faults);
        if let Some((writes, rounds)) = end.counts {
            for (what, most, found) in [
                ("writes", self.most_writes, writes),
                ("rounds", self.most_rounds, rounds),
            ] {
                if let Some(most) = most.filter(|most| found > *most) {
                    faults.wants(what, format!("at most {most}"), found.to_string());
                }
            }
        }
        for (version, pods) in &self.pods {
            let found = end.pods.get(version).copied().unwrap_or(0);
            let what = format!("pods of {version}");
            faults.wants(&what, pods.to_string(), found.to_string());
        }
        if let Some(rollout) = end.rollout {
            self.status(rollout, end, &mut faults);
        }
        self.history(end, &mut faults);
        faults.0
    }

    fn objects(&self, end: &End<'_>, faults: &mut Faults) {
        for (name, values) in &self.objects {
            let object = end.named(name);
            for (pointer, value) in values {
                let found = object.and_then(|o| o.pointer(pointer));
                let wanted = match value.is_null() {
                    true => "nothing".into(),
                    false => with_hashes(&value.to_string(), &end.revisions),
                };
                let found = found.map_or_else(|| "nothing".into(), ToString::to_string);
                faults.wants(&format!("{name} {pointer}"), wanted, found);
            }
        }
        if let Some(runs) = &self.runs {
            let of = end.objects.iter().filter(|(r, _)| r.kind == ANALYSIS_RUN);
            let mut of: Vec<_> = of.collect();
            of.sort_by_key(|(r, v)| (v.pointer("/spec/attempt").and_then(Value::as_i64), &r.name));
            let phases: Vec<&str> = of
                .iter()
                .map(|(_, v)| v.pointer("/status/phase"))
                .map(|p| p.and_then(Value::as_str).unwrap_or_default())
                .collect();
            faults.wants("runs", format!("{runs:?}"), format!("{phases:?}"));
        }
    }

    fn status(&self, rollout: &Rollout, end: &End<'_>, faults: &mut Faults) {
        let status = rollout.status.clone().unwrap_or_default();
        if let Some(phase) = &self.phase {
            faults.wants("phase", phase, status.phase.clone().unwrap_or_default());
        }
        if let Some(stable) = &self.stable {
            let hash = status.stable_revision.clone().unwrap_or_default();
            faults.wants("stable", stable, end.version_of(&hash));
        }
        if let Some(message) = &self.message {
            let found = status.message.clone().unwrap_or_default();
            let message = with_hashes(message, &end.revisions);
            let mut rest = found.as_str();
            let holds = message.split("...").all(|piece| {
                let after = rest.split_once(piece).map(|(_, after)| after);
                rest = after.unwrap_or_default();
                after.is_some()
            });
            if !holds {
                faults.wants("message", message, found);
            }
        }
        if let Some(commands) = &self.commands {
            let outcome = |c: &HandledCommand| format!("{} {}", c.name, c.outcome);
            let found: Vec<String> = status.commands.iter().map(outcome).collect();
            faults.wants("commands", format!("{commands:?}"), format!("{found:?}"));
        }
        let size = serde_json::to_string(&status).map_or(0, |s| s.len());
        if size > STATUS_MAX {
            faults.0.push(format!("the status has {size} bytes"));
        }
    }

    fn history(&self, end: &End<'_>, faults: &mut Faults) {
        let reasons: Vec<&str> = end.history.iter().map(|h| h.reason.as_str()).collect();
        let mut rest = reasons.iter();
        if let Some(reason) = self.reasons.iter().find(|r| !rest.any(|s| s == r)) {
            faults.0.push(format!(
                "reasons: {reason} is not in {reasons:?}, or not in this order"
            ));
        }
        for never in self.never.iter().filter(|n| reasons.contains(&n.as_str())) {
            faults.0.push(format!("reasons: {never} must not be"));
        }
    }
}
