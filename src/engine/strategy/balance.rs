//! Balance: where pods are the weight, the next sizes of all revisions on the way to a share.

use crate::model::desired::Desired;

use super::{
    Context,
    replicas::{Pods, next, shares},
};

/// Where pods are the weight: the next sizes on the way to a share. Whether it is reached. At rest
/// the canary is the stable revision itself.
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
                sick: r.sick(),
            })
    };
    let others: Vec<_> = cx
        .observed
        .revisions
        .iter()
        .filter(|r| r.hash != stable && r.hash != canary && r.desired() > 0)
        .map(|r| (r.hash.as_str(), pods(&r.hash)))
        .collect();
    let sum = others.iter().fold(Pods::default(), |a, (_, p)| Pods {
        desired: a.desired + p.desired,
        available: a.available + p.available,
        sick: a.sick + p.sick,
    });
    let spec = cx.spec;
    let target = shares(spec.replicas, weight, spec.course.max_surge);
    let c = if canary == stable {
        Pods::default()
    } else {
        pods(canary)
    };
    let s = pods(stable);
    let (sizes, left) = next(
        spec.replicas,
        spec.course.max_surge,
        spec.course.max_unavailable,
        (s, c, sum),
        target,
    );
    if canary != stable {
        desired.share = Some((canary.to_owned(), target.1));
    }
    desired.replicas.insert(canary.to_owned(), sizes.1);
    desired.replicas.insert(stable.to_owned(), sizes.0);
    for (hash, size) in shrunk(&others, left) {
        desired.replicas.insert(hash.to_owned(), size);
    }
    // Pods of stable that are not available are not waited for: the fix of a sick stable would wait
    // for what it mends.
    let made = s.available + s.sick >= target.0;
    (s.desired, c.desired) == target && c.available >= target.1 && made
}

/// The sizes of several revisions that keep `left` pods together: those that are not available go
/// first, wherever they are.
fn shrunk<'a>(others: &[(&'a str, Pods)], left: u32) -> Vec<(&'a str, u32)> {
    let all: u32 = others.iter().map(|(_, p)| p.desired).sum();
    let mut cut = all.saturating_sub(left);
    let mut spare = cut.saturating_sub(others.iter().map(|(_, p)| p.sick).sum());
    let mut sizes = vec![];
    for (hash, pods) in others {
        let sick = pods.sick.min(cut);
        cut -= sick;
        // Those of which nothing is known stay.
        let healthy = pods.available.min(pods.desired - sick).min(spare).min(cut);
        cut -= healthy;
        spare -= healthy;
        sizes.push((*hash, pods.desired - sick - healthy));
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_that_are_not_available_go_first_wherever_they_are() {
        let pods = |desired, available| Pods {
            desired,
            available,
            sick: desired - available,
        };
        let others = [("old", pods(3, 3)), ("older", pods(2, 1))];
        assert_eq!(shrunk(&others, 4), [("old", 3), ("older", 1)]);
        assert_eq!(shrunk(&others, 3), [("old", 2), ("older", 1)]);
        assert_eq!(shrunk(&others, 1), [("old", 0), ("older", 1)]);
        assert_eq!(shrunk(&others, 0), [("old", 0), ("older", 0)]);
        assert_eq!(shrunk(&[], 0), []);
        // What can be spared is spared once.
        let others = [("a", pods(3, 3)), ("b", pods(2, 2)), ("c", pods(2, 0))];
        assert_eq!(shrunk(&others, 4), [("a", 2), ("b", 2), ("c", 0)]);
        let unseen = Pods {
            desired: 3,
            available: 0,
            sick: 0,
        };
        let ((_, _), left) = next(4, 1, 0, (pods(1, 1), pods(0, 0), unseen), (1, 3));
        assert_eq!(left, 3, "of pods of which nothing is known, none goes");
    }
}
