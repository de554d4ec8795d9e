//! `promote`, `abort`, `undo`, `restart`, `retry`, `pause`, `resume`, `set image`: what is written, and the answer.

use serde_json::{Value, json};

use crate::world::{ROLLOUTS, Scene, WAITS, World, golden, scene};

fn rollout(world: &World) -> Value {
    world.server.get(ROLLOUTS, "app").expect("the Rollout")
}

/// One annotation is written, by our own manager, and the answer is the controller's.
#[tokio::test(flavor = "multi_thread")]
async fn commands_are_answered() {
    let aborted = scene("abort", 2, 60);
    let paused = scene("pause-resume", 2, 60);
    let stepping = scene("promote", 1, 30);
    let weight = scene("promote", 1, 12);
    let healthy = scene("promote", 2, 300);
    let cases: &[(&str, Scene, &[&str], &str)] = &[
        ("promote", WAITS, &["promote", "app"], "promote"),
        (
            "promote-slash",
            WAITS,
            &["promote", "rollout/app"],
            "promote",
        ),
        (
            "promote-full",
            stepping,
            &["promote", "app", "--full"],
            "promote-full",
        ),
        ("promote-weight", weight, &["promote", "app"], "promote"),
        ("promote-paused", paused, &["promote", "app"], "promote"),
        ("promote-healthy", healthy, &["promote", "app"], "promote"),
        ("abort", stepping, &["abort", "app"], "abort"),
        ("abort-healthy", healthy, &["abort", "app"], "abort"),
        ("undo", healthy, &["undo", "app"], "undo"),
        (
            "undo-numbered",
            healthy,
            &["undo", "app", "--to-revision", "1"],
            "undo",
        ),
        ("undo-nowhere", stepping, &["undo", "app"], "undo"),
        ("restart", healthy, &["restart", "app"], "restart"),
        ("restart-stepping", stepping, &["restart", "app"], "restart"),
        ("retry", aborted, &["retry", "app"], "retry"),
        ("retry-healthy", healthy, &["retry", "app"], "retry"),
        ("pause", stepping, &["pause", "app"], "pause"),
        ("resume", paused, &["resume", "app"], "resume"),
        ("resume-running", stepping, &["resume", "app"], "resume"),
    ];
    for (name, scene, args, verb) in cases {
        let mut world = World::of(&format!("act-{name}"), *scene).await;
        let spec = rollout(&world)["spec"].clone();
        let _controller = world.controller();
        golden(&format!("act-{name}"), &world.run(args).await);
        assert_eq!(world.server.managers(), ["serin-cli"], "{name}");
        let live = rollout(&world);
        assert!(
            live["metadata"]["annotations"][format!("serin.dev/{verb}")].is_string(),
            "{name}"
        );
        assert_eq!(live["spec"], spec, "{name} changes no spec");
    }
}

/// What was seen is what is meant: where it has moved on, nothing is done.
#[tokio::test(flavor = "multi_thread")]
async fn a_promote_that_comes_late_does_nothing() {
    let mut world = World::of("late", WAITS).await;
    // The program sees the step before; the controller is further.
    world.server.edit(ROLLOUTS, "app", |r| {
        r["status"]["attempt"]["stepIndex"] = json!(1)
    });
    let _controller = world.controller();
    golden("act-promote-stale", &world.run(&["promote", "app"]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_that_is_not_there_is_named_in_vain() {
    let world = World::of("undo-missing", scene("promote", 2, 300)).await;
    let said = world.run(&["undo", "app", "--to-revision", "7"]).await;
    golden("act-undo-missing", &said);
    assert!(world.server.writes().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_answer() {
    let world = World::of("unanswered", WAITS).await;
    golden(
        "act-unanswered",
        &world.run(&["promote", "app", "--timeout", "100ms"]).await,
    );
    golden(
        "act-no-wait",
        &world.run(&["abort", "app", "--wait=false"]).await,
    );
    let annotations = &rollout(&world)["metadata"]["annotations"];
    assert_eq!(
        annotations["serin.dev/abort"],
        "nrh9hfnkcz/2026-01-01T00:01:40.000000Z"
    );
    assert_eq!(
        annotations["serin.dev/promote"],
        "nrh9hfnkcz@4/2026-01-01T00:01:40.000000Z"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_in_flight_yet() {
    let world = World::of("unseen", WAITS).await;
    world
        .server
        .edit(ROLLOUTS, "app", |r| r["status"] = Value::Null);
    golden("act-unseen", &world.run(&["promote", "app"]).await);
    golden("why-unseen", &world.run(&["why", "app"]).await);
    assert!(world.server.writes().is_empty());
}

fn with_containers(world: &World) {
    world.server.edit(ROLLOUTS, "app", |r| {
        r["spec"]["template"]["spec"] = json!({
            "containers": [{"name": "web", "image": "web:1"}, {"name": "proxy", "image": "proxy:1"}],
            "initContainers": [{"name": "migrate", "image": "web:1"}],
        });
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn images() {
    let world = World::of("images", scene("promote", 0, 10)).await;
    with_containers(&world);
    let mut said = world
        .run(&["set", "image", "app", "web=web:2", "migrate=web:2"])
        .await;
    let images = |list: &str| {
        let live = rollout(&world);
        let all = live["spec"]["template"]["spec"][list]
            .as_array()
            .cloned()
            .unwrap_or_default();
        all.iter()
            .map(|c| c["image"].as_str().unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(images("containers"), ["web:2", "proxy:1"]);
    assert_eq!(images("initContainers"), ["web:2"]);
    said += &world.run(&["set", "image", "app", "web=web:2"]).await;
    said += &world
        .run(&["set", "image", "app", "*=all:3", "proxy=proxy:3"])
        .await;
    assert_eq!(images("containers"), ["all:3", "proxy:3"]);
    assert_eq!(
        world.server.managers(),
        ["serin-cli", "serin-cli"],
        "no change, no write"
    );
    for wrong in ["wbe=x", "sidecar=x", "web", "web="] {
        said += &world.run(&["set", "image", "app", wrong]).await;
    }
    said += &world.run(&["set", "image", "app"]).await;
    golden("set-image", &said);
    assert_eq!(
        world.server.writes().len(),
        2,
        "what is wrong writes nothing"
    );
}

/// Between the look and the patch the containers were put in another order.
#[tokio::test(flavor = "multi_thread")]
async fn an_image_meets_no_other_container() {
    let world = World::of("moved", scene("promote", 0, 10)).await;
    with_containers(&world);
    let seen: serin::api::Rollout = serde_json::from_value(rollout(&world)).expect("a Rollout");
    let wanted = [("web".to_owned(), "web:2".to_owned())];
    let (_, operations) = serin::cli::act::image::patch(&seen, &wanted).expect("a patch");
    let patch: json_patch::Patch =
        serde_json::from_value(Value::Array(operations)).expect("a patch");
    world.server.edit(ROLLOUTS, "app", |r| {
        let containers = r["spec"]["template"]["spec"]["containers"]
            .as_array_mut()
            .expect("a list");
        containers.reverse();
    });
    let mut live = rollout(&world);
    assert!(json_patch::patch(&mut live, &patch).is_err());
}
