//! Commands: annotations that name what they mean, so that each fires once.

use std::collections::BTreeMap;

use super::progress::few_words;
use crate::api::{
    names::{COMMAND_PREFIX, STAMP_SUFFIX},
    status::HandledCommand,
};

/// What somebody asks for. In the order in which one wins over another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Give the canary up.
    Abort,
    /// Go back to an earlier revision.
    Undo,
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
    /// Replace all pods by fresh ones of the same template.
    Restart,
}

impl Verb {
    /// Every verb, the winner first.
    pub const ALL: [Self; 8] = [
        Self::Abort,
        Self::Undo,
        Self::Pause,
        Self::Resume,
        Self::Retry,
        Self::Promote,
        Self::PromoteFull,
        Self::Restart,
    ];

    /// Its word in the annotation's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Abort => "abort",
            Self::Undo => "undo",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Retry => "retry",
            Self::Promote => "promote",
            Self::PromoteFull => "promote-full",
            Self::Restart => "restart",
        }
    }
    /// Its annotation.
    pub fn annotation(self) -> String {
        format!("{COMMAND_PREFIX}{}", self.as_str())
    }
    /// The annotation that says who gave it. The chart's policy writes it; without that policy anybody
    /// can.
    pub fn stamp(self) -> String {
        format!("{}{STAMP_SUFFIX}", self.annotation())
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
    /// Who gave it, where that is known.
    pub by: Option<String>,
}

/// What a command is asked of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Prefix of the revision's hash; none for whatever is in flight, for an undo, the last good one, or for a
    /// restart, the stable one.
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

/// Which command it was, and who gave it where that is known: `abort by bob`.
pub fn given(verb: Verb, by: Option<&String>) -> String {
    let verb = verb.as_str();
    by.map_or_else(
        || verb.to_owned(),
        |who| few_words(&format!("{verb} by {who}")),
    )
}

/// How somebody gives a command, `serin.dev/promote=<what>/<n>`, with the first number that was not
/// used: a token is handled once.
pub fn annotate_with(verb: Verb, what: &str, handled: &[HandledCommand]) -> String {
    let used = |n: &usize| {
        let token = format!("{what}/{n}");
        let mut all = handled.iter();
        all.any(|h| h.name == verb.as_str() && h.token == token)
    };
    let n = (1..).find(|n| !used(n)).unwrap_or(1);
    format!("{}={what}/{n}", verb.annotation())
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
                by: annotations.get(&verb.stamp()).and_then(|s| actor(s)),
            })
        })
        .collect()
}

/// The longest name of an actor, in characters.
pub const ACTOR_MAX: usize = 128;

/// A user's name as it may stand in a message: in one piece, without what a terminal or a reader
/// could take for something else, and bounded.
pub fn actor(name: &str) -> Option<String> {
    let plain = |c: char| c.is_alphanumeric() || c.is_ascii_graphic();
    let clean = |c: char| if plain(c) { c } else { '_' };
    let end = match name.chars().nth(ACTOR_MAX) {
        Some(_) => "...",
        None => "",
    };
    let kept = name.chars().take(ACTOR_MAX - end.len()).map(clean);
    let out: String = kept.chain(end.chars()).collect();
    (!out.is_empty()).then_some(out)
}

/// Forgets who gave the commands: what says so can be written by anybody.
pub fn unstamp(annotations: &mut BTreeMap<String, String>) {
    for verb in Verb::ALL {
        annotations.remove(&verb.stamp());
    }
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
            by: None,
            at: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH),
        };
        assert_eq!(
            verbs(&[done("promote", "abc/1"), done("abort", "yes")]),
            [Verb::Abort]
        );
    }

    #[test]
    fn who_gave_a_command_is_bounded_and_in_one_piece() {
        let user = "system:serviceaccount:prod:oncall";
        assert_eq!(actor(user).as_deref(), Some(user));
        assert_eq!(actor("Jörg\n\u{202e}x y").as_deref(), Some("Jörg__x_y"));
        assert_eq!(actor(""), None);
        let longest = "ä".repeat(ACTOR_MAX);
        assert_eq!(actor(&longest), Some(longest.clone()));
        let cut = actor(&format!("{longest}x")).expect("a name");
        assert!(cut.ends_with("ä...") && cut.chars().count() == ACTOR_MAX);
    }

    /// Each command has a stamp of its own, and what is no command's stamp stays.
    #[test]
    fn stamps_are_read_and_forgotten() {
        let given = |k: &str, v: &str| (format!("serin.dev/{k}"), v.to_owned());
        let mut annotations: BTreeMap<_, _> = [
            given("abort", "yes"),
            given("abort-by", "anna"),
            given("promote", "abc/1"),
            given("pause-by", "carl"),
            given("decision", "3"),
        ]
        .into();
        let by = |annotations: &BTreeMap<String, String>| -> Vec<Option<String>> {
            pending(annotations, &[])
                .into_iter()
                .map(|c| c.by)
                .collect()
        };
        assert_eq!(by(&annotations), [Some("anna".to_owned()), None]);
        unstamp(&mut annotations);
        assert_eq!(by(&annotations), [None, None]);
        let left: Vec<&String> = annotations.keys().collect();
        assert_eq!(
            left,
            ["serin.dev/abort", "serin.dev/decision", "serin.dev/promote"]
        );
    }
}
