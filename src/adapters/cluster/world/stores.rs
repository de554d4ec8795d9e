//! The watched world: which kinds are kept, and which Rollout each of their objects concerns.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kube::{Client, runtime::reflector::Store};
use tokio::{sync::watch, task::JoinSet};

use crate::{
    api::{
        AnalysisRun, AnalysisTemplateSpec, Rollout,
        names::{GROUP, POD_TEMPLATE_HASH, ROLLOUT_LABEL, VERSION},
    },
    model::{
        object::{
            ANALYSIS_RUN, CONTROLLER_REVISION, DEPLOYMENT, Kind, REPLICA_SET, ROLLOUT, SERVICE,
        },
        observed::{References, TemplateKey},
    },
};

use super::{
    super::written::Written,
    listings::Listings,
    mirror::{Mirror, Read},
    pods::{self, Slice, StuckPod},
    queue::{Named, Queue},
    text::Text,
    triggers::{self, Touch, ready_store},
    views::{self, OwnRollout, OwnedRevision, OwnedRun, OwnedSet},
    watches::{Optional, Watches},
    watching::patient,
};

pub(in super::super) const ENDPOINT_SLICE: Kind = Kind {
    group: "discovery.k8s.io",
    version: "v1",
    kind: "EndpointSlice",
    plural: "endpointslices",
};
const POD: Kind = Kind {
    group: "",
    version: "v1",
    kind: "Pod",
    plural: "pods",
};
const TEMPLATE: Kind = Kind {
    group: GROUP,
    version: VERSION,
    kind: "AnalysisTemplate",
    plural: "analysistemplates",
};
const CLUSTER_TEMPLATE: Kind = Kind {
    group: GROUP,
    version: VERSION,
    kind: "ClusterAnalysisTemplate",
    plural: "clusteranalysistemplates",
};

/// What a Rollout refers to.
pub type ReferencesOf = Arc<dyn Fn(&Rollout) -> References + Send + Sync>;

/// The watched world.
#[derive(Debug)]
pub struct World {
    /// Rollouts.
    pub rollouts: Arc<Mirror<OwnRollout>>,
    /// AnalysisRuns of Rollouts.
    pub runs: Arc<Mirror<OwnedRun>>,
    /// ReplicaSets of Rollouts.
    pub sets: Arc<Mirror<OwnedSet>>,
    /// ControllerRevisions of Rollouts.
    pub revisions: Arc<Mirror<OwnedRevision>>,
    /// Services.
    pub services: Arc<Mirror<Text>>,
    /// EndpointSlices of role Services.
    pub slices: Arc<Mirror<Slice>>,
    /// Pods that cannot start.
    pub pods: Arc<Mirror<StuckPod>>,
    /// AnalysisTemplates.
    pub templates: Arc<Mirror<AnalysisTemplateSpec>>,
    /// ClusterAnalysisTemplates.
    pub cluster_templates: Arc<Optional<AnalysisTemplateSpec>>,
    /// Deployments. A right to look at them is needed where one is adopted, and nowhere else.
    pub deployments: Arc<Optional<Text>>,
    /// Route objects, by kind.
    pub routes: BTreeMap<Kind, Arc<Optional<Text>>>,
    tasks: JoinSet<()>,
}

/// What the watched world asks for.
#[derive(Debug)]
pub struct Signals {
    /// Rollouts to look at.
    pub rollouts: Arc<Queue>,
    /// AnalysisRuns to look at.
    pub runs: Arc<Queue>,
    /// The Rollouts, for a queue of work.
    pub rollout_store: Store<Named<Rollout>>,
    /// The AnalysisRuns, for a queue of work.
    pub run_store: Store<Named<AnalysisRun>>,
    /// Rollouts that cannot be read, to be told of.
    pub unreadable: Arc<Queue>,
    /// Changes with every change of a Rollout.
    pub changes: watch::Receiver<u64>,
}

/// Which part of the cluster is watched, and for what.
pub struct Scope {
    /// The namespaces; all where it is empty.
    pub namespaces: Vec<String>,
    /// The kinds of the routers' objects.
    pub routes: Vec<Kind>,
    /// What a Rollout refers to.
    pub references: ReferencesOf,
}

/// Starts to watch.
pub fn start(client: &Client, scope: &Scope, written: &Arc<Written>) -> (World, Signals) {
    let (queue, run_queue) = (Arc::new(Queue::default()), Arc::new(Queue::default()));
    let unreadable = Arc::<Queue>::default();
    let told = Arc::clone(&unreadable);
    let changes_tx = watch::Sender::new(0);
    let changes = changes_tx.subscribe();
    let (run_store, run_writer) = ready_store();
    let (rollout_store, rollout_writer) = ready_store();
    let patient = patient(client);
    let mut watches = Watches {
        client: &patient,
        namespaces: &scope.namespaces,
        tasks: JoinSet::new(),
    };

    let echo = triggers::Runs {
        rollouts: Arc::clone(&queue),
        runs: Arc::clone(&run_queue),
        written: Arc::clone(written),
    };
    let runs = watches.keep(
        ANALYSIS_RUN,
        None,
        Arc::new(views::run),
        echo.run_changed(run_writer),
        |_| {},
    );
    let references = Arc::clone(&scope.references);
    let rollouts = watches.keep(
        ROLLOUT,
        None,
        Arc::new(move |o| views::rollout(o, references.as_ref())),
        echo.rollout_changed(&runs, rollout_writer, changes_tx),
        move |key| told.push(key.clone()),
    );
    let touch = Touch {
        rollouts: Arc::clone(&rollouts),
        queue: Arc::clone(&queue),
        written: Arc::clone(written),
    };
    let world = rest_of_world(watches, scope, &touch, rollouts, runs);
    let signals = Signals {
        rollouts: queue,
        runs: run_queue,
        rollout_store,
        run_store,
        unreadable,
        changes,
    };
    (world, signals)
}

fn rest_of_world(
    mut watches: Watches<'_>,
    scope: &Scope,
    touch: &Touch,
    rollouts: Arc<Mirror<OwnRollout>>,
    runs: Arc<Mirror<OwnedRun>>,
) -> World {
    let ours = Some(ROLLOUT_LABEL);
    let by_set = touch.by_name(|s: &OwnedSet| s.rollout.clone());
    let sets = watches.keep(
        REPLICA_SET,
        ours,
        Arc::new(views::replica_set),
        by_set,
        |_| {},
    );
    let by_revision = touch.by_name(|r: &OwnedRevision| r.rollout.clone());
    let read = Arc::new(views::revision);
    let revisions = watches.keep(CONTROLLER_REVISION, ours, read, by_revision, |_| {});
    let by_slice = touch.by_name(|s: &Slice| s.rollout.clone());
    let slices = watches.keep(
        ENDPOINT_SLICE,
        ours,
        Arc::new(pods::slice),
        by_slice,
        |_| {},
    );
    let (hashed, by_pod) = (Some(POD_TEMPLATE_HASH), touch.by_pod(&sets));
    let pods = watches.keep(POD, hashed, Arc::new(pods::stuck_pod), by_pod, |_| {});
    World {
        rollouts,
        runs,
        sets,
        revisions,
        slices,
        pods,
        services: services(&mut watches, touch),
        templates: templates(&mut watches, touch),
        cluster_templates: cluster_templates(&mut watches, touch),
        deployments: deployments(&mut watches, scope, touch),
        routes: routes(&mut watches, scope, touch),
        tasks: watches.tasks,
    }
}

fn services(watches: &mut Watches<'_>, touch: &Touch) -> Arc<Mirror<Text>> {
    let by_service = touch.by_word(|k| views::word(SERVICE.kind, &k.namespace, &k.name));
    watches.keep(
        SERVICE,
        None,
        Arc::new(|o| views::whole(o, SERVICE)),
        by_service,
        |_| {},
    )
}

fn templates(watches: &mut Watches<'_>, touch: &Touch) -> Arc<Mirror<AnalysisTemplateSpec>> {
    let key = |name: &str| TemplateKey {
        cluster: false,
        name: name.to_owned(),
    };
    let by_template = touch.by_word(move |k| views::template_word(&k.namespace, &key(&k.name)));
    watches.keep(
        TEMPLATE,
        None,
        Arc::new(views::template),
        by_template,
        |_| {},
    )
}

fn cluster_templates(
    watches: &mut Watches<'_>,
    touch: &Touch,
) -> Arc<Optional<AnalysisTemplateSpec>> {
    let key = |name: &str| TemplateKey {
        cluster: true,
        name: name.to_owned(),
    };
    let by_template = touch.by_word(move |k| views::template_word("", &key(&k.name)));
    watches.keep_optional(
        CLUSTER_TEMPLATE,
        &[],
        true,
        Arc::new(views::template),
        by_template,
    )
}

fn deployments(watches: &mut Watches<'_>, scope: &Scope, touch: &Touch) -> Arc<Optional<Text>> {
    let by_deployment = touch.by_word(|k| views::word(DEPLOYMENT.kind, &k.namespace, &k.name));
    let read: Read<Text> = Arc::new(|o| views::whole(o, DEPLOYMENT));
    watches.keep_optional(DEPLOYMENT, &scope.namespaces, false, read, by_deployment)
}

fn routes(
    watches: &mut Watches<'_>,
    scope: &Scope,
    touch: &Touch,
) -> BTreeMap<Kind, Arc<Optional<Text>>> {
    let mut routes = BTreeMap::new();
    for kind in scope.routes.iter().copied() {
        let read: Read<Text> = Arc::new(move |o| views::raw(o, kind));
        let by_route = touch.by_word(move |k| views::word(kind.kind, &k.namespace, &k.name));
        let kept = watches.keep_optional(kind, &scope.namespaces, false, read, by_route);
        routes.insert(kind, kept);
    }
    routes
}

impl World {
    /// The kinds that every Rollout needs.
    fn needed(&self) -> [&Listings; 8] {
        [
            self.rollouts.listings(),
            self.runs.listings(),
            self.sets.listings(),
            self.revisions.listings(),
            self.services.listings(),
            self.slices.listings(),
            self.pods.listings(),
            self.templates.listings(),
        ]
    }

    /// The kinds that every Rollout needs and that have not been listed yet.
    pub fn lacking(&self) -> Vec<&'static str> {
        let lacking = self.needed().into_iter().filter(|l| !l.is_ready());
        lacking.map(Listings::kind).collect()
    }

    /// Of the kinds that every Rollout needs, those that have not been listed in a namespace.
    pub fn lacking_in(&self, namespace: &str) -> Vec<&'static str> {
        let lacking = self.needed().into_iter().filter(|l| !l.shows(namespace));
        lacking.map(Listings::kind).collect()
    }

    /// The namespaces in which something may not be listed that every Rollout needs.
    pub fn refused(&self) -> BTreeSet<String> {
        self.needed().iter().flat_map(|l| l.refused()).collect()
    }

    /// Waits until every kind that every Rollout needs was listed wherever it may be, and of the
    /// others it is known whether they are there.
    pub async fn ready(&self) {
        for listings in self.needed() {
            listings.ready().await;
        }
        self.cluster_templates.known().await;
        self.deployments.known().await;
        for route in self.routes.values() {
            route.known().await;
        }
    }

    /// The tasks that watch.
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }
}
