//! Pods above and below what is wanted, where pods are replaced some at a time.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Faults;

/// `maxSurge` and `maxUnavailable` of the strategy at `path`, in pods. Of each the default is 25%.
/// (The field's rounding: up, and down. With neither, one pod may be missing.)
pub(super) fn surge(
    path: &str,
    max_surge: &Option<IntOrString>,
    max_unavailable: &Option<IntOrString>,
    replicas: u32,
    faults: &mut Faults,
) -> (u32, u32) {
    let mut amount = |field: &str, value: &Option<IntOrString>, up: bool| -> u32 {
        let percent = |p: u32| {
            let exact = u64::from(p) * u64::from(replicas);
            u32::try_from(if up { exact.div_ceil(100) } else { exact / 100 }).unwrap_or(u32::MAX)
        };
        match value {
            None => percent(25),
            Some(IntOrString::Int(n)) if *n >= 0 => u32::try_from(*n).unwrap_or(0),
            Some(IntOrString::Int(n)) => {
                faults.add(
                    format!("{path}.{field}"),
                    format!("{n}: must be 0 or more, or a percentage"),
                );
                0
            }
            Some(IntOrString::String(s)) => {
                match s
                    .strip_suffix('%')
                    .and_then(|p| p.parse::<u32>().ok())
                    .filter(|p| *p <= 1000)
                {
                    Some(p) => percent(p),
                    None => {
                        faults.add(
                            format!("{path}.{field}"),
                            format!("{s:?}: must be a number or a percentage such as \"25%\""),
                        );
                        0
                    }
                }
            }
        }
    };
    let up = amount("maxSurge", max_surge, true);
    let down = amount("maxUnavailable", max_unavailable, false);
    // With neither, nothing could ever move.
    (up, if up == 0 && down == 0 { 1 } else { down })
}
