//! One target in one process: `SERIN_FUZZ=name fuzz [libFuzzer's arguments]`.

#![no_main]
#![allow(
    clippy::expect_used,
    reason = "a wrong name must end it, and so must what a target finds"
)]

mod targets;

use std::sync::OnceLock;

use targets::{Target, named};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    static TARGET: OnceLock<Target> = OnceLock::new();
    let target = TARGET.get_or_init(|| {
        let name = std::env::var("SERIN_FUZZ").expect("SERIN_FUZZ names a target");
        named(&name).expect("there is such a target")
    });
    target(data);
});
