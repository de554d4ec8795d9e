//! What is asked: drawn from a seed, without a look at any answer, so that both are asked the same.

use crate::{
    api::kinds::{EVENT, Id, KINDS, LEASE, REVISION, ROLLOUT, ROUTE, RUN, SERVICE, SET},
    dice::Dice,
};

/// Requests in a sequence.
const REQUESTS: u64 = 40;
/// Kinds in a sequence.
const KINDS_AT_ONCE: usize = 3;
/// Names of a kind: few, so that requests meet.
const NAMES: &[&str] = &["a", "b"];
/// What Serin writes.
const WRITTEN: &[Id] = &[ROLLOUT, SET, REVISION, SERVICE, ROUTE, RUN, LEASE, EVENT];

/// Which resourceVersion or uid a request names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// None.
    Not,
    /// As it was read last.
    Right,
    /// An older version; another uid.
    Wrong,
}

/// What a request changes; the numbers make it new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Nothing,
    /// An annotation.
    Note(u64),
    /// A label.
    Label(u64),
    /// The spec.
    Spec(u64),
    /// The status.
    Status(u64),
    /// Both.
    SpecAndStatus(u64),
    /// It gets a finalizer.
    Hold,
    /// It loses its finalizers.
    Release,
    /// The spec, to something that may not be.
    Invalid,
}

/// How something is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// POST.
    Create {
        /// With an owner.
        owned: bool,
        /// With a finalizer.
        held: bool,
        /// Nothing is to be stored; without a name, as Serin asks for it.
        dry: bool,
    },
    /// GET of one.
    Get,
    /// GET of all of a kind, page by page where there is a limit.
    List {
        /// Objects on a page; 0 for all.
        limit: u64,
        /// Only the one of this name.
        named: bool,
        /// Only those with a label.
        labelled: bool,
    },
    /// PATCH by JSON patch.
    Json(Change),
    /// PATCH by merge patch.
    Merge(Change),
    /// PUT.
    Put(Change),
    /// DELETE.
    Delete,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Its kind.
    pub kind: Id,
    /// Its name.
    pub name: &'static str,
    /// How.
    pub verb: Verb,
    /// The resourceVersion that it names.
    pub version: Named,
    /// The uid that it names.
    pub uid: Named,
    /// Of the subresource.
    pub status: bool,
}

impl std::fmt::Display for Ask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let status = if self.status { "/status" } else { "" };
        write!(
            f,
            "{:?} {} {}{status}, version {:?}, uid {:?}",
            self.verb, KINDS[self.kind].of.kind, self.name, self.version, self.uid
        )
    }
}

impl Ask {
    /// A request that names no version and no uid.
    pub fn plain(kind: Id, name: &'static str, verb: Verb) -> Self {
        Self {
            kind,
            name,
            verb,
            version: Named::Not,
            uid: Named::Not,
            status: false,
        }
    }

    /// The requests of a seed.
    pub fn draw(seed: u64) -> Vec<Self> {
        let mut dice = Dice::new(seed ^ 0x00a6_a1a5);
        let mut kinds: Vec<Id> = vec![];
        while kinds.len() < KINDS_AT_ONCE {
            let kind = dice.pick(WRITTEN);
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        let mut there: Vec<(Id, &str)> = vec![];
        (1..=REQUESTS)
            .map(|n| {
                let (kind, name) = (dice.pick(&kinds), dice.pick(NAMES));
                let known = there.contains(&(kind, name));
                let verb = verb(&mut dice, kind, known, n);
                // As far as can be told without a look: what is there, mostly.
                match verb {
                    Verb::Create { dry: false, .. } if !known => there.push((kind, name)),
                    Verb::Delete if dice.once_in(2) => there.retain(|t| *t != (kind, name)),
                    _ => {}
                }
                terms(&mut dice, Self::plain(kind, name, verb))
            })
            .collect()
    }

    /// The kinds that are asked for.
    pub fn kinds(asks: &[Self]) -> Vec<Id> {
        let mut kinds: Vec<Id> = asks.iter().map(|a| a.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }
}

fn verb(dice: &mut Dice, kind: Id, known: bool, n: u64) -> Verb {
    let create = if known { 5 } else { 65 };
    if dice.below(100) < create {
        let dry = dice.permille(if kind == SET { 300 } else { 50 });
        return Verb::Create {
            owned: dice.once_in(3),
            held: dice.once_in(3),
            dry,
        };
    }
    match dice.below(100) {
        0..=7 => Verb::Get,
        8..=17 => Verb::List {
            limit: dice.below(2),
            named: dice.once_in(3),
            labelled: dice.once_in(3),
        },
        18..=44 => Verb::Json(change(dice, n)),
        45..=69 => Verb::Merge(change(dice, n)),
        70..=86 => Verb::Put(change(dice, n)),
        _ => Verb::Delete,
    }
}

fn change(dice: &mut Dice, n: u64) -> Change {
    match dice.below(20) {
        0..=1 => Change::Nothing,
        2..=4 => Change::Note(n),
        5 => Change::Label(n % 2),
        6..=9 => Change::Spec(n),
        10..=11 => Change::Status(n),
        12 => Change::SpecAndStatus(n),
        13..=15 => Change::Hold,
        16..=18 => Change::Release,
        _ => Change::Invalid,
    }
}

/// The versions, uids and subresources that a request names.
fn terms(dice: &mut Dice, mut ask: Ask) -> Ask {
    let named = [Named::Not, Named::Right, Named::Right, Named::Wrong];
    if matches!(
        ask.verb,
        Verb::Json(_) | Verb::Merge(_) | Verb::Put(_) | Verb::Delete
    ) {
        ask.version = dice.pick(&named);
        ask.uid = dice.pick(&[
            Named::Not,
            Named::Right,
            Named::Right,
            Named::Right,
            Named::Wrong,
        ]);
        let changes = matches!(
            ask.verb,
            Verb::Json(Change::Status(_) | Change::SpecAndStatus(_))
                | Verb::Merge(Change::Status(_) | Change::SpecAndStatus(_))
                | Verb::Put(Change::Status(_) | Change::SpecAndStatus(_))
        );
        ask.status = dice.permille(if changes { 600 } else { 60 }) && ask.verb != Verb::Delete;
        // The ReplicaSet controller would set it right some time later, and Serin never writes it.
        if ask.kind == SET {
            ask.status = false;
        }
    }
    ask
}
