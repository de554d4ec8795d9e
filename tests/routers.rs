//! Every router that a Rollout can name holds the laws of a lens: over the objects under
//! `tests/routers/<router>`, over what grows from them, and over generated routes.
//! A failure of a generated one names its seed; `SEED=n cargo test --test routers` plays it alone.

#![allow(clippy::panic, reason = "a test that cannot read its data says so")]

#[path = "routers/generated.rs"]
mod generated;
#[path = "support/laws.rs"]
mod laws;
#[path = "support/random.rs"]
mod random;

use std::{collections::BTreeMap, fs, path::Path};

use laws::{SOME, Weights};
use serde::Deserialize;
use serde_json::Value;
use serin::{
    api::traffic::TrafficRouting,
    engine::traffic::{kinds, router::Router, router_for},
    model::{
        object::{ObjectRef, Objects},
        share::percent,
        spec::RoleServices,
        traffic::RouteFault,
    },
};

/// A file of `tests/routers/<router>`: objects, and cases that change them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    about: String,
    /// As under `trafficRouting`.
    routing: TrafficRouting,
    /// The role Services are checkout-stable and checkout-canary.
    objects: Vec<Value>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Case {
    about: String,
    /// Another routing than the file's.
    routing: Option<TrafficRouting>,
    /// Merged into the objects, by name; null takes one away.
    #[serde(default)]
    change: BTreeMap<String, Value>,
    /// What must be read; without it nothing is said about it.
    read: Option<Read>,
    /// Whether the objects rest as Serin asks for.
    #[serde(default)]
    rest: bool,
    /// Whether they name the user's Service. `rest` and `weights` then are about what is bound.
    #[serde(default)]
    loose: bool,
    /// What stands in the objects once they are bound: values by name and pointer.
    #[serde(default)]
    bound: BTreeMap<String, BTreeMap<String, Value>>,
    /// Pointers to what a write may and must touch, by the object's name.
    #[serde(default)]
    weights: BTreeMap<String, Vec<String>>,
    /// Whether everything has been accepted.
    #[serde(default)]
    accepted: bool,
    /// What acceptance lacks.
    lacking: Option<String>,
}

/// What must be read.
#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Read {
    Percent(u32),
    Millionths { millionths: u32 },
    Disagree { disagree: u32 },
    Missing { missing: String },
    Unfit { path: String, unfit: String },
}

impl Read {
    fn result(&self) -> Result<u32, RouteFault> {
        Err(match self {
            Self::Percent(w) => return Ok(percent(*w)),
            Self::Millionths { millionths } => return Ok(*millionths),
            Self::Disagree { disagree } => RouteFault::Disagree(percent(*disagree)),
            Self::Missing { missing } => RouteFault::Missing(missing.clone()),
            Self::Unfit { path, unfit } => RouteFault::Unfit {
                path: path.clone(),
                message: unfit.clone(),
            },
        })
    }
}

/// A case as it is played.
struct Played {
    name: String,
    case: Case,
    routing: TrafficRouting,
    router: Box<dyn Router>,
    objects: Objects,
    weights: Weights,
}

impl Played {
    /// What does not stand in the objects as it should once they are bound.
    fn unlike(&self, bound: &Objects) -> Vec<String> {
        let mut unlike = vec![];
        for (name, values) in &self.case.bound {
            let object = bound.iter().find(|(r, _)| r.name == *name).map(|(_, o)| o);
            for (pointer, wanted) in values {
                let found = object.and_then(|o| o.pointer(pointer));
                if found != Some(wanted) {
                    unlike.push(format!("{name} {pointer}: {found:?}, wanted {wanted}"));
                }
            }
        }
        unlike
    }
}

/// The router of a routing, between the role Services of Service checkout.
fn router(routing: &TrafficRouting) -> Box<dyn Router> {
    let services = RoleServices {
        user: "checkout".into(),
        stable: "checkout-stable".into(),
        canary: "checkout-canary".into(),
        fields: ("stableService", "canaryService"),
        shared: false,
    };
    router_for(routing, &services, "spec.strategy.canary").expect("a router is named")
}

fn reference(object: &Value) -> ObjectRef {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let kind = kinds()
        .into_iter()
        .find(|k| {
            text("/apiVersion") == Some(k.api_version().as_str()) && text("/kind") == Some(k.kind)
        })
        .unwrap_or_else(|| panic!("{:?} is of no router's kind", text("/kind")));
    ObjectRef::new(kind, text("/metadata/name").expect("a name"))
}

fn play(path: &Path) -> Vec<Played> {
    let text = fs::read_to_string(path).expect("a file of cases");
    let file: File =
        serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    file.cases
        .into_iter()
        .map(|case| {
            let mut objects: Objects = file
                .objects
                .iter()
                .map(|o| (reference(o), o.clone()))
                .collect();
            let named = |name: &String| {
                let found = file.objects.iter().map(reference).find(|r| r.name == *name);
                found.unwrap_or_else(|| panic!("{}: no object {name:?}", path.display()))
            };
            for (name, change) in &case.change {
                let reference = named(name);
                if change.is_null() {
                    objects.remove(&reference);
                } else if let Some(object) = objects.get_mut(&reference) {
                    json_patch::merge(object, change);
                }
            }
            let weights = case.weights.iter();
            let routing = case.routing.as_ref().unwrap_or(&file.routing);
            Played {
                name: format!("{}, {}: {}", path.display(), file.about, case.about),
                router: router(routing),
                routing: routing.clone(),
                weights: weights
                    .map(|(name, pointers)| (named(name), pointers.iter().cloned().collect()))
                    .collect(),
                objects,
                case,
            }
        })
        .collect()
}

/// Every case of every router, by the router's folder.
fn cases() -> BTreeMap<String, Vec<Played>> {
    let entries = |dir: &Path| {
        let mut all: Vec<_> = fs::read_dir(dir)
            .expect("a folder")
            .map(|e| e.expect("an entry").path())
            .collect();
        all.sort();
        all
    };
    let mut cases = BTreeMap::new();
    for dir in entries(Path::new("tests/routers")) {
        if !dir.is_dir() {
            continue;
        }
        let router = dir.file_name().expect("a name").to_string_lossy().into();
        let played: Vec<Played> = entries(&dir).iter().flat_map(|path| play(path)).collect();
        cases.insert(router, played);
    }
    cases
}

#[test]
fn every_case_reads_as_it_should_and_holds_the_laws() {
    let mut wrong = vec![];
    for (router, played) in cases() {
        for p in &played {
            let mut faults = vec![];
            let read = p.router.read(&p.objects);
            if let Some(wanted) = p.case.read.as_ref().map(Read::result)
                && read != wanted
            {
                faults.push(format!("read {read:?}, wanted {wanted:?}"));
            }
            if p.case.loose == p.router.bind(&p.objects).is_empty() {
                faults.push(format!("loose is not {}", p.case.loose));
            }
            faults.extend(laws::consistent(&*p.router, &p.objects, &laws::all()));
            let objects = laws::bound(&*p.router, &p.objects).expect("it is bound");
            if p.case.read.is_some() {
                faults.extend(laws::laws(&*p.router, &objects, &p.weights, &laws::all()));
            }
            if p.case.rest {
                faults.extend(laws::rests(&*p.router, &objects, &laws::all()));
            }
            faults.extend(p.unlike(&objects));
            let lacking = p.router.lacking(&p.objects);
            if (p.case.accepted || p.case.lacking.is_some()) && lacking != p.case.lacking {
                faults.push(format!("lacks {lacking:?}, wanted {:?}", p.case.lacking));
            }
            if !faults.is_empty() {
                wrong.push(format!("{}\n  {}", p.name, faults.join("\n  ")));
            }
        }
        println!("{router}: {} cases", played.len());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_kind_of_route_has_cases() {
    let cases = cases();
    for kind in kinds() {
        let has = |what: &dyn Fn(&Played) -> bool| {
            let of_kind = |p: &&Played| p.router.references().iter().any(|r| r.kind == kind);
            cases.values().flatten().filter(of_kind).any(what)
        };
        let name = kind.kind;
        assert!(has(&|p| p.case.rest), "{name}: no case at rest");
        assert!(has(&|p| p.case.accepted), "{name}: no accepted case");
        assert!(
            has(&|p| p.case.lacking.is_some()),
            "{name}: none that lacks"
        );
        assert!(
            has(&|p| matches!(p.case.read, Some(Read::Missing { .. }))),
            "{name}: no case with a missing object"
        );
        assert!(
            has(&|p| matches!(p.case.read, Some(Read::Unfit { .. }))),
            "{name}: no case with an unfit object"
        );
    }
}

#[test]
fn fields_that_nobody_knows_change_nothing() {
    let all = cases();
    let read = || all.values().flatten().filter(|p| p.case.read.is_some());
    random::seeds(2, |random| {
        for p in read() {
            let mut objects = p.objects.clone();
            objects.values_mut().for_each(|o| random.strew(o));
            let (before, after) = (p.router.read(&p.objects), p.router.read(&objects));
            assert_eq!(before, after, "{}", p.name);
            let objects = laws::bound(&*p.router, &objects).expect("it is bound");
            let broken = laws::laws(&*p.router, &objects, &p.weights, &SOME);
            assert!(broken.is_empty(), "{}: {broken:?}", p.name);
        }
    });
}

#[test]
fn whatever_is_broken_in_an_object_a_router_is_consistent() {
    let all = cases();
    random::seeds(20, |random| {
        for p in all.values().flatten() {
            let mut objects = p.objects.clone();
            for object in objects.values_mut() {
                let whole = object["metadata"].clone();
                for _ in 0..=random.below(2) {
                    random.damage(object);
                }
                // Every object has some.
                if object.is_object() && !object["metadata"].is_object() {
                    object["metadata"] = whole;
                }
            }
            let broken = laws::consistent(&*p.router, &objects, &SOME);
            assert!(broken.is_empty(), "{}: {broken:?}\n{objects:#?}", p.name);
            let _ = (p.router.lacking(&objects), p.router.unbind(&objects));
        }
    });
}

#[test]
fn generated_routes_hold_the_laws() {
    random::seeds(200, |random| {
        let given = generated::gateway_api(random);
        let router = router(&given.routing);
        assert_eq!(router.read(&given.objects), given.read, "{given:#?}");
        let broken = laws::laws(&*router, &given.objects, &given.weights, &SOME);
        assert!(broken.is_empty(), "{broken:?}\n{given:#?}");
        if given.rest {
            let broken = laws::rests(&*router, &given.objects, &SOME);
            assert!(broken.is_empty(), "{broken:?}\n{given:#?}");
        }
    });
}

#[test]
fn generated_routes_come_back_as_they_were() {
    random::seeds(200, |random| {
        let given = generated::managed(random);
        let router = router(&given.routing);
        assert_eq!(router.read(&given.objects), Ok(0), "{given:#?}");
        let loose = laws::consistent(&*router, &given.objects, &SOME);
        assert!(loose.is_empty(), "{loose:?}\n{given:#?}");
        let bound = laws::bound(&*router, &given.objects).expect("it is bound");
        let mut broken = laws::laws(&*router, &bound, &given.weights, &SOME);
        broken.extend(laws::rests(&*router, &bound, &SOME));
        assert!(broken.is_empty(), "{broken:?}\n{given:#?}");
    });
}

/// A router that does one thing wrong.
struct Wrong<F>(Box<dyn Router>, F);

impl<F: Fn(&dyn Router, &Objects, u32) -> Vec<(ObjectRef, Vec<Value>)>> Router for Wrong<F> {
    fn references(&self) -> Vec<ObjectRef> {
        self.0.references()
    }
    fn read(&self, objects: &Objects) -> Result<u32, RouteFault> {
        self.0.read(objects)
    }
    fn write(
        &self,
        objects: &Objects,
        weight: u32,
    ) -> Result<Vec<(ObjectRef, Vec<Value>)>, RouteFault> {
        self.0.write(objects, weight)?;
        Ok(self.1(&*self.0, objects, weight))
    }
    fn lacking(&self, objects: &Objects) -> Option<String> {
        self.0.lacking(objects)
    }
}

#[test]
fn the_laws_have_teeth() {
    type Write = fn(&dyn Router, &Objects, u32) -> Vec<(ObjectRef, Vec<Value>)>;
    let faults: [(&str, Write); 6] = [
        ("rounds", |r, o, w| {
            r.write(o, w.next_multiple_of(100_000)).unwrap_or_default()
        }),
        ("writes nothing", |_, _, _| vec![]),
        ("writes what stands already", |r, o, w| {
            let mut patches = r.write(o, w).unwrap_or_default();
            if patches.is_empty() {
                patches = r.write(o, percent(50)).unwrap_or_default();
                for operation in patches.iter_mut().flat_map(|(_, operations)| operations) {
                    let at = operation["path"].as_str().unwrap_or_default().to_owned();
                    let object = o.values().find_map(|o| o.pointer(&at));
                    operation["value"] = object.cloned().unwrap_or_default();
                }
            }
            patches
        }),
        ("forgets an object", |r, o, w| {
            let mut patches = r.write(o, w).unwrap_or_default();
            patches.truncate(1);
            patches
        }),
        ("leaves a note", |r, o, w| {
            let mut patches = r.write(o, w).unwrap_or_default();
            for (_, operations) in &mut patches {
                operations.push(serde_json::json!({
                    "op": "add", "path": "/metadata/labels", "value": {"weight": "x"},
                }));
            }
            patches
        }),
        ("drops a field beside the weight", |r, o, w| {
            let mut patches = r.write(o, w).unwrap_or_default();
            for (_, operations) in &mut patches {
                operations.push(serde_json::json!({
                    "op": "remove", "path": "/spec/rules/0/backendRefs/0/port",
                }));
            }
            patches
        }),
    ];
    let all = cases();
    for (fault, write) in faults {
        let caught = all["gateway_api"]
            .iter()
            .filter(|p| !p.case.loose)
            .filter(|p| matches!(p.case.read, Some(Read::Percent(_) | Read::Disagree { .. })))
            .any(|p| {
                let wrong = Wrong(router(&p.routing), write);
                !laws::laws(&wrong, &p.objects, &p.weights, &laws::all()).is_empty()
            });
        assert!(caught, "a router that {fault} holds all laws");
    }
}
