//! What happened, line by line, and a hash of it.

use serde_json::Value;

use crate::{
    api::{
        kinds::{EVENT, LEASE, POD, ROLLOUT, ROUTE, RUN, SERVICE, SET},
        store::{Past, number, text},
    },
    world::Who,
};

/// The log.
#[derive(Debug, Default)]
pub struct Log {
    /// The lines, where they are kept.
    pub lines: Vec<String>,
    keep: bool,
    hash: u64,
}

fn mix(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |h, b| {
        (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl Log {
    /// An empty one.
    pub fn new(keep: bool) -> Self {
        Self {
            lines: vec![],
            keep,
            hash: 0xcbf2_9ce4_8422_2325,
        }
    }
    /// Of everything so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }
    /// A remark.
    pub fn note(&mut self, at: u64, what: &str) {
        self.hash = mix(self.hash, &at.to_le_bytes());
        self.hash = mix(self.hash, what.as_bytes());
        if self.keep {
            self.lines.push(format!("{at:>9} {what}"));
        }
    }
    /// A change of an object.
    pub fn line(&mut self, at: u64, who: Who, past: &Past) {
        self.hash = mix(self.hash, &at.to_le_bytes());
        self.hash = mix(self.hash, &past.version.to_le_bytes());
        self.hash = mix(self.hash, past.path.name.as_bytes());
        let said = says(past);
        self.hash = mix(self.hash, said.as_bytes());
        if self.keep && past.path.kind != LEASE {
            let who = match who {
                Who::Serin(life) => format!("serin-{life}"),
                Who::Nature => "nature".into(),
                Who::People => "people".into(),
            };
            self.lines.push(format!(
                "{at:>9} {who:<8} v{} {} {said}",
                past.version, past.path
            ));
        }
    }
}

/// A change in a few words.
fn says(past: &Past) -> String {
    let Some(new) = &past.new else {
        return "is gone".into();
    };
    let whole = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let at = |pointer: &str| new.pointer(pointer).map(whole).unwrap_or_default();
    match past.path.kind {
        SET => format!(
            "replicas {} status {}/{} decision {}",
            at("/spec/replicas"),
            at("/status/readyReplicas"),
            at("/status/replicas"),
            at("/metadata/annotations/serin.dev~1decision")
        ),
        SERVICE => format!("selects {}", at("/spec/selector/pod-template-hash")),
        POD => format!(
            "ready {} going {}",
            at("/status/conditions/0/status"),
            at("/metadata/deletionTimestamp")
        ),
        ROUTE => format!(
            "weights {}/{} generation {} accepted {} decision {}",
            at("/spec/rules/0/backendRefs/0/weight"),
            at("/spec/rules/0/backendRefs/1/weight"),
            at("/metadata/generation"),
            at("/status/parents/0/conditions/0/observedGeneration"),
            at("/metadata/annotations/serin.dev~1decision")
        ),
        ROLLOUT => rollout(past, new),
        RUN => format!("phase {}", at("/status/phase")),
        EVENT => format!("{}: {}", text(new, "/reason"), text(new, "/note")),
        _ => String::new(),
    }
}

fn rollout(past: &Past, new: &Value) -> String {
    let mut said = format!(
        "{} {}/{} step {} seq {} fence {} share {} stable {}: {}",
        text(new, "/status/phase"),
        text(new, "/status/attempt/stage"),
        text(new, "/status/attempt/outcome"),
        number(new, "/status/attempt/stepIndex"),
        number(new, "/status/decision/sequence"),
        number(new, "/status/decision/fence"),
        number(new, "/status/traffic/share"),
        text(new, "/status/stableRevision"),
        text(new, "/status/message"),
    );
    let old = past.old.as_ref();
    if old.is_none_or(|o| o["spec"] != new["spec"]) {
        said.push_str(&format!(
            " SPEC {} x{}",
            text(new, "/spec/template/spec/containers/0/image"),
            number(new, "/spec/replicas")
        ));
    }
    if old.is_none_or(|o| o["metadata"]["annotations"] != new["metadata"]["annotations"]) {
        said.push_str(&format!(" ANNOTATIONS {}", new["metadata"]["annotations"]));
    }
    said
}
