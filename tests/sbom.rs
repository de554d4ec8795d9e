//! The list of what is in the release's binary, as CycloneDX. `SBOM=file cargo test --test sbom`
//! writes it; `make sbom` does that.

#[path = "support/packages.rs"]
mod packages;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use serde_json::{Value, json};

use packages::{cargo, locked, metadata};

/// What images are built for.
const PLATFORMS: [&str; 2] = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];
const ROOT: &str = "serin";

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Its name for tools that look up advisories.
fn purl(package: &Value) -> String {
    let version = text(package, "version").replace('+', "%2B");
    format!("pkg:cargo/{}@{version}", text(package, "name"))
}

/// Every checksum of the lock file, by name and version.
fn checksums() -> BTreeMap<(String, String), String> {
    let sums = locked().into_iter();
    sums.filter_map(|p| Some(((p.name, p.version), p.checksum?)))
        .collect()
}

/// The graph of packages as cargo resolves it for the platforms.
struct Graph {
    packages: BTreeMap<String, Value>,
    nodes: BTreeMap<String, Value>,
}

impl Graph {
    fn read() -> Self {
        let all = metadata(&PLATFORMS);
        let by_id = |all: &Value| {
            list(all)
                .map(|p| (text(p, "id").to_owned(), p.clone()))
                .collect()
        };
        Self {
            packages: by_id(&all["packages"]),
            nodes: by_id(&all["resolve"]["nodes"]),
        }
    }

    /// What a package needs: for its own code, and with `build` for being built.
    fn needs(&self, id: &str, build: bool) -> Vec<String> {
        let wanted = |dep: &&Value| {
            let mut kinds = list(&dep["dep_kinds"]).map(|k| k["kind"].as_str());
            kinds.any(|k| k.is_none() || (build && k == Some("build")))
        };
        let deps = list(&self.nodes[id]["deps"]).filter(wanted);
        deps.map(|d| text(d, "pkg").to_owned()).collect()
    }

    /// A macro's code runs in the compiler.
    fn is_macro(&self, id: &str) -> bool {
        let targets = list(&self.packages[id]["targets"]);
        let mut kinds = targets.flat_map(|t| list(&t["kind"]));
        kinds.any(|k| k == "proc-macro")
    }

    /// Everything that is reached from a package, itself included.
    fn reached(&self, from: &str, build: bool) -> BTreeSet<String> {
        let mut seen = BTreeSet::new();
        let mut open = vec![from.to_owned()];
        while let Some(id) = open.pop() {
            if (build || !self.is_macro(&id)) && seen.insert(id.clone()) {
                open.extend(self.needs(&id, build));
            }
        }
        seen
    }
}

/// What is linked is `required`; what only builds it, such as macros, is `excluded`. Without a time
/// and a serial number: the same lock file gives the same list.
fn sbom() -> Value {
    let graph = Graph::read();
    let sums = checksums();
    let ours = |(_, p): &(&String, &Value)| text(p, "name") == ROOT;
    let (root, package) = graph.packages.iter().find(ours).expect("the root");
    let linked = graph.reached(root, false);
    let all = graph.reached(root, true);
    let licence = |p: &Value| json!([{"expression": text(p, "license").replace('/', " OR ")}]);
    let component = |id: &String| {
        let p = &graph.packages[id];
        let (name, version) = (text(p, "name"), text(p, "version"));
        let sum = sums.get(&(name.to_owned(), version.to_owned()));
        let mut out = json!({
            "type": "library",
            "bom-ref": purl(p),
            "name": name,
            "version": version,
            "scope": if linked.contains(id) { "required" } else { "excluded" },
            "hashes": [{"alg": "SHA-256", "content": sum}],
            "licenses": licence(p),
            "purl": purl(p),
        });
        if let Some(address) = p["repository"].as_str() {
            out["externalReferences"] = json!([{"type": "vcs", "url": address}]);
        }
        out
    };
    let edges = |id: &String| {
        let needs = graph.needs(id, true);
        let needs: BTreeSet<String> = needs.iter().map(|n| purl(&graph.packages[n])).collect();
        json!({"ref": purl(&graph.packages[id]), "dependsOn": needs})
    };
    let others: Vec<Value> = all.iter().filter(|id| *id != root).map(component).collect();
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": purl(package),
                "name": text(package, "name"),
                "version": text(package, "version"),
                "description": text(package, "description"),
                "licenses": licence(package),
                "purl": purl(package),
            },
        },
        "components": others,
        "dependencies": all.iter().map(edges).collect::<Vec<_>>(),
    })
}

/// The packages that cargo builds for the binary, by cargo's own walk.
fn tree(edges: &str) -> BTreeSet<(String, String)> {
    let of = |platform: &str| {
        cargo(&[
            "tree", "--locked", "-p", ROOT, "-e", edges, "--target", platform, "--prefix", "none",
        ])
    };
    let lines = PLATFORMS.map(of).concat();
    let pairs = lines.lines().filter_map(|l| {
        let (name, rest) = l.split_once(" v")?;
        let version = rest.split(' ').next()?;
        Some((name.to_owned(), version.to_owned()))
    });
    pairs.filter(|(name, _)| name != ROOT).collect()
}

#[test]
fn the_list_is_what_cargo_builds() {
    let sbom = sbom();
    let pairs = |scopes: &[&str]| -> BTreeSet<(String, String)> {
        list(&sbom["components"])
            .filter(|c| scopes.contains(&text(c, "scope")))
            .map(|c| (text(c, "name").to_owned(), text(c, "version").to_owned()))
            .collect()
    };
    let all = tree("normal,build");
    assert!(all.len() > 100, "{} packages", all.len());
    assert_eq!(pairs(&["required", "excluded"]), all);
    assert_eq!(pairs(&["required"]), tree("normal,no-proc-macro"));
    let lock = fs::read_to_string("Cargo.lock").expect("Cargo.lock");
    // All come from one: `tests/supply.rs` holds that.
    let registry = locked().into_iter().find_map(|p| p.source);
    let registry = registry.expect("a registry");
    for c in list(&sbom["components"]) {
        let (name, version) = (text(c, "name"), text(c, "version"));
        let sum = text(&c["hashes"][0], "content");
        let entry = format!(
            "name = \"{name}\"\nversion = \"{version}\"\nsource = \"{registry}\"\nchecksum = \"{sum}\"\n"
        );
        assert!(
            lock.contains(&entry),
            "{name} {version} has the sum {sum:?}"
        );
        let written = text(c, "purl").replace("%2B", "+");
        assert_eq!(written, format!("pkg:cargo/{name}@{version}"));
    }
}

/// What version 1.5 of the format asks for, and what tools look for beyond it.
#[test]
fn the_list_is_cyclonedx() {
    let sbom = sbom();
    assert_eq!(text(&sbom, "bomFormat"), "CycloneDX");
    assert_eq!(text(&sbom, "specVersion"), "1.5");
    assert_eq!(sbom["version"], 1);
    let root = &sbom["metadata"]["component"];
    assert_eq!(text(root, "type"), "application");
    assert_eq!(text(root, "version"), env!("CARGO_PKG_VERSION"));
    let mut refs = BTreeSet::from([text(root, "bom-ref")]);
    for c in list(&sbom["components"]) {
        for key in ["name", "version", "purl", "bom-ref"] {
            assert!(!text(c, key).is_empty(), "{key} of {c}");
        }
        assert_eq!(text(c, "type"), "library");
        assert!(!text(&c["licenses"][0], "expression").is_empty(), "{c}");
        let hash = &c["hashes"][0];
        let sum = text(hash, "content");
        assert_eq!(text(hash, "alg"), "SHA-256");
        assert!(sum.len() == 64 && sum.chars().all(|d| d.is_ascii_hexdigit()));
        assert!(refs.insert(text(c, "bom-ref")), "twice: {c}");
    }
    let told: BTreeSet<&str> = list(&sbom["dependencies"])
        .map(|d| text(d, "ref"))
        .collect();
    assert_eq!(told, refs, "every component says what it needs");
    for d in list(&sbom["dependencies"]).flat_map(|d| list(&d["dependsOn"])) {
        assert!(refs.contains(d.as_str().unwrap_or_default()), "{d}");
    }
    if let Some(file) = std::env::var_os("SBOM") {
        let text = serde_json::to_string_pretty(&sbom).expect("json");
        fs::write(file, text + "\n").expect("the file is written");
    }
}
