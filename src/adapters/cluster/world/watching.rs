//! What watching needs beside the mirrors: lists and watches, what an error says, how long to wait.

use std::{collections::VecDeque, time::Duration};

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use kube::{
    Api, Client, Resource,
    api::{ApiResource, DynamicObject, ListParams, WatchEvent, WatchParams},
    client::Body,
    core::{DynamicResourceScope, Status},
    runtime::watcher::{Config, Error, Event},
};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout};

use super::lean::Lean;

/// What marks the end of a list that is streamed.
const END_OF_LIST: &str = "k8s.io/initial-events-end";
/// The wait after the first failure of a watch.
const FIRST: Duration = Duration::from_millis(500);
/// The longest wait after a failure of a watch.
const LONGEST: Duration = Duration::from_secs(30);

/// An object as it comes from the API server.
pub trait Listed:
    Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>
    + Into<DynamicObject>
    + DeserializeOwned
    + Clone
    + std::fmt::Debug
    + Send
    + 'static
{
}

impl Listed for Lean {}
impl Listed for DynamicObject {}

/// So long a list may say nothing before its end, and a watch before its beginning; then it is taken
/// for one that never ends.
pub const PATIENCE: Duration = if cfg!(test) {
    Duration::from_millis(200)
} else {
    Duration::from_secs(60)
};

/// A client whose requests are answered within [`PATIENCE`], or fail. The library bounds how long a
/// watch may be silent, but not how long it may take to begin: a request that an API server or a
/// proxy never answers would hold up its kind for ever.
pub fn patient(client: &Client) -> Client {
    let namespace = client.default_namespace().to_owned();
    let inner = client.clone();
    let bounded = tower::service_fn(move |request: http::Request<Body>| {
        let inner = inner.clone();
        async move {
            let answer = timeout(PATIENCE, inner.send(request)).await;
            answer.unwrap_or_else(|late| Err(kube::Error::Service(Box::new(late))))
        }
    });
    Client::new(bounded, namespace)
}

/// How long to wait after so many failures in a row: 0.5 s to 30 s, not the same for every kind.
pub fn pause(failures: u32, kind: &str) -> Duration {
    let doubled = FIRST
        .saturating_mul(1 << failures.saturating_sub(1).min(16))
        .min(LONGEST);
    let spread = kind
        .bytes()
        .fold(0_u32, |sum, b| (sum * 31 + u32::from(b)) % 256);
    doubled.mul_f64(1.0 - f64::from(spread) / 1024.0)
}

/// What is told of a kind: a list, then what becomes of it.
pub type Events<K> = BoxStream<'static, Result<Event<K>, Error>>;

/// The longest that a watch may be silent: the library asks the API server to end each after 290 s.
const SILENCE: Duration = Duration::from_secs(295);
/// A watch that ends so soon after its beginning was not let live.
const STILLBORN: Duration = Duration::from_secs(1);

/// Where a watch stands.
enum Stage<K> {
    /// Nothing is known.
    Begin,
    /// In the midst of a list in pages: what is left of a page, the next one, and the list's version.
    Pages(VecDeque<K>, Option<String>, Option<String>),
    /// In the midst of a streamed list.
    Streamed(BoxStream<'static, kube::Result<WatchEvent<K>>>),
    /// What there was at a version is known.
    Known(String),
    /// What came after it is told, since then.
    Changes(
        String,
        Instant,
        BoxStream<'static, kube::Result<WatchEvent<K>>>,
    ),
}

/// Lists and watches for ever. The library's own watcher swallows what is deleted before the end of a
/// streamed list, asks for a watch again and again that is too old to begin, and begins one at once that
/// ended at once.
pub fn events<K: Listed>(api: Api<K>, config: Config, streams: bool) -> Events<K> {
    let from = (api, config, Stage::Begin);
    let next = move |(api, config, mut stage)| async move {
        loop {
            let (told, then) = step(&api, &config, streams, stage).await;
            stage = then;
            if let Some(told) = told {
                return Some((told, (api, config, stage)));
            }
        }
    };
    stream::unfold(from, next).boxed()
}

type Step<K> = (Option<Result<Event<K>, Error>>, Stage<K>);

async fn step<K: Listed>(api: &Api<K>, config: &Config, streams: bool, stage: Stage<K>) -> Step<K> {
    match stage {
        Stage::Begin if streams => match api.watch(&params(config, true), "0").await {
            Ok(events) => (Some(Ok(Event::Init)), Stage::Streamed(events.boxed())),
            Err(error) => (Some(Err(Error::WatchStartFailed(error))), Stage::Begin),
        },
        Stage::Begin => {
            let first = Stage::Pages(VecDeque::new(), None, None);
            (Some(Ok(Event::Init)), first)
        }
        Stage::Pages(left, token, version) => page(api, config, left, token, version).await,
        Stage::Streamed(events) => streamed(events).await,
        Stage::Known(version) => match api.watch(&params(config, false), &version).await {
            Ok(events) => {
                let changes = Stage::Changes(version, Instant::now(), events.boxed());
                (None, changes)
            }
            // What it would go on from is no longer known there.
            Err(kube::Error::Api(status)) if status.code == 410 => {
                let error = Error::WatchStartFailed(kube::Error::Api(status));
                (Some(Err(error)), Stage::Begin)
            }
            Err(error) => {
                let error = Error::WatchStartFailed(error);
                (Some(Err(error)), Stage::Known(version))
            }
        },
        Stage::Changes(version, since, events) => changes(version, since, events).await,
    }
}

fn params(config: &Config, initial: bool) -> WatchParams {
    WatchParams {
        label_selector: config.label_selector.clone(),
        send_initial_events: initial,
        ..WatchParams::default()
    }
}

async fn page<K: Listed>(
    api: &Api<K>,
    config: &Config,
    mut left: VecDeque<K>,
    token: Option<String>,
    version: Option<String>,
) -> Step<K> {
    if let Some(object) = left.pop_front() {
        let rest = Stage::Pages(left, token, version);
        return (Some(Ok(Event::InitApply(object))), rest);
    }
    let params = match (token, version) {
        (None, Some(version)) => return (Some(Ok(Event::InitDone)), Stage::Known(version)),
        (token, _) => ListParams {
            label_selector: config.label_selector.clone(),
            limit: config.page_size,
            continue_token: token,
            ..ListParams::default()
        },
    };
    match api.list(&params).await {
        Ok(list) => {
            let version = list.metadata.resource_version.filter(|v| !v.is_empty());
            let token = list.metadata.continue_.filter(|t| !t.is_empty());
            if version.is_none() && token.is_none() {
                return (Some(Err(Error::NoResourceVersion)), Stage::Begin);
            }
            (None, Stage::Pages(list.items.into(), token, version))
        }
        Err(error) => (Some(Err(Error::InitialListFailed(error))), Stage::Begin),
    }
}

async fn streamed<K: Listed>(
    mut events: BoxStream<'static, kube::Result<WatchEvent<K>>>,
) -> Step<K> {
    match timeout(SILENCE, events.next()).await.ok().flatten() {
        Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
            (Some(Ok(Event::InitApply(object))), Stage::Streamed(events))
        }
        // What was streamed is not of one moment: its end comes up to a second after its objects.
        Some(Ok(WatchEvent::Deleted(object))) => {
            (Some(Ok(Event::Delete(object))), Stage::Streamed(events))
        }
        Some(Ok(WatchEvent::Bookmark(mark))) => {
            let end = mark.metadata.annotations.contains_key(END_OF_LIST);
            let version = mark.metadata.resource_version;
            match end {
                true => {
                    let changes = Stage::Changes(version, Instant::now(), events);
                    (Some(Ok(Event::InitDone)), changes)
                }
                false => (None, Stage::Streamed(events)),
            }
        }
        Some(Ok(WatchEvent::Error(status))) => {
            let gone = status.code == 410;
            let then = if gone {
                Stage::Begin
            } else {
                Stage::Streamed(events)
            };
            (Some(Err(Error::WatchError(status))), then)
        }
        Some(Err(error)) => (
            Some(Err(Error::WatchFailed(error))),
            Stage::Streamed(events),
        ),
        None => (Some(Err(ended())), Stage::Begin),
    }
}

async fn changes<K: Listed>(
    version: String,
    since: Instant,
    mut events: BoxStream<'static, kube::Result<WatchEvent<K>>>,
) -> Step<K> {
    match timeout(SILENCE, events.next()).await.ok().flatten() {
        Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
            at(Event::Apply, object, since, events)
        }
        Some(Ok(WatchEvent::Deleted(object))) => at(Event::Delete, object, since, events),
        Some(Ok(WatchEvent::Bookmark(mark))) => {
            let version = mark.metadata.resource_version;
            (None, Stage::Changes(version, since, events))
        }
        Some(Ok(WatchEvent::Error(status))) => {
            let gone = status.code == 410;
            let then = if gone {
                Stage::Begin
            } else {
                Stage::Changes(version, since, events)
            };
            (Some(Err(Error::WatchError(status))), then)
        }
        Some(Err(error)) => {
            let error = Error::WatchFailed(error);
            (Some(Err(error)), Stage::Changes(version, since, events))
        }
        None if since.elapsed() < STILLBORN => (Some(Err(ended())), Stage::Known(version)),
        None => (None, Stage::Known(version)),
    }
}

/// Tells of a change, from whose version on it goes on.
fn at<K: Listed>(
    told: fn(K) -> Event<K>,
    object: K,
    since: Instant,
    events: BoxStream<'static, kube::Result<WatchEvent<K>>>,
) -> Step<K> {
    match object.meta().resource_version.clone() {
        Some(version) if !version.is_empty() => {
            let changes = Stage::Changes(version, since, events);
            (Some(Ok(told(object))), changes)
        }
        _ => (Some(Err(Error::NoResourceVersion)), Stage::Begin),
    }
}

fn ended() -> Error {
    let early = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    Error::WatchFailed(kube::Error::ReadEvents(early))
}

/// The API server's answer, where an error is one.
pub fn answer(error: &Error) -> Option<&Status> {
    let source = std::error::Error::source(error)?;
    match source.downcast_ref::<kube::Error>() {
        Some(kube::Error::Api(status)) => Some(status),
        Some(_) => None,
        None => source.downcast_ref::<Status>(),
    }
}

/// Whether the API server cannot stream a list: it calls the parameter invalid then.
pub fn refused(error: &Error) -> bool {
    answer(error).is_some_and(|s| matches!(s.code, 400 | 422))
}

/// An error in the API server's own words, where it has any.
pub fn said(error: &Error) -> String {
    answer(error).map_or_else(
        || error.to_string(),
        |s| format!("{} {}", s.code, s.message),
    )
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::{Request, Response};
    use kube::Api;
    use serde_json::{Value, json};

    use super::super::{
        lean::Lean,
        listings::Listings,
        mirror::{Entry, Key, Mirror, Read},
    };
    use super::*;

    /// A code and a body; none is no answer at all.
    type Answer = Option<(u16, String)>;

    /// What an API server answers to one request after the other; then it says nothing any more.
    #[derive(Clone, Default)]
    struct Script {
        answers: Arc<Mutex<Vec<Answer>>>,
        asked: Arc<Mutex<Vec<String>>>,
    }

    impl Script {
        fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
            let mut answers: Vec<_> = answers.into_iter().collect();
            answers.reverse();
            Self {
                answers: Arc::new(Mutex::new(answers)),
                asked: Arc::default(),
            }
        }
        fn client(&self) -> Client {
            let script = self.clone();
            let answer = move |request: Request<Body>| {
                let uri = request.uri().to_string();
                script.asked.lock().expect("lock").push(uri);
                let next = script.answers.lock().expect("lock").pop().flatten();
                async move {
                    let Some((code, text)) = next else {
                        return std::future::pending().await;
                    };
                    let answer = Response::builder().status(code);
                    answer.body(Body::from(text.into_bytes()))
                }
            };
            Client::new(tower::service_fn(answer), "ns")
        }
        fn asked(&self) -> Vec<String> {
            self.asked.lock().expect("lock").clone()
        }
        /// Watches by it; the mirror, and the task that watches.
        fn watch(&self) -> (Arc<Mirror<()>>, tokio::task::JoinHandle<()>) {
            let all = Listings::new("Thing", [String::new()]);
            let mirror = Arc::new(Mirror::new(all, reads(), Box::new(|_| {}), |_| {}));
            let resource = ApiResource::erase::<k8s_openapi::api::core::v1::Service>(&());
            let api: Api<Lean> = Api::all_with(self.client(), &resource);
            let (kept, pages) = (Arc::clone(&mirror), Config::default().page_size(100));
            let task = tokio::spawn(async move { kept.watch(api, pages, String::new()).await });
            (mirror, task)
        }
    }

    /// Keeps every object; of one with the name `odd` it panics.
    fn reads() -> Read<()> {
        Arc::new(|o: DynamicObject| {
            let key = Key::of(&o);
            assert_ne!(&*key.name, "odd", "a mistake of ours");
            Ok(Some(Entry {
                key,
                uid: o.metadata.uid.unwrap_or_default(),
                version: o.metadata.resource_version.unwrap_or_default(),
                index: vec![],
                value: (),
            }))
        })
    }

    fn object(name: &str, version: &str) -> Value {
        json!({"metadata": {"namespace": "ns", "name": name, "uid": name, "resourceVersion": version}})
    }

    fn event(kind: &str, object: &Value) -> String {
        json!({"type": kind, "object": object}).to_string() + "\n"
    }

    /// The end of what is streamed first.
    fn end(version: &str) -> String {
        let annotations = json!({"k8s.io/initial-events-end": "true"});
        let metadata = json!({"resourceVersion": version, "annotations": annotations});
        event(
            "BOOKMARK",
            &json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata}),
        )
    }

    fn streamed(events: &[String]) -> Answer {
        Some((200, events.concat()))
    }

    fn refusal(code: u16) -> Answer {
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
            "reason": "Odd", "message": "no"});
        Some((code, status.to_string()))
    }

    fn list() -> Answer {
        let list = json!({"kind": "ServiceList", "apiVersion": "v1", "metadata": {"resourceVersion": "9"},
            "items": [object("a", "1")]});
        Some((200, list.to_string()))
    }

    #[tokio::test(start_paused = true)]
    async fn where_no_list_is_streamed_it_is_listed_in_pages() {
        // It is refused, or it has no end.
        for first in [refusal(422), None] {
            let script = Script::new([first, list()]);
            let (mirror, task) = script.watch();
            mirror.listings().ready().await;
            assert_eq!(mirror.all().len(), 1);
            task.abort();
            let asked = script.asked();
            assert!(asked[0].contains("sendInitialEvents=true"), "{asked:?}");
            assert!(asked[1].contains("limit=100"), "{asked:?}");
        }
    }

    /// Between what is streamed first and its end, the API server tells of what happens meanwhile.
    #[tokio::test(start_paused = true)]
    async fn what_goes_while_it_is_listed_is_not_kept_for_ever() {
        let (a, b) = (object("a", "1"), object("b", "2"));
        let script = Script::new([streamed(&[
            event("ADDED", &a),
            event("ADDED", &b),
            event("DELETED", &object("a", "3")),
            end("3"),
        ])]);
        let (mirror, task) = script.watch();
        mirror.listings().ready().await;
        let kept: Vec<String> = mirror.all().iter().map(|e| e.key.to_string()).collect();
        assert_eq!(kept, ["ns/b"]);
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_is_too_old_to_begin_is_listed_anew() {
        let first = streamed(&[event("ADDED", &object("a", "1")), end("1")]);
        let second = streamed(&[event("ADDED", &object("b", "7")), end("7")]);
        let script = Script::new([first, refusal(410), second]);
        let (mirror, task) = script.watch();
        mirror.listings().ready().await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let asked = script.asked();
        assert!(asked[1].contains("resourceVersion=1"), "{asked:?}");
        assert!(asked[2].contains("sendInitialEvents=true"), "{asked:?}");
        assert!(mirror.get(&Key::new("ns", "a")).is_none());
        assert!(mirror.get(&Key::new("ns", "b")).is_some());
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn watches_that_end_as_soon_as_they_have_begun_are_not_begun_without_a_pause() {
        let first = streamed(&[event("ADDED", &object("a", "1")), end("1")]);
        let ended = std::iter::repeat_with(|| streamed(&[])).take(1000);
        let script = Script::new([first].into_iter().chain(ended));
        let (_mirror, task) = script.watch();
        tokio::time::sleep(Duration::from_secs(60)).await;
        let asked = script.asked().len();
        assert!((3..20).contains(&asked), "{asked} requests in a minute");
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_that_is_a_mistake_of_ours_harms_no_other() {
        let script = Script::new([streamed(&[
            event("ADDED", &object("odd", "1")),
            event("ADDED", &object("b", "2")),
            end("2"),
        ])]);
        let (mirror, task) = script.watch();
        let ready = timeout(Duration::from_secs(60), mirror.listings().ready()).await;
        assert!(ready.is_ok() && !task.is_finished());
        assert_eq!(mirror.all().len(), 1);
        task.abort();
    }
}
