//! Applying manifests.

use std::sync::Arc;

use kube::{
    Api, Client, Discovery,
    api::{DynamicObject, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind, TypeMeta},
    discovery::{ApiCapabilities, Scope},
};
use serde_json::Value;
use tokio::sync::Mutex;

use crate::error::{Context, Error, Result};

/// The documents of a YAML text, empty ones left out.
pub(crate) fn documents(text: &str) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for part in split(text) {
        let document: Value = serde_saphyr::from_str(&part)
            .map_err(|e| Error::Invalid(format!("not YAML: {e}\n{part}")))?;
        match document {
            Value::Null => {}
            Value::Object(mut map) if map.get("kind").is_some_and(|k| k == "List") => {
                if let Some(Value::Array(items)) = map.remove("items") {
                    all.extend(items);
                }
            }
            document => all.push(document),
        }
    }
    Ok(all)
}

/// Splits at the lines `---`.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for line in text.lines() {
        if line == "---" || line.starts_with("--- ") {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push_str(line);
            part.push('\n');
        }
    }
    parts.retain(|p| {
        p.lines()
            .any(|l| !l.trim().is_empty() && !l.trim().starts_with('#'))
    });
    parts
}

/// Applies manifests; knows the kinds of the API server, and asks again for one that is new.
#[derive(Clone)]
pub(crate) struct Applier {
    client: Client,
    known: Arc<Mutex<Option<Arc<Discovery>>>>,
}

impl Applier {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            known: Arc::default(),
        }
    }

    /// Applies every document (server-side, forced, as `lab`), in order; `default` is the namespace
    /// of those that name none.
    pub(crate) async fn apply(&self, text: &str, default: &str) -> Result<Vec<DynamicObject>> {
        let mut applied = Vec::new();
        for document in documents(text)? {
            applied.push(self.apply_one(document, default).await?);
        }
        Ok(applied)
    }

    async fn apply_one(&self, document: Value, default: &str) -> Result<DynamicObject> {
        let object: DynamicObject =
            serde_json::from_value(document).context(|| "reading a manifest")?;
        let Some(types) = object.types.clone() else {
            return Err(Error::Invalid(
                "a manifest without apiVersion and kind".into(),
            ));
        };
        let name = object.metadata.name.clone().unwrap_or_default();
        let (resource, capabilities) = self.resolve(&types).await?;
        let api = self.api(&object, default, &resource, &capabilities);
        let params = PatchParams::apply("lab").force();
        api.patch(&name, &params, &Patch::Apply(&object))
            .await
            .context(|| format!("applying {} {name}", types.kind))
    }

    fn api(
        &self,
        object: &DynamicObject,
        default: &str,
        resource: &ApiResource,
        capabilities: &ApiCapabilities,
    ) -> Api<DynamicObject> {
        let all = Api::dynamic(self.client.clone(), resource, &capabilities.scope);
        match capabilities.scope {
            Scope::Cluster => all,
            Scope::Namespaced => {
                all.constrain(object.metadata.namespace.as_deref().unwrap_or(default))
            }
        }
    }

    async fn resolve(&self, types: &TypeMeta) -> Result<(ApiResource, ApiCapabilities)> {
        let gvk = GroupVersionKind::try_from(types)
            .map_err(|e| Error::Invalid(format!("{}: {e}", types.api_version)))?;
        let mut known = self.known.lock().await;
        if let Some(found) = known.as_ref().and_then(|d| d.resolve_gvk(&gvk)) {
            return Ok(found);
        }
        let asked = Discovery::new(self.client.clone())
            .run_aggregated()
            .await
            .context(|| "asking for the kinds that there are")?;
        let found = asked.resolve_gvk(&gvk);
        *known = Some(Arc::new(asked));
        found.ok_or_else(|| {
            Error::Invalid(format!(
                "the API server knows no {} {}",
                types.api_version, types.kind
            ))
        })
    }
}

/// Creates an object; that it is there already is no fault.
pub(crate) async fn create<K>(api: &Api<K>, object: &K, what: &str) -> Result<()>
where
    K: Clone + serde::Serialize + serde::de::DeserializeOwned + std::fmt::Debug,
{
    match api.create(&PostParams::default(), object).await {
        Err(kube::Error::Api(s)) if s.code == 409 => Ok(()),
        other => other.map(drop).context(|| format!("creating {what}")),
    }
}

#[cfg(test)]
mod tests {
    use super::documents;

    #[test]
    fn documents_are_split_and_lists_opened() {
        let text =
            "# only a remark\n---\na: 1\n---\n\n--- # next\nkind: List\nitems: [{b: 2}, {c: 3}]\n";
        let all = documents(text).expect("valid");
        assert_eq!(
            serde_json::json!(all),
            serde_json::json!([{"a": 1}, {"b": 2}, {"c": 3}])
        );
    }
}
