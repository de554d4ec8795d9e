//! Commands as rights of their own: who may give which, by the chart's policy.

use std::sync::Arc;

use serin::api::status::RolloutStatus;
use serin_lab::Lab;

use crate::{
    install::{CHART, Release, in_flight},
    world::{Result, Setup, World, ensure, hash},
};

const COMMANDS: [&str; 6] = [
    "abort",
    "pause",
    "resume",
    "retry",
    "promote",
    "promote-full",
];

/// Each user, and the commands that they may give.
const USERS: [(&str, &[&str]); 4] = [
    ("oncall", &["abort", "pause"]),
    ("release", &["resume", "retry", "promote", "promote-full"]),
    ("editor", &[]),
    ("onlooker", &[]),
];

/// Runs kubectl as a ServiceAccount of the app's namespace.
async fn act(w: &World, who: &str, args: &[&str]) -> std::result::Result<String, serin_lab::Error> {
    let who = format!("--as={}", account(w, who));
    let mut all = vec!["-n", &w.namespace, &who];
    all.extend(args);
    w.lab.kubectl(&all).await
}

/// What was refused, and in which words. A success is a fault.
async fn refused(w: &World, who: &str, args: &[&str], wanted: &[&str]) -> Result {
    match act(w, who, args).await {
        Ok(said) => Err(format!("{who} was not refused {args:?}: {said}").into()),
        Err(e) => {
            let said = e.to_string();
            ensure(
                wanted.iter().all(|word| said.contains(word)),
                format!("{who}, {args:?}: {wanted:?} is not in {said}"),
            )
        }
    }
}

fn account(w: &World, who: &str) -> String {
    format!("system:serviceaccount:{}:{who}", w.namespace)
}

/// The record of a command names who gave it.
fn by(status: &RolloutStatus, command: &str, who: &str) -> Result {
    let found = status.commands.iter().find(|c| c.name == command);
    ensure(
        found.is_some_and(|c| c.by.as_deref() == Some(who)),
        format!("{found:?} is not by {who}"),
    )
}

/// What the stamp of a command says.
async fn stamped(w: &World, command: &str, who: Option<&str>) -> Result {
    let rollout = w.rollouts().get("app").await?;
    let stands = rollout.metadata.annotations.unwrap_or_default();
    let stamp = stands.get(&format!("serin.dev/{command}-by"));
    ensure(
        stamp.map(String::as_str) == who,
        format!("{stamp:?} stands for {command}, not {who:?}"),
    )
}

async fn users(w: &World, release: &str) -> Result {
    for (who, role) in [
        ("oncall", format!("{release}-abort")),
        ("release", format!("{release}-promote")),
        ("editor", "edit".to_owned()),
        ("onlooker", "view".to_owned()),
    ] {
        let bound = format!("--serviceaccount={}:{who}", w.namespace);
        let role = format!("--clusterrole={role}");
        let ns = ["-n", &w.namespace];
        let make = ["create", "serviceaccount", who];
        w.lab.kubectl(&[&ns[..], &make].concat()).await?;
        let bind = ["create", "rolebinding", who, &role, &bound];
        w.lab.kubectl(&[&ns[..], &bind].concat()).await?;
        w.may(&account(w, who), "get", "rollouts.serin.dev").await?;
    }
    Ok(())
}

/// A matrix of users and commands; what a command's right does not bring; and that the controller,
/// which has no such right, takes a command off.
pub async fn who_may_give_which_command(lab: Arc<Lab>) -> Result {
    let setup = Setup {
        steps: "[{setWeight: 20}, {pause: {}}, {pause: {}}]",
        ..Setup::default()
    };
    let mut w = World::bare(lab, "door", setup).await?;
    let namespace = w.lab.namespace("serin-door").await?;
    let watched = format!("namespaces={{{}}}", w.namespace);
    let values = [&watched, "crds.install=false", "commandPolicy.enabled=true"];
    let release = Release::new(&w.lab, &namespace, &values);
    release.helm(&["install"], CHART, &[]).await?;
    users(&w, &format!("{namespace}.serin")).await?;
    let status = in_flight(&mut w).await?;

    // A policy holds a moment after it was made.
    let probe = [
        "annotate",
        "rollout/app",
        "serin.dev/abort=now",
        "--dry-run=server",
    ];
    w.lab
        .until("the policy to hold", crate::world::LIMIT, || async {
            act(&w, "editor", &probe).await.err().map(|_| ())
        })
        .await?;
    let probe = [
        "annotate",
        "rollout/app",
        "serin.dev/abort=now",
        "--dry-run=server",
        "--output=yaml",
    ];
    w.lab
        .until("the stamps to hold", crate::world::LIMIT, || async {
            let seen = act(&w, "oncall", &probe).await.ok()?;
            seen.contains("serin.dev/abort-by: system:").then_some(())
        })
        .await?;
    for (who, may) in USERS {
        for command in COMMANDS {
            let given = format!("serin.dev/{command}=zzzz/1");
            let args = ["annotate", "rollout/app", &given, "--dry-run=server"];
            if may.contains(&command) {
                act(&w, who, &args).await?;
            } else if who == "onlooker" {
                refused(&w, who, &args, &["cannot patch resource \"rollouts\""]).await?;
            } else {
                let role = match command {
                    "abort" | "pause" => "abort",
                    _ => "promote",
                };
                let right = format!("the right to update rollouts/{command} of serin.dev");
                let role = format!("the ClusterRole {namespace}.serin-{role},");
                let user = format!(":{who} may not {command} Rollouts");
                refused(&w, who, &args, &[&user, &right, &role]).await?;
            }
        }
    }
    // Who commands does not edit, by whatever part of the object; who edits does.
    for patch in [
        r#"{"spec":{"replicas":4}}"#,
        r#"{"metadata":{"labels":{"a":"b"}}}"#,
        r#"{"metadata":{"annotations":{"example.com/a":"b"}}}"#,
        r#"{"metadata":{"finalizers":["example.com/a"]}}"#,
    ] {
        let args = [
            "patch",
            "rollout/app",
            "--type=merge",
            "-p",
            patch,
            "--dry-run=server",
        ];
        for who in ["oncall", "release"] {
            refused(&w, who, &args, &["change nothing else", "update rollouts"]).await?;
        }
        act(&w, "editor", &args).await?;
    }
    // A new object may bring no command along either.
    let manifest = serde_json::json!({
        "apiVersion": "serin.dev/v1alpha1", "kind": "Rollout",
        "metadata": {"name": "other", "annotations": {"serin.dev/promote-full": "*/1"}},
        "spec": w.spec("v1"),
    });
    let path = w.lab.run_dir().join("door-other.json");
    std::fs::write(&path, manifest.to_string())?;
    let path = path.display().to_string();
    let create = ["create", "--dry-run=server", "-f", &path];
    refused(&w, "editor", &create, &["may not promote-full Rollouts"]).await?;

    // For real: each does what they may, and the controller takes a plain command off.
    let given = format!("serin.dev/promote={}@1/1", hash(&status));
    act(&w, "release", &["annotate", "rollout/app", &given]).await?;
    let status = w.step(2).await?;
    by(&status, "promote", &account(&w, "release"))?;
    // A stamp belongs to its command: nobody else's word stands there, then or later.
    let forged = "serin.dev/promote-by=system:admin";
    let args = ["annotate", "--overwrite", "rollout/app", forged];
    act(&w, "editor", &args).await?;
    stamped(&w, "promote", Some(&account(&w, "release"))).await?;
    let args = [
        "annotate",
        "rollout/app",
        "serin.dev/resume-by=system:admin",
    ];
    act(&w, "editor", &args).await?;
    stamped(&w, "resume", None).await?;
    let forged = "serin.dev/abort-by=system:admin";
    let args = ["annotate", "rollout/app", "serin.dev/abort=now", forged];
    act(&w, "oncall", &args).await?;
    let status = w.done("Degraded").await?;
    let oncall = account(&w, "oncall");
    by(&status, "abort", &oncall)?;
    let said = status.history.iter().find(|h| h.reason == "Aborted");
    ensure(
        said.is_some_and(|h| h.message.ends_with(&format!("aborted by {oncall}"))),
        format!("{said:?}"),
    )?;
    w.lab
        .until("abort to be taken off", crate::world::LIMIT, || async {
            let rollout = w.rollouts().get("app").await.ok()?;
            let stands = rollout.metadata.annotations.unwrap_or_default();
            (!stands.contains_key("serin.dev/abort")).then_some(())
        })
        .await?;
    stamped(&w, "abort", None).await?;
    // With `promote` still there, and the same again: nothing changes, so nobody is asked.
    act(
        &w,
        "editor",
        &[
            "patch",
            "rollout/app",
            "--type=merge",
            "-p",
            r#"{"spec":{"minReadySeconds":7}}"#,
            "--dry-run=server",
        ],
    )
    .await?;
    w.farewell().await?;
    release.uninstall().await
}
