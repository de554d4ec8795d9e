//! The chart beside its schema, and what it says it needs beside what it uses.

use std::fs;

use serde_json::Value;
use serin::api::crds;

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| format!("{path}: {e}"))
}

fn values() -> Value {
    serde_saphyr::from_str(&read("charts/serin/values.yaml")).expect("values")
}

fn schema() -> Value {
    serde_json::from_str(&read("charts/serin/values.schema.json")).expect("a schema")
}

fn chart() -> Value {
    serde_saphyr::from_str(&read("charts/serin/Chart.yaml")).expect("a chart")
}

/// What has no default: it is Helm's, for charts that have this one inside.
const NO_DEFAULT: &[&str] = &["global"];
/// Parts of Kubernetes' own types, whose fields are the API server's business.
const OPEN: &[&str] = &[
    "global",
    "resources",
    "podSecurityContext",
    "securityContext",
    "affinity",
];

/// Values that one of the two lacks, and objects that would take anything.
fn compare(values: &Value, schema: &Value, path: &str, faults: &mut Vec<String>) {
    let no_fields = serde_json::Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&no_fields);
    let values = values.as_object().unwrap_or(&no_fields);
    if schema["additionalProperties"] != false {
        faults.push(format!(
            "{path}: the schema takes fields that are not there"
        ));
    }
    for (key, value) in values {
        let here = format!("{path}.{key}");
        match properties.get(key) {
            None => faults.push(format!("{here}: not in the schema")),
            Some(inner) if inner["properties"].is_object() => compare(value, inner, &here, faults),
            Some(inner) => {
                let closed = inner["additionalProperties"].is_object() || !value.is_object();
                if !closed && !OPEN.contains(&key.as_str()) {
                    faults.push(format!(
                        "{here}: the schema takes fields that are not there"
                    ));
                }
            }
        }
    }
    for key in properties.keys() {
        if !values.contains_key(key) && !NO_DEFAULT.contains(&key.as_str()) {
            faults.push(format!("{path}.{key}: no default in values.yaml"));
        }
    }
}

#[test]
fn the_schema_knows_every_value_and_no_other() {
    let mut faults = vec![];
    compare(&values(), &schema(), "", &mut faults);
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// Every value stands in some template; one that is not used is a promise that is not kept.
#[test]
fn every_value_is_used() {
    let mut templates = String::new();
    for entry in fs::read_dir("charts/serin/templates").expect("templates") {
        templates.push_str(&read(&entry.expect("an entry").path().to_string_lossy()));
    }
    let unused: Vec<String> = values()
        .as_object()
        .expect("values")
        .keys()
        .filter(|key| !templates.contains(&format!(".Values.{key}")))
        .cloned()
        .collect();
    assert!(unused.is_empty(), "{unused:?} are in no template");
}

/// The pods are what Pod Security calls restricted.
#[test]
fn pods_are_restricted_by_default() {
    let values = values();
    assert_eq!(values["podSecurityContext"]["runAsNonRoot"], true);
    assert_eq!(
        values["podSecurityContext"]["seccompProfile"]["type"],
        "RuntimeDefault"
    );
    let container = &values["securityContext"];
    assert_eq!(container["allowPrivilegeEscalation"], false);
    assert_eq!(container["readOnlyRootFilesystem"], true);
    assert_eq!(container["capabilities"]["drop"][0], "ALL");
    let dockerfile = read("Dockerfile");
    let user = values["podSecurityContext"]["runAsUser"].to_string();
    assert!(
        dockerfile.contains(&format!("USER {user}:{user}\n")),
        "the image and the chart name different users"
    );
}

#[test]
fn the_image_is_of_this_version() {
    let dockerfile = read("Dockerfile");
    for wanted in [
        format!("rust:{}-", env!("CARGO_PKG_RUST_VERSION")),
        format!("ARG VERSION={}\n", env!("CARGO_PKG_VERSION")),
        "gcr.io/distroless/static:nonroot\n".to_owned(),
        "target-feature=+crt-static".to_owned(),
    ] {
        assert!(dockerfile.contains(&wanted), "Dockerfile lacks {wanted:?}");
    }
}

/// What CustomResourceDefinitions may use, and the minor version of Kubernetes 1 in which it is
/// stable, or on by default.
const FEATURES: &[(&str, u32)] = &[
    ("\"x-kubernetes-validations\"", 29),
    ("\"optionalOldSelf\"", 29),
    ("\"messageExpression\"", 29),
    ("\"selectableFields\"", 32),
    ("isIP(", 31),
    ("isCIDR(", 31),
    ("format.", 31),
    ("isSemver(", 34),
];

/// The oldest version that has all that the CustomResourceDefinitions use.
fn needed() -> u32 {
    let text: String = crds()
        .iter()
        .map(|(_, crd)| serde_json::to_string(crd).expect("json"))
        .collect();
    let used = FEATURES.iter().filter(|(word, _)| text.contains(word));
    used.map(|(_, minor)| *minor).max().unwrap_or(0)
}

#[test]
fn the_kubernetes_versions_are_the_same_everywhere() {
    let needed = needed();
    assert_eq!(chart()["kubeVersion"], format!(">=1.{needed}.0-0"));
    for path in ["docs/install.md", "docs/getting-started.md"] {
        let said = format!("1.{needed} or newer");
        assert!(read(path).contains(&said), "{path} does not say {said:?}");
    }
    // What the lab runs is the newest of the four that are supported.
    let lab = read("tests/lab/parts/controlplane/go.mod");
    let lab = lab
        .lines()
        .find_map(|l| l.trim().strip_prefix("k8s.io/kubernetes v1."))
        .and_then(|v| v.split('.').next())
        .and_then(|v| v.parse::<u32>().ok())
        .expect("the lab's version");
    let supported = format!("1.{} to 1.{lab}", lab - 3);
    assert!(
        read("docs/install.md").contains(&supported),
        "docs/install.md does not say {supported:?}"
    );
}

#[test]
fn the_gateway_api_versions_are_those_that_are_read() {
    let lab = read("tests/lab/parts/envoy-gateway/go.mod");
    let version = lab
        .lines()
        .find_map(|l| l.trim().strip_prefix("sigs.k8s.io/gateway-api v"))
        .and_then(|v| v.split(' ').next())
        .expect("the lab's version");
    let said = read("docs/install.md");
    assert!(
        said.contains(version),
        "docs/install.md does not name {version}"
    );
    let kinds = serin::controller::rollouts::route_kinds();
    for kind in kinds
        .iter()
        .filter(|k| k.group == "gateway.networking.k8s.io")
    {
        let wanted = format!("{} `{}`", kind.kind, kind.version);
        assert!(
            said.contains(&wanted),
            "docs/install.md does not name {wanted}"
        );
    }
}

#[test]
fn artifact_hub_is_told_of_every_kind() {
    let told = chart()["annotations"]["artifacthub.io/crds"]
        .as_str()
        .map(|text| serde_saphyr::from_str::<Value>(text).expect("yaml"))
        .expect("an annotation");
    let mut told: Vec<&str> = told
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|c| c["name"].as_str())
        .collect();
    told.sort_unstable();
    let mut names: Vec<String> = crds()
        .into_iter()
        .filter_map(|(_, crd)| crd.metadata.name)
        .collect();
    names.sort();
    assert_eq!(told, names);
    let changes = chart()["annotations"]["artifacthub.io/changes"]
        .as_str()
        .map(|text| serde_saphyr::from_str::<Value>(text).expect("yaml"))
        .expect("an annotation");
    assert!(changes[0]["kind"].is_string(), "{changes}");
}

/// The policy guards every command, and no word that is none.
#[test]
fn the_policy_knows_every_command() {
    let template = read("charts/serin/templates/commandpolicy.yaml");
    let list = template
        .split_once("$commands := list ")
        .and_then(|(_, rest)| rest.split_once(" }}"))
        .map_or("", |(list, _)| list);
    let guarded: Vec<&str> = list.split(' ').map(|w| w.trim_matches('"')).collect();
    let all = serin::model::command::Verb::ALL.map(serin::model::command::Verb::as_str);
    assert_eq!(guarded, all);
}

/// Who is refused is told which ClusterRole brings the right: it is there wherever the policy is.
#[test]
fn the_roles_that_the_policy_names_come_with_it() {
    let template = read("charts/serin/templates/commandpolicy.yaml");
    assert!(
        !template.contains(".Values.rbac"),
        "under a condition of others"
    );
}

/// What is made of a name may be 2024 or 1e3, which YAML takes for a number unless it is told otherwise.
#[test]
fn a_name_is_a_text() {
    for entry in fs::read_dir("charts/serin/templates").expect("templates") {
        let text = read(&entry.expect("an entry").path().to_string_lossy());
        let bare = |line: &&str| {
            let (key, value) = line.split_once(": ").unwrap_or_default();
            let name = ["name", "Name", "namespace"]
                .iter()
                .any(|w| key.ends_with(w));
            let whole =
                value.starts_with("{{") && value.rfind("{{") == Some(0) && value.ends_with("}}");
            name && whole && !value.ends_with("| quote }}")
        };
        assert_eq!(text.lines().find(bare), None);
    }
    let roles = read("charts/serin/templates/roles.yaml");
    assert!(roles.contains("\"serin.leaseName\" . | quote)"), "{roles}");
}

/// `a` and `b-c` are not `a-b` and `c`: a dot is in the name of no namespace.
#[test]
fn two_releases_have_no_name_of_the_cluster_in_common() {
    let helpers = read("charts/serin/templates/_helpers.tpl");
    let joined = "printf \"%s.%s\" .Release.Namespace (include \"serin.fullname\" .)";
    assert!(helpers.contains(joined), "{helpers}");
}

/// Without an election an upgrade would let two copies work at the same time.
#[test]
fn without_an_election_there_is_one_copy_at_a_time() {
    let deployment = read("charts/serin/templates/deployment.yaml");
    let (_, without) = deployment
        .split_once("{{- if not .Values.leaderElection.enabled }}\n")
        .expect("a condition");
    let (without, _) = without.split_once("{{- end }}").expect("its end");
    let strategy = "  strategy:\n    type: Recreate\n    rollingUpdate: null\n  ";
    assert!(without.ends_with(strategy), "{without}");
}

/// The account gives its token to no pod by itself; the two pods of the chart ask for it.
#[test]
fn only_the_charts_pods_mount_the_token() {
    let at = |file: &str| read(&format!("charts/serin/templates/{file}"));
    assert!(at("serviceaccount.yaml").contains("\nautomountServiceAccountToken: false\n"));
    for entry in fs::read_dir("charts/serin/templates").expect("templates") {
        let text = read(&entry.expect("an entry").path().to_string_lossy());
        let pods = text.matches("serviceAccountName: ").count();
        let asked = text.matches("automountServiceAccountToken: true\n").count();
        assert_eq!(pods, asked, "{text}");
    }
    assert!(at("deployment.yaml").contains("automountServiceAccountToken: true\n"));
}

/// A stamp that no policy writes is anybody's word: it is believed where the policy is installed, by
/// the same condition, and nowhere else.
#[test]
fn a_stamp_is_believed_only_with_its_policy() {
    let helper = "include \"serin.stampVersion\" .";
    let policy = read("charts/serin/templates/commandpolicy.yaml");
    assert!(policy.contains(&format!("$stamp := {helper}")));
    let (before, _) = policy
        .split_once("kind: MutatingAdmissionPolicy\n")
        .expect("the policy");
    let (_, opened) = before.rsplit_once("{{- if ").expect("a condition");
    assert!(opened.starts_with("$stamp }}"), "{opened}");
    let deployment = read("charts/serin/templates/deployment.yaml");
    let flag = format!(
        "{{{{- if {helper} }}}}\n            - --trust-command-actor\n            {{{{- end }}}}"
    );
    assert!(deployment.contains(&flag));
    assert_eq!(deployment.matches("trust-command-actor").count(), 1);
}
