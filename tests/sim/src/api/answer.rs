//! Requests as they come over the wire, and their answers.

use std::{collections::BTreeMap, sync::Arc};

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::{
    kinds::{self, Id, KINDS},
    store::{Path, Store},
    write::{Edit, Refusal, Terms},
};

/// What a request asks for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// HTTP method.
    pub method: String,
    /// Kind, namespace and name; an empty name stands for all.
    pub path: Path,
    /// Parameters.
    pub query: BTreeMap<String, String>,
    /// Of the status subresource.
    pub status: bool,
    /// A JSON patch, rather than a merge patch.
    pub json_patch: bool,
    /// The body.
    pub body: Value,
    /// The body holds characters as they are that the API server writes as escapes.
    pub bare: bool,
}

impl Asked {
    /// From a request; none where there is no such kind.
    pub fn parse(head: &http::request::Parts, body: &[u8]) -> Option<Self> {
        let parts: Vec<&str> = head
            .uri
            .path()
            .split('/')
            .filter(|p| !p.is_empty())
            .collect();
        let (group, rest) = match parts.as_slice() {
            ["api", "v1", rest @ ..] => ("", rest),
            ["apis", group, _, rest @ ..] => (*group, rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            ["namespaces", ns, rest @ ..] if !rest.is_empty() => (*ns, rest),
            _ => ("", rest),
        };
        let kind = kinds::find(group, rest.first()?)?;
        let pairs = head.uri.query().unwrap_or_default().split('&');
        let pair = |p: &str| {
            let (key, value) = p.split_once('=')?;
            let plain = value
                .replace("%2F", "/")
                .replace("%3D", "=")
                .replace("%2C", ",")
                .replace("%3A", ":");
            Some((key.to_owned(), plain))
        };
        let content = head
            .headers
            .get("content-type")
            .and_then(|v| v.to_str().ok());
        Some(Self {
            method: head.method.as_str().to_owned(),
            path: Path {
                kind,
                namespace: namespace.to_owned(),
                name: rest.get(1).copied().unwrap_or_default().to_owned(),
            },
            query: pairs.filter_map(pair).collect(),
            status: rest.get(2) == Some(&"status"),
            json_patch: content == Some("application/json-patch+json"),
            body: serde_json::from_slice(body).unwrap_or_default(),
            bare: std::str::from_utf8(body)
                .is_ok_and(|text| text.contains(['&', '<', '>', '\u{2028}', '\u{2029}'])),
        })
    }

    /// A parameter.
    pub fn param(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }
    /// Whether it is a watch.
    pub fn watches(&self) -> bool {
        matches!(self.param("watch"), "true" | "1")
    }
    /// Whether it may change something.
    pub fn writes(&self) -> bool {
        self.method != "GET" && self.param("dryRun").is_empty()
    }
    /// The terms of a write.
    pub fn terms(&self) -> Terms {
        Terms {
            status: self.status,
            dry: !self.param("dryRun").is_empty(),
            manager: self.param("fieldManager").to_owned(),
            bare: self.bare,
        }
    }
    /// What a PUT or PATCH asks for.
    pub fn edit(&self) -> Edit {
        match (self.method.as_str(), self.json_patch) {
            ("PUT", _) => Edit::Replace(self.body.clone()),
            (_, true) => Edit::Json(self.body.clone()),
            (_, false) => Edit::Merge(self.body.clone()),
        }
    }
    /// Whether an object is among those that are asked for.
    pub fn wants(&self, path: &Path, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        let fits = |term: &str| match term.split_once('=') {
            Some((key, value)) => labels[key] == value.trim_start_matches('='),
            None => labels.get(term).is_some(),
        };
        let name = self.param("fieldSelector").strip_prefix("metadata.name=");
        path.kind == self.path.kind
            && name.is_none_or(|n| n == path.name)
            && (self.path.namespace.is_empty() || path.namespace == self.path.namespace)
            && self
                .param("labelSelector")
                .split(',')
                .filter(|t| !t.is_empty())
                .all(fits)
    }
    /// In a few words, for the log.
    pub fn words(&self) -> String {
        let kind = KINDS[self.path.kind].of.plural;
        let status = if self.status { "/status" } else { "" };
        format!("{} {kind}/{}{status}", self.method, self.path.name)
    }
}

/// An answer with an object.
pub fn ok(value: &Value) -> Response<Body> {
    Response::new(Body::from(value.to_string()))
}

/// An answer with an object that was made.
pub fn made(value: &Value) -> Response<Body> {
    let mut response = ok(value);
    *response.status_mut() = StatusCode::CREATED;
    response
}

/// What is said of an object that was deleted and is gone.
pub fn gone(path: &Path, object: &Value) -> Value {
    let kind = KINDS[path.kind].of;
    let mut details =
        json!({"name": path.name, "kind": kind.plural, "uid": object["metadata"]["uid"]});
    if !kind.group.is_empty() {
        details["group"] = json!(kind.group);
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

/// An answer that says no.
pub fn refused(refusal: &Refusal) -> Response<Body> {
    let mut response = ok(&refusal.status());
    *response.status_mut() =
        StatusCode::from_u16(refusal.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if refusal.code == 429 {
        response
            .headers_mut()
            .insert("retry-after", http::HeaderValue::from_static("1"));
    }
    response
}

/// GET of one object, or a list of them.
pub fn read(store: &Store, asked: &Asked) -> Result<(Value, Vec<Arc<Value>>), Refusal> {
    if !asked.path.name.is_empty() {
        let found = store
            .get(&asked.path)
            .ok_or_else(|| Refusal::not_found(&asked.path))?;
        return Ok(((**found).clone(), vec![Arc::clone(found)]));
    }
    list(store.all(asked.path.kind), store.version(), asked)
}

/// An object in a list: the real one leaves out what all of a kind have, where the kind is its own.
fn listed(kind: Id, object: &Value) -> Value {
    let mut object = object.clone();
    if !KINDS[kind].custom()
        && let Some(fields) = object.as_object_mut()
    {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    object
}

/// A list; in pages where that is asked for: the token says the version and the last name.
fn list<'a>(
    all: impl Iterator<Item = (&'a Path, &'a Arc<Value>)>,
    version: u64,
    asked: &Asked,
) -> Result<(Value, Vec<Arc<Value>>), Refusal> {
    let limit = asked.param("limit").parse().unwrap_or(usize::MAX);
    let after = asked.param("continue").split_once('~');
    if after.is_some_and(|(v, _)| v.parse() != Ok(version)) {
        // Real ones serve the old snapshot for a while; that it expired is as true.
        return Err(Refusal::new(
            410,
            "Expired",
            "The provided continue parameter is too old",
        ));
    }
    let wanted = all.filter(|(p, o)| asked.wants(p, o));
    let mut rest = wanted
        .filter(|(p, _)| after.is_none_or(|(_, name)| p.name.as_str() > name))
        .peekable();
    let mut items = vec![];
    let mut token = String::new();
    while let Some((path, object)) = rest.next() {
        items.push(Arc::clone(object));
        if items.len() >= limit && rest.peek().is_some() {
            token = format!("{version}~{}", path.name);
            break;
        }
    }
    let kind: Id = asked.path.kind;
    let bodies: Vec<Value> = items.iter().map(|o| listed(kind, o)).collect();
    let body = json!({
        "kind": format!("{}List", KINDS[kind].of.kind), "apiVersion": KINDS[kind].of.api_version(),
        "metadata": {"resourceVersion": version.to_string(), "continue": token}, "items": bodies,
    });
    Ok((body, items))
}
