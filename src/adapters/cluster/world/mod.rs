//! The watched world: what is listed and watched, how it is kept, and whom a change concerns.

pub mod lean;
pub mod listings;
pub mod mirror;
pub mod pods;
pub mod queue;
pub mod stores;
pub mod text;
pub mod triggers;
pub mod views;
pub mod watches;
pub mod watching;
