//! What speaks to the world, against an API server in this process.

#![cfg(feature = "shell")]

#[path = "../support/apiserver.rs"]
mod apiserver;
mod lease;
mod requests;
mod rounds;
mod verbs;
mod world;
