//! Listings: of which namespaces a kind has been listed, so that an absence means something there.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listing {
    /// Nothing was answered yet.
    Awaited,
    /// It may not be listed: the namespace is gone with the right to look there, or not there yet.
    Refused,
    Listed,
}

/// How far one kind has been listed, by namespace; by the empty name where all are one list.
#[derive(Debug)]
pub struct Listings {
    kind: &'static str,
    scopes: watch::Sender<BTreeMap<String, Listing>>,
}

impl Listings {
    /// Of `kind`, of which nothing was listed yet.
    pub fn new(kind: &'static str, scopes: impl IntoIterator<Item = String>) -> Self {
        let awaited = scopes.into_iter().map(|s| (s, Listing::Awaited));
        Self {
            kind,
            scopes: watch::Sender::new(awaited.collect()),
        }
    }

    /// The kind.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// Whether it was listed wherever it may be. What may not be listed holds up nobody else; where
    /// nothing may be, the right may still come.
    pub fn is_ready(&self) -> bool {
        ready(&self.scopes.borrow())
    }

    /// Waits until it is ready.
    pub async fn ready(&self) {
        // The sender lives as long as `self`.
        let _ = self.scopes.subscribe().wait_for(ready).await;
    }

    /// Whether it was listed in a namespace, so that an absence means something there.
    pub fn shows(&self, namespace: &str) -> bool {
        let scopes = self.scopes.borrow();
        scopes.get(namespace).or_else(|| scopes.get("")) == Some(&Listing::Listed)
    }

    /// The namespaces in which it may not be listed.
    pub fn refused(&self) -> BTreeSet<String> {
        let scopes = self.scopes.borrow();
        let refused = scopes.iter().filter(|(_, l)| **l == Listing::Refused);
        refused.map(|(namespace, _)| namespace.clone()).collect()
    }

    /// It was listed.
    pub(super) fn listed(&self, namespace: &str) {
        if self.set(namespace, Listing::Listed) == Some(Listing::Refused) {
            let kind = self.kind;
            tracing::info!(kind, namespace, "may be listed now and is looked after");
        }
    }

    /// It may not be listed. What was listed before still counts.
    pub(super) fn may_not(&self, namespace: &str) {
        if !self.shows(namespace) {
            self.set(namespace, Listing::Refused);
        }
    }

    /// What stood there before.
    fn set(&self, namespace: &str, to: Listing) -> Option<Listing> {
        let mut before = None;
        self.scopes.send_if_modified(|scopes| {
            before = scopes.get_mut(namespace).map(|l| std::mem::replace(l, to));
            before != Some(to)
        });
        before
    }
}

fn ready(scopes: &BTreeMap<String, Listing>) -> bool {
    let has = |wanted| scopes.values().any(|l| *l == wanted);
    has(Listing::Listed) && !has(Listing::Awaited)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_that_may_not_be_listed_holds_up_no_other_and_shows_nothing() {
        let listings = Listings::new("Thing", ["a".to_owned(), "b".to_owned()]);
        listings.may_not("a");
        assert!(!listings.is_ready(), "b was not answered");
        listings.may_not("b");
        assert!(!listings.is_ready(), "nothing is listed");
        listings.listed("b");
        assert!(listings.is_ready() && listings.shows("b") && !listings.shows("a"));
        assert_eq!(listings.refused(), ["a".to_owned()].into());
        listings.listed("a");
        listings.may_not("a");
        assert!(listings.shows("a"), "what was listed still counts");

        let all = Listings::new("Thing", [String::new()]);
        all.may_not("");
        assert!(!all.is_ready() && !all.shows("a"));
        all.listed("");
        assert!(all.is_ready() && all.shows("a"));
    }
}
