//! An API server in this process, behind a real client: objects, resourceVersions, watches, the two
//! kinds of patch, dry runs with a default, and failures on demand. No I/O, so paused time works,
//! unless it is asked to listen for another process.

#![allow(dead_code, reason = "each crate of tests uses its part")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use futures::{StreamExt, stream};
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::watch;

/// Collection (`group/version/plural`), namespace and name.
type Path = (String, String, String);

/// An answer that is given instead of the real one, as often as said.
#[derive(Clone)]
pub struct Fault {
    pub method: &'static str,
    pub plural: &'static str,
    pub code: u16,
    pub times: usize,
}

#[derive(Default)]
struct Inner {
    objects: BTreeMap<Path, Value>,
    version: u64,
    uids: u64,
    history: Vec<(Path, Value)>,
    log: Vec<String>,
    managers: Vec<String>,
    faults: Vec<Fault>,
    forbidden: Vec<String>,
}

/// The API server.
pub struct Server {
    inner: Mutex<Inner>,
    changed: watch::Sender<usize>,
    watches: watch::Sender<usize>,
}

/// What a request asks for.
struct Asked {
    collection: String,
    namespace: String,
    name: Option<String>,
    status: bool,
    query: BTreeMap<String, String>,
}

impl Asked {
    fn parse(uri: &axum::http::Uri) -> Self {
        let parts: Vec<&str> = uri.path().split('/').filter(|p| !p.is_empty()).collect();
        let (head, rest) = if parts[0] == "api" {
            parts.split_at(2)
        } else {
            parts.split_at(3)
        };
        let (namespace, rest) = match rest {
            ["namespaces", ns, rest @ ..] if !rest.is_empty() => ((*ns).to_owned(), rest),
            _ => (String::new(), rest),
        };
        let query = uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter(|p| !p.is_empty());
        let pair = |p: &str| {
            let (k, v) = p.split_once('=').unwrap_or((p, ""));
            (
                k.to_owned(),
                v.replace("%2F", "/")
                    .replace("%3D", "=")
                    .replace("%2C", ",")
                    .replace("%2f", "/"),
            )
        };
        Self {
            collection: format!("{}/{}", head[1..].join("/"), rest[0]),
            namespace,
            name: rest.get(1).map(|n| (*n).to_owned()),
            status: rest.get(2) == Some(&"status"),
            query: query.map(pair).collect(),
        }
    }
    fn path(&self, name: &str) -> Path {
        (
            self.collection.clone(),
            self.namespace.clone(),
            name.to_owned(),
        )
    }
    fn wants(&self, path: &Path, object: &Value) -> bool {
        let selector = self.query.get("labelSelector").map_or("", String::as_str);
        let labels = &object["metadata"]["labels"];
        let matches =
            selector
                .split(',')
                .filter(|s| !s.is_empty())
                .all(|s| match s.split_once('=') {
                    Some((key, value)) => labels[key] == value,
                    None => labels.get(s).is_some(),
                });
        let field = self.query.get("fieldSelector");
        let field = field.and_then(|f| f.strip_prefix("metadata.name="));
        path.0 == self.collection
            && field.is_none_or(|name| path.2 == name)
            && (self.namespace.is_empty() || path.1 == self.namespace)
            && matches
    }
}

fn refusal(code: u16, reason: &str, message: &str) -> Response {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "code": code, "reason": reason, "message": message,
    });
    (
        StatusCode::from_u16(code).expect("a status"),
        status.to_string(),
    )
        .into_response()
}

fn ok(value: &Value) -> Response {
    value.to_string().into_response()
}

impl Server {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::default(),
            changed: watch::Sender::new(0),
            watches: watch::Sender::new(0),
        })
    }

    /// Listens on this machine, for clients in other processes, until the runtime ends. Gives its URL.
    pub async fn listen(self: &Arc<Self>) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a port is free");
        let address = listener.local_addr().expect("an address");
        let router = Router::new().fallback(handle).with_state(Arc::clone(self));
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}")
    }

    /// How many changes there have been.
    pub fn changed(&self) -> watch::Receiver<usize> {
        self.changed.subscribe()
    }

    /// How many watches have begun.
    pub fn watches(&self) -> watch::Receiver<usize> {
        self.watches.subscribe()
    }

    /// A client of it.
    pub fn client(self: &Arc<Self>) -> Client {
        Client::new(
            Router::new().fallback(handle).with_state(Arc::clone(self)),
            "ns",
        )
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no panic")
    }

    /// Puts an object in or replaces it, as somebody else.
    pub fn put(&self, collection: &str, object: Value) -> Value {
        let text = |field: &str| {
            object["metadata"][field]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let path = (collection.to_owned(), text("namespace"), text("name"));
        self.store(&path, object)
    }

    /// An object as it stands.
    pub fn get(&self, collection: &str, name: &str) -> Option<Value> {
        self.lock()
            .objects
            .get(&(collection.to_owned(), "ns".to_owned(), name.to_owned()))
            .cloned()
    }

    /// The names of a collection's objects.
    pub fn names(&self, collection: &str) -> Vec<String> {
        let inner = self.lock();
        inner
            .objects
            .keys()
            .filter(|p| p.0 == collection)
            .map(|p| p.2.clone())
            .collect()
    }

    /// Changes an object, as somebody else.
    pub fn edit(&self, collection: &str, name: &str, edit: impl FnOnce(&mut Value)) {
        let mut object = self.get(collection, name).expect("it exists");
        edit(&mut object);
        self.put(collection, object);
    }

    /// Removes an object, as somebody else.
    pub fn take_away(&self, collection: &str, name: &str) {
        self.remove(&(collection.to_owned(), "ns".to_owned(), name.to_owned()));
    }

    /// Answers that are to be given instead of the real ones.
    pub fn fail(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    /// Grants no right in a namespace, or for one kind in it, as in `ns/pods`.
    pub fn forbid(&self, what: &str) {
        self.lock().forbidden.push(what.to_owned());
    }

    /// Grants every right everywhere again.
    pub fn allow(&self) {
        self.lock().forbidden.clear();
    }

    fn forbids(&self, asked: &Asked) -> bool {
        let plural = asked.collection.rsplit('/').next().unwrap_or_default();
        let one = format!("{}/{plural}", asked.namespace);
        let inner = self.lock();
        let mut all = inner.forbidden.iter();
        all.any(|f| *f == asked.namespace || *f == one)
    }

    /// Every write so far: method and path.
    pub fn writes(&self) -> Vec<String> {
        self.lock().log.clone()
    }

    /// The field manager of every write so far; empty where none was named.
    pub fn managers(&self) -> Vec<String> {
        self.lock().managers.clone()
    }

    fn store(&self, path: &Path, mut object: Value) -> Value {
        let mut inner = self.lock();
        let old = inner.objects.get(path).cloned();
        let mut same = object.clone();
        if let Some(old) = &old {
            same["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
            if same == *old {
                return same;
            }
        }
        inner.version += 1;
        let generation = match &old {
            Some(old) if old["spec"] == object["spec"] => old["metadata"]["generation"].clone(),
            Some(old) => json!(old["metadata"]["generation"].as_i64().unwrap_or(0) + 1),
            None if object["metadata"]["generation"].is_null() => json!(1),
            None => object["metadata"]["generation"].clone(),
        };
        let meta = &mut object["metadata"];
        meta["resourceVersion"] = json!(inner.version.to_string());
        meta["generation"] = generation;
        if meta["uid"].is_null() {
            inner.uids += 1;
            let uid = format!("uid-{:04}", inner.uids);
            object["metadata"]["uid"] = json!(uid);
        }
        let kind = if old.is_some() { "MODIFIED" } else { "ADDED" };
        inner.objects.insert(path.clone(), object.clone());
        inner
            .history
            .push((path.clone(), json!({"type": kind, "object": object})));
        self.changed.send_replace(inner.history.len());
        object
    }

    fn remove(&self, path: &Path) {
        let mut inner = self.lock();
        if let Some(mut object) = inner.objects.remove(path) {
            inner.version += 1;
            object["metadata"]["resourceVersion"] = json!(inner.version.to_string());
            inner
                .history
                .push((path.clone(), json!({"type": "DELETED", "object": object})));
            self.changed.send_replace(inner.history.len());
        }
    }

    fn fault(&self, method: &str, plural: &str) -> Option<u16> {
        let mut inner = self.lock();
        let fits = |f: &&mut Fault| {
            f.times > 0 && f.method == method && (f.plural == "*" || plural.ends_with(f.plural))
        };
        let fault = inner.faults.iter_mut().find(fits)?;
        fault.times -= 1;
        Some(fault.code)
    }

    fn list(&self, asked: &Asked) -> Response {
        let inner = self.lock();
        let items = inner.objects.iter().filter(|(p, o)| asked.wants(p, o));
        let items: Vec<&Value> = items.map(|(_, o)| o).collect();
        let version = inner.version.to_string();
        ok(
            &json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": version}, "items": items}),
        )
    }

    fn watch(self: &Arc<Self>, asked: Asked) -> Response {
        let asked_since = asked.query.get("resourceVersion");
        let mut since: u64 = asked_since.and_then(|v| v.parse().ok()).unwrap_or(0);
        let mut first = vec![];
        if asked.query.get("sendInitialEvents").map(String::as_str) == Some("true") {
            (first, since) = self.initial(&asked);
        }
        self.watches.send_modify(|n| *n += 1);
        let start = (Arc::clone(self), self.changed.subscribe(), asked, 0_usize);
        let lines = stream::unfold(
            start,
            move |(server, mut changed, asked, mut next)| async move {
                loop {
                    let event = server.lock().history.get(next).cloned();
                    let Some((path, mut event)) = event else {
                        changed.wait_for(|n| *n > next).await.ok()?;
                        continue;
                    };
                    // One that is selected no more is gone for whoever watches.
                    let left = !asked.wants(&path, &event["object"])
                        && server
                            .before(next, &path)
                            .is_some_and(|o| asked.wants(&path, &o));
                    if left {
                        event["type"] = json!("DELETED");
                    }
                    next += 1;
                    let version = event["object"]["metadata"]["resourceVersion"]
                        .as_str()
                        .and_then(|v| v.parse::<u64>().ok());
                    let told = left || asked.wants(&path, &event["object"]);
                    if version > Some(since) && told {
                        return Some((format!("{event}\n"), (server, changed, asked, next)));
                    }
                }
            },
        );
        let lines = stream::iter(first).chain(lines);
        Body::from_stream(lines.map(Ok::<_, std::convert::Infallible>)).into_response()
    }

    /// An object as it was before a change.
    fn before(&self, change: usize, path: &Path) -> Option<Value> {
        let inner = self.lock();
        let earlier = inner.history.get(..change)?.iter().rev();
        let (_, event) = earlier.into_iter().find(|(p, _)| p == path)?;
        (event["type"] != "DELETED").then(|| event["object"].clone())
    }

    /// What there is, as a streamed list, and the resourceVersion up to which it tells.
    fn initial(&self, asked: &Asked) -> (Vec<String>, u64) {
        let inner = self.lock();
        let items = inner.objects.iter().filter(|(p, o)| asked.wants(p, o));
        let mut lines: Vec<String> = items
            .map(|(_, object)| format!("{}\n", json!({"type": "ADDED", "object": object})))
            .collect();
        let version = inner.version.to_string();
        let end = json!({"type": "BOOKMARK", "object": {"apiVersion": "v1", "kind": "Bookmark", "metadata": {
            "resourceVersion": version, "annotations": {"k8s.io/initial-events-end": "true"}}}});
        lines.push(format!("{end}\n"));
        (lines, inner.version)
    }

    fn create(&self, asked: &Asked, mut object: Value) -> Response {
        if asked.query.contains_key("dryRun") {
            if object.pointer("/spec/template/spec/bogus").is_some() {
                return refusal(
                    400,
                    "BadRequest",
                    "strict decoding error: unknown field \"spec.template.spec.bogus\"",
                );
            }
            let spec = &mut object["spec"]["template"]["spec"];
            if spec["restartPolicy"].is_null() {
                spec["restartPolicy"] = json!("Always");
            }
            return ok(&object);
        }
        let name = object["metadata"]["name"]
            .as_str()
            .expect("a name")
            .to_owned();
        object["metadata"]["namespace"] = json!(asked.namespace);
        let path = asked.path(&name);
        if self.lock().objects.contains_key(&path) {
            return refusal(409, "AlreadyExists", &format!("{name} already exists"));
        }
        ok(&self.store(&path, object))
    }

    fn change(&self, asked: &Asked, make: impl FnOnce(&Value) -> Option<Value>) -> Response {
        let path = asked.path(asked.name.as_deref().expect("a name"));
        let Some(old) = self.lock().objects.get(&path).cloned() else {
            return refusal(404, "NotFound", "not found");
        };
        let Some(mut new) = make(&old) else {
            return refusal(
                422,
                "Invalid",
                "the server rejected our request due to an error in our request",
            );
        };
        for field in ["resourceVersion", "uid"] {
            if new["metadata"][field] != old["metadata"][field] {
                return refusal(409, "Conflict", "the object has been modified");
            }
        }
        if asked.status {
            let status = new["status"].clone();
            new = old.clone();
            new["status"] = status;
        } else if asked.collection.starts_with("serin.dev") && !old["status"].is_null() {
            new["status"] = old["status"].clone();
        }
        if !new["metadata"]["deletionTimestamp"].is_null()
            && new["metadata"]["finalizers"]
                .as_array()
                .is_none_or(Vec::is_empty)
        {
            self.remove(&path);
            return ok(&new);
        }
        ok(&self.store(&path, new))
    }

    fn delete(&self, asked: &Asked, options: &Value) -> Response {
        let path = asked.path(asked.name.as_deref().expect("a name"));
        let Some(old) = self.lock().objects.get(&path).cloned() else {
            return refusal(404, "NotFound", "not found");
        };
        for field in ["resourceVersion", "uid"] {
            let wanted = &options["preconditions"][field];
            if !wanted.is_null() && *wanted != old["metadata"][field] {
                return refusal(409, "Conflict", "the precondition failed");
            }
        }
        self.remove(&path);
        ok(&json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
    }
}

async fn handle(State(server): State<Arc<Server>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let asked = Asked::parse(&head.uri);
    let method = head.method.as_str();
    if let Some(code) = server.fault(method, &asked.collection) {
        if code == 0 {
            std::future::pending::<()>().await;
        }
        return refusal(code, "Fault", "a fault was asked for");
    }
    if server.forbids(&asked) {
        return refusal(403, "Forbidden", "no right in this namespace");
    }
    let body = to_bytes(body, 1 << 22).await.expect("a body");
    let value: Value = serde_json::from_slice(&body).unwrap_or_default();
    let dry = asked.query.contains_key("dryRun");
    if method != "GET" && !dry {
        let manager = asked.query.get("fieldManager").cloned();
        let mut inner = server.lock();
        inner.log.push(format!("{method} {}", head.uri.path()));
        inner.managers.push(manager.unwrap_or_default());
    }
    match method {
        "GET" if asked.query.contains_key("watch") => server.watch(asked),
        "GET" => match &asked.name {
            None => server.list(&asked),
            Some(name) => match server.lock().objects.get(&asked.path(name)) {
                Some(object) => ok(object),
                None => refusal(404, "NotFound", "not found"),
            },
        },
        "POST" => server.create(&asked, value),
        "PUT" => server.change(&asked, |_| Some(value)),
        "PATCH" if head.headers["content-type"] == "application/json-patch+json" => {
            server.change(&asked, |old| {
                let patch: json_patch::Patch = serde_json::from_value(value).ok()?;
                let mut new = old.clone();
                json_patch::patch(&mut new, &patch).ok()?;
                Some(new)
            })
        }
        "PATCH" => server.change(&asked, |old| {
            let mut new = old.clone();
            json_patch::merge(&mut new, &value);
            Some(new)
        }),
        "DELETE" => server.delete(&asked, &value),
        other => refusal(405, "MethodNotAllowed", other),
    }
}
