//! Watches: one task for each kind and namespace, and kinds that need not be there.

use std::{sync::Arc, time::Duration};

use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, ListParams},
    runtime::watcher::Config,
};
use tokio::{sync::watch, task::JoinSet};

use crate::model::object::Kind;

use super::{
    lean::Lean,
    listings::Listings,
    mirror::{Changed, Key, Mirror, Read},
    watching::Listed,
};

/// How often to look for a kind that is not there.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// A kind that need not be there.
#[derive(Debug)]
pub struct Optional<T> {
    /// What is kept of it.
    pub mirror: Arc<Mirror<T>>,
    /// Whether it is there, or may be; none until that was asked.
    there: watch::Sender<Option<bool>>,
}

impl<T: Send + Sync + 'static> Optional<T> {
    /// Whether an absence in the mirror means something in a namespace.
    pub fn shows(&self, namespace: &str) -> bool {
        match *self.there.borrow() {
            None => false,
            Some(there) => !there || self.mirror.listings().shows(namespace),
        }
    }
    /// Waits until it was asked whether the kind is there.
    pub async fn known(&self) {
        let _ = self.there.subscribe().wait_for(Option::is_some).await;
    }
}

/// Starts watches.
pub struct Watches<'a> {
    /// The way to the API server.
    pub client: &'a Client,
    /// The namespaces; all where it is empty.
    pub namespaces: &'a [String],
    /// The tasks that watch.
    pub tasks: JoinSet<()>,
}

fn resource(kind: Kind) -> ApiResource {
    ApiResource {
        group: kind.group.to_owned(),
        version: kind.version.to_owned(),
        api_version: kind.api_version(),
        kind: kind.kind.to_owned(),
        plural: kind.plural.to_owned(),
    }
}

/// Each scope of a kind: its namespace, empty for all, and the way to it.
fn scopes<K: Listed>(client: &Client, kind: Kind, namespaces: &[String]) -> Vec<(String, Api<K>)> {
    let resource = resource(kind);
    if namespaces.is_empty() {
        return vec![(String::new(), Api::all_with(client.clone(), &resource))];
    }
    let one = |ns: &String| {
        (
            ns.clone(),
            Api::namespaced_with(client.clone(), ns, &resource),
        )
    };
    namespaces.iter().map(one).collect()
}

/// What is to be listed of a kind.
fn listings<K>(kind: Kind, scopes: &[(String, Api<K>)]) -> Listings {
    Listings::new(kind.kind, scopes.iter().map(|(ns, _)| ns.clone()))
}

impl Watches<'_> {
    /// Watches a kind and keeps what `read` makes of it. `selector` is a label.
    pub fn keep<T: Send + Sync + 'static>(
        &mut self,
        kind: Kind,
        selector: Option<&str>,
        read: Read<T>,
        changed: Changed<T>,
        warn: impl Fn(&Key) + Send + Sync + 'static,
    ) -> Arc<Mirror<T>> {
        let scopes = scopes::<Lean>(self.client, kind, self.namespaces);
        let mirror = Arc::new(Mirror::new(listings(kind, &scopes), read, changed, warn));
        for (namespace, api) in scopes {
            let mirror = Arc::clone(&mirror);
            let config = selector.map_or_else(listing, |s| listing().labels(s));
            self.tasks
                .spawn(async move { mirror.watch(api, config, namespace).await });
        }
        mirror
    }

    /// Watches a kind once it is there, with who manages which of its fields. `forbidden_is_absent`: without the right to list it, do
    /// without it, rather than to fail for those Rollouts that need it.
    pub fn keep_optional<T: Send + Sync + 'static>(
        &mut self,
        kind: Kind,
        namespaces: &[String],
        forbidden_is_absent: bool,
        read: Read<T>,
        changed: Changed<T>,
    ) -> Arc<Optional<T>> {
        let scopes = scopes::<DynamicObject>(self.client, kind, namespaces);
        let mirror = Mirror::new(listings(kind, &scopes), read, changed, |_| {});
        let optional = Arc::new(Optional {
            mirror: Arc::new(mirror),
            there: watch::Sender::new(None),
        });
        let kept = Arc::clone(&optional);
        self.tasks.spawn(async move {
            await_kind(&scopes, kind, &kept.there, forbidden_is_absent).await;
            let all = scopes
                .into_iter()
                .map(|(ns, api)| kept.mirror.watch(api, listing(), ns));
            futures::future::join_all(all).await;
        });
        optional
    }
}

/// How objects are listed: in pages, since a page is in memory as a tree before it is read, many times
/// the size of what is kept of it.
fn listing() -> Config {
    Config::default().page_size(100)
}

/// Whether a kind is there: one namespace that may be looked into tells.
async fn is_there(
    scopes: &[(String, Api<DynamicObject>)],
    forbidden_is_absent: bool,
) -> kube::Result<bool> {
    for (_, api) in scopes {
        match api.list(&ListParams::default().limit(1)).await {
            Ok(_) => return Ok(true),
            Err(kube::Error::Api(s)) if s.code == 404 => return Ok(false),
            Err(kube::Error::Api(s)) if s.code == 403 => {}
            Err(error) => return Err(error),
        }
    }
    Ok(!forbidden_is_absent)
}

/// Looks for a kind until it is there.
async fn await_kind(
    scopes: &[(String, Api<DynamicObject>)],
    kind: Kind,
    there: &watch::Sender<Option<bool>>,
    forbidden_is_absent: bool,
) {
    loop {
        let found = match is_there(scopes, forbidden_is_absent).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(kind = kind.kind, %error, "cannot tell whether the kind is there, trying again");
                // As one that is there and not listed: those who need it wait, and nobody else does.
                there.send_if_modified(|there| there.replace(there.unwrap_or(true)).is_none());
                tokio::time::sleep(Duration::from_secs(2)).await;
                continue;
            }
        };
        if there.send_replace(Some(found)) != Some(found) {
            tracing::info!(kind = kind.kind, found, "optional kind");
        }
        if found {
            return;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
