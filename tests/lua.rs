//! The Lua that Argo CD runs (`docs/integrations/argo-cd`), in Lua 5.1 with no more of its library
//! than Argo CD gives, at every write of every scenario: the health is that of the phase, and an action
//! is offered exactly when Serin carries its command out.

#[path = "support/sights.rs"]
mod sights;

use std::{collections::BTreeMap, fs};

use mlua::{Lua, LuaOptions, LuaSerdeExt, StdLib};
use serde_json::{Value, json};
use serin::{
    api::{AnalysisRun, Rollout},
    engine::{self, workload::adoption::generation},
    model::{
        command::{Verb, parse, pending},
        spec::Spec,
    },
};
use sights::{Sight, play, scenarios};

const FOLDER: &str = "docs/integrations/argo-cd";

fn script(path: &str) -> String {
    fs::read_to_string(format!("{FOLDER}/{path}")).expect("a script")
}

/// Runs a script on an object. Argo CD opens the base and table libraries and two functions of `os`; the
/// scripts do without the latter.
fn run(script: &str, object: &Value) -> Value {
    let lua = Lua::new_with(StdLib::TABLE, LuaOptions::default()).expect("an interpreter");
    let globals = lua.globals();
    for closed in ["string", "math", "os", "io", "debug"] {
        let there: mlua::Value = globals.get(closed).expect("a global");
        assert!(there.is_nil(), "{closed} is open");
    }
    // As Argo CD hands it over: a null is no key.
    let options = mlua::serde::SerializeOptions::new()
        .set_array_metatable(false)
        .serialize_none_to_null(false)
        .serialize_unit_to_null(false);
    let object = lua.to_value_with(object, options).expect("a table");
    globals.set("obj", object).expect("it is set");
    let out: mlua::Value = lua.load(script).eval().expect("the script runs");
    lua.from_value(out).expect("it is JSON")
}

fn object(sight: &Sight) -> Value {
    serde_json::to_value(&sight.rollout).expect("json")
}

/// What health and actions can depend on.
fn gist(sight: &Sight) -> impl PartialEq {
    let meta = &sight.rollout.metadata;
    let status = sight.rollout.status.clone().unwrap_or_default();
    let attempt = status.attempt.map(|a| {
        let stage = (a.stage, a.step_index, a.step_try, a.outcome);
        (a.number, a.hash, stage)
    });
    let deleted = meta.deletion_timestamp.is_some();
    let read = (status.phase, status.observed_generation);
    let handled = (meta.annotations.clone(), status.commands);
    (
        meta.generation,
        deleted,
        read,
        attempt,
        status.pause,
        handled,
    )
}

/// Each state that differs from the one before it.
fn moments(sights: &[Sight]) -> Vec<&Sight> {
    let mut moments: Vec<&Sight> = vec![];
    for sight in sights {
        if moments.last().is_none_or(|s| gist(s) != gist(sight)) {
            moments.push(sight);
        }
    }
    moments
}

#[test]
fn the_health_of_a_rollout_is_that_of_its_phase() {
    let health = script("rollout/health.lua");
    let mut seen = BTreeMap::<String, usize>::new();
    for (name, scenario) in scenarios() {
        for sight in moments(&play(&scenario).0) {
            let status = sight.rollout.status.clone().unwrap_or_default();
            let observed = status.observed_generation == sight.rollout.metadata.generation;
            let wanted = match status.phase.as_deref().unwrap_or_default() {
                _ if !observed => "Progressing",
                "Paused" => "Suspended",
                phase => phase,
            };
            let told = run(&health, &object(sight));
            assert_eq!(told["status"], wanted, "{name} {}: {told}", sight.at);
            if observed {
                let message = status.message.unwrap_or_default();
                assert_eq!(told["message"], message, "{name} {}", sight.at);
            }
            *seen.entry(wanted.to_owned()).or_default() += 1;
        }
    }
    let seen: Vec<&str> = seen.keys().map(String::as_str).collect();
    assert_eq!(seen, ["Degraded", "Healthy", "Progressing", "Suspended"]);
    let fresh = json!({"metadata": {"generation": 1}});
    assert_eq!(run(&health, &fresh)["status"], "Progressing");
    let newer = json!({"metadata": {"generation": 1}, "status": {"observedGeneration": 1, "phase": "Flying"}});
    assert_eq!(run(&health, &newer)["status"], "Unknown");
}

#[test]
fn the_health_of_an_analysis_run_is_that_of_its_phase() {
    let health = script("analysisrun/health.lua");
    let mut seen = BTreeMap::<String, String>::new();
    for (_, scenario) in scenarios() {
        let (sights, _) = play(&scenario);
        for run_ in sights.iter().flat_map(|s| &s.observed.runs) {
            let run_: &AnalysisRun = run_;
            let phase = run_.status.as_ref().and_then(|s| s.phase.clone());
            let phase = phase.unwrap_or_else(|| "none".to_owned());
            if seen.contains_key(&phase) {
                continue;
            }
            let told = run(&health, &serde_json::to_value(run_).expect("json"));
            seen.insert(phase, told["status"].as_str().expect("a word").to_owned());
        }
    }
    let wanted = [
        ("Failed", "Degraded"),
        ("Inconclusive", "Suspended"),
        ("Running", "Progressing"),
        ("Successful", "Healthy"),
        ("Terminated", "Healthy"),
        ("none", "Progressing"),
    ];
    let wanted = wanted.map(|(phase, health)| (phase.to_owned(), health.to_owned()));
    assert_eq!(seen, wanted.into());
}

/// What comes of a command that stands on the object: its outcome and what was said.
fn answer(sight: &Sight, rollout: Rollout, verb: Verb) -> (String, String) {
    let mut observed = sight.observed.clone();
    observed.rollout = rollout;
    // A look may find other things to do first.
    for _ in 0..5 {
        let status = engine::plan(&observed, sight.at).status;
        let found = status.commands.iter().rev().find(|c| {
            let annotations = observed.rollout.metadata.annotations.as_ref();
            let token = annotations.and_then(|a| a.get(&verb.annotation()));
            c.name == verb.as_str() && Some(&c.token) == token
        });
        if let Some(found) = found {
            return (
                found.outcome.clone(),
                found.message.clone().unwrap_or_default(),
            );
        }
        observed.rollout.status = Some(status);
    }
    (String::new(), "it was not handled".to_owned())
}

/// An object without its annotations. Lua has one kind of table, so that an empty list and an empty map
/// are the same to it; Argo CD puts back what was empty before.
fn without_annotations(object: &Value) -> Value {
    fn emptied(value: &mut Value) {
        match value {
            Value::Array(items) if items.is_empty() => *value = json!({}),
            Value::Array(items) => items.iter_mut().for_each(emptied),
            Value::Object(fields) => fields.values_mut().for_each(emptied),
            _ => {}
        }
    }
    let mut object = object.clone();
    if let Some(meta) = object["metadata"].as_object_mut() {
        meta.remove("annotations");
    }
    emptied(&mut object);
    object
}

#[test]
fn an_action_is_offered_exactly_when_its_command_is_carried_out() {
    let discovery = script("rollout/actions/discovery.lua");
    let scripts: Vec<(Verb, String)> = Verb::ALL
        .map(|v| (v, script(&format!("rollout/actions/{}.lua", v.as_str()))))
        .into();
    let mut done = BTreeMap::<&str, usize>::new();
    for (name, scenario) in scenarios() {
        for sight in moments(&play(&scenario).0) {
            let (object, status) = (object(sight), sight.rollout.status.clone());
            let status = status.unwrap_or_default();
            // What is offered is what fits the status. One that is behind may offer too much,
            // somebody else's command may come first, and where nothing can be made of the spec a
            // command waits until it is mended.
            let standing = sight
                .rollout
                .metadata
                .annotations
                .clone()
                .unwrap_or_default();
            let observed = status.observed_generation == sight.rollout.metadata.generation
                && sight.rollout.metadata.deletion_timestamp.is_none()
                && pending(&standing, &status.commands).is_empty()
                && status.workload_observed_generation == generation(&sight.observed)
                && Spec::resolve(&sight.rollout).is_ok();
            let offered = run(&discovery, &object);
            assert_eq!(offered.as_object().map(serde_json::Map::len), Some(8));
            for (verb, script) in &scripts {
                let word = verb.as_str();
                let enabled = offered[word]["disabled"] == json!(false);
                let back = status.previous_revision.clone();
                let lacking = match verb {
                    Verb::Undo => back.is_none(),
                    Verb::Restart => status.stable_revision.is_none(),
                    _ => status.attempt.is_none(),
                };
                if lacking {
                    assert!(!enabled, "{name} {}: {word}", sight.at);
                    continue;
                }
                let changed = run(script, &object);
                let annotations: BTreeMap<String, String> =
                    serde_json::from_value(changed["metadata"]["annotations"].clone())
                        .expect("annotations");
                let token = annotations.get(&verb.annotation()).expect("the command");
                let target = parse(token).expect("a token");
                let hash = match verb {
                    Verb::Undo => back,
                    Verb::Restart => status.stable_revision.clone(),
                    _ => status.attempt.as_ref().map(|a| a.hash.clone()),
                };
                assert_eq!(target.hash, hash, "{token}");
                let others = (without_annotations(&changed), without_annotations(&object));
                assert!(others.0 == others.1, "{word} changes something else");
                let mut rollout = sight.observed.rollout.clone();
                rollout.metadata.annotations = Some(annotations.clone());
                let (outcome, message) = answer(sight, rollout, *verb);
                // Abort and pause say Done also where there is nothing to do.
                let effect = outcome == "Done" && !message.starts_with("nothing is in flight");
                let leaving = sight.rollout.metadata.deletion_timestamp.is_some();
                assert!(!(enabled && leaving), "{name} {}: {word}", sight.at);
                if observed {
                    assert_eq!(
                        enabled, effect,
                        "{name} {}: {word} {token}: {outcome}: {message}",
                        sight.at
                    );
                    *done.entry(word).or_default() += usize::from(effect);
                }
            }
        }
    }
    assert!(done.len() == 8 && done.values().all(|n| *n > 0), "{done:?}");
}

#[test]
fn the_same_click_twice_is_one_command() {
    let object = json!({"metadata": {"name": "app", "resourceVersion": "41"},
        "status": {"attempt": {"hash": "abc", "stepIndex": 2}}});
    let once = run(&script("rollout/actions/promote.lua"), &object);
    let token = &once["metadata"]["annotations"]["serin.dev/promote"];
    assert_eq!(token, "abc@2/41");
    assert_eq!(run(&script("rollout/actions/promote.lua"), &object), once);
    let parsed = parse("abc@2/41").expect("a token");
    assert_eq!(parsed.step.as_deref(), Some("2"));
}

/// The ConfigMap with all of the scripts.
fn config_map() -> String {
    let inside = |text: &str, by: usize| -> String {
        let pad = " ".repeat(by);
        let line = |l: &str| {
            if l.is_empty() {
                "\n".to_owned()
            } else {
                format!("{pad}{l}\n")
            }
        };
        text.lines().map(line).collect()
    };
    let key =
        |kind: &str, what: &str| format!("  resource.customizations.{what}.serin.dev_{kind}: |\n");
    let mut actions = format!(
        "discovery.lua: |\n{}definitions:\n",
        inside(&script("rollout/actions/discovery.lua"), 2)
    );
    for verb in Verb::ALL.map(Verb::as_str) {
        let lua = inside(&script(&format!("rollout/actions/{verb}.lua")), 4);
        actions.push_str(&format!("- name: {verb}\n  action.lua: |\n{lua}"));
    }
    format!(
        "# Generated from the scripts beside it. Merge it into Argo CD's own: `kubectl patch configmap argocd-cm -n argocd \\\n\
         # --patch-file docs/integrations/argo-cd/argocd-cm.yaml`.\n\
         apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: argocd-cm\n  namespace: argocd\ndata:\n{}{}{}{}{}{}",
        key("Rollout", "health"),
        inside(&script("rollout/health.lua"), 4),
        key("AnalysisRun", "health"),
        inside(&script("analysisrun/health.lua"), 4),
        key("Rollout", "actions"),
        inside(&actions, 4),
    )
}

#[test]
fn the_config_map_holds_the_scripts() {
    let (path, wanted) = (format!("{FOLDER}/argocd-cm.yaml"), config_map());
    if std::env::var_os("UPDATE").is_some_and(|u| u != "0") {
        fs::write(&path, &wanted).expect("the file can be written");
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == wanted,
        "{path} is not what the scripts say: make generate"
    );
    let read: Value = serde_saphyr::from_str(&there).expect("yaml");
    let data = read["data"].as_object().expect("data");
    assert_eq!(
        data["resource.customizations.health.serin.dev_Rollout"],
        script("rollout/health.lua")
    );
    let actions = data["resource.customizations.actions.serin.dev_Rollout"].as_str();
    let actions: Value = serde_saphyr::from_str(actions.expect("text")).expect("yaml");
    assert_eq!(
        actions["discovery.lua"],
        script("rollout/actions/discovery.lua")
    );
    for definition in actions["definitions"].as_array().expect("a list") {
        let name = definition["name"].as_str().expect("a name");
        let wanted = script(&format!("rollout/actions/{name}.lua"));
        assert_eq!(definition["action.lua"], wanted);
    }
}
