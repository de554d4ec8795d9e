//! Requests to the API server: a path, a time limit, a count, and an error by its kind.

use std::{sync::Arc, time::Duration};

use kube::{
    Client,
    api::{DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
    core::{Request, Status},
};
use serde_json::Value;
use thiserror::Error;

use crate::{
    api::names::MANAGER,
    model::object::{Kind, Target},
};

/// Told of every request: verb, kind, and the answer's code, 0 for none.
pub type Count = Arc<dyn Fn(&'static str, &'static str, u16) + Send + Sync>;

/// The longest that one request may take.
const LIMIT: Duration = Duration::from_secs(15);

/// Why a request did not do what it should.
#[derive(Debug, Error)]
pub enum RestError {
    /// What was read is no longer what stands there.
    #[error("{request}: it has changed since it was read")]
    Conflict {
        /// Verb, kind and name.
        request: String,
        /// The answer.
        source: Box<Status>,
    },
    /// There is no such object.
    #[error("{request}: not found")]
    NotFound {
        /// Verb, kind and name.
        request: String,
        /// The answer.
        source: Box<Status>,
    },
    /// There is such an object already.
    #[error("{request}: it exists already")]
    Exists {
        /// Verb, kind and name.
        request: String,
        /// The answer.
        source: Box<Status>,
    },
    /// The API server says no.
    #[error("{request}: refused with {}", source.code)]
    Refused {
        /// Verb, kind and name.
        request: String,
        /// The answer.
        source: Box<Status>,
    },
    /// The API server, or what it relies on, cannot answer now.
    #[error("{request}: failed with {}", source.code)]
    Failed {
        /// Verb, kind and name.
        request: String,
        /// The answer.
        source: Box<Status>,
    },
    /// The API server cannot be reached.
    #[error("{request}: no answer")]
    Unavailable {
        /// Verb, kind and name.
        request: String,
        /// What happened.
        source: Box<kube::Error>,
    },
    /// No answer in time.
    #[error("{request}: no answer within {} s", LIMIT.as_secs())]
    Timeout {
        /// Verb, kind and name.
        request: String,
    },
}

impl RestError {
    /// A word for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Conflict { .. } => "conflict",
            Self::NotFound { .. } => "notFound",
            Self::Exists { .. } => "exists",
            Self::Refused { .. } => "refused",
            Self::Failed { .. } => "failed",
            Self::Unavailable { .. } => "unavailable",
            Self::Timeout { .. } => "timeout",
        }
    }
    /// Whether somebody else was faster.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. })
    }

    /// Whether it may have been done all the same.
    pub fn outcome_is_unknown(&self) -> bool {
        matches!(
            self,
            Self::Failed { .. } | Self::Unavailable { .. } | Self::Timeout { .. }
        )
    }

    /// Whether it was refused since its namespace is being deleted: it never will be done.
    pub fn namespace_goes(&self) -> bool {
        let Self::Refused { source, .. } = self else {
            return false;
        };
        let mut causes = source.details.iter().flat_map(|d| &d.causes);
        source.code == 403 && causes.any(|c| c.reason == "NamespaceTerminating")
    }

    fn of(request: String, error: kube::Error) -> Self {
        let kube::Error::Api(source) = error else {
            let source = Box::new(error);
            return Self::Unavailable { request, source };
        };
        match source.code {
            409 if source.reason == "AlreadyExists" => Self::Exists { request, source },
            409 => Self::Conflict { request, source },
            422 if failed_test(&source) => Self::Conflict { request, source },
            404 => Self::NotFound { request, source },
            400..=499 if source.code != 429 => Self::Refused { request, source },
            _ => Self::Failed { request, source },
        }
    }
}

/// Whether a JSON patch did not apply. Every patch of ours is made for the object as it was read
/// and begins with a test of that, so one that does not apply met another object. The API server
/// says no more than this; where a value is wrong, it names the field.
fn failed_test(status: &Status) -> bool {
    status
        .message
        .starts_with("the server rejected our request due to an error in our request")
}

/// The way to the API server.
#[derive(Clone)]
pub struct Rest {
    client: Client,
    count: Count,
}

impl std::fmt::Debug for Rest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rest")
    }
}

type Built = Result<http::Request<Vec<u8>>, kube::core::request::Error>;

/// Where the objects of a kind are.
fn collection(kind: Kind, namespace: &str) -> Request {
    let root = if kind.group.is_empty() { "api" } else { "apis" };
    Request::new(format!(
        "/{root}/{}/namespaces/{namespace}/{}",
        kind.api_version(),
        kind.plural
    ))
}

impl Rest {
    /// Through `client`, counted by `count`.
    pub fn new(client: Client, count: Count) -> Self {
        Self { client, count }
    }
    /// The client.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    async fn send(
        &self,
        verb: &'static str,
        kind: Kind,
        name: &str,
        built: Built,
    ) -> Result<Value, RestError> {
        let request = || format!("{verb} {} {name}", kind.kind);
        let built = built.map_err(|e| RestError::of(request(), kube::Error::BuildRequest(e)))?;
        let answer = tokio::time::timeout(LIMIT, self.client.request::<Value>(built)).await;
        let (code, result) = match answer {
            Ok(Ok(value)) => (200, Ok(value)),
            Ok(Err(error)) => {
                let code = if let kube::Error::Api(status) = &error {
                    status.code
                } else {
                    0
                };
                (code, Err(RestError::of(request(), error)))
            }
            Err(_) => (0, Err(RestError::Timeout { request: request() })),
        };
        (self.count)(verb, kind.kind, code);
        result
    }

    /// Reads an object, live.
    pub async fn get(&self, kind: Kind, namespace: &str, name: &str) -> Result<Value, RestError> {
        let built = collection(kind, namespace).get(name, &GetParams::default());
        self.send("get", kind, name, built).await
    }

    /// Lists the objects that a label selector matches, live.
    pub async fn list(
        &self,
        kind: Kind,
        namespace: &str,
        selector: &str,
    ) -> Result<Vec<Value>, RestError> {
        let params = ListParams::default().labels(selector);
        self.items(kind, namespace, selector, &params).await
    }

    async fn items(
        &self,
        kind: Kind,
        namespace: &str,
        which: &str,
        params: &ListParams,
    ) -> Result<Vec<Value>, RestError> {
        let built = collection(kind, namespace).list(params);
        let mut answer = self.send("list", kind, which, built).await?;
        Ok(match answer.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => items,
            _ => vec![],
        })
    }

    /// Reads an object, live, with the right to list alone; none where it, or its kind, is not there.
    pub async fn find(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, RestError> {
        let params = ListParams::default().fields(&format!("metadata.name={name}"));
        match self.items(kind, namespace, name, &params).await {
            Ok(mut items) => Ok(items.pop()),
            Err(RestError::NotFound { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Creates an object.
    pub async fn create(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        value: &Value,
    ) -> Result<Value, RestError> {
        let params = PostParams {
            dry_run: false,
            field_manager: Some(MANAGER.to_owned()),
        };
        let built = collection(kind, namespace).create(&params, as_the_server_writes(value));
        self.send("create", kind, name, built).await
    }

    /// What the API server would make of an object, unknown fields refused.
    pub async fn create_dry(
        &self,
        kind: Kind,
        namespace: &str,
        value: &Value,
    ) -> Result<Value, RestError> {
        let path = collection(kind, namespace).url_path;
        let built = http::Request::post(format!(
            "{path}?dryRun=All&fieldValidation=Strict&fieldManager={MANAGER}"
        ))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(value.to_string().into_bytes())
        .map_err(kube::core::request::Error::BuildRequest);
        self.send("dryrun", kind, "", built).await
    }

    /// Changes an object as it was read, by JSON patch.
    pub async fn patch_json(
        &self,
        namespace: &str,
        target: &Target,
        operations: Vec<Value>,
    ) -> Result<Value, RestError> {
        let kind = target.object.kind;
        let test = |field: &str, value: &str| serde_json::json!({"op": "test", "path": format!("/metadata/{field}"), "value": value});
        let guards = [
            test("uid", &target.uid),
            test("resourceVersion", &target.resource_version),
        ];
        let all = Value::Array(guards.into_iter().chain(operations).collect());
        let built = serde_json::from_value::<json_patch::Patch>(all)
            .map_err(kube::core::request::Error::SerializeBody)
            .and_then(|patch| {
                collection(kind, namespace).patch(
                    &target.object.name,
                    &manager(),
                    &Patch::Json::<()>(patch),
                )
            });
        self.send("patch", kind, &target.object.name, built).await
    }

    /// Changes an object's status by merge patch; `body` carries the resourceVersion.
    pub async fn patch_status(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        body: &Value,
    ) -> Result<Value, RestError> {
        let built = collection(kind, namespace).patch_subresource(
            "status",
            name,
            &manager(),
            &Patch::Merge(body),
        );
        self.send("patch", kind, name, built).await
    }

    /// Deletes an object as it was read; what depends on it follows.
    pub async fn delete(&self, namespace: &str, target: &Target) -> Result<(), RestError> {
        let params = DeleteParams::background().preconditions(Preconditions {
            uid: Some(target.uid.clone()),
            resource_version: Some(target.resource_version.clone()),
        });
        let name = &target.object.name;
        let built = collection(target.object.kind, namespace).delete(name, &params);
        match self.send("delete", target.object.kind, name, built).await {
            Ok(_) | Err(RestError::NotFound { .. }) => Ok(()),
            Err(e) => Err(e),
        }
    }
}

fn manager() -> PatchParams {
    PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

/// An object as JSON, with the escapes that the API server's own encoder uses. It keeps the `data` of a
/// ControllerRevision as the bytes that were posted, writes them anew at the first patch, and refuses the patch
/// since these bytes "are immutable".
fn as_the_server_writes(value: &Value) -> Vec<u8> {
    // None of them stands outside a string.
    let mut text = value.to_string();
    for (found, escape) in [
        ('&', "\\u0026"),
        ('<', "\\u003c"),
        ('>', "\\u003e"),
        ('\u{2028}', "\\u2028"),
        ('\u{2029}', "\\u2029"),
    ] {
        if text.contains(found) {
            text = text.replace(found, escape);
        }
    }
    text.into_bytes()
}
