//! Whole rounds: the controller at work, in simulated time.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};
use serin::{
    adapters::{
        cluster::{Cluster, world::stores::Signals},
        providers::Providers,
        telemetry::metrics::{Metrics, encode},
    },
    api::names::CONTROLLER_NAME,
    controller::{
        self,
        context::{Clock, Context, Failures, Pace},
    },
};
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    apiserver::{Fault, Server},
    world::{EVENTS, REVISIONS, ROLLOUTS, SETS, cluster, cluster_in, rollout},
};

/// A controller at work.
pub async fn start(server: &Arc<Server>) -> (JoinHandle<()>, watch::Sender<bool>) {
    start_with(server, false).await
}

async fn start_with(
    server: &Arc<Server>,
    trust_command_actor: bool,
) -> (JoinHandle<()>, watch::Sender<bool>) {
    let (cluster, signals) = cluster(server).await;
    work(cluster, signals, trust_command_actor)
}

fn work(
    cluster: Cluster,
    signals: Signals,
    trust_command_actor: bool,
) -> (JoinHandle<()>, watch::Sender<bool>) {
    counted(cluster, signals, trust_command_actor, Metrics::default())
}

fn counted(
    cluster: Cluster,
    signals: Signals,
    trust_command_actor: bool,
    metrics: Metrics,
) -> (JoinHandle<()>, watch::Sender<bool>) {
    let cx = Context {
        cluster,
        providers: Providers::default(),
        metrics,
        clock: Clock::starting_at(Timestamp::from_second(1_800_000_000).expect("a time")),
        controller_name: CONTROLLER_NAME.to_owned(),
        trust_command_actor,
        failures: Failures::default(),
        pace: Pace::default(),
    };
    let (stop, stopped) = watch::channel(false);
    (
        tokio::spawn(controller::run(Arc::new(cx), signals, stopped)),
        stop,
    )
}

/// Plays the ReplicaSet controller: all pods are there.
fn pods_are_ready(server: &Server) {
    for name in server.names(SETS) {
        server.edit(SETS, &name, |set| {
            let (n, generation) = (set["spec"]["replicas"].clone(), set["metadata"]["generation"].clone());
            set["status"] = json!({
                "replicas": n, "readyReplicas": n, "availableReplicas": n, "observedGeneration": generation,
            });
        });
    }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

pub fn phase(server: &Server, name: &str) -> Value {
    server
        .get(ROLLOUTS, name)
        .map(|r| r["status"]["phase"].clone())
        .unwrap_or_default()
}

async fn deployed(server: &Arc<Server>) {
    for _ in 0..5 {
        pass(2).await;
        pods_are_ready(server);
    }
    pass(2).await;
    assert_eq!(
        phase(server, "web"),
        "Healthy",
        "{:#?}",
        server.get(ROLLOUTS, "web")
    );
}

#[tokio::test(start_paused = true)]
async fn a_first_deploy_becomes_healthy_and_then_is_silent() {
    let server = Server::new();
    server.put(ROLLOUTS, rollout("web:1"));
    let (_work, _stop) = start(&server).await;
    deployed(&server).await;
    assert_eq!(
        (server.names(SETS).len(), server.names(REVISIONS).len()),
        (1, 1)
    );
    assert!(
        server
            .names(EVENTS)
            .iter()
            .any(|n| n.starts_with("web.uid-0001."))
    );

    // What was told is recorded a little later.
    pass(20).await;
    let before = server.writes();
    pass(2 * 3600).await;
    assert_eq!(server.writes(), before, "a healthy Rollout is left alone");
}

/// Namespaces come and go, as for each change that is tried: what is shown must not grow with them.
#[tokio::test(start_paused = true)]
async fn what_was_counted_in_a_namespace_goes_with_its_last_rollout() {
    let server = Server::new();
    server.put(ROLLOUTS, rollout("web:1"));
    let (cluster, signals) = cluster(&server).await;
    let metrics = Metrics::default();
    let registry = metrics.registry(Arc::new(Vec::new));
    let (_work, _stop) = counted(cluster, signals, false, metrics);
    deployed(&server).await;
    pass(20).await;
    let shown = || {
        encode(&registry)
            .expect("encodes")
            .contains("namespace=\"ns\"")
    };
    assert!(shown());
    server.take_away(ROLLOUTS, "web");
    pass(600).await;
    assert!(!shown());
}

#[tokio::test(start_paused = true)]
async fn one_that_cannot_be_read_harms_no_other() {
    let server = Server::new();
    let mut bad = rollout("web:1");
    bad["metadata"]["name"] = json!("bad");
    bad["spec"]["replicas"] = json!("many");
    server.put(ROLLOUTS, bad);
    server.put(ROLLOUTS, rollout("web:1"));
    let (_work, _stop) = start(&server).await;
    deployed(&server).await;
    let warned: Vec<String> = server
        .names(EVENTS)
        .into_iter()
        .filter(|n| n.starts_with("bad."))
        .collect();
    assert_eq!(warned.len(), 1, "one warning");
    let event = server.get(EVENTS, &warned[0]).expect("is there");
    assert_eq!(
        (&event["type"], &event["reason"]),
        (&json!("Warning"), &json!("InvalidSpec"))
    );
}

#[tokio::test(start_paused = true)]
async fn however_many_cannot_be_read_each_is_warned_of_once_this_copy_leads() {
    let server = Server::new();
    for n in 0..100 {
        let mut bad = rollout("web:1");
        bad["metadata"]["name"] = json!(format!("bad-{n:02}"));
        bad["spec"]["replicas"] = json!("many");
        server.put(ROLLOUTS, bad);
    }
    let (cluster, signals) = cluster(&server).await;
    server.take_away(ROLLOUTS, "bad-07");
    pass(3600).await;
    let (_work, _stop) = work(cluster, signals, false);
    pass(10).await;
    assert_eq!(server.names(EVENTS).len(), 99);
}

#[tokio::test(start_paused = true)]
async fn what_was_mended_before_this_copy_led_is_not_warned_of() {
    let server = Server::new();
    let mut bad = rollout("web:1");
    bad["spec"]["replicas"] = json!("many");
    server.put(ROLLOUTS, bad);
    let (cluster, signals) = cluster(&server).await;
    server.edit(ROLLOUTS, "web", |r| r["spec"]["replicas"] = json!(1));
    pass(3600).await;
    let (_work, _stop) = work(cluster, signals, false);
    deployed(&server).await;
    let events = server.names(EVENTS);
    let reason = |name: &String| Some(server.get(EVENTS, name)?["reason"].clone());
    assert!(
        !events
            .iter()
            .any(|n| reason(n) == Some(json!("InvalidSpec")))
    );
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_cannot_be_asked_for_holds_up_nobody_who_does_not_need_it() {
    let server = Server::new();
    server.put(ROLLOUTS, rollout("web:1"));
    // A webhook that converts it is down.
    server.fail(Fault {
        method: "GET",
        plural: "tcproutes",
        code: 500,
        times: usize::MAX,
    });
    let begun = tokio::time::timeout(Duration::from_secs(600), start(&server)).await;
    let (_work, _stop) = begun.expect("it does not wait for ever");
    deployed(&server).await;
}

/// It was deleted with the role that let us look there, or is not made yet.
#[tokio::test(start_paused = true)]
async fn a_namespace_that_may_not_be_listed_holds_up_no_other_and_is_taken_up_later() {
    let server = Server::new();
    server.put(ROLLOUTS, rollout("web:1"));
    server.forbid("gone");
    let named = ["gone", "ns"];
    let listed = tokio::time::timeout(Duration::from_secs(600), cluster_in(&server, &named)).await;
    let (cluster, signals) = listed.expect("it does not wait for ever");
    assert_eq!(cluster.world().refused(), ["gone".to_owned()].into());
    let (_work, _stop) = work(cluster, signals, false);
    deployed(&server).await;

    let mut other = rollout("web:1");
    other["metadata"]["namespace"] = json!("gone");
    server.put(ROLLOUTS, other);
    pass(120).await;
    assert_eq!(server.names(SETS).len(), 1);
    server.allow();
    pass(60).await;
    assert_eq!(server.names(SETS).len(), 2);
}

/// Where only some kinds may be listed, what is not seen of the others is not taken for absent.
#[tokio::test(start_paused = true)]
async fn nothing_is_decided_where_a_kind_may_not_be_listed() {
    let server = Server::new();
    server.put(ROLLOUTS, rollout("web:1"));
    let mut other = rollout("web:1");
    other["metadata"]["namespace"] = json!("half");
    server.put(ROLLOUTS, other);
    server.forbid("half/replicasets");
    let named = ["half", "ns"];
    let listed = tokio::time::timeout(Duration::from_secs(600), cluster_in(&server, &named)).await;
    let (cluster, signals) = listed.expect("it does not wait for ever");
    let (_work, _stop) = work(cluster, signals, false);
    deployed(&server).await;
    assert_eq!(server.names(SETS).len(), 1);
    let writes = server.writes();
    assert!(
        !writes.iter().any(|w| w.contains("/half/")),
        "nothing is written there: {writes:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn failures_on_the_way_only_delay_it() {
    let server = Server::new();
    server.put(ROLLOUTS, rollout("web:1"));
    for (method, plural, code) in [
        ("PATCH", "rollouts", 409),
        ("PATCH", "rollouts", 500),
        ("POST", "replicasets", 503),
        ("POST", "controllerrevisions", 0),
        ("POST", "events", 403),
        ("GET", "httproutes", 500),
    ] {
        server.fail(Fault {
            method,
            plural,
            code,
            times: 2,
        });
    }
    let (_work, _stop) = start(&server).await;
    for _ in 0..10 {
        pass(30).await;
        pods_are_ready(&server);
    }
    assert_eq!(
        phase(&server, "web"),
        "Healthy",
        "{:#?}",
        server.get(ROLLOUTS, "web")
    );
    let status = &server.get(ROLLOUTS, "web").expect("is there")["status"];
    let last = status["history"]
        .as_array()
        .and_then(|h| h.last())
        .map(|h| h["number"].clone());
    assert_eq!(
        Some(status["decision"]["told"].clone()),
        last,
        "what failed to be told is told"
    );
}

#[tokio::test(start_paused = true)]
async fn a_new_template_is_not_forgotten_when_it_cannot_be_recorded_at_first() {
    let server = Server::new();
    server.put(ROLLOUTS, rollout("web:1"));
    let (_work, _stop) = start(&server).await;
    deployed(&server).await;
    server.fail(Fault {
        method: "POST",
        plural: "controllerrevisions",
        code: 503,
        times: 3,
    });
    let image = "/spec/template/spec/containers/0/image";
    server.edit(ROLLOUTS, "web", |r| {
        *r.pointer_mut(image).expect("an image") = json!("web:2")
    });
    for _ in 0..10 {
        pass(5).await;
        pods_are_ready(&server);
    }
    assert_eq!(server.names(REVISIONS).len(), 2);
    let status = &server.get(ROLLOUTS, "web").expect("is there")["status"];
    assert_ne!(status["currentRevision"], status["stableRevision"]);
    assert_eq!(status["step"], "1/2", "{status:#}");
}

/// The Event goes after an hour; who asks for the status later is told what is in the way, too.
#[tokio::test(start_paused = true)]
async fn an_object_of_somebody_else_is_told_of_in_the_status_until_it_is_gone() {
    let first = Server::new();
    first.put(ROLLOUTS, rollout("web:1"));
    let (_work, _stop) = start(&first).await;
    deployed(&first).await;
    let name = first.names(SETS).pop().expect("a ReplicaSet");

    let server = Server::new();
    let foreign = json!({"metadata": {"name": name, "namespace": "ns"}, "spec": {}});
    server.put(SETS, foreign);
    server.put(ROLLOUTS, rollout("web:1"));
    let (_work, _stop) = start(&server).await;
    pass(60).await;
    let status = || server.get(ROLLOUTS, "web").expect("is there")["status"].clone();
    let foreign = format!("ReplicaSet {name} exists and is not of this Rollout: delete it");
    let told = status();
    let conditions = told["conditions"].as_array().expect("conditions");
    for (at, text) in [
        ("waiting", &told["waiting"]["for"]),
        ("message", &told["message"]),
        ("condition", &conditions[0]["message"]),
    ] {
        let text = text.as_str().unwrap_or_default();
        assert!(text.contains(&foreign), "{at}: {text}");
    }
    let since = told["waiting"]["since"].clone();
    pass(120).await;
    assert_eq!(status()["waiting"]["since"], since, "it is one wait");

    server.take_away(SETS, &name);
    pass(60).await;
    assert!(!status().to_string().contains(&foreign), "{:#}", status());
    deployed(&server).await;
}

/// Nothing else happens at rest that would make it look.
#[tokio::test(start_paused = true)]
async fn a_status_that_somebody_else_wrote_at_rest_is_put_right() {
    let server = Server::new();
    server.put(ROLLOUTS, rollout("web:1"));
    let (_work, _stop) = start(&server).await;
    deployed(&server).await;
    pass(600).await;
    let status = || server.get(ROLLOUTS, "web").expect("is there")["status"].clone();
    let stable = status()["stableRevision"].clone();
    let replicas = status()["replicas"].clone();
    server.edit(ROLLOUTS, "web", |r| {
        r["status"] = json!({"observedGeneration": 1});
    });
    pass(30).await;
    assert_eq!(status()["stableRevision"], stable);
    assert_eq!(phase(&server, "web"), "Healthy");

    pass(600).await;
    server.edit(ROLLOUTS, "web", |r| r["status"]["replicas"] = json!(99));
    pass(30).await;
    assert_eq!(status()["replicas"], replicas);
}

#[tokio::test(start_paused = true)]
async fn another_controllers_rollout_is_left_alone_and_a_stop_ends_the_work() {
    let server = Server::new();
    let mut other = rollout("web:1");
    other["spec"]["controllerName"] = json!("somebody.else/controller");
    server.put(ROLLOUTS, other);
    let (work, stop) = start(&server).await;
    pass(600).await;
    assert!(server.writes().is_empty(), "{:?}", server.writes());
    stop.send_replace(true);
    tokio::time::timeout(Duration::from_secs(1), work)
        .await
        .expect("it ends")
        .expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn a_list_or_a_watch_that_is_never_answered_is_asked_for_again() {
    let server = Server::new();
    server.put(ROLLOUTS, rollout("web:1"));
    // The first of each is the list, the second the watch that follows it.
    for times in [1, 2] {
        server.fail(Fault {
            method: "GET",
            plural: "replicasets",
            code: 0,
            times,
        });
    }
    let begun = tokio::time::timeout(Duration::from_secs(600), start(&server)).await;
    let (_work, _stop) = begun.expect("it does not wait for ever");
    deployed(&server).await;
}

/// Anybody can write who gave a command, unless a policy does: it is believed only where that is said.
#[tokio::test(start_paused = true)]
async fn who_gave_a_command_is_believed_only_where_told_to() {
    for (trusted, said, by) in [
        (false, "somebody paused", json!(null)),
        (true, "paused by anna", json!("anna")),
    ] {
        let server = Server::new();
        server.put(ROLLOUTS, rollout("web:1"));
        let (_work, _stop) = start_with(&server, trusted).await;
        deployed(&server).await;
        server.edit(ROLLOUTS, "web", |r| {
            r["spec"]["template"] = rollout("web:2")["spec"]["template"].clone();
            r["metadata"]["generation"] = json!(2);
        });
        pass(2).await;
        server.edit(ROLLOUTS, "web", |r| {
            r["metadata"]["annotations"]["serin.dev/pause"] = json!("now");
            r["metadata"]["annotations"]["serin.dev/pause-by"] = json!("anna");
        });
        pass(5).await;
        let stands = server.get(ROLLOUTS, "web").expect("is there");
        let status = &stands["status"];
        assert_eq!(status["pause"]["message"], said, "{status:#}");
        assert_eq!(status["commands"][0]["by"], by);
        // With the command goes what was believed; what was not is somebody else's.
        let annotations = &stands["metadata"]["annotations"];
        assert!(
            annotations.get("serin.dev/pause").is_none(),
            "{annotations}"
        );
        assert_eq!(annotations.get("serin.dev/pause-by").is_none(), trusted);
    }
}
