//! One of the two servers: what is asked becomes a request of its own, with the versions and uids that
//! it gave; and its answers lose what may differ.

use std::{collections::BTreeMap, time::Duration};

use http::{Method, Request};
use http_body_util::BodyExt;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind},
    runtime::wait::await_condition,
};
use serde_json::{Map, Value, json};
use tokio::time::{sleep_until, timeout};

use crate::{
    api::{
        kinds::{Id, KINDS, ROLLOUT, SET},
        store::{number, text},
    },
    nature::What,
    world::{Shared, lock},
};

use super::{
    Result,
    ask::{Ask, Change, Named, Verb},
    bodies::{self, FINALIZER},
};

/// Far beyond what anything takes.
pub const LIMIT: Duration = Duration::from_secs(60);
/// A uid that nothing has.
const NOBODY: &str = "00000000-0000-0000-0000-000000000000";
/// What owns some of the others; nothing happens to it.
const OWNER: &str = "owner";
/// Tells the first change of a Rollout from those that are drawn.
const FIRST: u64 = 1000;

/// An answer, without what may differ.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What was asked.
    pub to: String,
    /// Of which kind.
    pub kind: Id,
    /// The HTTP code.
    pub code: u16,
    /// The object, or what of a refusal counts.
    pub body: Value,
}

/// What is known of an object.
#[derive(Clone, Debug, Default)]
struct Known {
    versions: Vec<String>,
    uid: String,
    last: Value,
}

/// A server.
pub struct Side {
    pub(super) client: Client,
    namespace: String,
    /// The simulated world, where it is that.
    pub(super) world: Option<Shared>,
    known: BTreeMap<(Id, String), Known>,
    uids: Vec<String>,
    /// The highest version that was seen.
    pub(super) newest: u64,
    answers: Vec<Answer>,
}

/// A namespace on the real server.
pub async fn make_namespace(client: &Client, seed: u64) -> Result<String> {
    let body = json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"generateName": format!("against-{seed}-")}});
    let request = Request::post("/api/v1/namespaces").body(serde_json::to_vec(&body)?)?;
    let made: Value = client.request(request).await?;
    Ok(text(&made, "/metadata/name").to_owned())
}

impl Side {
    /// A server with a namespace.
    pub fn new(client: Client, namespace: String, world: Option<Shared>) -> Self {
        Self {
            client,
            namespace,
            world,
            known: BTreeMap::new(),
            uids: vec![],
            newest: 0,
            answers: vec![],
        }
    }

    /// Asks all of it; the answers.
    pub async fn whole(&mut self, asks: &[Ask]) -> Result<Vec<Answer>> {
        let create = Verb::Create {
            owned: false,
            held: false,
            dry: false,
        };
        let owner = Ask::plain(ROLLOUT, OWNER, create);
        self.ask(&owner).await?;
        let start = self.newest;
        for ask in asks {
            self.ask(ask).await.map_err(|e| format!("{ask}: {e}"))?;
        }
        for kind in Ask::kinds(asks) {
            let watched = self.watch(kind, start).await;
            watched.map_err(|e| format!("watch of {}: {e}", KINDS[kind].of.kind))?;
        }
        let custom = Ask::kinds(asks).into_iter().filter(|k| KINDS[*k].custom());
        for kind in custom {
            self.watch_from_long_ago(kind).await?;
        }
        Ok(std::mem::take(&mut self.answers))
    }

    /// What there is gets no new answers any more.
    pub async fn leave(&self) {
        for (kind, name) in self.known.keys() {
            let path = format!("{}/{name}", self.collection(*kind));
            let body = json!({"metadata": {"finalizers": null}});
            let type_ = "application/merge-patch+json";
            // What is gone already answers that it is.
            let _: Result<_> = self.send(Method::PATCH, &path, type_, Some(&body)).await;
        }
        let path = format!("/api/v1/namespaces/{}", self.namespace);
        if let Err(error) = self.send(Method::DELETE, &path, "", None).await {
            eprintln!("serin-sim: {error}");
        }
    }

    pub(super) fn collection(&self, kind: Id) -> String {
        let of = KINDS[kind].of;
        let root = if of.group.is_empty() { "api" } else { "apis" };
        let (version, namespace) = (of.api_version(), &self.namespace);
        format!("/{root}/{version}/namespaces/{namespace}/{}", of.plural)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Value)> {
        let mut request = Request::builder().method(method).uri(path);
        if body.is_some() {
            request = request.header("content-type", content);
        }
        let body = body
            .map(serde_json::to_vec)
            .transpose()?
            .unwrap_or_default();
        let sent = self.client.send(request.body(body.into())?);
        let answer = timeout(LIMIT, sent).await??;
        let code = answer.status().as_u16();
        let body = timeout(LIMIT, answer.into_body().collect())
            .await??
            .to_bytes();
        Ok((code, serde_json::from_slice(&body)?))
    }

    /// Asks, and keeps the answers.
    pub(super) async fn ask(&mut self, ask: &Ask) -> Result {
        let base = self.collection(ask.kind);
        let sub = if ask.status { "/status" } else { "" };
        let path = format!("{base}/{}{sub}", ask.name);
        let json_type = "application/json";
        let (code, answer) = match ask.verb {
            Verb::List { .. } => return self.list(ask, &base).await,
            Verb::Get => self.send(Method::GET, &path, "", None).await?,
            Verb::Create { owned, held, dry } => {
                let body = self.made(ask, owned, held, dry);
                let query = if dry {
                    "?dryRun=All&fieldValidation=Strict&fieldManager=serin"
                } else {
                    "?fieldManager=serin"
                };
                let path = format!("{base}{query}");
                self.send(Method::POST, &path, json_type, Some(&body))
                    .await?
            }
            Verb::Json(change) => {
                let body = self.json_patch(ask, change);
                let type_ = "application/json-patch+json";
                self.send(Method::PATCH, &path, type_, Some(&body)).await?
            }
            Verb::Merge(change) => {
                let body = self.merge_patch(ask, change);
                let type_ = "application/merge-patch+json";
                self.send(Method::PATCH, &path, type_, Some(&body)).await?
            }
            Verb::Put(change) => {
                let body = self.replaced(ask, change);
                self.send(Method::PUT, &path, json_type, Some(&body))
                    .await?
            }
            Verb::Delete => {
                let mut preconditions = Map::new();
                self.name_terms(ask, &mut preconditions);
                let body = json!({"apiVersion": "v1", "kind": "DeleteOptions",
                    "propagationPolicy": "Background", "preconditions": preconditions});
                self.send(Method::DELETE, &path, json_type, Some(&body))
                    .await?
            }
        };
        let dry = matches!(ask.verb, Verb::Create { dry: true, .. });
        self.keep(ask, code, &answer, dry);
        if ask.kind == ROLLOUT && code == 201 && !dry {
            // The real one counts the status that it fills in as the creator's, and no longer does at
            // the next write: the first one gets a new version even where it changes nothing.
            let first = Verb::Merge(Change::Note(FIRST));
            Box::pin(self.ask(&Ask::plain(ROLLOUT, ask.name, first))).await?;
        }
        let writes = !dry && ask.verb != Verb::Get;
        if ask.kind == SET && writes && code < 300 {
            self.settle(ask.name).await?;
            Box::pin(self.ask(&Ask::plain(SET, ask.name, Verb::Get))).await?;
        }
        Ok(())
    }

    fn keep(&mut self, ask: &Ask, code: u16, answer: &Value, dry: bool) {
        let mut answer = answer.clone();
        if dry && code < 300 {
            // Both give one that nothing has.
            answer["metadata"]["uid"] = json!(answer["metadata"]["uid"].is_string());
        }
        let answer = &answer;
        let body = self.normal(ask.kind, answer);
        if code < 300 && answer["kind"] == KINDS[ask.kind].of.kind && !dry {
            self.learn(ask.kind, answer);
        }
        self.answer(ask.kind, ask.to_string(), code, body);
    }

    pub(super) fn answer(&mut self, kind: Id, to: String, code: u16, body: Value) {
        self.answers.push(Answer {
            to,
            kind,
            code,
            body,
        });
    }

    fn learn(&mut self, kind: Id, object: &Value) {
        let name = text(object, "/metadata/name").to_owned();
        let version = text(object, "/metadata/resourceVersion").to_owned();
        let known = self.known.entry((kind, name)).or_default();
        if known.versions.last() != Some(&version) {
            known.versions.push(version);
        }
        known.uid = text(object, "/metadata/uid").to_owned();
        known.last = object.clone();
    }

    /// The ReplicaSet controller has seen what was written.
    async fn settle(&self, name: &str) -> Result {
        let Some(world) = &self.world else {
            let resource =
                ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", "ReplicaSet"));
            let api: Api<DynamicObject> =
                Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
            let seen = |set: Option<&DynamicObject>| {
                set.is_none_or(|s| {
                    s.metadata.generation
                        == s.data
                            .pointer("/status/observedGeneration")
                            .and_then(Value::as_i64)
                })
            };
            timeout(LIMIT, await_condition(api, name, seen)).await??;
            return Ok(());
        };
        loop {
            let next = {
                let mut world = lock(world);
                let now = world.now();
                match world.nature.take(now) {
                    // There are no other controllers in the real one.
                    Some(what @ What::Sync(_)) => {
                        world.happen(&what);
                        continue;
                    }
                    Some(_) => continue,
                    None => world.nature.next().map(|at| world.instant(at)),
                }
            };
            match next {
                Some(at) => sleep_until(at).await,
                None => return Ok(()),
            }
        }
    }

    async fn list(&mut self, ask: &Ask, base: &str) -> Result {
        let Verb::List {
            limit,
            named,
            labelled,
        } = ask.verb
        else {
            return Ok(());
        };
        let mut query = vec![];
        if limit > 0 {
            query.push(format!("limit={limit}"));
        }
        if named {
            query.push(format!("fieldSelector=metadata.name%3D{}", ask.name));
        }
        if labelled {
            query.push("labelSelector=of%3D0".to_owned());
        }
        let mut token = String::new();
        loop {
            let mut query = query.clone();
            if !token.is_empty() {
                query.push(format!("continue={token}"));
            }
            let path = format!("{base}?{}", query.join("&"));
            let (code, answer) = self.send(Method::GET, &path, "", None).await?;
            text(&answer, "/metadata/continue").clone_into(&mut token);
            let body = self.normal_list(ask.kind, &answer);
            self.answer(ask.kind, ask.to_string(), code, body);
            if token.is_empty() {
                return Ok(());
            }
        }
    }

    fn normal_list(&mut self, kind: Id, answer: &Value) -> Value {
        let mut body = answer.clone();
        let version = number_of(&body["metadata"]["resourceVersion"]);
        body["metadata"]["resourceVersion"] = json!(if version >= self.newest {
            "newest"
        } else {
            "old"
        });
        // An empty token is none.
        let more = !text(&body, "/metadata/continue").is_empty();
        body["metadata"]["continue"] = json!(more);
        let items = answer["items"].as_array().into_iter().flatten();
        body["items"] = items.map(|item| self.normal(kind, item)).collect();
        body
    }

    /// The version and the uid that a request names, as fields.
    fn name_terms(&self, ask: &Ask, into: &mut Map<String, Value>) {
        let known = self.known.get(&(ask.kind, ask.name.to_owned()));
        let owner = self.known.get(&(ROLLOUT, OWNER.to_owned()));
        let versions = known.map(|k| k.versions.as_slice()).unwrap_or_default();
        let old = owner.and_then(|o| o.versions.first());
        let version = match ask.version {
            Named::Not => None,
            Named::Right => versions.last().or(old),
            Named::Wrong => versions.iter().rev().nth(1).or(old),
        };
        let uid = match ask.uid {
            Named::Not => None,
            Named::Right => known.map(|k| k.uid.as_str()).or(Some(NOBODY)),
            Named::Wrong => Some(NOBODY),
        };
        for (field, value) in [
            ("resourceVersion", version.map(String::as_str)),
            ("uid", uid),
        ] {
            into.remove(field);
            if let Some(value) = value {
                into.insert(field.to_owned(), json!(value));
            }
        }
    }

    fn made(&self, ask: &Ask, owned: bool, held: bool, dry: bool) -> Value {
        let mut body = bodies::body(ask.kind, ask.name, &self.namespace);
        let owner = self.known.get(&(ROLLOUT, OWNER.to_owned()));
        if let Some(owner) = owner.filter(|_| owned) {
            body["metadata"]["ownerReferences"] = json!([{"apiVersion": "serin.dev/v1alpha1", "kind": "Rollout",
                "name": OWNER, "uid": owner.uid, "controller": true, "blockOwnerDeletion": true}]);
        }
        if held {
            body["metadata"]["finalizers"] = json!([FINALIZER]);
        }
        // Whoever creates may not tell a status.
        if KINDS[ask.kind].status {
            for (pointer, value) in bodies::sets(ask.kind, Change::Status(7)) {
                *place(&mut body, pointer) = value.unwrap_or_default();
            }
        }
        if dry && ask.kind == SET {
            body["metadata"]["generateName"] = json!("made-");
            if let Some(meta) = body["metadata"].as_object_mut() {
                meta.remove("name");
            }
        }
        body
    }

    fn json_patch(&self, ask: &Ask, change: Change) -> Value {
        let mut terms = Map::new();
        self.name_terms(ask, &mut terms);
        let tests = terms.iter().map(|(field, value)| json!({"op": "test", "path": format!("/metadata/{field}"), "value": value}));
        let mut all: Vec<Value> = tests.collect();
        for (pointer, value) in bodies::sets(ask.kind, change) {
            match value {
                Some(value) => all.push(json!({"op": "add", "path": pointer, "value": value})),
                None => {
                    let path = format!("{pointer}/0");
                    all.push(json!({"op": "test", "path": path, "value": FINALIZER}));
                    all.push(json!({"op": "remove", "path": path}));
                }
            }
        }
        Value::Array(all)
    }

    fn merge_patch(&self, ask: &Ask, change: Change) -> Value {
        let mut terms = Map::new();
        self.name_terms(ask, &mut terms);
        let mut body = json!({"metadata": terms});
        for (pointer, value) in bodies::sets(ask.kind, change) {
            *place(&mut body, pointer) = value.unwrap_or_default();
        }
        body
    }

    fn replaced(&self, ask: &Ask, change: Change) -> Value {
        let known = self.known.get(&(ask.kind, ask.name.to_owned()));
        let fresh = || bodies::body(ask.kind, ask.name, &self.namespace);
        let mut body = known.map_or_else(fresh, |k| k.last.clone());
        if let Some(meta) = body["metadata"].as_object_mut() {
            self.name_terms(ask, meta);
        }
        for (pointer, value) in bodies::sets(ask.kind, change) {
            *place(&mut body, pointer) = value.unwrap_or_default();
        }
        body
    }

    /// An object, or a status, without what may differ.
    pub(super) fn normal(&mut self, kind: Id, value: &Value) -> Value {
        if value["kind"] == "Status" {
            return self.normal_status(value);
        }
        let mut value = value.clone();
        let name = text(&value, "/metadata/name").to_owned();
        let version = text(&value, "/metadata/resourceVersion").to_owned();
        if !version.is_empty() {
            let known = self.known.get(&(kind, name.clone()));
            let before = known.and_then(|k| k.versions.last()) == Some(&version);
            let word = match number_of(&json!(version)) {
                _ if before => "as before",
                n if n > self.newest => "newer",
                _ => "older",
            };
            self.newest = self.newest.max(number_of(&json!(version)));
            value["metadata"]["resourceVersion"] = json!(word);
        }
        let prefix = text(&value, "/metadata/generateName");
        if !prefix.is_empty() && name.len() > prefix.len() && name.starts_with(prefix) {
            value["metadata"]["name"] = json!("made up");
        }
        self.plain("", &mut value);
        value
    }

    fn normal_status(&mut self, status: &Value) -> Value {
        if status["status"] == "Success" {
            let mut status = status.clone();
            self.plain("", &mut status);
            return status;
        }
        let unfit = text(status, "/message")
            .starts_with("the server rejected our request due to an error in our request");
        json!({"kind": "Status", "status": status["status"], "code": number(status, "/code"),
            "reason": status["reason"], "a patch that does not apply": unfit})
    }

    /// Uids by number, times and namespaces by name.
    fn plain(&mut self, field: &str, value: &mut Value) {
        match value {
            Value::Object(map) => {
                for (field, value) in map {
                    self.plain(field, value);
                }
            }
            Value::Array(all) => all.iter_mut().for_each(|v| self.plain(field, v)),
            Value::String(said) => {
                if matches!(field, "creationTimestamp" | "deletionTimestamp" | "time") {
                    "a time".clone_into(said);
                } else if field == "uid" {
                    let at = self.uids.iter().position(|u| u == said);
                    let at = at.unwrap_or_else(|| {
                        self.uids.push(said.clone());
                        self.uids.len() - 1
                    });
                    *said = format!("uid {at}");
                } else if *said == self.namespace {
                    "ns".clone_into(said);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// A version as a number.
pub fn number_of(version: &Value) -> u64 {
    version.as_str().and_then(|v| v.parse().ok()).unwrap_or(0)
}

/// A place in an object; what is on the way there is made.
fn place<'a>(body: &'a mut Value, pointer: &str) -> &'a mut Value {
    let fields = pointer.split('/').skip(1);
    fields.fold(body, |at, field| &mut at[field])
}
