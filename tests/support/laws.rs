//! The laws of a traffic router: what every lens on route objects must hold, whatever its kind.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use serin::{
    engine::traffic::router::Router,
    model::{
        object::{ObjectRef, Objects},
        share::{FULL, percent},
        traffic::RouteFault,
    },
};

/// JSON pointers to the weights that a router may set, by object.
pub type Weights = BTreeMap<ObjectRef, BTreeSet<String>>;

/// Splits that tell most mistakes apart, in millionths: the ends, their neighbours, what rounds.
pub const SOME: [u32; 12] = [
    0, 1, 2, 9_999, 10_000, 333_333, 500_000, 670_000, 980_001, 990_000, 999_999, 1_000_000,
];

/// Every whole percent, and those above.
pub fn all() -> Vec<u32> {
    (0..=100).map(percent).chain(SOME).collect()
}

/// Every law that `router` breaks over `objects`, where it may touch `weights` and nothing else,
/// and must touch each of them to say all of `splits`.
pub fn laws(
    router: &dyn Router,
    objects: &Objects,
    weights: &Weights,
    splits: &[u32],
) -> Vec<String> {
    let mut broken = consistent(router, objects, splits);
    let mut touched = Weights::new();
    for &w in splits {
        let Ok(after) = written(router, objects, w) else {
            continue;
        };
        for (reference, object) in &after {
            let before = objects.get(reference).unwrap_or(&Value::Null);
            let changed = differences(before, object);
            let allowed = weights.get(reference).cloned().unwrap_or_default();
            let foreign: Vec<&String> = changed.difference(&allowed).collect();
            if !foreign.is_empty() {
                broken.push(format!(
                    "write({w}) changes {foreign:?} of {}",
                    reference.name
                ));
            }
            let rest = |object: &Value| without(object, &allowed).to_string();
            if rest(before) != rest(object) {
                broken.push(format!(
                    "write({w}) leaves other bytes in {} than it found, its weights apart",
                    reference.name
                ));
            }
            touched
                .entry(reference.clone())
                .or_default()
                .extend(changed);
        }
    }
    touched.retain(|_, pointers| !pointers.is_empty());
    if broken.is_empty() && touched != *weights {
        broken.push(format!(
            "all splits together change {touched:?}, wanted {weights:?}"
        ));
    }
    broken
}

/// The laws that hold for any objects, broken ones included.
pub fn consistent(router: &dyn Router, objects: &Objects, splits: &[u32]) -> Vec<String> {
    let mut broken = straightens(router, objects);
    broken.extend(binds(router, objects));
    let references = router.references();
    if references.iter().collect::<BTreeSet<_>>().len() != references.len() {
        broken.push(format!("refers to an object twice: {references:?}"));
    }
    let read = router.read(objects);
    match &read {
        Ok(w) | Err(RouteFault::Disagree(w)) if *w > FULL => {
            broken.push(format!("read {w}, which is more than everything"));
        }
        Ok(w) => match router.write(objects, *w) {
            Ok(patches) if patches.is_empty() => {}
            other => broken.push(format!(
                "write({w}) of what was read is {other:?}, wanted nothing"
            )),
        },
        Err(RouteFault::Disagree(_)) => {}
        Err(RouteFault::Missing(message) | RouteFault::Unfit { message, .. }) => {
            if message.is_empty() {
                broken.push("a fault has no message".to_owned());
            }
            for &w in splits {
                let written = router.write(objects, w).map_err(Some);
                if written.clone() != Err(read.clone().err()) {
                    broken.push(format!("read is {read:?}, but write({w}) is {written:?}"));
                }
            }
            return broken;
        }
    }
    for &w in splits {
        let after = match written(router, objects, w) {
            Ok(after) => after,
            Err(why) => {
                broken.push(why);
                continue;
            }
        };
        if router.read(&after) != Ok(w) {
            broken.push(format!("write({w}) reads as {:?}", router.read(&after)));
        }
    }
    broken
}

/// What can be read is straightened, whatever cannot.
fn straightens(router: &dyn Router, objects: &Objects) -> Vec<String> {
    let after = match applied(router, objects, "straighten", router.straighten(objects)) {
        Ok(after) => after,
        Err(why) => return vec![why],
    };
    let (before, highest) = (router.highest(objects), router.highest(&after));
    if highest != before.map(|_| 0) {
        return vec![format!("straighten leads from {before:?} to {highest:?}")];
    }
    vec![]
}

/// The laws of managed backends, for any objects: what is bound is not bound again, and says of the canary what was
/// said before; unbound it is as it was, and nothing is remembered.
pub fn binds(router: &dyn Router, objects: &Objects) -> Vec<String> {
    let bind = router.bind(objects);
    if bind.is_empty() {
        return vec![];
    }
    let bound = match applied(router, objects, "bind", bind) {
        Ok(bound) => bound,
        Err(why) => return vec![why],
    };
    let mut broken = vec![];
    if !router.bind(&bound).is_empty() {
        broken.push("what is bound is bound again".to_owned());
    }
    let (before, after) = (router.highest(objects), router.highest(&bound));
    if before != after {
        broken.push(format!("bind leads from {before:?} to {after:?}"));
    }
    let back = match applied(router, &bound, "unbind", router.unbind(&bound)) {
        Ok(back) => back,
        Err(why) => return vec![why],
    };
    let spec = |objects: &Objects| -> String {
        objects
            .values()
            .map(|o| format!("{}\n", o["spec"]))
            .collect()
    };
    // Where something is remembered already, that comes back, too.
    if router.unbind(objects).is_empty() && spec(&back) != spec(objects) {
        broken.push(format!("after bind and unbind: {}", text(&back)));
    }
    if !router.unbind(&back).is_empty() {
        broken.push("what is unbound is unbound again".to_owned());
    }
    broken
}

/// The objects once the role Services are put in.
pub fn bound(router: &dyn Router, objects: &Objects) -> Result<Objects, String> {
    applied(router, objects, "bind", router.bind(objects))
}

/// The law of what rests as Serin asks for: after any split, and 0 again, it is as it was.
pub fn rests(router: &dyn Router, objects: &Objects, splits: &[u32]) -> Vec<String> {
    let back = |w: u32| written(router, &written(router, objects, w)?, 0);
    splits
        .iter()
        .filter_map(|&w| match back(w) {
            Ok(back) if text(&back) == text(objects) => None,
            Ok(back) => Some(format!("after write({w}) and write(0): {}", text(&back))),
            Err(why) => Some(why),
        })
        .collect()
}

/// The objects once `write(split)` is applied to them.
pub fn written(router: &dyn Router, objects: &Objects, split: u32) -> Result<Objects, String> {
    let what = format!("write({split})");
    let patches = router.write(objects, split);
    applied(
        router,
        objects,
        &what,
        patches.map_err(|e| format!("{what} is {e:?}"))?,
    )
}

fn applied(
    router: &dyn Router,
    objects: &Objects,
    what: &str,
    patches: Vec<(ObjectRef, Vec<Value>)>,
) -> Result<Objects, String> {
    let references = router.references();
    let (mut after, mut seen) = (objects.clone(), BTreeSet::new());
    for (reference, operations) in patches {
        // Each is guarded by the resourceVersion that was read, so that a second would fail.
        if !seen.insert(reference.clone()) {
            return Err(format!("{what} patches {} twice", reference.name));
        }
        if !references.contains(&reference) {
            return Err(format!(
                "{what} names {reference:?}, which it does not refer to"
            ));
        }
        if operations.is_empty() {
            return Err(format!(
                "{what} names {} and does nothing to it",
                reference.name
            ));
        }
        let object = after
            .get_mut(&reference)
            .ok_or_else(|| format!("{what} names {reference:?}, which is not there"))?;
        let patch: json_patch::Patch = serde_json::from_value(Value::Array(operations))
            .map_err(|e| format!("{what} is no JSON patch: {e}"))?;
        json_patch::patch(object, &patch)
            .map_err(|e| format!("{what} does not apply to {}: {e}", reference.name))?;
    }
    Ok(after)
}

fn text(objects: &Objects) -> String {
    objects.values().map(|o| format!("{o}\n")).collect()
}

/// Pointers to the leaves in which two documents differ.
fn differences(before: &Value, after: &Value) -> BTreeSet<String> {
    let (before, after) = (leaves(before), leaves(after));
    before
        .iter()
        .chain(&after)
        .map(|(pointer, _)| pointer)
        .filter(|p| before.get(*p) != after.get(*p))
        .cloned()
        .collect()
}

/// Scalars and empty containers, by their pointer.
pub fn leaves(value: &Value) -> BTreeMap<String, Value> {
    fn walk(value: &Value, at: String, into: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                for (name, field) in fields {
                    let name = name.replace('~', "~0").replace('/', "~1");
                    walk(field, format!("{at}/{name}"), into);
                }
            }
            Value::Array(items) if !items.is_empty() => {
                for (i, item) in items.iter().enumerate() {
                    walk(item, format!("{at}/{i}"), into);
                }
            }
            scalar => drop(into.insert(at, scalar.clone())),
        }
    }
    let mut into = BTreeMap::new();
    walk(value, String::new(), &mut into);
    into
}

fn without(object: &Value, pointers: &BTreeSet<String>) -> Value {
    let mut object = object.clone();
    for pointer in pointers {
        if let Some(value) = object.pointer_mut(pointer) {
            *value = Value::Null;
        }
    }
    object
}
