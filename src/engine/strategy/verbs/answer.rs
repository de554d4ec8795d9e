//! What there is to say of a command.

use crate::model::command::Command;

/// What came of a command: a word for the record and a sentence.
pub struct Answer(pub &'static str, pub String);

/// What somebody did, and who that was where it is known.
pub fn did(command: &Command, what: &str) -> String {
    match &command.by {
        Some(who) => format!("{what} by {who}"),
        None => format!("somebody {what}"),
    }
}
