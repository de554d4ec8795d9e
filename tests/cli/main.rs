//! The commands of those who operate Serin: the real program against an API server in this process,
//! with Rollouts that the virtual cluster made. What it prints is compared with `golden/*.txt`;
//! `UPDATE=1` writes them anew.

#![cfg(feature = "shell")]
#![allow(clippy::panic, reason = "a test that cannot read its data says so")]

mod acts;
#[path = "../support/apiserver.rs"]
mod apiserver;
mod errors;
mod shows;
mod waits;
mod world;
