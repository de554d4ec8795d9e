//! What those who operate it type: the real program, as somebody with the chart's rights `view` and
//! `edit` in the namespace and no more.

use std::{path::PathBuf, process::Stdio, sync::Arc};

use k8s_openapi::api::rbac::v1::PolicyRule;
use serde_json::{Value, json};
use serin::cli::rbac;
use serin_lab::Lab;
use tokio::process::{Child, Command};

use crate::world::{LIMIT, Result, Setup, World, ensure, expect_reasons, hash};

/// Somebody who operates the app.
struct Operator {
    kubeconfig: PathBuf,
    lab: Arc<Lab>,
    namespace: String,
}

/// What Kubernetes' own role `view` gives of what a Rollout is made of.
fn parts() -> Vec<PolicyRule> {
    let rule = |group: &str, resources: &[&str]| PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(resources.iter().map(|r| (*r).to_owned()).collect()),
        verbs: ["get", "list", "watch"].map(str::to_owned).to_vec(),
        ..PolicyRule::default()
    };
    vec![
        rule("", &["pods", "services"]),
        rule("apps", &["replicasets", "controllerrevisions"]),
    ]
}

impl Operator {
    async fn of(w: &World, name: &str, rules: Vec<PolicyRule>) -> Result<Self> {
        let namespace = w.namespace.clone();
        let all = [
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": name}, "rules": rules}),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}]}),
        ];
        let text = all.map(|v| v.to_string()).join("\n---\n");
        w.lab.apply_yaml_in(&namespace, &text).await?;
        let account = format!("system:serviceaccount:{namespace}:{name}");
        w.may(&account, "get", "rollouts.serin.dev").await?;
        let kubeconfig = w.lab.kubeconfig_for(&namespace, name).await?;
        Ok(Self {
            kubeconfig,
            lab: Arc::clone(&w.lab),
            namespace,
        })
    }

    fn start(&self, args: &[&str]) -> Result<Child> {
        Ok(Command::new(env!("CARGO_BIN_EXE_serin"))
            .args(args)
            .args(["-n", &self.namespace])
            .env("KUBECONFIG", &self.kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?)
    }

    /// What a program prints once it ends, which it does with this exit code.
    async fn end(&self, child: Child, args: &[&str], code: i32) -> Result<String> {
        let what = format!("serin {} to end", args.join(" "));
        let ended = self.lab.within(&what, LIMIT, child.wait_with_output());
        let output = ended.await??;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        ensure(
            output.status.code() == Some(code),
            format!(
                "serin {}: {:?}, wanted {code}: {said}",
                args.join(" "),
                output.status.code()
            ),
        )?;
        Ok(said)
    }

    /// Types it: it ends with this exit code, and what it prints has all of `wanted`.
    async fn types(&self, args: &[&str], code: i32, wanted: &[&str]) -> Result<String> {
        let said = self.end(self.start(args)?, args, code).await?;
        for text in wanted {
            ensure(
                said.contains(text),
                format!("no {text:?} in serin {}:\n{said}", args.join(" ")),
            )?;
        }
        Ok(said)
    }
}

/// A release is promoted and the next one aborted and tried again, all from the command line.
pub async fn operated(lab: Arc<Lab>) -> Result {
    let setup = Setup {
        background: true,
        drains: true, // A retry finds more pods than its first weight needs.
        ..Setup::default()
    };
    let mut w = World::new(lab, "cli", setup).await?;
    let rules = [rbac::view(), rbac::edit(), parts()].concat();
    let operator = Operator::of(&w, "operator", rules).await?;
    operator
        .types(&["status", "app"], 0, &["Healthy: "])
        .await?;
    operator
        .types(
            &["promote", "app"],
            1,
            &["promote refused: no step is in progress"],
        )
        .await?;

    let set = ["set", "image", "app", "app=lab/app:v2"];
    operator
        .types(&set, 0, &["app: lab/app:v1 -> lab/app:v2"])
        .await?;
    let waits = ["status", "app", "--timeout", "4m"];
    let (waiting, watch) = (operator.start(&waits)?, ["get", "app", "--watch"]);
    let watching = operator.start(&watch)?;
    let canary = hash(&w.step(3).await?);
    let tree = operator
        .types(
            &["get", "app"],
            0,
            &["Paused", "app-canary", "Pod", "AnalysisRun"],
        )
        .await?;
    ensure(
        tree.matches(&canary).count() > 4,
        format!("the canary's parts in\n{tree}"),
    )?;
    let early = ["status", "app", "--timeout", "1s"];
    operator
        .types(
            &early,
            4,
            &["Paused (step 3/4, weight 50%)", "serin promote app"],
        )
        .await?;
    operator
        .types(
            &["promote", "app"],
            0,
            &["promote done: step 3 \"wait\" (pause) is ended"],
        )
        .await?;
    let said = operator.end(waiting, &waits, 0).await?;
    ensure(
        said.contains("Paused (step 3/4") && said.contains("Healthy: "),
        said,
    )?;
    let drawn = operator.end(watching, &watch, 0).await?;
    ensure(
        drawn.contains("Stepping") && drawn.contains("Promoting"),
        drawn,
    )?;
    let status = w.done("Healthy").await?;
    expect_reasons(&status, &["CommandDone", "Promoting", "Completed"])?;

    operator
        .types(&["set", "image", "app", "app=lab/app:v3"], 0, &[])
        .await?;
    w.step(3).await?;
    operator
        .types(&["pause", "app"], 0, &["pause done: paused"])
        .await?;
    operator
        .types(&["resume", "app"], 0, &["resume done"])
        .await?;
    operator
        .types(&["abort", "app"], 0, &["abort done: revision "])
        .await?;
    operator
        .types(&["status", "app"], 2, &["Aborted: "])
        .await?;
    operator
        .types(
            &["why", "app"],
            0,
            &["was aborted", "somebody aborted", "serin retry app"],
        )
        .await?;
    operator
        .types(&["list"], 0, &["app", "canary", "Degraded"])
        .await?;
    let json = operator
        .types(&["get", "app", "-o", "json"], 0, &[])
        .await?;
    let list: Value = serde_json::from_str(&json)?;
    let rollout = &list["items"][0];
    ensure(rollout["kind"] == "Rollout", "the Rollout comes first")?;
    let fields = w
        .rollouts()
        .get("app")
        .await?
        .metadata
        .managed_fields
        .unwrap_or_default();
    let ours = fields
        .iter()
        .filter(|f| f.manager.as_deref() == Some("serin-cli"));
    ensure(
        ours.count() > 0,
        "what people wrote has a manager of its own",
    )?;
    operator
        .types(&["retry", "app"], 0, &["retry done"])
        .await?;
    w.step(3).await?;
    operator
        .types(&["promote", "app", "--full"], 0, &["promote-full done"])
        .await?;
    operator
        .types(&["status", "app", "--timeout", "4m"], 0, &["Healthy: "])
        .await?;
    w.farewell().await?;

    // Who may only look is told what is lacking.
    let viewer = Operator::of(&w, "viewer", rbac::view()).await?;
    viewer
        .types(
            &["get", "app"],
            0,
            &["Healthy", "pods are not shown: you may not list pods"],
        )
        .await?;
    let refusal = "you may not patch rollouts in namespace";
    viewer.types(&["abort", "app"], 1, &[refusal]).await?;
    Ok(())
}
