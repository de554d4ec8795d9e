//! Notices to people, beside the Events that the cluster keeps.

pub mod alertmanager;
