//! Observe, commit, act, tell: what each asks of the API server, and what it makes of its answers.

use std::time::Duration;

use serde_json::{Value, json};
use serin::{
    adapters::cluster::{act::ActError, observe::ObserveError, tell::Told},
    api::{
        names::{FINALIZER, POD_TEMPLATE_HASH},
        status::{Decision, HistoryEntry},
    },
    model::{
        object::{CONTROLLER_REVISION, ObjectRef, REPLICA_SET, ROLLOUT, SERVICE, Target},
        observed::{Current, Observed},
        plan::{Action, Plan, Requeue},
    },
};

use crate::{
    apiserver::{Fault, Server},
    world::{EVENTS, REVISIONS, ROLLOUTS, SETS, cluster, key, rollout},
};

/// Longer than an entry of the history waits for others.
const HELD: Duration = Duration::from_secs(5);

fn plan(observed: &Observed, message: &str, actions: Vec<Action>) -> Plan {
    let mut status = observed.rollout.status.clone().unwrap_or_default();
    status.message = Some(message.to_owned());
    status.decision = Some(Decision {
        sequence: 1,
        ..Decision::default()
    });
    let requeue = Requeue::OnChange(Duration::from_secs(300));
    Plan {
        status,
        actions,
        hazardous: 0..0,
        requeue,
        look_closer: false,
    }
}

fn owned(name: &str, uid: &str, more: &Value) -> Value {
    let mut object = json!({
        "metadata": {
            "name": name, "namespace": "ns",
            "labels": {"serin.dev/rollout": "web"},
            "ownerReferences": [{"apiVersion": "serin.dev/v1alpha1", "kind": "Rollout", "name": "web", "uid": uid, "controller": true}],
        },
    });
    json_patch::merge(&mut object, more);
    object
}

#[tokio::test(start_paused = true)]
async fn a_stale_view_dies_at_the_commit() {
    let server = Server::new();
    server.put(ROLLOUTS, rollout("web:1"));
    let (cluster, _signals) = cluster(&server).await;
    let observed = cluster
        .observe(&key())
        .await
        .expect("observes")
        .expect("is there");
    server.edit(ROLLOUTS, "web", |r| r["spec"]["replicas"] = json!(3));

    let error = cluster
        .commit(&observed, &plan(&observed, "a", vec![]))
        .await
        .expect_err("is stale");
    assert!(error.is_conflict(), "{error:?}");
    // Also where the status does not change but something would follow.
    let mut fenced = plan(&observed, "a", vec![Action::Claim]);
    fenced.status = observed.rollout.status.clone().unwrap_or_default();
    assert!(
        cluster
            .commit(&observed, &fenced)
            .await
            .expect_err("is stale")
            .is_conflict()
    );
    assert!(server.get(ROLLOUTS, "web").expect("is there")["status"].is_null());
}

#[tokio::test(start_paused = true)]
async fn nothing_new_is_not_written_and_unknown_fields_survive() {
    let server = Server::new();
    let mut written = rollout("web:1");
    written["status"] = json!({"message": "a", "phase": "Healthy", "future": {"x": 1}});
    server.put(ROLLOUTS, written);
    let (cluster, _signals) = cluster(&server).await;
    let observed = cluster
        .observe(&key())
        .await
        .expect("observes")
        .expect("is there");

    let mut same = plan(&observed, "a", vec![]);
    same.status.decision = None;
    cluster
        .commit(&observed, &same)
        .await
        .expect("nothing to do");
    assert!(server.writes().is_empty());

    let mut changed = plan(&observed, "b", vec![]);
    changed.status.phase = None;
    cluster
        .commit(&observed, &changed)
        .await
        .expect("is written");
    let status = server.get(ROLLOUTS, "web").expect("is there")["status"].clone();
    assert_eq!(status["future"], json!({"x": 1}));
    assert_eq!(
        (&status["message"], &status["phase"]),
        (&json!("b"), &Value::Null)
    );
}

#[tokio::test(start_paused = true)]
async fn the_cache_counts_once_it_shows_our_write() {
    let server = Server::new();
    server.put(ROLLOUTS, rollout("web:1"));
    let (cluster, _signals) = cluster(&server).await;
    let observed = cluster
        .observe(&key())
        .await
        .expect("observes")
        .expect("is there");
    cluster
        .commit(&observed, &plan(&observed, "a", vec![]))
        .await
        .expect("is written");
    // The watch has had no chance to run.
    let early = cluster.observe(&key()).await;
    assert!(matches!(early, Err(ObserveError::Stale(_))), "{early:?}");
    tokio::time::sleep(Duration::from_millis(1)).await;
    let later = cluster
        .observe(&key())
        .await
        .expect("observes")
        .expect("is there");
    assert_eq!(
        later.rollout.status.and_then(|s| s.message).as_deref(),
        Some("a")
    );
}

/// Nobody looks it up any more, so it is never seen.
#[tokio::test(start_paused = true)]
async fn a_service_that_was_made_and_is_no_longer_named_holds_nothing_up() {
    let server = Server::new();
    server.put(ROLLOUTS, rollout("web:1"));
    let (cluster, _signals) = cluster(&server).await;
    let observed = cluster.observe(&key()).await.expect("observes");
    let observed = observed.expect("is there");
    let create = Action::Create {
        object: ObjectRef::new(SERVICE, "web-canary"),
        value: owned("web-canary", "any", &json!({"spec": {}})),
    };
    let plan = plan(&observed, "a", vec![create]);
    let mut committed = cluster.commit(&observed, &plan).await.expect("is written");
    cluster.act(&mut committed).await.expect("is done");
    tokio::time::sleep(Duration::from_millis(1)).await;
    let later = cluster.observe(&key()).await;
    assert!(later.is_ok(), "{:?}", later.err());
}

#[tokio::test(start_paused = true)]
async fn actions_are_guarded_and_harmless_to_repeat() {
    let server = Server::new();
    let uid = server.put(ROLLOUTS, rollout("web:1"))["metadata"]["uid"]
        .as_str()
        .expect("a uid")
        .to_owned();
    let (cluster, _signals) = cluster(&server).await;
    let observed = cluster
        .observe(&key())
        .await
        .expect("observes")
        .expect("is there");
    let create = |value: Value| Action::Create {
        object: ObjectRef::new(REPLICA_SET, "web-abc"),
        value,
    };
    let ours = owned(
        "web-abc",
        &uid,
        &json!({"spec": {"replicas": 0}, "metadata": {"labels": {POD_TEMPLATE_HASH: "abc"}}}),
    );

    // Twice, and the finalizer, all under one commit.
    let actions = vec![
        create(ours.clone()),
        create(ours),
        Action::Claim,
        Action::Claim,
    ];
    let mut committed = cluster
        .commit(&observed, &plan(&observed, "a", actions))
        .await
        .expect("is written");
    cluster.act(&mut committed).await.expect("is done");
    assert_eq!(server.names(SETS), ["web-abc"]);
    assert_eq!(
        committed.rollout().metadata.finalizers.as_deref(),
        Some(&[FINALIZER.to_owned()][..])
    );
    assert_eq!(
        server.get(SETS, "web-abc").expect("is there")["kind"],
        "ReplicaSet"
    );

    tokio::time::sleep(Duration::from_millis(1)).await;
    let observed = cluster
        .observe(&key())
        .await
        .expect("observes")
        .expect("is there");
    let set = Target::of(REPLICA_SET, &server.get(SETS, "web-abc").expect("is there"));
    let scale = |target: &Target, replicas| Action::Scale {
        target: target.clone(),
        replicas,
        decision: 7,
        has_annotations: false,
    };
    let mut committed = cluster
        .commit(
            &observed,
            &plan(&observed, "b", vec![scale(&set, 3), Action::Release]),
        )
        .await
        .expect("is written");
    cluster.act(&mut committed).await.expect("is done");
    let scaled = server.get(SETS, "web-abc").expect("is there");
    assert_eq!(
        (
            &scaled["spec"]["replicas"],
            &scaled["metadata"]["annotations"]["serin.dev/decision"]
        ),
        (&json!(3), &json!("7"))
    );
    assert_eq!(
        committed
            .rollout()
            .metadata
            .finalizers
            .as_deref()
            .unwrap_or_default(),
        &[] as &[String]
    );

    // The same target again: what was read is no longer what stands there.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let observed = cluster
        .observe(&key())
        .await
        .expect("observes")
        .expect("is there");
    for late in [
        scale(&set, 0),
        Action::Delete {
            target: set.clone(),
        },
    ] {
        let mut committed = cluster
            .commit(&observed, &plan(&observed, "b", vec![late]))
            .await
            .expect("is a fence");
        let error = cluster.act(&mut committed).await.expect_err("is late");
        assert!(error.is_conflict(), "{error:?}");
    }
    let gone = Target {
        object: ObjectRef::new(CONTROLLER_REVISION, "none"),
        ..set
    };
    let delete = vec![Action::Delete { target: gone }];
    let mut committed = cluster
        .commit(&observed, &plan(&observed, "b", delete))
        .await
        .expect("is a fence");
    cluster.act(&mut committed).await.expect("gone is gone");
}

#[tokio::test(start_paused = true)]
async fn an_object_of_somebody_else_is_named() {
    let server = Server::new();
    server.put(ROLLOUTS, rollout("web:1"));
    server.put(SETS, owned("web-abc", "another", &json!({})));
    let (cluster, _signals) = cluster(&server).await;
    let observed = cluster
        .observe(&key())
        .await
        .expect("observes")
        .expect("is there");
    assert!(observed.revisions.is_empty());
    let create = Action::Create {
        object: ObjectRef::new(REPLICA_SET, "web-abc"),
        value: json!({"metadata": {"name": "web-abc"}}),
    };
    let also = |name: &str| Action::Create {
        object: ObjectRef::new(REPLICA_SET, name),
        value: owned(name, "us", &json!({})),
    };
    let all = vec![
        create,
        also("web-hazard"),
        also("web-fence"),
        Action::Release,
    ];
    let mut plan = plan(&observed, "a", all);
    plan.hazardous = 1..2;
    let mut committed = cluster.commit(&observed, &plan).await.expect("is written");
    let error = cluster.act(&mut committed).await.expect_err("is refused");
    assert!(
        matches!(&error, ActError::Foreign { name, .. } if name == "web-abc"),
        "{error:?}"
    );
    // What is harmless is done all the same.
    assert_eq!(server.names(SETS), ["web-abc", "web-fence"]);

    for _ in 0..2 {
        let told = cluster.tell_refused(committed.rollout(), &error).await;
        told.expect("is told");
    }
    let [event] = &server.names(EVENTS)[..] else {
        panic!("{:?}", server.names(EVENTS))
    };
    let event = server.get(EVENTS, event).expect("is there");
    assert_eq!(event["reason"], "NotCarriedOut");
    let note = event["note"].to_string();
    assert!(note.contains("ReplicaSet web-abc exists"), "{note}");
}

#[tokio::test(start_paused = true)]
async fn a_patch_of_the_rollout_rests_on_the_commit() {
    let server = Server::new();
    let mut written = rollout("web:1");
    written["metadata"]["annotations"] = json!({"serin.dev/abort": "yes"});
    let stands = server.put(ROLLOUTS, written);
    let (cluster, _signals) = cluster(&server).await;
    let observed = cluster
        .observe(&key())
        .await
        .expect("observes")
        .expect("is there");
    let operations =
        vec![json!({"op": "remove", "path": "/metadata/annotations/serin.dev~1abort"})];
    let tidy = Action::Patch {
        target: Target::of(ROLLOUT, &stands),
        operations,
    };
    let mut committed = cluster
        .commit(&observed, &plan(&observed, "a", vec![tidy]))
        .await
        .expect("is written");
    cluster
        .act(&mut committed)
        .await
        .expect("the commit changed its version, nobody else");
    let annotations = &server.get(ROLLOUTS, "web").expect("is there")["metadata"]["annotations"];
    assert_eq!(*annotations, json!({}));
}

#[tokio::test(start_paused = true)]
async fn what_was_decided_is_told_once() {
    let server = Server::new();
    server.put(ROLLOUTS, rollout("web:1"));
    let (cluster, _signals) = cluster(&server).await;
    let observed = cluster
        .observe(&key())
        .await
        .expect("observes")
        .expect("is there");
    let entry = |number: i64, reason: &str| HistoryEntry {
        number,
        at: serde_json::from_value(json!("2026-11-24T10:00:00Z")).expect("a time"),
        type_: "Normal".into(),
        reason: reason.into(),
        message: "because".into(),
    };
    let mut plan = plan(&observed, "a", vec![]);
    plan.status.history = vec![
        entry(1, "Deployed"),
        entry(2, "Promoted"),
        entry(3, "WeightChanged"),
    ];
    let committed = cluster.commit(&observed, &plan).await.expect("is written");

    // A while for company first.
    let held = cluster.tell(committed.rollout()).await.expect("is held");
    assert!(held.entries.is_empty() && held.more.is_some());
    tokio::time::sleep(held.more.unwrap_or_default()).await;

    // The first cannot be told, so nothing is.
    server.fail(Fault {
        method: "POST",
        plural: "events",
        code: 500,
        times: 1,
    });
    assert!(cluster.tell(committed.rollout()).await.is_err());
    let told = cluster.tell(committed.rollout()).await.expect("is told");
    let numbers = |told: &Told| told.entries.iter().map(|h| h.number).collect::<Vec<_>>();
    assert_eq!(numbers(&told), [1, 2, 3]);
    assert_eq!(
        server.names(EVENTS).len(),
        2,
        "the weight is told with the promotion"
    );
    let again = cluster
        .tell(committed.rollout())
        .await
        .expect("nothing to tell");
    assert!(again.entries.is_empty() && again.more.is_none());

    // It is recorded with the next commit.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let observed = cluster
        .observe(&key())
        .await
        .expect("observes")
        .expect("is there");
    let mut next = plan.clone();
    next.status.message = Some("b".into());
    next.status.phase = Some("Healthy".into());
    cluster.commit(&observed, &next).await.expect("is written");
    let stands = server.get(ROLLOUTS, "web").expect("is there");
    assert_eq!(stands["status"]["decision"]["told"], 3);
    assert_eq!(stands["status"]["decision"]["sequence"], 1);

    // A process that died before it recorded that: told again under the same names, no second Event.
    let (other, _signals) = crate::world::cluster(&server).await;
    let (first, later) = (other.tell(committed.rollout()).await, HELD);
    assert!(first.expect("is held").entries.is_empty());
    tokio::time::sleep(later).await;
    let told = other.tell(committed.rollout()).await.expect("is told");
    assert_eq!(numbers(&told), [1, 2, 3]);
    assert_eq!(server.names(EVENTS).len(), 2);

    // A warning does not wait.
    let mut warned = committed.rollout().clone();
    let status = warned.status.as_mut().expect("a status");
    status.history.push(HistoryEntry {
        type_: "Warning".into(),
        ..entry(4, "Aborted")
    });
    let told = other.tell(&warned).await.expect("is told");
    assert_eq!(numbers(&told), [4]);
}

#[tokio::test(start_paused = true)]
async fn a_template_is_new_only_if_the_api_server_makes_something_else_of_it() {
    let server = Server::new();
    let uid = server.put(ROLLOUTS, rollout("web:1"))["metadata"]["uid"]
        .as_str()
        .expect("a uid")
        .to_owned();
    let (cluster, _signals) = cluster(&server).await;
    let current = async || {
        tokio::time::sleep(Duration::from_millis(1)).await;
        cluster
            .observe(&key())
            .await
            .expect("observes")
            .expect("is there")
            .current
    };
    let Current::New(first) = current().await else {
        panic!("nothing is recorded yet")
    };
    let template = rollout("web:1")["spec"]["template"].clone();
    let revision = json!({"data": {"template": template, "inputs": {}}, "revision": 1});
    server.put(REVISIONS, owned(&format!("web-{first}"), &uid, &revision));
    assert_eq!(current().await, Current::Recorded(first.clone()));

    // A default that is written out.
    server.edit(ROLLOUTS, "web", |r| {
        r["spec"]["template"]["spec"]["restartPolicy"] = json!("Always")
    });
    assert_eq!(current().await, Current::Recorded(first.clone()));
    // A restart asks for another one, and is no change of the spec.
    let restarted = |at: Value| {
        server.edit(ROLLOUTS, "web", |r| {
            r["status"] =
                json!({"observedGeneration": 1, "stableRevision": first, "restartedAt": at});
        });
    };
    restarted(json!("2026-11-24T10:00:00Z"));
    let Current::New(fresh) = current().await else {
        panic!("it differs")
    };
    assert_ne!(fresh, first);
    restarted(Value::Null);
    assert_eq!(current().await, Current::Recorded(first.clone()));
    // A resync asks nothing: the answer is kept.
    server.fail(Fault {
        method: "POST",
        plural: "replicasets",
        code: 503,
        times: 1,
    });
    assert_eq!(current().await, Current::Recorded(first.clone()));

    server.edit(ROLLOUTS, "web", |r| {
        r["spec"]["template"]["spec"]["restartPolicy"] = json!("Never")
    });
    tokio::time::sleep(Duration::from_millis(1)).await;
    let failed = cluster.observe(&key()).await;
    assert!(
        matches!(failed, Err(ObserveError::Live(_))),
        "no answer is no answer: {failed:?}"
    );
    let Current::New(second) = current().await else {
        panic!("it differs")
    };
    assert_ne!(first, second);

    server.edit(ROLLOUTS, "web", |r| {
        r["spec"]["template"]["spec"]["bogus"] = json!(1)
    });
    assert!(matches!(current().await, Current::Refused(why) if why.contains("bogus")));

    // Who cannot be asked is not a reason to look after nothing.
    server.fail(Fault {
        method: "POST",
        plural: "replicasets",
        code: 500,
        times: 1,
    });
    server.edit(ROLLOUTS, "web", |r| {
        r["spec"]["template"]["spec"]["bogus"] = json!(2)
    });
    assert!(matches!(current().await, Current::Refused(why) if why.contains("does not say")));
    // What goes is not asked about: its namespace may go, too.
    server.fail(Fault {
        method: "POST",
        plural: "replicasets",
        code: 403,
        times: 1,
    });
    server.edit(ROLLOUTS, "web", |r| {
        r["metadata"]["deletionTimestamp"] = json!("2026-11-24T10:00:00Z");
        r["metadata"]["finalizers"] = json!([FINALIZER]);
    });
    assert_eq!(current().await, Current::Recorded(first));
}
