//! Objects with their resourceVersions, and every change there ever was.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::{Value, json};

use super::kinds::{Id, KINDS};

/// Where an object is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path {
    /// Its kind.
    pub kind: Id,
    /// Its namespace; empty for a cluster-wide kind.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Path {
    /// In the namespace that everything is in.
    pub fn new(kind: Id, name: impl Into<String>) -> Self {
        Self {
            kind,
            namespace: "ns".into(),
            name: name.into(),
        }
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", KINDS[self.kind].of.kind, self.name)
    }
}

/// A change.
#[derive(Clone, Debug)]
pub struct Past {
    /// Its resourceVersion.
    pub version: u64,
    /// When, in milliseconds.
    pub at: u64,
    /// What changed.
    pub path: Path,
    /// As it was; none where it is new.
    pub old: Option<Arc<Value>>,
    /// As it is; none where it is gone.
    pub new: Option<Arc<Value>>,
    /// As it was when it went, under the resourceVersion of that.
    pub last: Option<Arc<Value>>,
}

/// The objects.
#[derive(Debug, Default)]
pub struct Store {
    objects: BTreeMap<Path, Arc<Value>>,
    version: u64,
    uids: u64,
    history: Vec<Past>,
    /// What there was before the history.
    base: BTreeMap<Path, Arc<Value>>,
    /// Watches from before this version are told that it is gone.
    pub oldest: u64,
    /// Objects that were made of a body with characters that the API server would have written as
    /// escapes.
    pub bare: BTreeSet<Path>,
}

/// A text in an object.
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// A number in an object.
pub fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

impl Store {
    /// The last resourceVersion.
    pub fn version(&self) -> u64 {
        self.version
    }
    /// Every change that is not forgotten.
    pub fn history(&self) -> &[Past] {
        &self.history
    }
    /// The change that made a version; none where it is to come, or forgotten.
    pub fn change(&self, version: u64) -> Option<&Past> {
        let first = self.history.first()?.version;
        let at = usize::try_from(version.checked_sub(first)?).ok()?;
        self.history.get(at)
    }
    /// Forgets the changes before a time, in milliseconds.
    pub fn forget(&mut self, before: u64) {
        let known = self.history.partition_point(|p| p.at < before);
        for past in self.history.drain(..known) {
            self.oldest = self.oldest.max(past.version);
            match past.new {
                Some(new) => self.base.insert(past.path, new),
                None => self.base.remove(&past.path),
            };
        }
        self.history.shrink_to_fit();
    }
    /// An object.
    pub fn get(&self, path: &Path) -> Option<&Arc<Value>> {
        self.objects.get(path)
    }
    /// All objects of a kind.
    pub fn all(&self, kind: Id) -> impl Iterator<Item = (&Path, &Arc<Value>)> {
        let from = Path {
            kind,
            namespace: String::new(),
            name: String::new(),
        };
        self.objects
            .range(from..)
            .take_while(move |(p, _)| p.kind == kind)
    }
    /// Everything as it stood at a version.
    pub fn at(&self, version: u64) -> BTreeMap<Path, Arc<Value>> {
        let mut objects = self.base.clone();
        for past in self.history.iter().take_while(|p| p.version <= version) {
            match &past.new {
                Some(new) => objects.insert(past.path.clone(), Arc::clone(new)),
                None => objects.remove(&past.path),
            };
        }
        objects
    }

    /// Puts an object in, or takes it out; none where nothing changes.
    pub fn put(&mut self, path: &Path, new: Option<Value>, at: u64, now: &str) -> Option<Past> {
        let old = self.objects.get(path).cloned();
        let version = self.version + 1;
        let Some(mut new) = new else {
            let mut last = (*old.clone()?).clone();
            last["metadata"]["resourceVersion"] = json!(version.to_string());
            self.objects.remove(path);
            return Some(self.record(path, at, old, None, Some(Arc::new(last))));
        };
        if let Some(old) = &old {
            keep_identity(&mut new, old);
            if new == **old {
                return None;
            }
            if KINDS[path.kind].generation && (spec(&new) != spec(old) || going(&new) != going(old))
            {
                new["metadata"]["generation"] = json!(number(old, "/metadata/generation") + 1);
            }
        } else {
            self.uids += 1;
            let meta = &mut new["metadata"];
            meta["uid"] = json!(format!("{:08x}-uid", self.uids));
            meta["creationTimestamp"] = json!(now);
            if KINDS[path.kind].generation {
                meta["generation"] = json!(1);
            }
        }
        new["metadata"]["resourceVersion"] = json!(version.to_string());
        let new = Arc::new(new);
        self.objects.insert(path.clone(), Arc::clone(&new));
        Some(self.record(path, at, old, Some(new), None))
    }

    fn record(
        &mut self,
        path: &Path,
        at: u64,
        old: Option<Arc<Value>>,
        new: Option<Arc<Value>>,
        last: Option<Arc<Value>>,
    ) -> Past {
        self.version += 1;
        let past = Past {
            version: self.version,
            at,
            path: path.clone(),
            old,
            new,
            last,
        };
        self.history.push(past.clone());
        past
    }
}

/// What no write changes stays as it was.
pub fn keep_identity(new: &mut Value, old: &Value) {
    for kept in ["resourceVersion", "uid", "generation", "creationTimestamp"] {
        if !old["metadata"][kept].is_null() {
            new["metadata"][kept] = old["metadata"][kept].clone();
        }
    }
}

fn going(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

/// What an object says beside its metadata and its status.
fn spec(object: &Value) -> Vec<(&String, &Value)> {
    let fields = object.as_object().into_iter().flatten();
    fields
        .filter(|(name, _)| *name != "metadata" && *name != "status")
        .collect()
}
