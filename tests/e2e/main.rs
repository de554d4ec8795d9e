//! End to end: the real controller, as a process with the least rights, on a real API server,
//! Gateway, Envoy and Prometheus, with users who send requests all the time. Not one of them may see
//! a failure that is not the app's own.
//!
//! Without `E2E` the core is run, and a sample of the rest that `SEED` picks; `E2E=full` runs everything
//! that can share a lab, `E2E=alone` what needs one for itself, `E2E=hostile` what turns the world
//! against it.

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

mod adopt;
mod against;
mod analysis;
mod app;
mod blue_green;
mod both;
mod cli;
mod commands;
mod door;
mod faults;
mod first;
mod flight;
mod gitops;
mod history;
mod hostile;
mod install;
mod lint;
mod rights;
mod rolling;
mod routes;
mod streams;
mod waiters;
mod world;

#[path = "../support/dashboard.rs"]
mod dashboard;

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
    let (full, others) = (
        named || mode == "full",
        named || !["alone", "hostile"].contains(&mode.as_str()),
    );
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
    // What needs the lab for itself runs one by one.
    let suite = Suite::new().at_once(if mode.is_empty() || mode == "full" {
        4
    } else {
        1
    });
    let suite = list!(
        suite,
        |_: &str| others,
        first::first_rollout_of_the_readme,
        flight::promote,
        analysis::errors,
        flight::crash_loop,
        commands::abort,
        flight::supersede,
        faults::resyncs_write_nothing,
        cli::operated,
        flight::delete_orphaning,
        blue_green::blue_green_by_itself,
        blue_green::blue_green_abort_after,
        both::the_same_on_both,
        install::installed_in_the_whole_cluster,
        install::chart_rendered,
        door::who_may_give_which_command,
        install::check_finds_what_is_missing,
        waiters::helm_waits_for_the_promotion,
        waiters::helm_rolls_a_bad_release_back,
        waiters::alerts_and_dashboard,
        lint::lint_agrees_with_the_api_server,
        against::simulated_api_server_answers_as_the_real_one,
        streams::streams_outlive_the_promotion,
    );
    let suite = list!(
        suite,
        |name: &str| full
            || (others && picked(seed, name))
            || (mode == "hostile" && name == "hostile_mix"),
        flight::promote_with_a_cluster_for_each_backend,
        lint::lint_agrees_on_every_field,
        analysis::latency,
        analysis::prometheus_down,
        commands::undo,
        commands::restart,
        commands::promote_tokens,
        commands::abort_and_promote_at_once,
        commands::pause_and_resume,
        flight::revert,
        flight::never_ready,
        flight::missing_image,
        flight::pods_refused,
        flight::delete_by_default,
        flight::pods_as_the_weight,
        flight::canary_scale,
        routes::managed_backends,
        adopt::adopted,
        routes::tcp_route,
        routes::routes_of_several_kinds,
        rolling::rolling_by_itself,
        rolling::rolling_fails_after,
        rolling::rolling_aborted,
        rolling::rolling_superseded,
        rolling::rolling_killed,
        blue_green::blue_green_by_itself_by_route,
        blue_green::blue_green_by_hand,
        blue_green::blue_green_by_hand_by_route,
        blue_green::blue_green_fails_before,
        blue_green::blue_green_fails_after,
        blue_green::blue_green_fails_after_by_route,
        blue_green::blue_green_abort_before,
        blue_green::blue_green_abort_before_by_route,
        blue_green::blue_green_abort_after_by_route,
        blue_green::blue_green_supersede,
        blue_green::blue_green_supersede_by_route,
        blue_green::blue_green_old_revisions,
        blue_green::blue_green_becomes_rolling,
        blue_green::blue_green_killed,
        blue_green::blue_green_killed_by_route,
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
        install::installed_in_a_namespace,
        history::history_is_trimmed,
        history::a_foreign_run_is_waited_for,
        waiters::kubectl_waits,
        waiters::scaled_at_rest,
        waiters::an_alert_fires_and_ends,
        hostile::hostile_mix,
    );
    // The first wants a cluster that has never seen Serin, the other holds the whole data plane back.
    let alone = named || mode == "alone";
    let suite = list!(
        suite,
        |_: &str| alone,
        install::controller_upgraded_in_flight,
        faults::slow_data_plane,
    );
    // The world turns hostile: each wants a lab that nobody else is in.
    let hostile = mode == "hostile";
    let suite = list!(
        suite,
        |_: &str| hostile,
        hostile::hostile_requests,
        hostile::hostile_watches,
        hostile::hostile_metrics,
        hostile::hostile_copies,
        hostile::hostile_parts,
    );
    let least = if named { 0 } else { 100 };
    // An API server that has just started refuses everything for a moment.
    let mut suite = if hostile {
        suite
    } else {
        suite.last("nothing_refused", move |lab| async move {
            rights::nothing_refused(&lab, least)
        })
    };
    if mode == "full" && !named {
        suite = suite.last("every_right_used", |lab| async move {
            rights::every_right_used(&lab)
        });
    }
    suite.main()
}
