//! Shares of the traffic, in millionths: whole percents for people, a trace for warming up, and the
//! pods that a share needs.

/// All of the traffic.
pub const FULL: u32 = 1_000_000;

/// Next to nothing. A backend is given a trace before it is given a share, and keeps a trace before
/// it is left with nothing: many data planes drop a backend at weight 0 and learn it anew above 0,
/// and while they do, requests that are sent to it fail. A trace makes that one in a million.
pub const TRACE: u32 = 1;

/// A share from whole percents.
pub fn percent(weight: u32) -> u32 {
    weight.min(100) * 10_000
}

/// A share in percent, for people: rounded, but nothing only where it is next to nothing.
pub fn rounded(share: u32) -> u32 {
    if share <= TRACE {
        0
    } else {
        ((share + 5_000) / 10_000).clamp(1, 100)
    }
}

/// A share in words: `20`, or `a trace`.
pub fn show(share: u32) -> String {
    match share {
        TRACE => "a trace".to_owned(),
        s if s == FULL - TRACE => "all but a trace".to_owned(),
        s if s % 10_000 == 0 => (s / 10_000).to_string(),
        s => format!("{}", f64::from(s) / 10_000.0),
    }
}

/// The next share on the way to `wanted`. Edges are left and reached by way of a trace; a retreat
/// from everything does not wait for that. None where the trace has not settled yet.
pub fn toward(current: u32, wanted: u32, settled: Option<u32>, retreat: bool) -> Option<u32> {
    let (low, high) = (TRACE, FULL - TRACE);
    let next = match (current, wanted) {
        (0, w) if w > low => low,
        (FULL, w) if w < high && !retreat => high,
        (c, 0) if c > low => low,
        (c, FULL) if c < high => high,
        (_, w) => w,
    };
    let warming = (current == low || current == high) && settled != Some(current);
    (!warming || (retreat && next == low)).then_some(next)
}

/// Pods that a share of the traffic needs where `replicas` pods bear all of it: rounded up, and at
/// least one for any share at all, also at 0 replicas.
pub fn need(share: u32, replicas: u32) -> u32 {
    if share == 0 {
        return 0;
    }
    let exact = (u64::from(share) * u64::from(replicas)).div_ceil(u64::from(FULL));
    u32::try_from(exact).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_are_rounded_up_and_never_to_none() {
        let pods = |weight, replicas| need(percent(weight), replicas);
        assert_eq!(
            [
                pods(0, 10),
                pods(1, 10),
                pods(10, 4),
                pods(50, 3),
                pods(100, 7)
            ],
            [0, 1, 1, 2, 7]
        );
        assert_eq!(pods(1, 0), 1, "weight on nothing needs a pod");
        assert_eq!(need(TRACE, 1000), 1, "so does a trace");
        assert_eq!(pods(100, u32::MAX), u32::MAX);
    }

    /// The way from one share to another, each step settled.
    fn way(from: u32, to: u32, retreat: bool) -> Vec<String> {
        let (mut at, mut way) = (from, vec![]);
        while at != to {
            at = toward(at, to, Some(at), retreat).expect("it is settled");
            way.push(show(at));
            assert!(way.len() < 10);
        }
        way
    }

    #[test]
    fn edges_are_left_and_reached_by_way_of_a_trace() {
        let (p, full) = (percent, FULL);
        assert_eq!(way(0, p(10), false), ["a trace", "10"]);
        assert_eq!(way(p(10), p(50), false), ["50"]);
        assert_eq!(way(p(50), full, false), ["all but a trace", "100"]);
        assert_eq!(way(full, 0, false), ["all but a trace", "a trace", "0"]);
        assert_eq!(way(p(50), 0, true), ["a trace", "0"]);
        assert_eq!(way(full, 0, true), ["a trace", "0"]);
        assert_eq!(way(0, full, false), ["a trace", "all but a trace", "100"]);
    }

    #[test]
    fn a_trace_settles_before_more_follows_but_a_retreat_goes_to_it_at_once() {
        assert_eq!(toward(TRACE, percent(10), None, false), None);
        assert_eq!(toward(TRACE, 0, None, true), None);
        assert_eq!(toward(FULL - TRACE, 0, None, true), Some(TRACE));
        assert_eq!(toward(FULL, 0, None, true), Some(TRACE));
    }

    #[test]
    fn people_see_whole_percents() {
        assert_eq!(
            [0, 1, 2, 10_000, 999_999, FULL].map(rounded),
            [0, 0, 1, 1, 100, 100]
        );
    }
}
