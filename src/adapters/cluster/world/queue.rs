//! Queue: the names of objects to look at, each at most once however often it was touched.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{Stream, stream};
use kube::core::PartialObjectMeta;
use tokio::sync::Notify;

use super::mirror::Key;

/// What a round is queued with: an object's name. The round looks at the mirrors.
pub type Named<K> = PartialObjectMeta<K>;

/// Objects to look at. A copy that does not lead may wait for months, in which objects come and go:
/// while nobody looks, nothing is kept, and who begins to look looks at all there is.
#[derive(Debug, Default)]
pub struct Queue {
    /// None while nobody looks.
    waiting: Mutex<Option<BTreeSet<Key>>>,
    /// Those that will be asked for after [`LATER`].
    later: Mutex<BTreeSet<Key>>,
    wake: Notify,
}

/// What others write to a status is looked at after this time: two who answer each other's writes at
/// once would never end.
const LATER: Duration = Duration::from_secs(1);

fn lock<T>(keys: &Mutex<T>) -> MutexGuard<'_, T> {
    keys.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Queue {
    /// Asks for a look at an object.
    pub fn push(&self, key: Key) {
        if let Some(waiting) = lock(&self.waiting).as_mut() {
            waiting.insert(key);
            self.wake.notify_one();
        }
    }

    /// Asks for a look at an object, after [`LATER`].
    pub fn push_later(self: &Arc<Self>, key: Key) {
        if !lock(&self.later).insert(key.clone()) {
            return;
        }
        let queue = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(LATER).await;
            lock(&queue.later).remove(&key);
            queue.push(key);
        });
    }

    fn pop(&self) -> Option<Key> {
        lock(&self.waiting).as_mut()?.pop_first()
    }

    /// The objects to look at, for ever, and first of all those that are there. For one reader.
    pub fn stream(
        self: Arc<Self>,
        there: &dyn Fn() -> Vec<Key>,
    ) -> impl Stream<Item = Key> + Send + use<> {
        // First, so that what comes while it is asked what is there is not missed.
        lock(&self.waiting).get_or_insert_default();
        for key in there() {
            self.push(key);
        }
        stream::unfold(self, |queue| async move {
            loop {
                if let Some(key) = queue.pop() {
                    return Some((key, queue));
                }
                queue.wake.notified().await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    #[tokio::test]
    async fn gives_each_once_and_wakes_its_reader() {
        let queue = Arc::new(Queue::default());
        let mut keys = Box::pin(Arc::clone(&queue).stream(&Vec::new));
        for name in ["b", "a", "b"] {
            queue.push(Key::new("ns", name));
        }
        assert_eq!(keys.next().await, Some(Key::new("ns", "a")));
        assert_eq!(keys.next().await, Some(Key::new("ns", "b")));
        let later = async {
            tokio::task::yield_now().await;
            queue.push(Key::new("ns", "c"));
        };
        let (key, ()) = tokio::join!(keys.next(), later);
        assert_eq!(key, Some(Key::new("ns", "c")));
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_later_comes_once() {
        let queue = Arc::new(Queue::default());
        let began = tokio::time::Instant::now();
        let mut keys = Box::pin(Arc::clone(&queue).stream(&Vec::new));
        for _ in 0..3 {
            queue.push_later(Key::new("ns", "a"));
        }
        assert_eq!(keys.next().await, Some(Key::new("ns", "a")));
        assert_eq!(began.elapsed(), LATER);
        assert_eq!(queue.pop(), None);
        queue.push_later(Key::new("ns", "a"));
        assert_eq!(keys.next().await, Some(Key::new("ns", "a")));
    }

    #[tokio::test]
    async fn while_nobody_looks_nothing_piles_up_and_then_all_is_looked_at() {
        let queue = Arc::new(Queue::default());
        for n in 0..1000 {
            queue.push(Key::new("ns", format!("gone-{n}")));
        }
        assert_eq!(*lock(&queue.waiting), None);
        let meanwhile = Arc::clone(&queue);
        let there = move || {
            meanwhile.push(Key::new("ns", "new"));
            vec![Key::new("ns", "old")]
        };
        let keys = Arc::clone(&queue).stream(&there);
        let keys: Vec<_> = keys.take(2).map(|k| k.name.to_string()).collect().await;
        assert_eq!(keys, ["new", "old"]);
        assert_eq!(queue.pop(), None);
    }
}
