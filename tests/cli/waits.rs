//! `status` and `get --watch`: waiting, what is said meanwhile, and exit codes.

use serde_json::json;

use crate::world::{DEADLINE, ROLLOUTS, Scene, WAITS, World, golden, scene};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_finished_is_told_at_once() {
    let cases: &[(&str, Scene)] = &[
        ("healthy", scene("promote", 2, 300)),
        ("rolled-back", scene("errors", 1, 30)),
        ("aborted", scene("abort", 2, 60)),
        ("crashes", scene("crashloop", 1, 60)),
        ("conflict", scene("foreign-rest", 5, 46)),
        ("deadline", DEADLINE),
    ];
    for (name, scene) in cases {
        let world = World::of(&format!("status-{name}"), *scene).await;
        golden(
            &format!("status-{name}"),
            &world.run(&["status", "app"]).await,
        );
        assert_eq!(
            *world.server.watches().borrow(),
            0,
            "{name}: there is nothing to wait for"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_finished() {
    let world = World::of("unfinished", WAITS).await;
    let mut said = world.run(&["status", "app", "--watch=false"]).await;
    said += &world.run(&["status", "app", "--timeout", "100ms"]).await;
    // The next template: what stands of the one before says nothing of it.
    world
        .server
        .edit(ROLLOUTS, "app", |r| r["spec"]["replicas"] = json!(5));
    said += &world.run(&["status", "app", "--watch=false"]).await;
    world.server.edit(ROLLOUTS, "app", |r| {
        r["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:01:00Z");
    });
    said += &world.run(&["status", "app", "--watch=false"]).await;
    golden("status-unfinished", &said);
}

/// Waits until the program watches, then lets `later` come true.
async fn meanwhile(world: &World, args: &[&str], watches: usize, later: Scene) -> String {
    let child = world.start(args);
    let mut begun = world.server.watches();
    begun
        .wait_for(|n| *n >= watches)
        .await
        .expect("the server lives");
    let end = World::of("meanwhile", later).await;
    let status = end.server.get(ROLLOUTS, "app").expect("the Rollout")["status"].clone();
    world.server.edit(ROLLOUTS, "app", |r| r["status"] = status);
    let output = child.wait_with_output().await.expect("it ends");
    world.said(args, &output)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_is_waited_through() {
    let world = World::of("through", WAITS).await;
    let healthy = scene("promote", 2, 300);
    golden(
        "status-watched",
        &meanwhile(&world, &["status", "app"], 1, healthy).await,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_is_drawn_anew_until_it_is_finished() {
    let world = World::of("anew", scene("errors", 1, 20)).await;
    let back = scene("errors", 1, 30);
    golden(
        "get-watched",
        &meanwhile(&world, &["get", "app", "-w"], 6, back).await,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_meanwhile() {
    let world = World::of("goes", WAITS).await;
    let args = ["status", "app"];
    let child = world.start(&args);
    let mut begun = world.server.watches();
    begun.wait_for(|n| *n >= 1).await.expect("the server lives");
    world.server.take_away(ROLLOUTS, "app");
    let output = child.wait_with_output().await.expect("it ends");
    golden("status-deleted", &world.said(&args, &output));
}
