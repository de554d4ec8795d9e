//! What people look at: `get`, `history`, `why`, `list`, `status`. What is drawn is pure: objects in, text out.

pub mod get;
pub mod history;
pub mod list;
pub mod parts;
pub mod standing;
pub mod status;
pub mod tree;
pub mod why;
pub mod words;
