//! Last of all: what Serin asked of the API server, beside the rights that it has. A request that was
//! refused, and a right that nobody used, fail the suite unless they stand here with their reason.

use std::collections::BTreeSet;

use k8s_openapi::api::rbac::v1::PolicyRule;
use serin::{cli::rbac, controller::rollouts::route_kinds};
use serin_lab::{AuditEntry, Lab};

use crate::world::{Result, ensure};

/// What may be refused: how the namespace of the account begins, the verb and the resource.
const REFUSED: &[(&str, &str, &str)] = &[
    // Installed without ClusterRoles: it finds that it cannot read them, and does without.
    ("serin-narrow-", "list", "clusteranalysistemplates"),
];

/// Rights that no request names: verb, resource, and what they are there for.
const UNUSED: &[(&str, &str, &str)] = &[
    (
        "update",
        "rollouts/finalizers",
        "asked for by the admission plugin OwnerReferencesPermissionEnforcement, which the lab does not run",
    ),
    (
        "update",
        "deployments/finalizers",
        "asked for by the admission plugin OwnerReferencesPermissionEnforcement, which the lab does not run",
    ),
];

/// Whether it is a controller of ours: every one runs under an account of this name.
fn is_serin(entry: &AuditEntry) -> bool {
    entry.user.starts_with("system:serviceaccount:") && entry.user.ends_with(":serin")
}

/// The resource as rules name it.
fn resource(entry: &AuditEntry) -> String {
    if entry.subresource.is_empty() {
        entry.resource.clone()
    } else {
        format!("{}/{}", entry.resource, entry.subresource)
    }
}

/// Nothing was refused but what stands in `REFUSED`, and there were `least` requests at least.
pub fn nothing_refused(lab: &Lab, least: usize) -> Result {
    let audit = lab.audit()?;
    let ours: Vec<&AuditEntry> = audit.iter().filter(|e| is_serin(e)).collect();
    ensure(
        ours.len() >= least,
        format!("{} requests by Serin are in the audit log", ours.len()),
    )?;
    // `helm uninstall` takes the rights away while the last pod hands its lease over.
    let taken_away = |e: &AuditEntry| {
        let account = e
            .user
            .strip_prefix("system:serviceaccount:")
            .unwrap_or_default();
        let (namespace, _) = account.split_once(':').unwrap_or_default();
        let about = |w: &&AuditEntry| {
            w.resource.ends_with("rolebindings")
                && (w.namespace == namespace || w.name == format!("{namespace}.serin"))
        };
        let mut before = audit
            .iter()
            .filter(|w| w.is_write() && w.received <= e.time);
        before.rfind(about).is_some_and(|w| w.verb == "delete")
    };
    let allowed = |e: &AuditEntry| {
        REFUSED.iter().any(|(namespace, verb, resource)| {
            let account = format!("system:serviceaccount:{namespace}");
            e.user.starts_with(&account) && e.verb == *verb && e.resource == *resource
        })
    };
    let refused: BTreeSet<String> = ours
        .iter()
        .filter(|e| matches!(e.code, 401 | 403) && !allowed(e) && !taken_away(e))
        .map(|e| format!("{} {} {} ({})", e.user, e.verb, e.uri, e.code))
        .collect();
    let list: Vec<&String> = refused.iter().take(20).collect();
    ensure(
        refused.is_empty(),
        format!("{} requests were refused: {list:#?}", refused.len()),
    )
}

/// Each right by itself: its group, resource and verb.
fn granted() -> BTreeSet<(String, String, String)> {
    let rules: Vec<PolicyRule> = [
        rbac::namespaced(&route_kinds()),
        rbac::cluster(),
        rbac::lease(),
    ]
    .concat();
    rbac::each(&rules)
        .map(|(_, group, resource, verb)| (group.to_owned(), resource.to_owned(), verb.to_owned()))
        .collect()
}

/// Every right was used but what stands in `UNUSED`. Only a whole run can tell.
pub fn every_right_used(lab: &Lab) -> Result {
    let audit = lab.audit()?;
    let used: BTreeSet<(String, String, String)> = audit
        .iter()
        .filter(|e| is_serin(e) && !matches!(e.code, 401 | 403))
        .map(|e| (e.group.clone(), resource(e), e.verb.clone()))
        .collect();
    let said =
        |verb: &str, resource: &str| UNUSED.iter().any(|(v, r, _)| *v == verb && *r == resource);
    let granted = granted();
    // An older API server streams no lists: what is watched is listed there.
    let watched = |(group, resource, verb): &(String, String, String)| {
        verb == "list" && used.contains(&(group.clone(), resource.clone(), "watch".to_owned()))
    };
    let unused: Vec<_> = granted
        .difference(&used)
        .filter(|right| !watched(right))
        .filter(|(_, resource, verb)| !said(verb, resource))
        .collect();
    ensure(
        unused.is_empty(),
        format!("granted and never used, take them out of src/cli/rbac.rs: {unused:#?}"),
    )?;
    let stale: Vec<_> = UNUSED
        .iter()
        .filter(|(verb, resource, _)| {
            !granted.iter().any(|(_, r, v)| r == resource && v == verb)
                || used.iter().any(|(_, r, v)| r == resource && v == verb)
        })
        .collect();
    ensure(
        stale.is_empty(),
        format!("said to be granted and unused, and is not: {stale:#?}"),
    )
}
