//! Names on the wire: group, labels, annotations, finalizer, conditions, reasons.

/// API group of all of Serin's kinds.
pub const GROUP: &str = "serin.dev";
/// Version of the API group.
pub const VERSION: &str = "v1alpha1";
/// `group/version` as it stands in `apiVersion`.
pub const API_VERSION: &str = "serin.dev/v1alpha1";
/// Field manager of everything the controller writes.
pub const MANAGER: &str = "serin";
/// `spec.controllerName` of a Rollout that names none.
pub const CONTROLLER_NAME: &str = "serin.dev/controller";

/// Label on pods and ReplicaSets: the revision's hash. After a restart Serin adds its time to a pod template, too, and nothing else.
pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";
/// Annotation on pods and in a revision's template: when the last restart was asked for.
pub const RESTARTED_AT: &str = "serin.dev/restarted-at";
/// Label on objects that Serin makes: the name of their Rollout.
pub const ROLLOUT_LABEL: &str = "serin.dev/rollout";

/// Annotation on every object with a hazardous write: the sequence number of the decision behind it.
pub const DECISION: &str = "serin.dev/decision";
/// Annotation on a Deployment that is adopted: the name of the Rollout.
pub const ADOPTED_BY: &str = "serin.dev/adopted-by";
/// Annotation on a route whose backends Serin manages: the backends that it took out, to be put back, as JSON.
pub const BACKENDS: &str = "serin.dev/backends";
/// Annotation on a ControllerRevision: what became of the revision.
pub const VERDICT: &str = "serin.dev/verdict";
/// Annotation on a ControllerRevision: by whom or by what that came about.
pub const VERDICT_BY: &str = "serin.dev/verdict-by";
/// Annotation on a ControllerRevision: when the revision was promoted last.
pub const PROMOTED_AT: &str = "serin.dev/promoted-at";
/// Annotation on a ControllerRevision: the hash of the revision that the template describes, in whose place this
/// one is deployed.
pub const PINNED_OVER: &str = "serin.dev/pinned-over";
/// Finalizer that is held while a foreign route is bent, or a Deployment adopted.
pub const FINALIZER: &str = "serin.dev/route";

/// Prefix of every command annotation.
pub const COMMAND_PREFIX: &str = "serin.dev/";
/// Ends the annotation beside a command's that says who gave it.
pub const STAMP_SUFFIX: &str = "-by";

/// The condition types of a Rollout.
pub mod condition {
    /// The desired revision is stable and serves.
    pub const READY: &str = "Ready";
    /// Work is going on (kstatus).
    pub const RECONCILING: &str = "Reconciling";
    /// Work cannot go on without somebody's help (kstatus).
    pub const STALLED: &str = "Stalled";
    /// At least the wanted number of pods is available.
    pub const AVAILABLE: &str = "Available";
    /// A revision is being rolled out, or was.
    pub const PROGRESSING: &str = "Progressing";
    /// The rollout waits for a person.
    pub const PAUSED: &str = "Paused";
}

/// Stable reasons: of conditions, events and history entries.
pub mod reason {
    /// The first revision became available and is stable.
    pub const DEPLOYED: &str = "Deployed";
    /// A new revision was recorded.
    pub const REVISION_CREATED: &str = "RevisionCreated";
    /// A canary attempt began.
    pub const ATTEMPT_STARTED: &str = "AttemptStarted";
    /// A step of the attempt began.
    pub const STEP_STARTED: &str = "StepStarted";
    /// Weight moved.
    pub const WEIGHT_CHANGED: &str = "WeightChanged";
    /// All steps were passed; the new revision takes over.
    pub const PROMOTING: &str = "Promoting";
    /// The new revision is stable. From here on an abort changes nothing, unless it bakes.
    pub const PROMOTED: &str = "Promoted";
    /// The new revision is stable, and must still prove good: until then a failure or an abort goes back at once.
    pub const BAKING: &str = "Baking";
    /// It has proved good, or somebody or another template ended that time: there is no going back at once any more.
    pub const BAKED: &str = "Baked";
    /// Promotion is finished: the stable Service serves the new revision.
    pub const COMPLETED: &str = "Completed";
    /// Serin rolled back by itself.
    pub const ROLLED_BACK: &str = "RolledBack";
    /// Somebody aborted.
    pub const ABORTED: &str = "Aborted";
    /// A newer template took the place of the one in flight.
    pub const SUPERSEDED: &str = "Superseded";
    /// Somebody went back to an earlier revision. The template stays as it is, and is not deployed.
    pub const UNDONE: &str = "Undone";
    /// Another template is there, or the revision that was gone back to is no more: from here on the template
    /// counts again.
    pub const UNDO_ENDED: &str = "UndoEnded";
    /// Somebody asked for fresh pods: those of the stable revision are replaced by others of the same template.
    pub const RESTARTED: &str = "Restarted";
    /// The stable template came back while another was in flight.
    pub const REVERTED: &str = "Reverted";
    /// Traffic does not go back to stable, since stable would serve worse.
    pub const ABORT_HELD: &str = "AbortHeld";
    /// Waiting for a person.
    pub const PAUSED: &str = "Paused";
    /// Going on.
    pub const RESUMED: &str = "Resumed";
    /// A command was carried out.
    pub const COMMAND_DONE: &str = "CommandDone";
    /// A command was refused; the note says what to give instead.
    pub const COMMAND_REFUSED: &str = "CommandRefused";
    /// The spec cannot be carried out as written.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// Somebody else keeps changing what Serin writes.
    pub const ROUTE_CONFLICT: &str = "RouteConflict";
    /// The route's weights were changed by somebody else and put right.
    pub const ROUTE_REPAIRED: &str = "RouteRepaired";
    /// The role Services stand in the routes, in the place of the user's Service.
    pub const ROUTE_BOUND: &str = "RouteBound";
    /// The user's Service stands in the routes again.
    pub const ROUTE_RELEASED: &str = "RouteReleased";
    /// A Deployment is adopted: it stays paused, and its ReplicaSets become the Rollout's.
    pub const ADOPTED: &str = "Adopted";
    /// The adopted Deployment was resumed by somebody, and is paused again.
    pub const DEPLOYMENT_RESUMED: &str = "DeploymentResumed";
    /// The adopted Deployment has its ReplicaSets again, and is resumed.
    pub const HANDED_BACK: &str = "HandedBack";
    /// The adopted Deployment has its ReplicaSets again, and stays paused: its template is not what they run.
    pub const LEFT_PAUSED: &str = "LeftPaused";
    /// No progress within `progressDeadlineSeconds`.
    pub const PROGRESS_DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";
    /// The lost status was rebuilt from the revisions and the live route.
    pub const STATUS_REBUILT: &str = "StatusRebuilt";
    /// All is as desired.
    pub const HEALTHY: &str = "Healthy";
    /// A role Service turned to another revision.
    pub const SERVICE_SWITCHED: &str = "ServiceSwitched";
    /// A Service that no strategy turns any more selects the pods of all revisions again.
    pub const SERVICE_RELEASED: &str = "ServiceReleased";
    /// An old revision was deleted.
    pub const REVISION_DELETED: &str = "RevisionDeleted";
    /// Old pods are scaled down.
    pub const SCALED_DOWN: &str = "ScaledDown";
    /// The steps in the spec differ from those of the attempt in flight.
    pub const STEPS_CHANGED: &str = "StepsChanged";
    /// The Services or routes in the spec differ from those by which the attempt in flight shifts traffic.
    pub const ROUTING_CHANGED: &str = "RoutingChanged";
    /// What was decided is refused: an object of that name is somebody else's, or the API server says no.
    pub const NOT_CARRIED_OUT: &str = "NotCarriedOut";
    /// An error in Serin itself: it holds.
    pub const INTERNAL_ERROR: &str = "InternalError";
}
