//! `serin check`: asks the API server, as the controller's account, whether an install works: every
//! right is granted, Serin's kinds are served, a copy leads. `helm test` runs it.

use std::{
    io::{self, Write},
    time::Duration,
};

use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
    coordination::v1::{Lease, LeaseSpec},
    rbac::v1::PolicyRule,
};
use kube::{Api, Client, api::PostParams};
use thiserror::Error;

use super::{place::Place, rbac, run};
use crate::{
    api::names::{GROUP, VERSION},
    controller::rollouts::route_kinds,
};

/// How long a lease may stay without being renewed: more than twice as long as it lasts, since a
/// copy may just be taking over.
const LEASE_LIMIT: Duration = Duration::from_secs(40);
/// Time between two looks at the lease.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Why an install does not work, or why that cannot be told.
#[derive(Debug, Error)]
pub enum CheckError {
    /// The way to the cluster.
    #[error(transparent)]
    Cluster(#[from] run::RunError),
    /// The client.
    #[error("cannot make a client for the API server")]
    Client(#[source] Box<kube::Error>),
    /// Threads.
    #[error("cannot start threads")]
    System(#[source] io::Error),
    /// A question was not answered.
    #[error("the API server does not tell {0}")]
    Ask(String, #[source] Box<kube::Error>),
    /// Nobody reads what we print.
    #[error("cannot print")]
    Print(#[from] io::Error),
    /// Something is missing; what, was printed.
    #[error("{0} found wrong, see above")]
    Wrong(usize),
}

/// One right, as the API server is asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Right {
    namespace: String,
    group: String,
    resource: String,
    subresource: String,
    verb: String,
    name: String,
}

impl std::fmt::Display for Right {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if !self.subresource.is_empty() {
            write!(f, "/{}", self.subresource)?;
        }
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        if !self.name.is_empty() {
            write!(f, " {:?}", self.name)?;
        }
        match self.namespace.as_str() {
            "" => f.write_str(" in the cluster"),
            namespace => write!(f, " in namespace {namespace:?}"),
        }
    }
}

/// Each right of `rules` by itself, in `namespace`, or in the cluster where that is empty. The
/// name that a rule limits its objects to is `lease`.
fn rights(rules: &[PolicyRule], namespace: &str, lease: &str) -> Vec<Right> {
    let one = |(rule, group, resource, verb): (&PolicyRule, &str, &str, &str)| {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let name = rule.resource_names.as_ref().map(|_| lease.to_owned());
        Right {
            namespace: namespace.to_owned(),
            group: group.to_owned(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            verb: verb.to_owned(),
            name: name.unwrap_or_default(),
        }
    };
    rbac::each(rules).map(one).collect()
}

/// Prints what is found; an error when something is missing.
pub fn check(place: &Place) -> Result<(), CheckError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CheckError::System)?;
    runtime.block_on(look(place))
}

async fn look(place: &Place) -> Result<(), CheckError> {
    let config = run::config().await?;
    let lease_namespace = place.lease_namespace(&config);
    let client = Client::try_from(config).map_err(|e| CheckError::Client(Box::new(e)))?;
    let mut scopes: Vec<&str> = place.namespaces().collect();
    if scopes.is_empty() {
        scopes.push("");
    }
    let mut report = Report::default();

    let lease = place.lease_name.as_str();
    let rules = rbac::namespaced(&route_kinds());
    let mut needed: Vec<Right> = scopes
        .iter()
        .flat_map(|ns| rights(&rules, ns, lease))
        .collect();
    if place.leader_elect {
        needed.extend(rights(&rbac::lease(), &lease_namespace, lease));
    }
    let asked = needed.len();
    let refused = refused(&client, needed).await?;
    for right in &refused {
        report.wrong(&format!("not allowed: {right}"))?;
    }
    if refused.is_empty() {
        report.good(&format!("all of {asked} rights are granted"))?;
    }
    for right in self::refused(&client, rights(&rbac::cluster(), "", lease)).await? {
        report.note(&format!(
            "not allowed: {right}; ClusterAnalysisTemplates cannot be used"
        ))?;
    }
    kinds(&client, &mut report).await?;
    if place.leader_elect {
        leader(&client, &lease_namespace, lease, &mut report).await?;
    } else {
        report.note("without leader election nothing tells whether a copy runs")?;
    }
    match report.wrong {
        0 => Ok(()),
        wrong => Err(CheckError::Wrong(wrong)),
    }
}

/// What is found, as it is printed.
#[derive(Default)]
struct Report {
    wrong: usize,
}

impl Report {
    fn good(&self, what: &str) -> io::Result<()> {
        writeln!(io::stdout(), "ok     {what}")
    }

    fn note(&self, what: &str) -> io::Result<()> {
        writeln!(io::stdout(), "note   {what}")
    }

    fn wrong(&mut self, what: &str) -> io::Result<()> {
        self.wrong += 1;
        writeln!(io::stdout(), "wrong  {what}")
    }
}

/// Those of the rights that we do not have.
async fn refused(client: &Client, rights: Vec<Right>) -> Result<Vec<Right>, CheckError> {
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let mut out = vec![];
    for right in rights {
        let some = |word: &String| (!word.is_empty()).then(|| word.clone());
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    namespace: some(&right.namespace),
                    group: some(&right.group),
                    resource: some(&right.resource),
                    subresource: some(&right.subresource),
                    verb: some(&right.verb),
                    name: some(&right.name),
                    ..ResourceAttributes::default()
                }),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        let answer = api
            .create(&PostParams::default(), &review)
            .await
            .map_err(|e| CheckError::Ask(format!("whether we may {right}"), Box::new(e)))?;
        if !answer.status.is_some_and(|s| s.allowed) {
            out.push(right);
        }
    }
    Ok(out)
}

/// Whether each of Serin's kinds is served, in the version that we speak.
async fn kinds(client: &Client, report: &mut Report) -> Result<(), CheckError> {
    let version = format!("{GROUP}/{VERSION}");
    let served = match client.list_api_group_resources(&version).await {
        Ok(list) => list.resources.into_iter().map(|r| r.kind).collect(),
        Err(kube::Error::Api(status)) if status.code == 404 => vec![],
        Err(e) => return Err(CheckError::Ask(format!("what {version} has"), Box::new(e))),
    };
    let mut wanted: Vec<String> = crate::api::crds()
        .into_iter()
        .map(|(_, crd)| crd.spec.names.kind)
        .collect();
    wanted.retain(|kind| !served.contains(kind));
    if wanted.is_empty() {
        report.good(&format!("every kind of {version} is served"))?;
    }
    for kind in wanted {
        report.wrong(&format!(
            "not served: {kind} of {version}; apply the CustomResourceDefinitions"
        ))?;
    }
    Ok(())
}

/// Whether somebody holds the lease and renews it while we look. No clock of others is believed.
async fn leader(
    client: &Client,
    namespace: &str,
    name: &str,
    report: &mut Report,
) -> Result<(), CheckError> {
    let api: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let mut first: Option<LeaseSpec> = None;
    let renewed = async {
        loop {
            match api.get_opt(name).await {
                Err(e) => {
                    let what = format!("who holds lease {namespace}/{name}");
                    return Err(CheckError::Ask(what, Box::new(e)));
                }
                Ok(lease) => {
                    let now = lease.and_then(|l| l.spec).filter(is_held);
                    if let (Some(before), Some(now)) = (&first, &now)
                        && before.holder_identity == now.holder_identity
                        && before.renew_time != now.renew_time
                    {
                        return Ok(now.holder_identity.clone().unwrap_or_default());
                    }
                    // Another holder: it has to renew, too.
                    if first.as_ref().map(|s| &s.holder_identity)
                        != now.as_ref().map(|s| &s.holder_identity)
                    {
                        first = now;
                    }
                }
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    match tokio::time::timeout(LEASE_LIMIT, renewed).await {
        Ok(holder) => report.good(&format!("copy {:?} leads", holder?))?,
        Err(_) => report.wrong(&format!(
            "nobody renews lease {namespace}/{name}: no copy of the controller works; see its log"
        ))?,
    }
    Ok(())
}

fn is_held(spec: &LeaseSpec) -> bool {
    spec.holder_identity.as_ref().is_some_and(|h| !h.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_right_is_asked_for_by_itself() {
        let all = rights(&rbac::namespaced(&route_kinds()), "shop", "serin");
        let said: Vec<String> = all.iter().map(ToString::to_string).collect();
        for wanted in [
            "patch rollouts/status.serin.dev in namespace \"shop\"",
            "create services in namespace \"shop\"",
            "patch httproutes.gateway.networking.k8s.io in namespace \"shop\"",
        ] {
            assert!(
                said.iter().any(|s| s == wanted),
                "{wanted} is not in {said:#?}"
            );
        }
        let lease = rights(&rbac::lease(), "serin", "serin");
        let said: Vec<String> = lease.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "create leases.coordination.k8s.io in namespace \"serin\"",
                "get leases.coordination.k8s.io \"serin\" in namespace \"serin\"",
                "update leases.coordination.k8s.io \"serin\" in namespace \"serin\"",
            ]
        );
        let cluster = rights(&rbac::cluster(), "", "serin");
        assert_eq!(
            cluster.first().map(ToString::to_string).as_deref(),
            Some("list clusteranalysistemplates.serin.dev in the cluster")
        );
    }
}
