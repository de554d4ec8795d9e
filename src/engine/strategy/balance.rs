//! Balance: where pods are the weight, the next sizes of all revisions on the way to a share.

use crate::model::desired::Desired;

use super::{
    Context,
    replicas::{Pods, next, shares},
};

/// Where pods are the weight: the next sizes on the way to a share. Whether it is reached.
pub fn balance(
    cx: &Context<'_>,
    desired: &mut Desired,
    stable: &str,
    canary: &str,
    weight: u32,
) -> bool {
    let pods = |hash: &str| {
        cx.observed
            .revision(hash)
            .map_or(Pods::default(), |r| Pods {
                desired: r.desired(),
                available: r.available(),
            })
    };
    let others: Vec<_> = cx
        .observed
        .revisions
        .iter()
        .filter(|r| r.hash != stable && r.hash != canary && r.desired() > 0)
        .collect();
    let sum = others.iter().fold(Pods::default(), |a, r| Pods {
        desired: a.desired + r.desired(),
        available: a.available + r.available(),
    });
    let spec = cx.spec;
    let target = shares(spec.replicas, weight, spec.course.max_surge);
    let (s, c) = (pods(stable), pods(canary));
    let (sizes, others_gone) = next(
        spec.replicas,
        spec.course.max_surge,
        spec.course.max_unavailable,
        (s, c, sum),
        target,
    );
    desired.replicas.insert(stable.to_owned(), sizes.0);
    desired.replicas.insert(canary.to_owned(), sizes.1);
    for other in others.iter().filter(|_| others_gone) {
        desired.replicas.insert(other.hash.clone(), 0);
    }
    (s.desired, c.desired) == target && c.available >= target.1 && s.available >= target.0
}
