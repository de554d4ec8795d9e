//! Commands: annotations that name what they mean, so that each fires once.

use std::collections::BTreeMap;

use crate::api::{names::COMMAND_PREFIX, status::HandledCommand};

/// What somebody asks for. In the order in which one wins over another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Give the canary up.
    Abort,
    /// Stop where it is.
    Pause,
    /// Go on.
    Resume,
    /// Try the revision again that was given up.
    Retry,
    /// End the step that waits.
    Promote,
    /// Skip all steps that are left.
    PromoteFull,
}

impl Verb {
    /// Every verb, the winner first.
    pub const ALL: [Self; 6] = [
        Self::Abort,
        Self::Pause,
        Self::Resume,
        Self::Retry,
        Self::Promote,
        Self::PromoteFull,
    ];

    /// Its word in the annotation's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Abort => "abort",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Retry => "retry",
            Self::Promote => "promote",
            Self::PromoteFull => "promote-full",
        }
    }
    /// Its annotation.
    pub fn annotation(self) -> String {
        format!("{COMMAND_PREFIX}{}", self.as_str())
    }
    /// Whether any value will do.
    pub fn takes_anything(self) -> bool {
        matches!(self, Self::Abort | Self::Pause)
    }
}

/// A command that stands on the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// What is asked for.
    pub verb: Verb,
    /// The annotation's value.
    pub token: String,
    /// What it is asked of.
    pub target: Result<Target, Malformed>,
}

/// What a command is asked of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Prefix of the revision's hash; none for whatever is in flight.
    pub hash: Option<String>,
    /// Index or name of the step.
    pub step: Option<String>,
}

/// The value is not `<hash>[@<step>]/<nonce>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed;

/// The longest value that is read.
const TOKEN_MAX: usize = 253;

/// Reads `<hash>[@<step>]/<nonce>`.
pub fn parse(token: &str) -> Result<Target, Malformed> {
    let (what, nonce) = token.split_once('/').ok_or(Malformed)?;
    let (hash, step) = match what.split_once('@') {
        Some((hash, step)) if !step.is_empty() => (hash, Some(step.to_owned())),
        Some(_) => return Err(Malformed),
        None => (what, None),
    };
    let sound = |c: char| c.is_ascii_alphanumeric();
    if nonce.is_empty() || token.len() > TOKEN_MAX {
        return Err(Malformed);
    }
    match hash {
        "*" => Ok(Target { hash: None, step }),
        h if !h.is_empty() && h.chars().all(sound) => Ok(Target {
            hash: Some(h.to_owned()),
            step,
        }),
        _ => Err(Malformed),
    }
}

/// The commands on the object that have not been handled, the winner first.
pub fn pending(annotations: &BTreeMap<String, String>, handled: &[HandledCommand]) -> Vec<Command> {
    Verb::ALL
        .into_iter()
        .filter_map(|verb| {
            let token = annotations.get(&verb.annotation())?;
            let token: String = token.chars().take(TOKEN_MAX + 1).collect();
            let known = handled
                .iter()
                .any(|h| h.name == verb.as_str() && h.token == token);
            // A plain value is taken off once it is handled; one that stands was given anew.
            let anew = verb.takes_anything() && parse(&token).is_err();
            (!known || anew).then(|| Command {
                verb,
                target: parse(&token),
                token,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        let all = |h: Option<&str>, s: Option<&str>| {
            Ok(Target {
                hash: h.map(str::to_owned),
                step: s.map(str::to_owned),
            })
        };
        assert_eq!(parse("abc/1"), all(Some("abc"), None));
        assert_eq!(parse("abc@2/1"), all(Some("abc"), Some("2")));
        assert_eq!(
            parse("abc@first/2026-11-24T10:00:00Z"),
            all(Some("abc"), Some("first"))
        );
        assert_eq!(parse("*/now"), all(None, None));
        for wrong in [
            "true",
            "",
            "/1",
            "abc/",
            "abc@/1",
            "a b/1",
            "*x/1",
            &format!("a/{}", "x".repeat(300)),
        ] {
            assert_eq!(parse(wrong), Err(Malformed), "{wrong}");
        }
    }

    #[test]
    fn the_winner_comes_first_and_what_was_handled_is_gone() {
        let given = |verb: Verb, v: &str| (verb.annotation(), v.to_owned());
        let annotations: BTreeMap<_, _> =
            [given(Verb::Promote, "abc/1"), given(Verb::Abort, "yes")].into();
        let verbs = |handled: &[HandledCommand]| -> Vec<Verb> {
            pending(&annotations, handled)
                .iter()
                .map(|c| c.verb)
                .collect()
        };
        assert_eq!(verbs(&[]), [Verb::Abort, Verb::Promote]);
        let done = |name: &str, token: &str| HandledCommand {
            name: name.into(),
            token: token.into(),
            outcome: "Done".into(),
            message: None,
            at: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH),
        };
        assert_eq!(
            verbs(&[done("promote", "abc/1"), done("abort", "yes")]),
            [Verb::Abort]
        );
    }
}
