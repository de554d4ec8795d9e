//! `serin lint` and `serin simulate`: their words on files that are broken, and on good ones.
//! `UPDATE=1 cargo test --test lint` writes the words anew.

#![allow(clippy::panic, reason = "a test that cannot read its data says so")]

mod command;
mod coverage;
mod good;
mod played;
mod words;
