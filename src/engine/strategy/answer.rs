//! What there is to say of a command.

use crate::model::{
    command::{Command, Verb},
    progress::few_words,
};

/// What came of a command: a word for the record and a sentence.
pub struct Answer(pub &'static str, pub String);

/// What somebody did, and who that was where it is known.
pub fn did(command: &Command, what: &str) -> String {
    match &command.by {
        Some(who) => format!("{what} by {who}"),
        None => format!("somebody {what}"),
    }
}

/// Which command it was, and who gave it where that is known: `abort by bob`.
pub fn given(verb: Verb, by: Option<&String>) -> String {
    let verb = verb.as_str();
    by.map_or_else(
        || verb.to_owned(),
        |who| few_words(&format!("{verb} by {who}")),
    )
}
