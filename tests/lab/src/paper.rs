//! Pods and routes on paper: what a kubelet and a gateway would say is said at once, and nothing
//! runs. For figures about the control plane alone, with more pods than a machine can hold.

use std::{net::Ipv4Addr, sync::Arc};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions},
    core::{ApiResource, GroupVersionKind},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};
use tokio::{sync::Semaphore, task::JoinHandle};

use crate::{
    error::Result,
    kubelet::{NODE, make_node},
};

/// How many requests are under way at once, for pods and for routes each.
const AT_ONCE: usize = 128;
/// The first address of a pod on paper.
const FIRST: u32 = u32::from_be_bytes([10, 100, 0, 1]);

/// Says that every pod is ready and every route accepted; it ends when it is dropped.
pub(crate) struct Paper(Vec<JoinHandle<()>>);

impl Drop for Paper {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

impl Paper {
    /// Makes the node and begins. The kinds of Gateway API must be there.
    pub(crate) async fn start(client: &Client) -> Result<Self> {
        make_node(client).await?;
        let route = GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "HTTPRoute");
        let routes = Api::<DynamicObject>::all_with(client.clone(), &ApiResource::from_gvk(&route));
        Ok(Self(vec![
            tokio::spawn(pods(client.clone())),
            tokio::spawn(accept(client.clone(), routes)),
        ]))
    }
}

async fn pods(client: Client) {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let events = watcher(Api::<Pod>::all(client.clone()), watcher::Config::default());
    let mut events = std::pin::pin!(events.default_backoff().applied_objects());
    let mut next = FIRST;
    while let Some(event) = events.next().await {
        let Ok(pod) = event else { continue };
        let bound = pod.spec.as_ref().is_some_and(|s| s.node_name.is_some());
        let goes = pod.metadata.deletion_timestamp.is_some();
        if bound && !goes {
            continue;
        }
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
        let address = next;
        next = next.wrapping_add(1);
        tokio::spawn(async move {
            if goes {
                end(&api, &pod).await;
            } else {
                begin(&api, &pod, address).await;
            }
            drop(permit);
        });
    }
}

/// Binds a pod to the node and says that it is ready. One that went meanwhile needs nothing.
async fn begin(api: &Api<Pod>, pod: &Pod, address: u32) {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name, "uid": pod.metadata.uid},
        "target": {"apiVersion": "v1", "kind": "Node", "name": NODE},
    });
    let bound: kube::Result<Value> = api
        .create_subresource("binding", name, &PostParams::default(), &binding)
        .await;
    if bound.is_ok() {
        let status = ready(pod.spec.as_ref().map(|s| &s.containers), address);
        let patch = Patch::Merge(json!({"status": status}));
        drop(
            api.patch_status(name, &PatchParams::default(), &patch)
                .await,
        );
    }
}

/// Nothing runs, so nothing has to end.
async fn end(api: &Api<Pod>, pod: &Pod) {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let params = DeleteParams::default()
        .grace_period(0)
        .preconditions(Preconditions {
            uid: pod.metadata.uid.clone(),
            resource_version: None,
        });
    drop(api.delete(name, &params).await);
}

/// The status of a pod that runs and is ready.
fn ready(containers: Option<&Vec<k8s_openapi::api::core::v1::Container>>, address: u32) -> Value {
    let now = jiff::Timestamp::now();
    let condition =
        |type_: &str| json!({"type": type_, "status": "True", "lastTransitionTime": now});
    let ip = Ipv4Addr::from(address).to_string();
    let runs = |c: &k8s_openapi::api::core::v1::Container| {
        json!({
            "name": c.name, "image": c.image, "imageID": "paper", "ready": true, "started": true,
            "restartCount": 0, "state": {"running": {"startedAt": now}},
        })
    };
    let conditions = ["PodScheduled", "Initialized", "ContainersReady", "Ready"].map(condition);
    json!({
        "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "startTime": now,
        "conditions": conditions,
        "containerStatuses": containers.into_iter().flatten().map(runs).collect::<Vec<_>>(),
    })
}

async fn accept(client: Client, routes: Api<DynamicObject>) {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let events = watcher(routes, watcher::Config::default());
    let mut events = std::pin::pin!(events.default_backoff().applied_objects());
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(
        "gateway.networking.k8s.io",
        "v1",
        "HTTPRoute",
    ));
    while let Some(event) = events.next().await {
        let Ok(route) = event else { continue };
        let Some(status) = accepted(&route) else {
            continue;
        };
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let name = route.metadata.name.unwrap_or_default();
        let namespace = route.metadata.namespace.unwrap_or_default();
        let api = Api::<DynamicObject>::namespaced_with(client.clone(), &namespace, &resource);
        tokio::spawn(async move {
            let patch = Patch::Merge(json!({"status": status}));
            drop(
                api.patch_status(&name, &PatchParams::default(), &patch)
                    .await,
            );
            drop(permit);
        });
    }
}

/// The status of a route that every parent has accepted; none where it says so already.
fn accepted(route: &DynamicObject) -> Option<Value> {
    let generation = route.metadata.generation?;
    let said = route
        .data
        .pointer("/status/parents/0/conditions/0/observedGeneration")
        .and_then(Value::as_i64);
    if said == Some(generation) {
        return None;
    }
    let now = jiff::Timestamp::now();
    let condition = |type_: &str| {
        json!({
            "type": type_, "status": "True", "reason": type_, "message": "on paper",
            "observedGeneration": generation, "lastTransitionTime": now,
        })
    };
    let conditions = ["Accepted", "ResolvedRefs"].map(condition);
    let parent = |parent: &Value| {
        json!({
            "parentRef": parent, "controllerName": "lab.serin.dev/paper",
            "conditions": conditions,
        })
    };
    let parents = route.data.pointer("/spec/parentRefs")?.as_array()?;
    Some(json!({"parents": parents.iter().map(parent).collect::<Vec<_>>()}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_accepted_once_for_each_generation() {
        let route = |seen: i64| -> DynamicObject {
            serde_json::from_value(json!({
                "metadata": {"name": "r", "generation": 2},
                "spec": {"parentRefs": [{"name": "g"}]},
                "status": {"parents": [{"conditions": [{"observedGeneration": seen}]}]},
            }))
            .expect("a route")
        };
        assert_eq!(accepted(&route(2)), None);
        let status = accepted(&route(1)).expect("a status");
        assert_eq!(status["parents"][0]["parentRef"]["name"], "g");
        assert_eq!(
            status["parents"][0]["conditions"][1]["observedGeneration"],
            2
        );
    }
}
