//! A Deployment that is adopted, and handed back, by real requests.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};
use serin::{adapters::cluster::Cluster, engine};

use crate::{
    apiserver::Server,
    world::{REVISIONS, ROLLOUTS, SETS, cluster, key},
};

const DEPLOYMENTS: &str = "apps/v1/deployments";

fn template() -> Value {
    json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": "web:1"}], "restartPolicy": "Always"},
    })
}

/// A Deployment of two pods that is complete, its ReplicaSet, and a Rollout of another name that refers to it.
fn given(server: &Server) {
    let status = json!({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2});
    let deployment = server.put(
        DEPLOYMENTS,
        json!({"metadata": {"name": "old", "namespace": "ns"}, "status": status,
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template()}}),
    );
    let mut pods = template();
    pods["metadata"]["labels"]["pod-template-hash"] = json!("5d9c");
    server.put(
        SETS,
        json!({
            "metadata": {"name": "old-5d9c", "namespace": "ns", "labels": pods["metadata"]["labels"],
                "ownerReferences": [owner(&deployment, true)]},
            "spec": {"replicas": 2, "template": pods},
            "status": {"observedGeneration": 1, "replicas": 2, "readyReplicas": 2, "availableReplicas": 2},
        }),
    );
    server.put(
        ROLLOUTS,
        json!({
            "apiVersion": "serin.dev/v1alpha1", "kind": "Rollout",
            "metadata": {"name": "web", "namespace": "ns"},
            "spec": {
                "workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "old"},
                "strategy": {"canary": {"steps": [{"setWeight": 50}, {"pause": {}}]}},
            },
        }),
    );
}

fn owner(deployment: &Value, controls: bool) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "old", "uid": deployment["metadata"]["uid"],
        "controller": controls, "blockOwnerDeletion": controls})
}

/// Rounds until nothing more is done; the controllers of Kubernetes see what is written meanwhile.
async fn settle(server: &Server, cluster: &Cluster) {
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        server.edit(DEPLOYMENTS, "old", |d| {
            d["status"]["observedGeneration"] = d["metadata"]["generation"].clone();
        });
        for name in server.names(SETS) {
            server.edit(SETS, &name, |s| {
                let (seen, pods) = (s["metadata"]["generation"].clone(), s["spec"]["replicas"].clone());
                s["status"] = json!({"observedGeneration": seen, "replicas": pods, "readyReplicas": pods,
                    "availableReplicas": pods});
            });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        let Ok(Some(mut observed)) = cluster.observe(&key()).await else {
            continue;
        };
        let now = Timestamp::UNIX_EPOCH;
        let mut plan = engine::plan(&observed, now);
        if plan.look_closer {
            let closer = cluster.observe_live(&key()).await.expect("it is read");
            observed = closer.expect("it is there");
            plan = engine::plan(&observed, now);
        }
        let mut committed = cluster.commit(&observed, &plan).await.expect("a commit");
        cluster.act(&mut committed).await.expect("it is done");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deployment_is_adopted_and_handed_back() {
    let server: Arc<Server> = Server::new();
    given(&server);
    let before = server.get(SETS, "old-5d9c").expect("it");
    let (cluster, _signals) = cluster(&server).await;
    settle(&server, &cluster).await;
    let rollout = server.get(ROLLOUTS, "web").expect("it");
    assert_eq!(
        rollout["status"]["phase"], "Healthy",
        "{}",
        rollout["status"]["message"]
    );
    assert_eq!(rollout["status"]["stableRevision"], "5d9c");
    assert_eq!(
        rollout["spec"]["template"],
        Value::Null,
        "what is filled in is not written"
    );
    let deployment = server.get(DEPLOYMENTS, "old").expect("it");
    assert_eq!(deployment["spec"]["paused"], true);
    assert_eq!(
        deployment["metadata"]["annotations"]["serin.dev/adopted-by"],
        "web"
    );
    let set = server.get(SETS, "old-5d9c").expect("it");
    let owners = &set["metadata"]["ownerReferences"];
    assert_eq!(owners[0]["uid"], rollout["metadata"]["uid"]);
    assert_eq!(owners[1], owner(&deployment, false));
    assert_eq!(
        set["spec"], before["spec"],
        "nothing of its pods is changed"
    );
    assert_eq!(server.names(SETS), ["old-5d9c"], "none is made");
    assert_eq!(server.names(REVISIONS), ["web-5d9c"]);

    // Its template is the Rollout's from now on, whatever else asks the dry run.
    server.edit(DEPLOYMENTS, "old", |d| {
        d["spec"]["template"]["spec"]["containers"][0]["image"] = json!("web:2");
    });
    settle(&server, &cluster).await;
    let rollout = server.get(ROLLOUTS, "web").expect("it");
    assert_eq!(rollout["status"]["attempt"]["stage"], "Stepping");
    let made = server.names(SETS);
    assert!(
        made.iter().all(|n| n.starts_with("old-")) && made.len() == 2,
        "{made:?}"
    );
    server.edit(DEPLOYMENTS, "old", |d| {
        d["spec"]["template"]["spec"]["containers"][0]["image"] = json!("web:1");
    });
    settle(&server, &cluster).await;

    server.edit(ROLLOUTS, "web", |r| {
        r["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    });
    settle(&server, &cluster).await;
    assert_eq!(server.get(ROLLOUTS, "web"), None, "it goes");
    let deployment = server.get(DEPLOYMENTS, "old").expect("it");
    assert_eq!(deployment["spec"]["paused"], Value::Null);
    assert_eq!(deployment["metadata"]["annotations"], json!({}));
    let set = server.get(SETS, "old-5d9c").expect("it");
    for field in ["ownerReferences", "labels"] {
        assert_eq!(set["metadata"][field], before["metadata"][field]);
    }
    assert_eq!(set["spec"], before["spec"]);
}
