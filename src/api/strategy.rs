//! Strategies: how a new revision takes over.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{traffic::TrafficRouting, units::HumanDuration};

/// The strategy. Set exactly one.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.blueGreen), has(self.canary), has(self.rolling)].filter(x, x).size() == 1")
    .message("set exactly one strategy: blueGreen, canary or rolling"))]
pub struct Strategy {
    /// The new revision comes up beside the old one, is tried, and then gets all traffic at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blue_green: Option<BlueGreen>,
    /// Traffic moves to the new revision step by step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// Pods of the old revision are replaced by pods of the new one, some at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolling: Option<Rolling>,
}

/// Canary: the new revision gets a growing share of the traffic.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.trafficRouting) || has(self.service)")
    .message("trafficRouting needs service: the Service from which the role Services are cloned"))]
#[x_kube(validation = Rule::new("!has(self.stableService) || !has(self.canaryService) || self.stableService != self.canaryService")
    .message("stableService and canaryService must differ"))]
#[x_kube(validation = Rule::new("!has(self.minPodsPerReplicaSet) || has(self.trafficRouting)")
    .message("minPodsPerReplicaSet has no effect without trafficRouting: take it out"))]
#[x_kube(validation = Rule::new("!has(self.dynamicStableScale) || !self.dynamicStableScale || has(self.trafficRouting)")
    .message("dynamicStableScale has no effect without trafficRouting: take it out"))]
pub struct Canary {
    /// Your Service, only read. Serin makes two clones of it, the role Services, which select the
    /// pods of the stable and of the canary revision; your route names those two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub service: Option<String>,
    /// Name of the stable role Service. Default: `<service>-stable`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub stable_service: Option<String>,
    /// Name of the canary role Service. Default: `<service>-canary`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub canary_service: Option<String>,
    /// The role Services exist already and belong to somebody else; Serin only sets the
    /// `pod-template-hash` in their selectors. Default: false, and a Service that belongs to
    /// somebody else is refused.
    #[serde(default, skip_serializing_if = "is_false")]
    pub shared: bool,
    /// How traffic is split. Without it the share of pods is the share of traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_routing: Option<TrafficRouting>,
    /// The fewest pods that the canary has once it gets traffic, so that it does not stand or fall with one pod; never
    /// more than `replicas`. A `setCanaryScale` goes before it. Default: as many as its share of the traffic needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub min_pods_per_replica_set: Option<i32>,
    /// Whether the stable revision gives up pods as its share of the traffic falls, so that both revisions together have
    /// hardly more than `replicas`. An abort then takes its time: the traffic goes back step by step, as pods of the stable
    /// revision come up again. Needs trafficRouting. Default: false, and the stable revision keeps its full size.
    #[serde(default, skip_serializing_if = "is_false")]
    pub dynamic_stable_scale: bool,
    /// Pods above `replicas` while pods are the weight (no trafficRouting). A number or a percentage,
    /// rounded up. Default: 25%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_surge: Option<IntOrString>,
    /// Pods below `replicas` while pods are the weight (no trafficRouting). A number or a percentage,
    /// rounded down. Default: 25%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<IntOrString>,
    /// How long the old revision keeps its full size after a promotion. Default: 30s; `0s` is at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_down_delay: Option<HumanDuration>,
    /// How long the canary keeps its size after an abort, counted from the moment when it no longer
    /// gets traffic. Default: 30s; `0s` is at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort_scale_down_delay: Option<HumanDuration>,
    /// At most so many old revisions keep their size for `scaleDownDelay` or `abortScaleDownDelay`: with one more, the
    /// oldest is scaled down at once. Default: as many as there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub scale_down_delay_revision_limit: Option<i32>,
    /// Analysis in the background, from `startingStep` until the promotion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<BackgroundAnalysis>,
    /// How long the revision must prove good once it is promoted. Meanwhile it has all traffic, and one failure takes
    /// everything back at once; the old revision keeps its full size for that, where traffic is routed. Default: no such time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bake: Option<Bake>,
    /// The steps, in order. After the last one the new revision is promoted. An attempt runs the
    /// steps as they were when it started; a later edit waits for the next attempt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub steps: Vec<Step>,
}

/// Blue-green: the new revision comes up beside the old one, is tried, and then gets all traffic at
/// once; the old one stays until that has proved good.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.activeService) || !has(self.previewService) || self.activeService != self.previewService")
    .message("activeService and previewService must differ"))]
#[x_kube(validation = Rule::new("!has(self.autoPromotionDelay) || !has(self.autoPromotionEnabled) || self.autoPromotionEnabled")
    .message("autoPromotionDelay has no effect while autoPromotionEnabled is false: take one of them out"))]
pub struct BlueGreen {
    /// Your Service, only read. Serin makes two clones of it, the role Services: the active one
    /// selects the pods that serve, the preview one those of the new revision. Without
    /// trafficRouting, clients and routes name the active Service, and its selector is the switch;
    /// with it, your route names both.
    #[schemars(length(min = 1, max = 63))]
    pub service: String,
    /// Name of the active role Service. Default: `<service>-active`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub active_service: Option<String>,
    /// Name of the preview role Service. Default: `<service>-preview`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub preview_service: Option<String>,
    /// The role Services exist already and belong to somebody else; Serin only sets the
    /// `pod-template-hash` in their selectors. Default: false, and a Service that belongs to
    /// somebody else is refused.
    #[serde(default, skip_serializing_if = "is_false")]
    pub shared: bool,
    /// How traffic is switched. Without it the active Service's selector is the switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_routing: Option<TrafficRouting>,
    /// Pods of the new revision while it is tried. Before the switch it grows to `replicas`.
    /// Default, and at most: `replicas`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub preview_replica_count: Option<i32>,
    /// Whether the switch comes by itself. Default: true; with false it waits until somebody
    /// promotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_promotion_enabled: Option<bool>,
    /// How long the new revision stands in preview before the switch comes by itself, such as
    /// `10m`; counted from when its pods are ready and `prePromotionAnalysis` is passed. Default: `0s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_promotion_delay: Option<HumanDuration>,
    /// Analysis before the switch. When it fails, the new revision is given up and gets no traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_promotion_analysis: Option<Analysis>,
    /// Analysis after the switch, while the old revision keeps its full size. When it fails, traffic
    /// is switched back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_promotion_analysis: Option<Analysis>,
    /// How long the revision must prove good once it is promoted. Meanwhile it has all traffic, and one failure takes
    /// everything back at once; the old revision keeps its full size for that. Default: no such time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bake: Option<Bake>,
    /// How long the old revision keeps its full size after a promotion. Default: 30s; `0s` is at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_down_delay: Option<HumanDuration>,
    /// How long the new revision keeps its size after an abort, counted from the moment when it no
    /// longer gets traffic. Default: 30s; `0s` is at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort_scale_down_delay: Option<HumanDuration>,
    /// At most so many old revisions keep their size for `scaleDownDelay` or `abortScaleDownDelay`: with one more, the
    /// oldest is scaled down at once. Default: as many as there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub scale_down_delay_revision_limit: Option<i32>,
}

/// Rolling: pods of the old revision are replaced by pods of the new one, some at a time, as a
/// Deployment does it; with judgement, and a way back.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Rolling {
    /// Pods above `replicas` while pods are replaced. A number or a percentage, rounded up.
    /// Default: 25%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_surge: Option<IntOrString>,
    /// Pods below `replicas` while pods are replaced. A number or a percentage, rounded down.
    /// Default: 25%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<IntOrString>,
    /// Analysis in the background, while pods are replaced. When it fails, the pods of the old
    /// revision come back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<Analysis>,
    /// Analysis once all pods are of the new revision, before it counts as good. When it fails, the
    /// pods of the old revision come back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_promotion_analysis: Option<Analysis>,
    /// How long the revision must prove good once it is promoted. When it fails meanwhile, the pods of the old
    /// revision come back, within `maxSurge` and `maxUnavailable`. Default: no such time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bake: Option<Bake>,
}

/// One step: exactly one of `setWeight`, `setCanaryScale`, `pause` and `analysis`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.setWeight), has(self.setCanaryScale), has(self.pause), has(self.analysis)].filter(x, x).size() == 1")
    .message("a step is exactly one of setWeight, setCanaryScale, pause and analysis"))]
pub struct Step {
    /// A name for the step, for commands and messages. Default: its index, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: Option<String>,
    /// How long the step may take, such as `30m`, whatever it waits for; when that has passed, the
    /// revision is rolled back. While somebody has paused it, that does not count, and it begins
    /// anew when it goes on. Default: as long as it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<HumanDuration>,
    /// Share of the traffic for the canary, in percent: 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub set_weight: Option<i32>,
    /// Pods of the canary, apart from its share of the traffic: from here until the next
    /// `setCanaryScale`, or until the promotion. It never has fewer than its share needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_canary_scale: Option<CanaryScale>,
    /// Wait: for a time, or until somebody promotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// Measure, and go on only when the verdict is good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<Analysis>,
}

/// How many pods the canary has. Set exactly one.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.replicas), has(self.weight), has(self.matchTrafficWeight) && self.matchTrafficWeight].filter(x, x).size() == 1")
    .message("set exactly one of replicas, weight and matchTrafficWeight: true"))]
pub struct CanaryScale {
    /// This many pods; at most `replicas` of the Rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub replicas: Option<i32>,
    /// This share of `replicas` of the Rollout, in percent: 0 to 100, rounded up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub weight: Option<i32>,
    /// As many pods as its share of the traffic needs, which is also what it has before the first
    /// `setCanaryScale`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub match_traffic_weight: bool,
}

/// A pause.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Pause {
    /// How long, such as `30s` or `1h`. Without it: until somebody promotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<HumanDuration>,
}

/// Which templates to measure, with which arguments.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Analysis {
    /// The templates; their metrics are taken together and must have different names.
    #[schemars(length(min = 1, max = 16))]
    pub templates: Vec<TemplateRef>,
    /// Values for the templates' arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub args: Vec<Argument>,
}

/// A time in which a promoted revision must prove good. A failed analysis, a pod that cannot start, an abort and the
/// old template each take everything back to the old revision at once.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Bake {
    /// How long, such as `30m`.
    pub duration: HumanDuration,
    /// What is measured meanwhile. It goes on until the time has passed, unless its metrics have a `count`.
    /// Default: nothing, so that only pods and people can say that it is bad.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<Analysis>,
}

/// Analysis in the background.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BackgroundAnalysis {
    /// The templates; their metrics are taken together and must have different names.
    #[schemars(length(min = 1, max = 16))]
    pub templates: Vec<TemplateRef>,
    /// Index of the step from which on it measures, from 0. Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 64))]
    pub starting_step: Option<i32>,
    /// Values for the templates' arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub args: Vec<Argument>,
}

impl BackgroundAnalysis {
    /// What it measures.
    pub fn analysis(&self) -> Analysis {
        Analysis {
            templates: self.templates.clone(),
            args: self.args.clone(),
        }
    }
}

/// A reference to an AnalysisTemplate of the same namespace, or to a ClusterAnalysisTemplate.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TemplateRef {
    /// Name of the template.
    #[schemars(length(min = 1, max = 253))]
    pub template_name: String,
    /// Whether it is a ClusterAnalysisTemplate. Default: false.
    #[serde(default, skip_serializing_if = "is_false")]
    pub cluster_scope: bool,
}

/// A value for an argument of a template.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Argument {
    /// Name of the argument.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Its value.
    #[schemars(length(max = 1024))]
    pub value: String,
}

pub(crate) fn is_false(b: &bool) -> bool {
    !*b
}
