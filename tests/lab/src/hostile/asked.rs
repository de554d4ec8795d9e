//! What a request asks for, by its method, path and query.

use http::{Method, Uri};

/// A kind of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requests {
    /// Of one object; and dry runs, which change nothing.
    Reads,
    /// Of many objects.
    Lists,
    /// Watches.
    Watches,
    /// Everything that changes something.
    Writes,
    /// All of these.
    All,
}

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The kind of request; never [`Requests::All`].
    pub requests: Requests,
    /// Plural, with the subresource: `rollouts/status`. Empty where the path names none.
    pub resource: String,
}

impl Asked {
    pub(crate) fn of(method: &Method, uri: &Uri) -> Self {
        let mut parts = uri.path().split('/').filter(|p| !p.is_empty());
        // `/api/v1/..` or `/apis/group/version/..`
        let skipped = match parts.next() {
            Some("api") => 1,
            Some("apis") => 2,
            _ => usize::MAX,
        };
        let mut rest: Vec<&str> = parts.skip(skipped).collect();
        if rest.first() == Some(&"namespaces") && rest.len() > 2 {
            rest.drain(..2);
        }
        let resource = match rest.as_slice() {
            [] => String::new(),
            [resource, _, sub, ..] => format!("{resource}/{sub}"),
            [resource, ..] => (*resource).to_owned(),
        };
        let query = uri.query().unwrap_or_default();
        let has = |pair: &str| query.split('&').any(|p| p == pair);
        let requests = if method != Method::GET && !has("dryRun=All") {
            Requests::Writes
        } else if has("watch=true") || has("watch=1") {
            Requests::Watches
        } else if method == Method::GET && rest.len() == 1 {
            Requests::Lists
        } else {
            Requests::Reads
        };
        Self { requests, resource }
    }
}

#[cfg(test)]
mod tests {
    use super::{Asked, Requests};

    #[test]
    fn paths_are_understood() {
        for (method, uri, requests, resource) in [
            (
                "GET",
                "/api/v1/namespaces/a/pods/b",
                Requests::Reads,
                "pods",
            ),
            (
                "GET",
                "/api/v1/namespaces/a/pods?limit=5",
                Requests::Lists,
                "pods",
            ),
            ("GET", "/api/v1/namespaces", Requests::Lists, "namespaces"),
            ("GET", "/api/v1/namespaces/a", Requests::Reads, "namespaces"),
            (
                "GET",
                "/apis/apps/v1/replicasets?x=y&watch=true",
                Requests::Watches,
                "replicasets",
            ),
            (
                "PATCH",
                "/apis/serin.dev/v1alpha1/namespaces/a/rollouts/app/status",
                Requests::Writes,
                "rollouts/status",
            ),
            (
                "POST",
                "/apis/apps/v1/namespaces/a/replicasets?dryRun=All",
                Requests::Reads,
                "replicasets",
            ),
            ("GET", "/version", Requests::Reads, ""),
        ] {
            let asked = Asked::of(
                &method.parse().expect("a method"),
                &uri.parse().expect("a URI"),
            );
            let wanted = Asked {
                requests,
                resource: resource.to_owned(),
            };
            assert_eq!(asked, wanted, "{method} {uri}");
        }
    }
}
