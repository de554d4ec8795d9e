//! What was committed and is under way: the real actions, and what the one who decided on them saw.

use std::sync::Arc;

use serde_json::Value;
use serin::model::plan::Action;

use crate::world::{Told, VERSIONS};

/// What the one who decided knew, kept up to date with what Serin itself wrote since: what the
/// world did meanwhile is not Serin's doing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Seen {
    pub ready: [u8; VERSIONS],
    /// Pods wanted as it knew them, and as it wrote them itself: a ReplicaSet that a deposed leader
    /// is about to create can be fenced off by nobody.
    pub desired: [u8; VERSIONS],
    pub replicas: u8,
    pub flow: (u32, u32),
    pub behind: [u8; 2],
    pub stable: Option<usize>,
    /// The largest share that the committed status allows the canary.
    pub allowed: u32,
}

/// An action and whether its object has changed since it was looked at, so that it will be refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Effect {
    pub action: Told<Action>,
    pub stale: bool,
}

/// The actions of one decision that are still to come.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Flight {
    pub effects: Vec<Effect>,
    pub seen: Seen,
}

/// An action by its text.
pub fn told(action: Action) -> Told<Action> {
    Told {
        text: format!("{action:?}").into(),
        value: Arc::new(action),
    }
}

/// The object that an action is about: kind and name. The Rollout has no name here.
pub fn object(action: &Action) -> (&'static str, &str) {
    match action {
        Action::Create { object, .. } => (object.kind.kind, &object.name),
        Action::Patch { target, .. } | Action::Scale { target, .. } | Action::Delete { target } => {
            if target.object.kind.kind == "Rollout" {
                ("Rollout", "")
            } else {
                (target.object.kind.kind, &target.object.name)
            }
        }
        Action::Claim | Action::Release => ("Rollout", ""),
    }
}

impl Flight {
    /// Marks what is under way for an object that has changed.
    pub fn touch(&mut self, kind: &str, name: &str) {
        for effect in &mut self.effects {
            let created = matches!(*effect.action.value, Action::Create { .. });
            if !created && object(&effect.action.value) == (kind, name) {
                effect.stale = true;
            }
        }
    }
}

/// Where a decision's number stands in a patch.
fn is_number(operation: &Value) -> bool {
    let path = operation.get("path").and_then(Value::as_str);
    path.is_some_and(|p| p.ends_with("/serin.dev~1decision"))
}

/// The numbers of decisions in an action.
pub fn numbers(action: &Action, all: &mut Vec<i64>) {
    match action {
        Action::Scale { decision, .. } => all.push(*decision),
        Action::Patch { operations, .. } => {
            let found = operations.iter().filter(|o| is_number(o));
            all.extend(found.filter_map(|o| o.get("value")?.as_str()?.parse::<i64>().ok()));
        }
        Action::Create { value, .. } => {
            let found = value.pointer("/metadata/annotations/serin.dev~1decision");
            all.extend(found.and_then(|v| v.as_str()?.parse::<i64>().ok()));
        }
        Action::Delete { .. } | Action::Claim | Action::Release => {}
    }
}

/// The action with other numbers.
pub fn renumber(action: &Action, to: &dyn Fn(i64) -> i64) -> Action {
    let change = |slot: &mut Value| {
        if let Some(number) = slot.as_str().and_then(|s| s.parse::<i64>().ok()) {
            *slot = Value::from(to(number).to_string());
        }
    };
    let mut action = action.clone();
    match &mut action {
        Action::Scale { decision, .. } => *decision = to(*decision),
        Action::Patch { operations, .. } => {
            for operation in operations.iter_mut().filter(|o| is_number(o)) {
                if let Some(slot) = operation.get_mut("value") {
                    change(slot);
                }
            }
        }
        Action::Create { value, .. } => {
            if let Some(slot) = value.pointer_mut("/metadata/annotations/serin.dev~1decision") {
                change(slot);
            }
        }
        Action::Delete { .. } | Action::Claim | Action::Release => {}
    }
    action
}
