//! A pod's status, as a real kubelet writes it.

use k8s_openapi::{
    api::core::v1::{
        Container, ContainerState, ContainerStateTerminated, ContainerStateWaiting,
        ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use crate::inside::HOST_IP;

/// Now, as objects want it.
pub(super) fn now() -> Time {
    Time(jiff::Timestamp::now())
}

/// What is known of one container.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) state: ContainerState,
    pub(super) last: Option<ContainerStateTerminated>,
    pub(super) restarts: i32,
    pub(super) started: bool,
    pub(super) ready: bool,
    /// It has run at least once.
    pub(super) has_run: bool,
    /// It will not run again.
    pub(super) finished: bool,
}

impl View {
    pub(super) fn new(container: &Container) -> Self {
        Self {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            state: waiting("ContainerCreating", None),
            last: None,
            restarts: 0,
            started: false,
            ready: false,
            has_run: false,
            finished: false,
        }
    }

    fn status(&self) -> ContainerStatus {
        ContainerStatus {
            name: self.name.clone(),
            image: self.image.clone(),
            image_id: if self.has_run {
                format!("lab://{}", self.image)
            } else {
                String::new()
            },
            state: Some(self.state.clone()),
            last_state: Some(ContainerState {
                terminated: self.last.clone(),
                ..ContainerState::default()
            }),
            restart_count: self.restarts,
            started: Some(self.started),
            ready: self.ready,
            ..ContainerStatus::default()
        }
    }

    /// The exit code of a container that will not run again.
    fn exit_code(&self) -> Option<i32> {
        self.state
            .terminated
            .as_ref()
            .filter(|_| self.finished)
            .map(|t| t.exit_code)
    }
}

/// A container that is not running, and why.
pub(super) fn waiting(reason: &str, message: Option<String>) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message,
        }),
        ..ContainerState::default()
    }
}

/// What is known of a pod besides its containers.
#[derive(Debug, Clone, Default)]
pub(super) struct PodFacts {
    pub(super) ip: Option<String>,
    pub(super) started_at: Option<Time>,
    pub(super) init_done: bool,
}

/// The whole status. `pod` is the newest known: conditions that others wrote are kept as they are;
/// `before` is what was written last: our own conditions keep their times.
pub(super) fn compose(
    pod: &Pod,
    before: &PodStatus,
    facts: &PodFacts,
    init: &[View],
    main: &[View],
) -> PodStatus {
    let phase = phase(pod, init, main);
    let wanted = wanted(pod, facts, main, matches!(phase, "Succeeded" | "Failed"));
    let written = before.conditions.as_deref().unwrap_or_default();
    let ours: Vec<PodCondition> = wanted
        .iter()
        .map(|(t, on, why)| condition(written, t, *on, why.as_ref()))
        .collect();
    let known = pod
        .status
        .as_ref()
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default();
    let foreign = known
        .iter()
        .filter(|c| !ours.iter().any(|o| o.type_ == c.type_))
        .cloned();
    let all = ours.iter().cloned().chain(foreign).collect();
    let statuses = |views: &[View]| Some(views.iter().map(View::status).collect());
    PodStatus {
        phase: Some(phase.to_owned()),
        conditions: Some(all),
        host_ip: Some(HOST_IP.to_owned()),
        host_ips: Some(vec![HostIP {
            ip: HOST_IP.to_owned(),
        }]),
        pod_ip: facts.ip.clone(),
        pod_ips: facts.ip.clone().map(|ip| vec![PodIP { ip }]),
        start_time: facts.started_at.clone(),
        container_statuses: statuses(main),
        init_container_statuses: if init.is_empty() {
            None
        } else {
            statuses(init)
        },
        ..PodStatus::default()
    }
}

/// What a condition is: its type, whether it is True, and why not.
type Wanted = (&'static str, bool, Option<(&'static str, String)>);

/// The conditions that a kubelet writes.
fn wanted(pod: &Pod, facts: &PodFacts, main: &[View], over: bool) -> [Wanted; 5] {
    let unready: Vec<&str> = main
        .iter()
        .filter(|v| !v.ready)
        .map(|v| v.name.as_str())
        .collect();
    let containers_ready = unready.is_empty() && facts.init_done;
    let mut why = (
        "ContainersNotReady",
        format!("containers with unready status: [{}]", unready.join(" ")),
    );
    if over {
        why = ("PodCompleted", String::new());
    }
    let gates = gates_open(pod);
    [
        ("PodReadyToStartContainers", facts.ip.is_some(), None),
        ("Initialized", facts.init_done, None),
        ("ContainersReady", containers_ready, Some(why.clone())),
        (
            "Ready",
            containers_ready && gates,
            Some(if containers_ready && !gates {
                (
                    "ReadinessGatesNotReady",
                    "a readiness gate's condition is not True".to_owned(),
                )
            } else {
                why
            }),
        ),
        ("PodScheduled", true, None),
    ]
}

fn phase(pod: &Pod, init: &[View], main: &[View]) -> &'static str {
    let failed = |v: &View| v.exit_code().is_some_and(|c| c != 0);
    if init.iter().any(failed) {
        return "Failed";
    }
    let all_over = main
        .iter()
        .all(|v| v.finished && v.state.terminated.is_some());
    if all_over && (restarts_never(pod) || pod.metadata.deletion_timestamp.is_some()) {
        return if main.iter().any(failed) {
            "Failed"
        } else {
            "Succeeded"
        };
    }
    if main.iter().all(|v| v.has_run) {
        "Running"
    } else {
        "Pending"
    }
}

fn restarts_never(pod: &Pod) -> bool {
    let policy = pod.spec.as_ref().and_then(|s| s.restart_policy.as_deref());
    matches!(policy, Some("Never" | "OnFailure"))
}

fn gates_open(pod: &Pod) -> bool {
    let gates = pod
        .spec
        .iter()
        .flat_map(|s| s.readiness_gates.iter().flatten());
    let known = pod
        .status
        .as_ref()
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default();
    gates
        .map(|g| &g.condition_type)
        .all(|t| known.iter().any(|c| &c.type_ == t && c.status == "True"))
}

fn condition(
    known: &[PodCondition],
    type_: &str,
    on: bool,
    why: Option<&(&str, String)>,
) -> PodCondition {
    let status = if on { "True" } else { "False" };
    let why = why.filter(|_| !on);
    let before = known
        .iter()
        .find(|c| c.type_ == type_ && c.status == status);
    PodCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: why.map(|(reason, _)| (*reason).to_owned()),
        message: why
            .map(|(_, message)| message.clone())
            .filter(|m| !m.is_empty()),
        last_transition_time: before
            .and_then(|c| c.last_transition_time.clone())
            .or_else(|| Some(now())),
        ..PodCondition::default()
    }
}
