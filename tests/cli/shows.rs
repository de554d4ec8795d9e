//! `get`, `history`, `why`, `list`, `version`, `completion`: what is seen at one moment.

use serde_json::Value;

use crate::world::{DEADLINE, Scene, WAITS, World, golden, scene};

/// Where one looks most: at rest, in flight, when a person is asked, when it went wrong.
const SCENES: &[(&str, Scene)] = &[
    ("first", scene("promote", 0, 1)),
    ("healthy", scene("promote", 2, 300)),
    ("stepping", scene("promote", 1, 30)),
    ("measuring", scene("promote", 1, 50)),
    ("waits", WAITS),
    ("draining", scene("promote", 2, 75)),
    ("rolling-back", scene("errors", 1, 28)),
    ("rolled-back", scene("errors", 1, 30)),
    ("crashes", scene("crashloop", 1, 12)),
    ("aborted", scene("abort", 2, 60)),
    ("no-data", scene("no-data", 2, 60)),
    ("paused", scene("pause-resume", 2, 60)),
    ("conflict", scene("foreign-rest", 5, 46)),
    ("deadline", DEADLINE),
    ("missing", scene("template-missing-stays", 0, 120)),
    ("pods", scene("pods-as-weight", 1, 15)),
    ("preview", scene("blue-green-by-hand", 1, 30)),
    ("switched", scene("blue-green-by-hand", 2, 44)),
    ("blue-green", scene("blue-green-by-hand", 2, 50)),
    ("baking", scene("bake-passes", 1, 60)),
];

#[tokio::test(flavor = "multi_thread")]
async fn get_and_why() {
    let mut seen = 0;
    for (name, scene) in SCENES {
        let world = World::of(&format!("show-{name}"), *scene).await;
        golden(&format!("get-{name}"), &world.run(&["get", "app"]).await);
        golden(&format!("why-{name}"), &world.run(&["why", "app"]).await);
        assert_eq!(
            world.server.writes(),
            Vec::<String>::new(),
            "looking writes nothing"
        );
        seen += 1;
    }
    assert_eq!(seen, SCENES.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_became_of_each_revision() {
    for (name, scene) in [
        ("first", scene("promote", 0, 1)),
        ("healthy", scene("promote", 2, 300)),
        ("stepping", scene("promote", 1, 30)),
        ("rolled-back", scene("errors", 1, 60)),
        ("aborted", scene("abort-by", 4, 60)),
        ("superseded", scene("supersede", 2, 90)),
        ("undone", UNDONE),
    ] {
        let world = World::of(&format!("history-{name}"), scene).await;
        golden(
            &format!("history-{name}"),
            &world.run(&["history", "app"]).await,
        );
        assert_eq!(world.server.writes(), Vec::<String>::new(), "{name}");
    }
}

/// All of it is there: what was good, what gave way, and what was gone back to.
const UNDONE: Scene = scene("verdict-of-what-gave-way-in-a-crash", 5, 300);

#[tokio::test(flavor = "multi_thread")]
async fn the_numbers_of_the_history_are_those_that_an_undo_takes() {
    let world = World::of("history-numbers", UNDONE).await;
    golden(
        "history-yaml",
        &world.run(&["history", "app", "-o", "yaml"]).await,
    );
    let history = json(&world.run(&["history", "app", "-o", "json"]).await);
    let rows = history["revisions"].as_array().expect("revisions");
    assert_eq!(rows.len(), 4);
    for row in rows {
        let number = row["number"].to_string();
        let args = ["undo", "app", "--wait=false", "--to-revision", &number];
        let asked = world.run(&args).await;
        let hash = row["revision"].as_str().expect("a hash");
        assert!(asked.contains(&format!("token {hash}/")), "{asked}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_spec() {
    let mut world = World::of("invalid", scene("promote", 0, 5)).await;
    world.server.edit(crate::world::ROLLOUTS, "app", |r| {
        r["spec"]["strategy"]["canary"]["steps"] = serde_json::json!([{"setWeight": 500}]);
    });
    world.look_again();
    golden("why-invalid", &world.run(&["why", "app"]).await);
    golden("status-invalid", &world.run(&["status", "app"]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_read_is_said_and_hides_nothing_else() {
    let world = World::of("forbidden-pods", scene("promote", 1, 30)).await;
    world.server.fail(crate::apiserver::Fault {
        method: "GET",
        plural: "pods",
        code: 403,
        times: 1,
    });
    golden("get-without-pods", &world.run(&["get", "app"]).await);
}

/// Who may write a Rollout, or make a pod fail, must not speak to the terminal of who looks.
#[tokio::test(flavor = "multi_thread")]
async fn what_others_wrote_is_harmless() {
    let world = World::of("harmless", scene("crashloop", 1, 12)).await;
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[2J\nPhase: Healthy";
    world.server.edit(crate::world::ROLLOUTS, "app", |r| {
        r["status"]["message"] = evil.into();
        r["status"]["attempt"]["message"] = evil.into();
    });
    let pod = world
        .server
        .names("v1/pods")
        .into_iter()
        .find(|p| p.contains("nrh9hfnkcz"));
    world.server.edit("v1/pods", &pod.expect("a pod"), |p| {
        p["status"]["containerStatuses"][0]["state"]["waiting"]["message"] = evil.into();
    });
    let records = "apps/v1/controllerrevisions";
    world.server.edit(records, "app-nrh9hfnkcz", |r| {
        r["metadata"]["annotations"]["serin.dev/verdict-by"] = evil.into();
    });
    for args in [
        &["get", "app"][..],
        &["history", "app"],
        &["why", "app"],
        &["list"],
        &["status", "app"],
    ] {
        let said = world.run(args).await;
        assert!(said.contains("owned"), "{said}");
        assert!(
            !said.contains(['\u{1b}', '\u{7}']) && !said.contains("\nPhase: Healthy"),
            "{said}"
        );
    }
    let exact = json(&world.run(&["list", "-o", "json"]).await);
    assert_eq!(
        exact["items"][0]["status"]["message"], evil,
        "machines get what is there"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_them() {
    let mut world = World::empty("list").await;
    golden("list-none", &world.run(&["list"]).await);
    world.add("web", "ns", scene("promote", 1, 50));
    world.add("cart", "ns", scene("errors", 1, 60));
    world.add("shop", "other", WAITS);
    golden("list", &world.run(&["list"]).await);
    golden("list-all", &world.run(&["list", "-A"]).await);
    let none = world.run(&["list", "-l", "tier=x", "-n", "other"]).await;
    golden("list-selected", &none);
    golden(
        "list-both",
        &world.run(&["list", "-A", "-n", "other"]).await,
    );
}

fn json(said: &str) -> Value {
    let text = said.split_once('\n').expect("lines").1;
    let text = text.rsplit_once('[').expect("a code").0;
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn for_machines() {
    let world = World::of("machines", scene("errors", 1, 30)).await;
    let list = json(&world.run(&["get", "app", "-o", "json"]).await);
    assert_eq!(
        (&list["kind"], &list["apiVersion"]),
        (&"List".into(), &"v1".into())
    );
    let kinds: Vec<&str> = list["items"]
        .as_array()
        .expect("items")
        .iter()
        .filter_map(|i| i["kind"].as_str())
        .collect();
    assert_eq!(kinds.first(), Some(&"Rollout"));
    for (kind, n) in [
        ("ControllerRevision", 2),
        ("ReplicaSet", 2),
        ("Pod", 5),
        ("Service", 2),
        ("AnalysisRun", 1),
    ] {
        assert_eq!(
            kinds.iter().filter(|k| **k == kind).count(),
            n,
            "{kind} in {kinds:?}"
        );
    }
    let rollouts = json(&world.run(&["list", "-o", "json"]).await);
    assert_eq!(rollouts["items"][0]["status"]["phase"], "Degraded");
    golden("why-yaml", &world.run(&["why", "app", "-o", "yaml"]).await);
    golden(
        "status-json",
        &world.run(&["status", "app", "-o", "json"]).await,
    );
    golden("version-json", &world.run(&["version", "-o", "json"]).await);
    let yaml = world.run(&["get", "app", "-o", "yaml"]).await;
    assert!(yaml.contains("\nkind: List\n"), "{yaml}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_itself() {
    let world = World::empty("itself").await;
    golden("version", &world.run(&["version"]).await);
    golden("help", &world.run(&["--help"]).await);
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let script = world.run(&["completion", shell]).await;
        assert!(
            script.contains("promote") && script.ends_with("[0]\n"),
            "{shell}: {script}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plugin_says_how_it_is_called() {
    let world = World::of("plugin", WAITS).await;
    let link = world.path().with_file_name("kubectl-serin");
    // One that is left may lead to where another build was.
    let _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_serin"), &link).expect("a link");
    golden(
        "plugin-help",
        &world.run_as(&link, &["get", "--help"], &[]).await,
    );
    let why = world.run_as(&link, &["why", "app"], &[]).await;
    assert!(why.contains("kubectl serin promote app -n ns"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn colours_where_they_are_wanted() {
    let world = World::of("colours", WAITS).await;
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_serin"));
    let plain = world.run(&["get", "app"]).await;
    assert!(!plain.contains('\u{1b}'), "a pipe gets none: {plain}");
    let forced = [("CLICOLOR_FORCE", "1")];
    let coloured = world.run_as(program, &["get", "app"], &forced).await;
    assert!(coloured.contains("\u{1b}[33mPaused\u{1b}[0m"), "{coloured}");
    let never = [("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")];
    let never = world.run_as(program, &["get", "app"], &never).await;
    assert!(!never.contains('\u{1b}'), "NO_COLOR wins: {never}");
}
