//! Watches: every change in order, as late as the weather has it, until the watch is cut.

use std::{collections::VecDeque, convert::Infallible, sync::Arc};

use axum::body::Body;
use futures::stream;
use http::Response;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::world::{Shared, World, lock};

use super::{
    answer::{Asked, refused},
    store::Past,
    write::Refusal,
};

/// A watch in progress.
struct Watching {
    world: Shared,
    copy: usize,
    asked: Asked,
    /// The version of the next change to look at.
    next: u64,
    /// Lines that are ready.
    ready: VecDeque<String>,
    /// How often the watches of this kind had been cut when this one began.
    cuts: u64,
    ends: Instant,
    over: bool,
    changed: watch::Receiver<u64>,
}

/// Begins a watch.
pub fn begin(shared: &Shared, copy: usize, asked: Asked) -> Response<Body> {
    let mut world = lock(shared);
    let kind = asked.path.kind;
    let streamed = asked.param("sendInitialEvents") == "true";
    if streamed && world.weather.no_streams {
        return refused(&Refusal::new(
            422,
            "Invalid",
            "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled",
        ));
    }
    let since: u64 = asked.param("resourceVersion").parse().unwrap_or(0);
    let mut ready = VecDeque::new();
    let mut over = false;
    let since = if streamed {
        initial(&mut world, copy, &asked, &mut ready)
    } else if since < world.store.oldest {
        let gone = Refusal::new(410, "Expired", "too old resource version");
        ready.push_back(format!(
            "{}\n",
            json!({"type": "ERROR", "object": gone.status()})
        ));
        over = true;
        since
    } else {
        since
    };
    let seconds: u64 = asked.param("timeoutSeconds").parse().unwrap_or(300);
    let watching = Watching {
        copy,
        next: since + 1,
        ready,
        cuts: world.weather.cuts(copy, kind),
        ends: Instant::now() + std::time::Duration::from_secs(seconds),
        over,
        changed: world.changed.subscribe(),
        asked,
        world: Arc::clone(shared),
    };
    drop(world);
    Response::new(Body::from_stream(stream::unfold(watching, |w| w.line())))
}

/// What there is, as a streamed list, and the version up to which it tells. An API server whose
/// cache is behind tells what it knows.
fn initial(world: &mut World, copy: usize, asked: &Asked, ready: &mut VecDeque<String>) -> u64 {
    let now = world.now();
    let lag = world.weather.behind(copy, asked.path.kind, now);
    let seen = now.saturating_sub(lag);
    let history = world.store.history();
    let known = history.partition_point(|p| p.at <= seen);
    let version = match known.checked_sub(1) {
        Some(last) if asked.param("resourceVersion") == "0" => history[last].version,
        _ => world.store.version(),
    };
    let all = if version == world.store.version() {
        let kind = world.store.all(asked.path.kind);
        kind.map(|(p, o)| (p.clone(), Arc::clone(o))).collect()
    } else {
        world.store.at(version)
    };
    let now = world.now();
    world.laws.relearn(copy, asked.path.kind);
    for (path, object) in all.iter().filter(|(p, o)| asked.wants(p, o)) {
        ready.push_back(format!(
            "{}\n",
            json!({"type": "ADDED", "object": **object})
        ));
        world.laws.learn(now, copy, path, Some(object));
    }
    let end = json!({"type": "BOOKMARK", "object": {"kind": "Bookmark", "apiVersion": "v1", "metadata": {
        "resourceVersion": version.to_string(), "annotations": {"k8s.io/initial-events-end": "true"}}}});
    ready.push_back(format!("{end}\n"));
    version
}

impl Watching {
    async fn line(mut self) -> Option<(Result<String, Infallible>, Self)> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some((Ok(line), self));
            }
            if self.over || Instant::now() >= self.ends {
                return None;
            }
            self.changed.mark_unchanged();
            let wait = {
                let shared = Arc::clone(&self.world);
                let mut world = lock(&shared);
                if world.weather.cuts(self.copy, self.asked.path.kind) != self.cuts {
                    return None;
                }
                self.due(&mut world)
            };
            if !self.ready.is_empty() {
                continue;
            }
            tokio::select! {
                biased;
                () = sleep_until(wait.unwrap_or(self.ends).min(self.ends)) => {}
                changed = self.changed.changed() => {
                    changed.ok()?;
                }
            }
        }
    }

    /// Takes what is due; when the next is.
    fn due(&mut self, world: &mut World) -> Option<Instant> {
        let kind = self.asked.path.kind;
        loop {
            if self.next <= world.store.oldest {
                // What it would have to tell is forgotten.
                self.over = true;
                return None;
            }
            let past: &Past = world.store.change(self.next)?;
            let wants = |o: &Option<Arc<Value>>| {
                o.as_ref().is_some_and(|o| self.asked.wants(&past.path, o))
            };
            let (was, is) = (wants(&past.old), wants(&past.new));
            if !was && !is {
                self.next += 1;
                continue;
            }
            let at = world.weather.delivery(self.copy, kind, past.at);
            if at > world.now() {
                return Some(world.instant(at));
            }
            let past = past.clone();
            self.next += 1;
            let line = line(&past, was, is);
            let now = world.now();
            let known = past.new.as_ref().filter(|_| is);
            world.laws.learn(now, self.copy, &past.path, known);
            if world.weather.doubles() {
                self.ready.push_back(line.clone());
            }
            self.ready.push_back(line);
            return None;
        }
    }
}

/// One that no longer has the labels that were asked for is told of as deleted, one that has them by
/// now as added.
fn line(past: &Past, was: bool, is: bool) -> String {
    let kind = match (was, is) {
        (false, _) => "ADDED",
        (true, true) => "MODIFIED",
        (true, false) => "DELETED",
    };
    let object: Option<&Value> = past.new.as_deref().or(past.last.as_deref());
    format!("{}\n", json!({"type": kind, "object": object}))
}
