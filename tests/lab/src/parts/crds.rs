//! The CustomResourceDefinitions of Gateway API and Envoy Gateway, from their modules.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;
use serde_json::Value;

use crate::error::{Context, Error, Result};

/// Part of the cache's key: what this file does with them.
pub(super) const VERSION: &str = "1";

const GATEWAY_API: &str = "sigs.k8s.io/gateway-api";
const ENVOY_GATEWAY: &str = "github.com/envoyproxy/gateway";

/// Writes them all to `to`, as a JSON list, without the texts that only people read.
pub(super) fn collect(module: &Path, to: &Path) -> Result<()> {
    let mut crds = Vec::new();
    for (name, inner) in [
        (GATEWAY_API, "config/crd/standard"),
        (
            ENVOY_GATEWAY,
            "charts/gateway-crds-helm/templates/generated",
        ),
    ] {
        let folder = module_folder(module, name)?.join(inner);
        let what = || format!("reading {}", folder.display());
        let mut files: Vec<_> = fs::read_dir(&folder)
            .context(what)?
            .flatten()
            .map(|e| e.path())
            .collect();
        files.sort();
        for file in files {
            let text = fs::read_to_string(&file).context(what)?;
            crds.extend(
                crds_in(&text).map_err(|e| Error::Invalid(format!("{}: {e}", file.display())))?,
            );
        }
    }
    let text = serde_json::to_vec(&crds).context(|| "writing CRDs")?;
    fs::write(to, text).context(|| format!("writing {}", to.display()))
}

/// The CRDs of one file; the gateway's are templates of a chart, whose lines with `{{` go.
fn crds_in(text: &str) -> Result<Vec<Value>> {
    let plain: Vec<&str> = text.lines().filter(|l| !l.contains("{{")).collect();
    let documents = crate::apply::documents(&plain.join("\n"))?;
    let crds = documents
        .into_iter()
        .filter(|d| d["kind"] == "CustomResourceDefinition");
    Ok(crds
        .map(|mut d| {
            strip(&mut d);
            d
        })
        .collect())
}

/// Drops descriptions, which make half of the bytes. (A *property* of that name is an object.)
fn strip(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|k, v| k != "description" || !v.is_string());
            map.values_mut().for_each(strip);
        }
        Value::Array(list) => list.iter_mut().for_each(strip),
        _ => {}
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Module {
    dir: PathBuf,
}

/// Where Go keeps the module, in the version that `pinned_by` pins.
fn module_folder(pinned_by: &Path, name: &str) -> Result<PathBuf> {
    let what = || format!("go mod download -json {name}");
    let out = Command::new("go")
        .current_dir(pinned_by)
        .args(["mod", "download", "-json", name])
        .output()
        .context(what)?;
    if !out.status.success() {
        return Err(Error::Command {
            command: what(),
            status: out.status.to_string(),
            output: String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned(),
        });
    }
    let module: Module = serde_json::from_slice(&out.stdout).context(what)?;
    Ok(module.dir)
}
