//! Mirror: one kind of object, watched and kept as far as it is needed.
//!
//! Each kind has its own watches, one for each namespace in scope or one for all, so a sick kind
//! never holds up another. A relist is compared with what is kept: an object that went while the
//! watch was broken is told of like any other change.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard},
};

use futures::StreamExt;
use kube::{
    Api,
    api::DynamicObject,
    runtime::watcher::{Config, Event},
};
use tokio::time::timeout;

use super::{
    listings::Listings,
    watching::{Listed, PATIENCE, answer, events, pause, refused, said},
};

/// Namespace and name of an object. Copies share the text: there are some of each key, in maps.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Its namespace; empty for a cluster-wide kind.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl Key {
    /// By namespace and name.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
    /// Of an object.
    pub fn of(object: &DynamicObject) -> Self {
        let meta = &object.metadata;
        Self::new(
            meta.namespace.as_deref().unwrap_or_default(),
            meta.name.as_deref().unwrap_or_default(),
        )
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What is kept of an object.
#[derive(Debug)]
pub struct Entry<T> {
    /// Namespace and name.
    pub key: Key,
    /// Its uid.
    pub uid: String,
    /// Its resourceVersion.
    pub version: String,
    /// Words under which it is found.
    pub index: Vec<Arc<str>>,
    /// What is needed of it.
    pub value: T,
}

/// Reads an object: what is kept of it, nothing where it is of no concern, or what is wrong with it.
pub type Read<T> = Arc<dyn Fn(DynamicObject) -> Result<Option<Entry<T>>, Malformed> + Send + Sync>;

/// An object that cannot be read.
#[derive(Clone, Debug)]
pub struct Malformed {
    /// Namespace and name.
    pub key: Key,
    /// Its uid.
    pub uid: String,
    /// Its generation.
    pub generation: i64,
    /// What is wrong with it.
    pub message: String,
}

/// A change of one object.
#[derive(Debug)]
pub struct Change<T> {
    /// As it was kept.
    pub old: Option<Arc<Entry<T>>>,
    /// As it is kept now.
    pub new: Option<Arc<Entry<T>>>,
}

impl<T> Change<T> {
    /// The object, new or as it was.
    pub fn any(&self) -> Option<&Arc<Entry<T>>> {
        self.new.as_ref().or(self.old.as_ref())
    }
}

/// Told of every change, in order.
pub type Changed<T> = Box<dyn FnMut(&Change<T>) + Send>;

#[derive(Debug)]
struct Kept<T> {
    entries: BTreeMap<Key, Arc<Entry<T>>>,
    /// In order. Mostly there is one: a set takes ten times the memory.
    index: BTreeMap<Arc<str>, Vec<Key>>,
    /// Those that cannot be read.
    unreadable: BTreeMap<Key, Malformed>,
}

impl<T> Kept<T> {
    fn index(&mut self, word: &Arc<str>, key: &Key) {
        let keys = self.index.entry(Arc::clone(word)).or_default();
        if let Err(place) = keys.binary_search(key) {
            keys.reserve_exact(usize::from(keys.is_empty()));
            keys.insert(place, key.clone());
        }
    }

    fn strike(&mut self, word: &Arc<str>, key: &Key) {
        let Some(keys) = self.index.get_mut(word) else {
            return;
        };
        if let Ok(place) = keys.binary_search(key) {
            keys.remove(place);
        }
        if keys.is_empty() {
            self.index.remove(word);
        }
    }
}

/// One kind of object, watched and kept.
pub struct Mirror<T> {
    kept: RwLock<Kept<T>>,
    read: Read<T>,
    changed: Mutex<Changed<T>>,
    warn: Box<dyn Fn(&Key) + Send + Sync>,
    listings: Listings,
}

impl<T> std::fmt::Debug for Mirror<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mirror({})", self.listings.kind())
    }
}

impl<T: Send + Sync + 'static> Mirror<T> {
    /// To be filled by a watch for each of `listings`.
    pub fn new(
        listings: Listings,
        read: Read<T>,
        changed: Changed<T>,
        warn: impl Fn(&Key) + Send + Sync + 'static,
    ) -> Self {
        Self {
            kept: RwLock::new(Kept {
                entries: BTreeMap::new(),
                index: BTreeMap::new(),
                unreadable: BTreeMap::new(),
            }),
            read,
            changed: Mutex::new(changed),
            warn: Box::new(warn),
            listings,
        }
    }

    /// Where it has been listed, so that an absence means something.
    pub fn listings(&self) -> &Listings {
        &self.listings
    }
    fn kept(&self) -> RwLockReadGuard<'_, Kept<T>> {
        self.kept.read().unwrap_or_else(PoisonError::into_inner)
    }
    /// An object.
    pub fn get(&self, key: &Key) -> Option<Arc<Entry<T>>> {
        self.kept().entries.get(key).cloned()
    }
    /// Every object, by namespace and name.
    pub fn all(&self) -> Vec<Arc<Entry<T>>> {
        self.kept().entries.values().cloned().collect()
    }
    /// Whether any object of a namespace is kept.
    pub fn any_in(&self, namespace: &str) -> bool {
        let kept = self.kept();
        let mut from = kept.entries.range(Key::new(namespace, "")..);
        from.next()
            .is_some_and(|(key, _)| *key.namespace == *namespace)
    }
    /// What is wrong with an object that is there and cannot be read.
    pub fn unreadable(&self, key: &Key) -> Option<Malformed> {
        self.kept().unreadable.get(key).cloned()
    }
    /// Every object that is there and cannot be read.
    pub fn all_unreadable(&self) -> Vec<Key> {
        self.kept().unreadable.keys().cloned().collect()
    }
    /// The objects that are found under a word, by namespace and name.
    pub fn find(&self, word: &str) -> Vec<Arc<Entry<T>>> {
        let kept = self.kept();
        let keys = kept.index.get(word).into_iter().flatten();
        keys.filter_map(|k| kept.entries.get(k).cloned()).collect()
    }

    /// Takes an object in as it is now.
    pub fn apply(&self, object: DynamicObject) {
        let key = Key::of(&object);
        match self.understand(object) {
            Ok(entry) => self.put(key, Ok(entry)),
            Err(malformed) => {
                tracing::warn!(kind = self.listings.kind(), object = %key, error = malformed.message, "unreadable object");
                self.put(key.clone(), Err(malformed));
                (self.warn)(&key);
            }
        }
    }

    /// Reads an object. One that makes us panic is unreadable, as in a round: the watch of all the
    /// others goes on.
    fn understand(&self, object: DynamicObject) -> Result<Option<Entry<T>>, Malformed> {
        let mistake = Malformed {
            key: Key::of(&object),
            uid: object.metadata.uid.clone().unwrap_or_default(),
            generation: object.metadata.generation.unwrap_or(0),
            message: "reading it panicked, which is a mistake in Serin: its log has more"
                .to_owned(),
        };
        let read = AssertUnwindSafe(|| (self.read)(object));
        catch_unwind(read).unwrap_or(Err(mistake))
    }

    /// Takes an object out.
    pub fn remove(&self, key: &Key) {
        self.put(key.clone(), Ok(None));
    }

    fn put(&self, key: Key, found: Result<Option<Entry<T>>, Malformed>) {
        // Held over both, so that changes are told in the order in which they were kept.
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        let (entry, malformed) = match found {
            Ok(entry) => (entry, None),
            Err(malformed) => (None, Some(malformed)),
        };
        let new = entry.map(Arc::new);
        let old = {
            let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
            let old = match &new {
                Some(entry) => kept.entries.insert(key.clone(), Arc::clone(entry)),
                None => kept.entries.remove(&key),
            };
            match malformed {
                Some(malformed) => kept.unreadable.insert(key.clone(), malformed),
                None => kept.unreadable.remove(&key),
            };
            for word in old.iter().flat_map(|e| &e.index) {
                kept.strike(word, &key);
            }
            for word in new.iter().flat_map(|e| &e.index) {
                kept.index(word, &key);
            }
            old
        };
        let same = match (&old, &new) {
            (Some(old), Some(new)) => old.version == new.version && old.uid == new.uid,
            (None, None) => true,
            _ => false,
        };
        if !same {
            changed(&Change { old, new });
        }
    }

    /// Watches one scope for ever: the namespace, or all of them where it is empty. What there is comes
    /// as a stream where the API server can do that, otherwise in the pages of `config`: a page is
    /// in memory as a tree before it is read, and is no answer from the API server's cache.
    pub async fn watch<K: Listed>(&self, api: Api<K>, config: Config, namespace: String) {
        let begin = |streams: bool| events(api.clone(), config.clone(), streams);
        let kind = self.listings.kind();
        // A list has an end; a watch may say nothing for hours.
        let (mut events, mut streams, mut listing) = (begin(true), true, true);
        let (mut once, mut failures) = (false, 0);
        let mut listed = BTreeSet::new();
        loop {
            let next = if listing {
                timeout(PATIENCE, events.next()).await
            } else {
                Ok(events.next().await)
            };
            let Ok(event) = next else {
                // Whether it works at all is known once it has worked.
                streams &= once;
                tracing::warn!(kind, "a list does not end, listing anew");
                events = begin(streams);
                continue;
            };
            let Some(event) = event else { break };
            if matches!(
                event,
                Ok(Event::InitDone | Event::Apply(_) | Event::Delete(_))
            ) {
                failures = 0;
            }
            match event {
                Ok(Event::Init) => {
                    listing = true;
                    listed.clear();
                }
                Ok(Event::InitApply(object)) => {
                    let object = object.into();
                    listed.insert(Key::of(&object));
                    self.apply(object);
                }
                Ok(Event::InitDone) => {
                    listing = false;
                    self.forget_all_but(&std::mem::take(&mut listed), &namespace);
                    once = true;
                    self.listings.listed(&namespace);
                }
                Ok(Event::Apply(object)) => self.apply(object.into()),
                Ok(Event::Delete(object)) => {
                    let key = Key::of(&object.into());
                    listed.remove(&key);
                    self.remove(&key);
                }
                Err(error) if streams && refused(&error) => {
                    tracing::debug!(kind, "no streaming list, listing in pages");
                    streams = false;
                    events = begin(false);
                }
                Err(error) => {
                    failures += 1;
                    // Where a namespace is gone, the right to look there is, too.
                    if answer(&error).is_some_and(|s| s.code == 403) {
                        self.listings.may_not(&namespace);
                    }
                    let wait = pause(failures, kind);
                    let error = said(&error);
                    if failures == 1 {
                        // A watch that is too old, or a server that restarts: everyday life.
                        tracing::debug!(kind, namespace, error, ?wait, "watch failed");
                    } else {
                        tracing::warn!(kind, namespace, error, ?wait, "watch failed");
                    }
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    fn forget_all_but(&self, listed: &BTreeSet<Key>, namespace: &str) {
        let gone: Vec<Key> = {
            let kept = self.kept();
            let ours = |k: &&Key| namespace.is_empty() || *k.namespace == *namespace;
            kept.entries
                .keys()
                .chain(kept.unreadable.keys())
                .filter(ours)
                .filter(|k| !listed.contains(*k))
                .cloned()
                .collect()
        };
        for key in gone {
            self.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, version: &str, word: &str) -> DynamicObject {
        serde_json::from_value(serde_json::json!({
            "metadata": {"namespace": "ns", "name": name, "uid": name, "resourceVersion": version},
            "word": word,
        }))
        .expect("an object")
    }

    fn mirror(told: &Arc<Mutex<Vec<String>>>) -> Mirror<()> {
        let read: Read<()> = Arc::new(|o: DynamicObject| {
            let word = o.data["word"].as_str().unwrap_or_default().to_owned();
            if word == "bad" {
                let message = "bad".to_owned();
                return Err(Malformed {
                    key: Key::of(&o),
                    uid: String::new(),
                    generation: 0,
                    message,
                });
            }
            let version = o.metadata.resource_version.clone().unwrap_or_default();
            Ok(Some(Entry {
                key: Key::of(&o),
                uid: "u".into(),
                version,
                index: vec![word.into()],
                value: (),
            }))
        });
        let told = Arc::clone(told);
        let changed: Changed<()> = Box::new(move |c| {
            let word = |e: &Option<Arc<Entry<()>>>| e.as_ref().map_or("-", |_| "+");
            let line = format!("{}{}", word(&c.old), word(&c.new));
            told.lock().expect("lock").push(line);
        });
        let listings = Listings::new("Thing", [String::new()]);
        Mirror::new(listings, read, changed, |_| {})
    }

    #[test]
    fn keeps_an_index_and_tells_only_of_changes() {
        let told = Arc::default();
        let mirror = mirror(&told);
        mirror.apply(object("a", "1", "x"));
        mirror.apply(object("a", "1", "x"));
        mirror.apply(object("b", "2", "x"));
        mirror.apply(object("a", "3", "y"));
        assert_eq!(mirror.find("x").len(), 1);
        assert_eq!(&*mirror.find("y")[0].key.name, "a");
        mirror.forget_all_but(&[Key::new("ns", "b")].into(), "other");
        assert!(
            mirror.get(&Key::new("ns", "a")).is_some(),
            "another namespace's relist"
        );
        mirror.forget_all_but(&[Key::new("ns", "b")].into(), "ns");
        mirror.apply(object("b", "4", "bad"));
        mirror.apply(object("c", "5", "bad"));
        assert!(!mirror.any_in("ns") && !mirror.any_in("n"));
        assert_eq!(
            mirror.all_unreadable(),
            [Key::new("ns", "b"), Key::new("ns", "c")]
        );
        mirror.forget_all_but(&[Key::new("ns", "b")].into(), "ns");
        assert!(mirror.unreadable(&Key::new("ns", "c")).is_none());
        assert!(
            mirror.all().is_empty() && mirror.find("x").is_empty() && mirror.find("y").is_empty()
        );
        assert_eq!(*told.lock().expect("lock"), ["-+", "-+", "++", "+-", "+-"]);
    }
}
