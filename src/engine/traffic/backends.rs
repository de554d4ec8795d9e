//! Backends of one rule of a route: where the role Services stand, and how they come into the place of the
//! user's Service and out of it again. What stood there is remembered in an annotation of the route.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    api::{names::BACKENDS, traffic::Manage},
    model::{
        object::{annotate, annotation, has_annotations, unannotate},
        share::FULL,
    },
};

use super::router::Backends;

/// The longest backend that is remembered, in bytes of JSON. A route has 16 rules, and little room for annotations.
const LONGEST: usize = 4096;

/// Where a managed rule has its two backends, and their weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Managed {
    /// The rule.
    pub rule: usize,
    /// The stable backend.
    pub stable: (usize, u64),
    /// The canary's.
    pub canary: (usize, u64),
    /// Whether the user's Service stands in the place of both.
    pub loose: bool,
}

impl Managed {
    /// The canary's share in millionths, rounded up: 0 only where it gets nothing, and everything
    /// only where stable gets nothing.
    pub fn share(&self) -> u32 {
        let (stable, canary) = (self.stable.1, self.canary.1);
        let total = stable.saturating_add(canary).max(1);
        let share = canary.saturating_mul(u64::from(FULL)).div_ceil(total);
        let highest = FULL - u32::from(stable > 0);
        u32::try_from(share).unwrap_or(highest).min(highest)
    }

    /// The backends of a rule; none where it is not managed.
    pub fn of(
        backends: &Backends,
        manage: Manage,
        rule: usize,
        value: &Value,
    ) -> Result<Option<Self>, String> {
        let refs = refs(value);
        let places = |service: &str| -> Vec<usize> {
            let all = refs.iter().enumerate();
            all.filter(|(_, r)| names(r, service))
                .map(|(i, _)| i)
                .collect()
        };
        let (stable, canary) = (places(&backends.stable), places(&backends.canary));
        let ([s], [c]) = (stable.as_slice(), canary.as_slice()) else {
            return match (stable.is_empty() || canary.is_empty(), manage) {
                (false, _) => {
                    Err("a role Service stands in it more than once: name each once".to_owned())
                }
                (true, Manage::Weights) => Ok(None),
                (true, Manage::Backends) => {
                    let roles = !stable.is_empty() || !canary.is_empty();
                    Self::loose(backends, rule, &refs, &places(&backends.user), roles)
                }
            };
        };
        let weight = |at: usize| -> Result<u64, String> {
            refs.get(at).and_then(|r| r.get("weight")).and_then(Value::as_u64).ok_or_else(|| {
                format!(
                    "backendRefs[{at}] has no weight, which means 1 and splits the traffic evenly: \
                     write weight: 100 for {:?} and weight: 0 for {:?}",
                    backends.stable, backends.canary
                )
            })
        };
        let found = Self {
            rule,
            stable: (*s, weight(*s)?),
            canary: (*c, weight(*c)?),
            loose: false,
        };
        if found.stable.1 == 0 && found.canary.1 == 0 {
            return Err(
                "both weights are 0, so that it serves nothing: write weight: 100 for stable"
                    .into(),
            );
        }
        alone(&refs, &[*s, *c])?;
        Ok(Some(found))
    }

    /// A rule that does not name both role Services, and so the user's or nothing of ours.
    fn loose(
        backends: &Backends,
        rule: usize,
        refs: &[Value],
        user: &[usize],
        roles: bool,
    ) -> Result<Option<Self>, String> {
        let service = &backends.user;
        let at = match user {
            [] => return Ok(None),
            _ if roles => {
                return Err(format!(
                    "it names Service {service:?} and one of the role Services: name {service:?} alone"
                ));
            }
            [at] => *at,
            _ => {
                return Err(format!(
                    "Service {service:?} stands in it more than once: name it once"
                ));
            }
        };
        let backend = refs.get(at).unwrap_or(&Value::Null);
        if backend.get("weight").is_some_and(|w| w.as_u64() == Some(0)) {
            return Err(format!(
                "Service {service:?} has weight 0, so that it serves nothing: leave its weight out"
            ));
        }
        let length = backend.to_string().len();
        if length > LONGEST {
            return Err(format!(
                "the backend {service:?} has {length} bytes, at most {LONGEST} can be remembered: \
                 let the rule have the filters in its place"
            ));
        }
        alone(refs, &[at])?;
        Ok(Some(Self {
            rule,
            stable: (at, 1),
            canary: (at, 0),
            loose: true,
        }))
    }
}

/// No other backend of a managed rule gets anything.
fn alone(refs: &[Value], ours: &[usize]) -> Result<(), String> {
    let mut others = refs.iter().enumerate().filter(|(i, _)| !ours.contains(i));
    match others.any(|(_, r)| r.get("weight").and_then(Value::as_u64) != Some(0)) {
        true => {
            Err("it has other backends with a weight: put them into a rule of their own".into())
        }
        false => Ok(()),
    }
}

fn refs(rule: &Value) -> Vec<Value> {
    let refs = rule.get("backendRefs").and_then(Value::as_array);
    refs.cloned().unwrap_or_default()
}

/// Whether a backendRef names this Service of the route's own namespace.
fn names(backend: &Value, service: &str) -> bool {
    let is = |field: &str, default: &str| {
        backend
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or(default)
            == default
    };
    backend.get("name").and_then(Value::as_str) == Some(service)
        && is("kind", "Service")
        && is("group", "")
        && backend.get("namespace").is_none()
}

/// A backend that was taken out of a rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Taken {
    rule: Key,
    backend: Value,
}

/// A rule by its name, or by its place where it has none of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Key {
    Name(String),
    Place(usize),
}

fn key(route: &Value, rule: usize) -> Key {
    let all = route.pointer("/spec/rules").and_then(Value::as_array);
    let name = |r: &Value| r.get("name").and_then(Value::as_str).map(str::to_owned);
    let named = |n: &String| {
        let same = all.into_iter().flatten().filter_map(name);
        same.filter(|other| other == n).count() == 1
    };
    let own = at(route, rule).and_then(name).filter(named);
    own.map_or(Key::Place(rule), Key::Name)
}

fn at(route: &Value, rule: usize) -> Option<&Value> {
    route.pointer("/spec/rules")?.get(rule)
}

/// What a route remembers. Nothing else than the user's Service comes back, whoever wrote it there.
fn remembered(route: &Value, backends: &Backends) -> Vec<Taken> {
    let taken = annotation(route, BACKENDS).and_then(|text| serde_json::from_str(text).ok());
    let mut taken: Vec<Taken> = taken.unwrap_or_default();
    taken.retain(|t| names(&t.backend, &backends.user));
    taken
}

/// Operations that put the role Services into the place of the user's in all of the rules that are loose,
/// with weights for stable and canary; none where none is.
pub fn put_in(
    route: &Value,
    rules: &[&Managed],
    backends: &Backends,
    weights: (u32, u32),
) -> Vec<Value> {
    let (loose, split): (Vec<&Managed>, Vec<&Managed>) = rules.iter().partition(|m| m.loose);
    if loose.is_empty() {
        return vec![];
    }
    let mut taken = remembered(route, backends);
    taken.retain(|t| split.iter().any(|m| key(route, m.rule) == t.rule));
    let mut operations = vec![];
    for found in loose {
        let mut refs = at(route, found.rule).map(refs).unwrap_or_default();
        let place = found.stable.0;
        let Some(user) = refs.get(place).cloned() else {
            continue;
        };
        let role = |name: &str, weight: u32| {
            let mut role = user.clone();
            if let Some(role) = role.as_object_mut() {
                role.insert("name".into(), json!(name));
                role.insert("weight".into(), json!(weight));
            }
            role
        };
        let roles = [
            role(&backends.stable, weights.0),
            role(&backends.canary, weights.1),
        ];
        refs.splice(place..=place, roles);
        operations.push(replaced(found.rule, &refs));
        taken.push(Taken {
            rule: key(route, found.rule),
            backend: user,
        });
    }
    let text = serde_json::to_string(&taken).unwrap_or_default();
    operations.extend(annotate(has_annotations(route), BACKENDS, &text));
    operations
}

/// Operations that put back what a route remembers, and let it forget; none where it remembers nothing. What
/// belongs to a rule that cannot be read is remembered on.
pub fn take_out(route: &Value, rules: &[&Managed], backends: &Backends) -> Vec<Value> {
    let Some(text) = annotation(route, BACKENDS) else {
        return vec![];
    };
    let taken = remembered(route, backends);
    let mut operations = vec![];
    for found in rules.iter().filter(|m| !m.loose) {
        let key = key(route, found.rule);
        let Some(taken) = taken.iter().find(|t| t.rule == key) else {
            continue;
        };
        let refs = at(route, found.rule).map(refs).unwrap_or_default();
        let refs = refs.into_iter().enumerate();
        let kept = refs.filter(|(i, _)| *i != found.canary.0);
        let back = kept.map(|(i, backend)| match i == found.stable.0 {
            true => taken.backend.clone(),
            false => backend,
        });
        operations.push(replaced(found.rule, &back.collect::<Vec<Value>>()));
    }
    let all = route.pointer("/spec/rules").and_then(Value::as_array);
    let all = 0..all.map_or(0, Vec::len);
    let unread = |t: &&Taken| {
        let of = |rule: &usize| key(route, *rule) == t.rule;
        let rule = all.clone().find(of);
        rule.is_some_and(|rule| !rules.iter().any(|m| m.rule == rule))
    };
    let kept: Vec<&Taken> = taken.iter().filter(unread).collect();
    let left = serde_json::to_string(&kept).unwrap_or_default();
    if kept.is_empty() {
        operations.push(unannotate(BACKENDS));
    } else if left != text {
        operations.extend(annotate(true, BACKENDS, &left));
    }
    operations
}

fn replaced(rule: usize, refs: &[Value]) -> Value {
    json!({"op": "replace", "path": format!("/spec/rules/{rule}/backendRefs"), "value": refs})
}
