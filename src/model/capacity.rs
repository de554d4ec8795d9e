//! How many pods a share of the traffic needs.

/// Pods that `weight` percent of the traffic need where `replicas` pods bear all of it: rounded up,
/// and at least one for any weight at all, also at 0 replicas.
pub fn need(weight: u32, replicas: u32) -> u32 {
    if weight == 0 {
        return 0;
    }
    let exact = (u64::from(weight) * u64::from(replicas)).div_ceil(100);
    u32::try_from(exact).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::need;

    #[test]
    fn rounds_up_and_never_to_none() {
        assert_eq!(
            (
                need(0, 10),
                need(1, 10),
                need(10, 4),
                need(50, 3),
                need(100, 7)
            ),
            (0, 1, 1, 2, 7)
        );
        assert_eq!(need(1, 0), 1, "weight on nothing needs a pod");
        assert_eq!(need(100, u32::MAX), u32::MAX);
    }
}
