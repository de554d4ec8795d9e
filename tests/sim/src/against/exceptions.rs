//! Where the simulated API server is not like a real one, on purpose, and why that is no matter.

use crate::api::kinds::{EVENT, Id, ROUTE, RUN, SERVICE, SET};

/// Of which kind, none for all; where, with all that is in it; why.
const EXCEPTIONS: &[(Option<Id>, &str, &str)] = &[
    (
        None,
        "/metadata/managedFields",
        "only those of routes are read, and of them only who wrote the rules last",
    ),
    (
        None,
        "/metadata/deletionGracePeriodSeconds",
        "always 0 but for pods, and never read",
    ),
    (
        None,
        "/metadata/remainingItemCount",
        "of a list's page, and never read",
    ),
    (
        Some(SET),
        "/status/terminatingReplicas",
        "newer than the oldest Kubernetes that is supported, and never read",
    ),
    (Some(SET), "/spec/template/spec/schedulerName", TEMPLATE),
    (Some(SET), "/spec/template/spec/securityContext", TEMPLATE),
    (
        Some(SET),
        "/spec/template/spec/containers/*/resources",
        TEMPLATE,
    ),
    (
        Some(SET),
        "/spec/template/spec/containers/*/terminationMessagePath",
        TEMPLATE,
    ),
    (
        Some(SET),
        "/spec/template/spec/containers/*/terminationMessagePolicy",
        TEMPLATE,
    ),
    (
        Some(SET),
        "/spec/template/spec/containers/*/imagePullPolicy",
        TEMPLATE,
    ),
    (Some(SERVICE), "/spec/clusterIP", "each has one of its own"),
    (Some(SERVICE), "/spec/clusterIPs", DEFAULT),
    (Some(SERVICE), "/spec/ipFamilies", DEFAULT),
    (Some(SERVICE), "/spec/ipFamilyPolicy", DEFAULT),
    (Some(SERVICE), "/spec/internalTrafficPolicy", DEFAULT),
    (Some(SERVICE), "/spec/sessionAffinity", DEFAULT),
    (Some(SERVICE), "/spec/type", DEFAULT),
    (Some(ROUTE), "/spec/parentRefs/*/group", DEFAULT),
    (Some(ROUTE), "/spec/parentRefs/*/kind", DEFAULT),
    (Some(ROUTE), "/spec/rules/*/matches", DEFAULT),
    (Some(ROUTE), "/spec/rules/*/backendRefs/*/group", DEFAULT),
    (Some(ROUTE), "/spec/rules/*/backendRefs/*/kind", DEFAULT),
    (Some(ROUTE), "/status/parents/*/parentRef/group", DEFAULT),
    (Some(ROUTE), "/status/parents/*/parentRef/kind", DEFAULT),
    (Some(RUN), "/spec/metrics/*/failureLimit", DEFAULT),
    (Some(EVENT), "/deprecatedSource", DEFAULT),
    (Some(EVENT), "/deprecatedFirstTimestamp", DEFAULT),
    (Some(EVENT), "/deprecatedLastTimestamp", DEFAULT),
];
const TEMPLATE: &str =
    "three defaults are enough for a template that comes back otherwise than it was written";
const DEFAULT: &str = "a default of the real one that nothing reads";

/// Whether a place in an answer may differ. An object is in `/object` of a watch's event, and among
/// the `/items/*` of a list.
pub fn excepted(kind: Id, path: &str) -> bool {
    let of = ["/object", "/items/*"];
    let inner = of.iter().find_map(|p| path.strip_prefix(p)).unwrap_or(path);
    EXCEPTIONS
        .iter()
        .any(|(of, place, _)| of.is_none_or(|k| k == kind) && inner == *place)
}
