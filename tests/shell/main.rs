//! What speaks to the world, against an API server in this process.

#![cfg(feature = "shell")]

mod adopted;
#[path = "../support/apiserver.rs"]
mod apiserver;
mod lease;
mod requests;
mod rounds;
mod verbs;
mod world;
