//! What the controller may do: the one list from which the chart's roles are made. A verb stands
//! here only where the code uses it.

use std::collections::BTreeSet;

use k8s_openapi::api::rbac::v1::PolicyRule;

use crate::{
    api::names::GROUP,
    model::{command::Verb, object::Kind},
};

/// The lease's name unless a flag says otherwise; the chart puts its own in.
pub const LEASE_NAME: &str = "serin-controller";

/// Serin's own kinds that live in a namespace.
const OURS: &[&str] = &["rollouts", "analysistemplates", "analysisruns"];
/// Its kind that does not.
const OURS_CLUSTER: &str = "clusteranalysistemplates";

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> PolicyRule {
    let own = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect();
    PolicyRule {
        api_groups: Some(own(&[group])),
        resources: Some(own(resources)),
        verbs: own(verbs),
        ..PolicyRule::default()
    }
}

/// In each namespace that it looks after. `routes` are the kinds of the routers' objects.
pub fn namespaced(routes: &[Kind]) -> Vec<PolicyRule> {
    let mut rules = vec![
        // Handled commands are taken off, and the finalizer is set and taken off.
        rule(GROUP, &["rollouts"], &["list", "watch", "patch"]),
        rule(
            GROUP,
            &["rollouts/status", "analysisruns/status"],
            &["patch"],
        ),
        // Where the API server asks who may block a Rollout's deletion by an ownerReference.
        rule(GROUP, &["rollouts/finalizers"], &["update"]),
        rule(GROUP, &["analysistemplates"], &["list", "watch"]),
        rule(
            GROUP,
            &["analysisruns"],
            &["get", "list", "watch", "create", "patch", "delete"],
        ),
        rule(
            "apps",
            &["replicasets", "controllerrevisions"],
            &["get", "list", "watch", "create", "patch", "delete"],
        ),
        // The template of one that is adopted is read; it is paused, marked, and resumed in the end.
        rule("apps", &["deployments"], &["list", "watch", "patch"]),
        // Where the API server asks who may block a Deployment's deletion by an ownerReference: its ReplicaSets get
        // theirs back.
        rule("apps", &["deployments/finalizers"], &["update"]),
        // Role Services go with their Rollout, by their ownerReference.
        rule(
            "",
            &["services"],
            &["get", "list", "watch", "create", "patch"],
        ),
        rule("", &["pods"], &["list", "watch"]),
        rule("discovery.k8s.io", &["endpointslices"], &["list", "watch"]),
        rule("events.k8s.io", &["events"], &["create"]),
    ];
    // Only their weights and one annotation are written; they are never made nor deleted.
    let groups: BTreeSet<&str> = routes.iter().map(|k| k.group).collect();
    rules.extend(groups.into_iter().map(|group| {
        let of_group = routes.iter().filter(|k| k.group == group);
        let plurals: Vec<&str> = of_group.map(|k| k.plural).collect();
        rule(group, &plurals, &["list", "watch", "patch"])
    }));
    rules
}

/// In the whole cluster. Serin works without it, and then without ClusterAnalysisTemplates.
pub fn cluster() -> Vec<PolicyRule> {
    vec![rule(GROUP, &[OURS_CLUSTER], &["list", "watch"])]
}

/// In the namespace of the lease. A right to create cannot be limited to a name.
pub fn lease() -> Vec<PolicyRule> {
    let group = "coordination.k8s.io";
    let mut named = rule(group, &["leases"], &["get", "update"]);
    named.resource_names = Some(vec![LEASE_NAME.to_owned()]);
    vec![rule(group, &["leases"], &["create"]), named]
}

/// For people who may look: joins the ClusterRole `view`.
pub fn view() -> Vec<PolicyRule> {
    let all: Vec<&str> = OURS.iter().copied().chain([OURS_CLUSTER]).collect();
    vec![rule(GROUP, &all, &["get", "list", "watch"])]
}

/// For people who may change: joins the ClusterRoles `edit` and `admin`. AnalysisRuns are made by
/// Serin alone, and templates for every namespace by who administers the cluster.
pub fn edit() -> Vec<PolicyRule> {
    let write = ["create", "update", "patch", "delete", "deletecollection"];
    vec![
        rule(GROUP, &["rollouts", "analysistemplates"], &write),
        rule(GROUP, &["rollouts/scale"], &["get", "update", "patch"]),
    ]
}

/// The commands that bring a revision into service.
pub const PROMOTE: &[Verb] = &[
    Verb::Promote,
    Verb::PromoteFull,
    Verb::Resume,
    Verb::Retry,
    Verb::Undo,
    Verb::Restart,
];
/// The commands that hold it back.
pub const ABORT: &[Verb] = &[Verb::Abort, Verb::Pause];

/// For people who may give these commands and change nothing else, where the chart's policy holds:
/// each is a subresource that is nowhere served, and `update` is missing on purpose.
pub fn command(verbs: &[Verb]) -> Vec<PolicyRule> {
    let parts: Vec<String> = verbs
        .iter()
        .map(|v| format!("rollouts/{}", v.as_str()))
        .collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    vec![
        rule(GROUP, &["rollouts"], &["get", "list", "watch", "patch"]),
        rule(GROUP, &parts, &["update"]),
    ]
}

/// Each right by itself: its rule, the group, the resource (with its subresource) and the verb.
pub fn each(rules: &[PolicyRule]) -> impl Iterator<Item = (&PolicyRule, &str, &str, &str)> {
    rules.iter().flat_map(|rule| {
        let groups = rule.api_groups.iter().flatten();
        groups.flat_map(move |group| {
            let resources = rule.resources.iter().flatten();
            resources.flat_map(move |resource| {
                let one = move |verb| (rule, group.as_str(), resource.as_str(), verb);
                rule.verbs.iter().map(String::as_str).map(one)
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_right_is_wider_than_its_use() {
        let routes = crate::controller::rollouts::route_kinds();
        let all = [
            namespaced(&routes),
            cluster(),
            lease(),
            view(),
            edit(),
            command(PROMOTE),
            command(ABORT),
        ]
        .concat();
        for rule in all {
            let resources = rule.resources.clone().unwrap_or_default();
            let groups = rule.api_groups.clone().unwrap_or_default();
            for word in resources.iter().chain(&groups).chain(&rule.verbs) {
                assert!(!word.contains('*'), "{rule:?}");
            }
            for secret in ["secrets", "configmaps", "pods/exec", "pods/log"] {
                assert!(!resources.iter().any(|r| r == secret), "{rule:?}");
            }
        }
        let routes = namespaced(&routes).pop().expect("a rule");
        let kinds = ["httproutes", "grpcroutes", "tcproutes", "tlsroutes"];
        assert_eq!(routes.resources, Some(kinds.map(str::to_owned).to_vec()));
    }
    /// One role brings it further, the other holds it back; neither writes by `update`, by which the
    /// policy tells who may edit.
    #[test]
    fn every_command_is_in_one_role() {
        let mut all = [PROMOTE, ABORT].concat();
        all.sort_unstable();
        assert_eq!(all, Verb::ALL);
        for rules in [command(PROMOTE), command(ABORT)] {
            assert!(each(&rules).all(|(_, _, r, verb)| r != "rollouts" || verb != "update"));
        }
    }
}
