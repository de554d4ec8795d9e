//! Pods as the weight: how many of each revision, within `maxSurge` and `maxUnavailable`.

/// A revision's pods as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pods {
    /// Wanted so far.
    pub desired: u32,
    /// Available; none while a change of size is unseen.
    pub available: u32,
    /// Known not to be available, so that they can go in any case.
    pub sick: u32,
}

/// How many pods of stable and canary come closest to `weight` percent of `replicas`, the total at
/// most `replicas` and, with surge, one more. On a tie the larger canary. Between 1 and 99 percent
/// both have a pod where there is room for two. (The field's rounding: Argo Rollouts'.)
pub fn shares(replicas: u32, weight: u32, surge: u32) -> (u32, u32) {
    if weight == 0 {
        return (replicas, 0);
    }
    if weight >= 100 {
        return (0, replicas);
    }
    // With room for two, a total of one is no candidate: it would leave one of them out.
    let alone = replicas >= 2 || surge == 0;
    let totals = [
        alone.then_some(replicas),
        (surge > 0).then(|| replicas.saturating_add(1)),
    ];
    let mut best: Option<(u64, u64, u32, u32)> = None;
    for total in totals.into_iter().flatten().filter(|t| *t > 0) {
        let exact = u64::from(total) * u64::from(weight);
        for canary in [exact / 100, exact.div_ceil(100)] {
            let mut canary = u32::try_from(canary).unwrap_or(u32::MAX);
            if total >= 2 {
                canary = canary.clamp(1, total - 1);
            }
            // |canary / total - weight / 100|, as a fraction over total.
            let off = (u64::from(canary) * 100).abs_diff(exact);
            let better = best.is_none_or(|(b, t, c, _)| {
                let (left, right) = (off * t, b * u64::from(total));
                left < right || (left == right && canary > c)
            });
            if better {
                best = Some((off, u64::from(total), canary, total - canary));
            }
        }
    }
    best.map_or((replicas, 0), |(_, _, canary, stable)| (stable, canary))
}

/// The next sizes of (stable, canary) on the way to `target`, and how many pods the others keep.
pub fn next(
    replicas: u32,
    surge: u32,
    unavailable: u32,
    pods: (Pods, Pods, Pods),
    target: (u32, u32),
) -> ((u32, u32), u32) {
    let (stable, canary, others) = pods;
    let most = u64::from(replicas) + u64::from(surge);
    let sum = |s: u32, c: u32| u64::from(s) + u64::from(c) + u64::from(others.desired);
    let mut want = (stable.desired, canary.desired);
    let room =
        |w: (u32, u32)| u32::try_from(most.saturating_sub(sum(w.0, w.1))).unwrap_or(u32::MAX);
    if target.0 > want.0 {
        want.0 += (target.0 - want.0).min(room(want));
    }
    if target.1 > want.1 {
        want.1 += (target.1 - want.1).min(room(want));
    }
    let all =
        u64::from(stable.available) + u64::from(canary.available) + u64::from(others.available);
    let mut spare =
        u32::try_from(all.saturating_sub(u64::from(replicas.saturating_sub(unavailable))))
            .unwrap_or(0);
    let mut shrink = |pods: Pods, to: u32| -> u32 {
        // Pods that are not available can go in any case.
        let cut = pods.desired.saturating_sub(to).min(pods.sick + spare);
        spare -= cut.saturating_sub(pods.sick).min(spare);
        pods.desired - cut
    };
    let left = shrink(others, 0);
    if target.1 < canary.desired {
        want.1 = shrink(canary, target.1);
    }
    if target.0 < stable.desired {
        want.0 = shrink(stable, target.0);
    }
    (want, left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_rounding() {
        assert_eq!(shares(10, 10, 1), (9, 1));
        assert_eq!(shares(1, 5, 1), (1, 1));
        assert_eq!(shares(4, 0, 1), (4, 0));
        assert_eq!(shares(4, 100, 1), (0, 4));
        assert_eq!(shares(10, 1, 0), (9, 1));
        assert_eq!(shares(4, 50, 0), (2, 2));
        assert_eq!(shares(1, 50, 0), (0, 1), "a tie goes to the canary");
    }

    /// The closest of all pairs, looked for one by one.
    fn closest(replicas: u32, weight: u32, surge: u32) -> (u32, u32) {
        let room = |total: u32| total <= 1 && !(replicas == 1 && surge > 0 && total == 1);
        let both = |total: u32| total >= 2;
        let all = (replicas..=replicas + surge.min(1)).flat_map(|total| {
            (0..=total)
                .filter(move |c| room(total) || (both(total) && *c > 0 && *c < total))
                .map(move |c| (total - c, c))
        });
        let off = |(s, c): (u32, u32)| {
            let share = f64::from(c) / f64::from((s + c).max(1));
            (share - f64::from(weight) / 100.0).abs()
        };
        let mut best = (replicas, 0);
        let mut least = f64::INFINITY;
        for pair in all.filter(|(s, c)| s + c > 0) {
            let (now, tie) = (off(pair), (off(pair) - least).abs() < 1e-9);
            if (tie && pair.1 > best.1) || (!tie && now < least) {
                (best, least) = (pair, now);
            }
        }
        best
    }

    #[test]
    fn no_other_sizes_come_closer() {
        for replicas in 0..=12 {
            for weight in 1..=99 {
                for surge in [0, 1, 3] {
                    assert_eq!(
                        shares(replicas, weight, surge),
                        closest(replicas, weight, surge),
                        "{replicas} pods, {weight} %, surge {surge}"
                    );
                }
            }
        }
        assert_eq!(shares(2, 99, 0), (1, 1), "stable keeps one");
    }

    #[test]
    fn sizes_stay_within_surge_and_availability_all_the_way() {
        for replicas in 1..=6_u32 {
            for (surge, unavailable) in [(1, 0), (0, 1), (2, 1), (1, 1), (5, 0)] {
                for (from, to) in [
                    (0, 10),
                    (0, 50),
                    (0, 100),
                    (0, 0),
                    (100, 0),
                    (50, 0),
                    (100, 50),
                ] {
                    let case = format!("{replicas} {surge} {unavailable} {from} to {to}");
                    let target = shares(replicas, to, surge);
                    let (mut s, mut c) = shares(replicas, from, surge);
                    for round in 0.. {
                        let pods = |d: u32| Pods {
                            desired: d,
                            available: d,
                            sick: 0,
                        };
                        let ((s2, c2), _) = next(
                            replicas,
                            surge,
                            unavailable,
                            (pods(s), pods(c), Pods::default()),
                            target,
                        );
                        // Growth is not available at once.
                        let available = s.min(s2) + c.min(c2);
                        assert!(s2 + c2 <= (replicas + surge).max(s + c), "{case}");
                        assert!(available + unavailable >= replicas.min(s + c), "{case}");
                        // None goes past where it is to go.
                        assert!(s2 <= s.max(target.0) && s2 >= s.min(target.0), "{case}");
                        assert!(c2 <= c.max(target.1) && c2 >= c.min(target.1), "{case}");
                        if (s2, c2) == (s, c) {
                            break;
                        }
                        (s, c) = (s2, c2);
                        assert!(round < 50);
                    }
                    assert_eq!((s, c), target, "{case}");
                }
            }
        }
    }

    #[test]
    fn others_make_room_and_what_is_not_available_goes_in_any_case() {
        let pods = |desired, available| Pods {
            desired,
            available,
            sick: desired - available,
        };
        // Nothing can be spared: only the two that are not available go, and what grows has room for one.
        let others = pods(3, 1);
        let now = (pods(2, 2), pods(0, 0), others);
        assert_eq!(next(3, 3, 0, now, (2, 1)), ((2, 1), 1));
        // One of them can be spared beside those.
        let now = (pods(3, 3), pods(0, 0), others);
        assert_eq!(next(3, 3, 0, now, (3, 0)), ((3, 0), 0));
        // What the others leave is the canary's to give, then stable's.
        let now = (pods(2, 2), pods(2, 2), Pods::default());
        assert_eq!(next(3, 1, 0, now, (0, 0)), ((2, 1), 0));
        let now = (pods(2, 1), pods(2, 2), Pods::default());
        assert_eq!(next(3, 1, 1, now, (0, 0)), ((1, 1), 0));
    }
}
