//! What goes wrong before anything is done: one line that says what was found and what would be right.

use std::{fs, path::Path};

use crate::{
    apiserver::Fault,
    world::{World, golden, scene},
};

#[tokio::test(flavor = "multi_thread")]
async fn no_such_rollout() {
    let mut world = World::empty("missing").await;
    let mut said = world.run(&["get", "app"]).await;
    world.add("checkout", "ns", scene("promote", 0, 10));
    world.add("cart", "ns", scene("promote", 0, 10));
    world.add("shop", "other", scene("promote", 0, 10));
    for args in [
        ["get", "chekout"],
        ["why", "payments"],
        ["status", "shop"],
        ["promote", "Shop"],
        ["abort", "pod/shop"],
    ] {
        said += &world.run(&args).await;
    }
    golden("error-missing", &said);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_access() {
    let world = World::of("access", scene("promote", 1, 30)).await;
    let fail = |method, code, times| {
        world.server.fail(Fault {
            method,
            plural: "rollouts",
            code,
            times,
        });
    };
    fail("GET", 403, 1);
    let mut said = world.run(&["get", "app"]).await;
    fail("GET", 401, 1);
    said += &world.run(&["list"]).await;
    fail("PATCH", 403, 1);
    said += &world.run(&["abort", "app"]).await;
    fail("GET", 500, 1);
    said += &world.run(&["why", "app"]).await;
    // Serin's kinds are not installed.
    fail("GET", 404, 2);
    said += &world.run(&["get", "app"]).await;
    fail("GET", 404, 1);
    said += &world.run(&["list", "-A"]).await;
    golden("error-access", &said);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_cluster() {
    let world = World::empty("cluster").await;
    let program = Path::new(env!("CARGO_BIN_EXE_serin"));
    let mut said = world.run(&["list", "--context", "prod"]).await;
    said += &world.run(&["list", "--kubeconfig", "nowhere"]).await;
    // Nobody listens on port 1.
    world.kubeconfig("http://127.0.0.1:1");
    said += &world.run(&["list"]).await;
    let none = world.path().with_file_name("none");
    let none = none.to_string_lossy();
    said += &world
        .run_as(program, &["list"], &[("KUBECONFIG", &none)])
        .await;
    fs::write(world.path(), "contexts: {").expect("written");
    said += &world.run(&["list"]).await;
    fs::write(world.path(), "contexts: [{name: a, context: {cluster: b}}]").expect("written");
    said += &world.run(&["list"]).await;
    said += &world.run(&["list", "--context", "a"]).await;
    golden("error-cluster", &said);
}

#[tokio::test(flavor = "multi_thread")]
async fn misused() {
    let world = World::empty("misused").await;
    let mut said = world.run(&["get"]).await;
    said += &world.run(&["get", "app", "-w", "-o", "json"]).await;
    said += &world.run(&["status", "app", "--timeout", "soon"]).await;
    said += &world.run(&["promot", "app"]).await;
    said += &world.run(&["-n", "ns", "version"]).await;
    golden("error-misused", &said);
}
