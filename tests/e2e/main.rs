//! End to end: the real controller, as a process with the least rights, on a real API server,
//! Gateway, Envoy and Prometheus, with users who send requests all the time. Not one of them may see
//! a failure that is not the app's own.
//!
//! Without `E2E` the core is run, and a sample of the rest that `SEED` picks; `E2E=full` runs everything
//! that can share a lab, `E2E=alone` what needs one for itself.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test says what it does, and stops where it cannot go on"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "which tests run is chosen by the environment and the day"
)]
#![allow(
    missing_docs,
    reason = "the tests' names and bodies are their documentation"
)]

mod analysis;
mod app;
mod both;
mod commands;
mod faults;
mod flight;
mod gitops;
mod lint;
mod world;

use serin_lab::Suite;

macro_rules! list {
    ($suite:expr, $wanted:expr, $($module:ident :: $case:ident),* $(,)?) => {{
        let mut suite = $suite;
        $(
            if $wanted(stringify!($case)) {
                suite = suite.case(stringify!($case), |lab| $module::$case(lab));
            }
        )*
        suite
    }};
}

/// Whether the seed picks a test: about one in three.
fn picked(seed: u64, name: &str) -> bool {
    let mut state = seed ^ 0xcbf2_9ce4_8422_2325;
    for byte in name.bytes() {
        state = (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    (state >> 32).is_multiple_of(3)
}

fn main() {
    // Named tests are run whatever the seed says.
    let named = std::env::args().skip(1).any(|a| !a.starts_with('-'));
    let mode = std::env::var("E2E").unwrap_or_default();
    let (full, others) = (named || mode == "full", named || mode != "alone");
    let day = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |d| d.as_secs() / 86_400);
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(day);
    if others && !full {
        println!("the core, and what SEED={seed} picks of the rest");
    }
    let suite = Suite::new().at_once(4);
    let suite = list!(
        suite,
        |_: &str| others,
        flight::promote,
        analysis::errors,
        flight::crash_loop,
        commands::abort,
        flight::supersede,
        faults::resyncs_write_nothing,
        flight::delete_orphaning,
        both::the_same_on_both,
        lint::lint_agrees_with_the_api_server,
    );
    let suite = list!(
        suite,
        |name: &str| full || (others && picked(seed, name)),
        flight::promote_with_a_cluster_for_each_backend,
        lint::lint_agrees_on_every_field,
        analysis::latency,
        analysis::prometheus_down,
        commands::promote_tokens,
        commands::abort_and_promote_at_once,
        commands::pause_and_resume,
        flight::revert,
        flight::never_ready,
        flight::missing_image,
        flight::delete_by_default,
        flight::pods_as_the_weight,
        faults::killed_in_starting,
        faults::killed_in_stepping,
        faults::killed_in_promoting,
        faults::killed_in_switching,
        faults::killed_in_returning,
        faults::killed_in_rolling_back,
        faults::foreign_weight,
        faults::handed_over,
        faults::lost_status,
        gitops::chart_upgraded_at_rest_and_in_flight,
        gitops::route_applied_again_and_again,
    );
    // It holds the whole data plane back, so it has the lab to itself.
    let alone = named || mode == "alone";
    let suite = list!(suite, |_: &str| alone, faults::slow_data_plane);
    suite.main()
}
