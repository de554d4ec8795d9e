//! `serin set image`: other images in the template, by a patch that meets no other container.

use clap::Args;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::{
    api::Rollout,
    cli::{
        CliError,
        connect::{Access, Door, OperateError},
        nearest::nearest,
        output,
        show::words,
    },
};

use super::MANAGER;

/// Flags of `serin set image`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Name of the Rollout
    #[arg(value_name = "NAME", value_parser = crate::cli::rollout_name)]
    pub name: String,
    /// A container and its image; `*` stands for all containers
    #[arg(value_name = "CONTAINER=IMAGE", required = true, value_parser = pair)]
    pub images: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) access: Access,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((container, image)) if !container.is_empty() && !image.is_empty() => {
            Ok((container.to_owned(), image.to_owned()))
        }
        _ => Err("must be CONTAINER=IMAGE, such as web=registry.example.com/web:1.2".to_owned()),
    }
}

/// A container of the template.
struct Container {
    path: String,
    name: String,
    image: String,
}

fn containers(rollout: &Rollout) -> Vec<Container> {
    let mut all = vec![];
    for list in ["containers", "initContainers"] {
        let items = rollout.spec.template.pointer(&format!("/spec/{list}"));
        let items = items.and_then(Value::as_array).into_iter().flatten();
        all.extend(items.enumerate().map(|(at, item)| {
            let text = |field: &str| {
                item.get(field)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            Container {
                path: format!("/spec/template/spec/{list}/{at}"),
                name: text("name"),
                image: text("image"),
            }
        }));
    }
    all
}

/// A line for each image that changes, and the JSON patch for all of them. It is refused where the
/// Rollout is another one, or a container is no longer where it was.
pub fn patch(
    rollout: &Rollout,
    images: &[(String, String)],
) -> Result<(Vec<String>, Vec<Value>), OperateError> {
    if let Some(workload) = &rollout.spec.workload_ref {
        let given: Vec<String> = images.iter().map(|(c, i)| format!("{c}={i}")).collect();
        return Err(OperateError::Usage(format!(
            "rollout {:?} has the template of Deployment {:?}: kubectl set image deployment/{} {}",
            words::name(rollout),
            workload.name,
            workload.name,
            given.join(" ")
        )));
    }
    let there = containers(rollout);
    let names: Vec<String> = there.iter().map(|c| c.name.clone()).collect();
    let (mut lines, mut operations) = (vec![], vec![]);
    let unknown = images.iter().find(|(n, _)| n != "*" && !names.contains(n));
    if let Some((name, _)) = unknown {
        let hint = match nearest(name, &names) {
            Some(near) => format!("did you mean {near}?"),
            None if names.is_empty() => "it has none".to_owned(),
            None => format!("there are {}", names.join(", ")),
        };
        return Err(OperateError::Usage(format!(
            "rollout {:?} has no container {name:?}: {hint}",
            words::name(rollout)
        )));
    }
    for container in &there {
        // The last one given wins, and a name wins over all.
        let wanted = images.iter().rev();
        let named = wanted.clone().find(|(n, _)| *n == container.name);
        let Some((_, image)) = named.or_else(|| wanted.clone().find(|(n, _)| n == "*")) else {
            continue;
        };
        if *image == container.image {
            continue;
        }
        let path = &container.path;
        lines.push(format!(
            "{}: {} -> {image}",
            container.name, container.image
        ));
        operations
            .push(json!({"op": "test", "path": format!("{path}/name"), "value": container.name}));
        operations.push(json!({"op": "add", "path": format!("{path}/image"), "value": image}));
    }
    if !operations.is_empty() {
        operations.insert(
            0,
            json!({"op": "test", "path": "/metadata/uid", "value": rollout.metadata.uid}),
        );
    }
    Ok((lines, operations))
}

/// Sets them.
pub async fn run(options: &Options) -> Result<(), CliError> {
    let door = Door::open(&options.access).await?;
    let rollout = door.rollout(&options.name).await?;
    let (lines, operations) = patch(&rollout, &options.images)?;
    if operations.is_empty() {
        return Ok(output::print("the images are so already\n")?);
    }
    let operations = serde_json::from_value(Value::Array(operations))
        .map_err(|e| OperateError::System(format!("cannot make a patch: {e}")))?;
    let params = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let patch = Patch::Json::<()>(operations);
    let api = door.rollouts();
    let patched = api.patch(&options.name, &params, &patch);
    door.answer("patch rollouts", patched).await?;
    let lines: String = lines
        .iter()
        .map(|line| format!("{}\n", output::plain(line)))
        .collect();
    Ok(output::print(&lines)?)
}
