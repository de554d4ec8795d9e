//! How many pods a share of the traffic needs.

/// Pods that a share of the traffic, in millionths, needs where `replicas` pods bear all of it: rounded up,
/// and at least one for any weight at all, also at 0 replicas.
pub fn need(share: u32, replicas: u32) -> u32 {
    if share == 0 {
        return 0;
    }
    let exact = (u64::from(share) * u64::from(replicas)).div_ceil(u64::from(super::share::FULL));
    u32::try_from(exact).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::{super::share::percent, need};

    #[test]
    fn rounds_up_and_never_to_none() {
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
        assert_eq!(need(1, 1000), 1, "so does a trace");
        assert_eq!(pods(100, u32::MAX), u32::MAX);
    }
}
