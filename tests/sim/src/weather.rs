//! Weather: what becomes of each request, and how late each watch tells.

use std::collections::{BTreeMap, VecDeque};

use crate::{api::kinds::Id, dice::Dice};

/// What becomes of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is done and answered.
    Done,
    /// It never arrives; the connection breaks.
    Lost,
    /// It is done; the connection breaks before the answer.
    Unknown,
    /// It is refused with this code, and not done.
    Refused(u16),
    /// It is answered with 500, and done.
    FailedButDone,
    /// There is no answer, and it is done only after so many milliseconds.
    Late(u64),
    /// There is no answer, and it is never done.
    Hangs,
    /// The process dies before it is sent.
    CrashBefore,
    /// The process dies after it was done and before the answer.
    CrashAfter,
}

impl Fate {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Lost => "lost",
            Self::Unknown => "unknown outcome",
            Self::Refused(409) => "409",
            Self::Refused(429) => "429",
            Self::Refused(403) => "403",
            Self::Refused(503) => "503",
            Self::Refused(_) => "500",
            Self::FailedButDone => "500 but done",
            Self::Late(_) => "late",
            Self::Hangs => "hangs",
            Self::CrashBefore => "crash before a write",
            Self::CrashAfter => "crash after a write",
        }
    }
}

/// How bad it is, in thousandths of all requests.
#[derive(Clone, Debug, Default)]
pub struct Climate {
    /// Requests that meet with something.
    pub requests: u64,
    /// Answers of metric providers that are none.
    pub metrics: u64,
    /// Events that are told twice.
    pub doubles: u64,
    /// The slowest request, in milliseconds.
    pub latency: u64,
    /// The slowest watch, in milliseconds.
    pub lag: u64,
}

impl Climate {
    /// Each part by its name; in fine weather all are 0.
    pub fn parts(&mut self) -> [(&'static str, &mut u64); 5] {
        [
            ("requests", &mut self.requests),
            ("metrics", &mut self.metrics),
            ("doubles", &mut self.doubles),
            ("latency", &mut self.latency),
            ("lag", &mut self.lag),
        ]
    }
}

/// The weather.
#[derive(Debug)]
pub struct Weather {
    /// How bad it is.
    pub climate: Climate,
    /// No list is streamed.
    pub no_streams: bool,
    /// No process dies of it.
    pub spares: bool,
    /// How far clocks are off at most, in milliseconds.
    pub skew: u64,
    /// What is to become of certain writes, by their number.
    pub plan: BTreeMap<u64, Fate>,
    /// What is to become of so many of the next writes that carry out what was decided.
    next: VecDeque<(u32, Fate)>,
    /// So many times somebody else writes an object just before Serin does.
    pub contend: u32,
    /// How often each fault struck.
    pub struck: BTreeMap<&'static str, u64>,
    dice: Dice,
    lags: BTreeMap<(usize, Id), u64>,
    /// How far behind the API server of a copy's watch is, and until when.
    pasts: BTreeMap<(usize, Id), (u64, u64)>,
    hidden: BTreeMap<(usize, Id), u64>,
    cuts: BTreeMap<(usize, Id), u64>,
    /// Until when admission refuses the writes of a kind.
    forbidden: BTreeMap<Id, u64>,
}

impl Weather {
    /// From a seed.
    pub fn new(dice: Dice) -> Self {
        Self {
            climate: Climate::default(),
            no_streams: false,
            spares: false,
            skew: 0,
            plan: BTreeMap::new(),
            next: VecDeque::new(),
            contend: 0,
            struck: BTreeMap::new(),
            dice,
            lags: BTreeMap::new(),
            pasts: BTreeMap::new(),
            hidden: BTreeMap::new(),
            cuts: BTreeMap::new(),
            forbidden: BTreeMap::new(),
        }
    }

    /// Counts a fault.
    pub fn strike(&mut self, what: &'static str) {
        *self.struck.entry(what).or_insert(0) += 1;
    }

    /// What struck so far, and how often; counted from 0 again.
    pub fn take_struck(&mut self) -> BTreeMap<String, u64> {
        let struck = std::mem::take(&mut self.struck);
        struck.into_iter().map(|(k, n)| (k.to_owned(), n)).collect()
    }

    /// Admission refuses every write of a kind until then.
    pub fn forbid(&mut self, kind: Id, until: u64) {
        self.forbidden.insert(kind, until);
    }

    /// Whether it does.
    pub fn forbids(&mut self, kind: Id, now: u64) -> bool {
        let forbids = self.forbidden.get(&kind).is_some_and(|until| now < *until);
        if forbids {
            self.strike("refused by admission");
        }
        forbids
    }

    /// How far the clock of a process is off, in milliseconds.
    pub fn off(&mut self, life: usize) -> i64 {
        if self.skew == 0 {
            return 0;
        }
        self.strike("clock off");
        let most = i64::try_from(self.skew).unwrap_or(0);
        match life % 3 {
            0 => most,
            1 => -most,
            _ => 0,
        }
    }

    /// What becomes of the `n`th write, which `acts` or commits; Leases and Events are none.
    pub fn fate(&mut self, n: Option<u64>, acts: bool) -> Fate {
        let planned = n.and_then(|n| self.plan.remove(&n));
        let fate = match planned.or_else(|| acts.then(|| self.foretold()).flatten()) {
            Some(fate) => fate,
            None if self.dice.permille(self.climate.requests) => self.bad(n.is_some()),
            None => Fate::Done,
        };
        if fate != Fate::Done {
            self.strike(fate.word());
        }
        fate
    }

    /// Of the next `n` writes that carry out what was decided, this becomes.
    pub fn foretell(&mut self, n: u32, fate: Fate) {
        self.next.push_back((n, fate));
    }

    fn foretold(&mut self) -> Option<Fate> {
        let (left, fate) = self.next.front_mut()?;
        let fate = *fate;
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.next.pop_front();
        }
        Some(fate)
    }

    fn bad(&mut self, write: bool) -> Fate {
        let deadly = write && !self.spares;
        match self.dice.below(if deadly { 16 } else { 12 }) {
            0 => Fate::Lost,
            1..=2 => Fate::Unknown,
            3 => Fate::Refused(409),
            4 => Fate::Refused(429),
            5 => Fate::Refused(500),
            6 => Fate::Refused(503),
            7 => Fate::Refused(403),
            8 => Fate::FailedButDone,
            9..=10 => Fate::Late(self.dice.range(100, 40_000)),
            11 => Fate::Hangs,
            12..=13 => Fate::CrashBefore,
            _ => Fate::CrashAfter,
        }
    }

    /// How long the next request takes, there or back.
    pub fn latency(&mut self) -> u64 {
        match self.climate.latency {
            0 => 1,
            most if self.dice.once_in(8) => self.dice.range(1, most),
            most => self.dice.range(1, 1 + most / 20),
        }
    }

    /// How far a copy's watch of a kind is behind.
    pub fn lag(&mut self, copy: usize, kind: Id) -> u64 {
        let most = self.climate.lag;
        let dice = &mut self.dice;
        let new = || match most {
            0 => 2,
            most if dice.once_in(4) => dice.range(2, most),
            most => dice.range(2, 2 + most / 20),
        };
        *self.lags.entry((copy, kind)).or_insert_with(new)
    }

    /// How far behind a list is that a copy is served of a kind.
    pub fn behind(&mut self, copy: usize, kind: Id, now: u64) -> u64 {
        match self.pasts.get(&(copy, kind)) {
            Some((lag, until)) if now < *until => *lag,
            _ => self.lag(copy, kind),
        }
    }

    /// When a change of `at` is told.
    pub fn delivery(&mut self, copy: usize, kind: Id, at: u64) -> u64 {
        let mut due = at + self.lag(copy, kind);
        if let Some((lag, until)) = self.pasts.get(&(copy, kind)) {
            due = due.max((at + lag).min(*until));
        }
        due.max(self.hidden.get(&(copy, kind)).copied().unwrap_or(0))
    }

    /// A copy hears nothing of a kind until then, though its watch stands.
    pub fn hide(&mut self, copy: usize, kind: Id, until: u64) {
        self.strike("silent watch");
        self.hidden.insert((copy, kind), until);
    }

    /// A copy's watches of a kind end.
    pub fn cut(&mut self, copy: usize, kind: Id) {
        self.strike("watch cut");
        *self.cuts.entry((copy, kind)).or_insert(0) += 1;
        self.lags.remove(&(copy, kind));
        self.pasts.remove(&(copy, kind));
        self.hidden.remove(&(copy, kind));
    }

    /// A copy's watch of a kind is served from now on by an API server that is so far behind, until it
    /// catches up.
    pub fn go_back(&mut self, copy: usize, kind: Id, lag: u64, until: u64) {
        self.cut(copy, kind);
        self.strike("time travel");
        self.pasts.insert((copy, kind), (lag, until));
    }

    /// How often they have.
    pub fn cuts(&self, copy: usize, kind: Id) -> u64 {
        self.cuts.get(&(copy, kind)).copied().unwrap_or(0)
    }

    /// Whether an event is told twice.
    pub fn doubles(&mut self) -> bool {
        let twice = self.dice.permille(self.climate.doubles);
        if twice {
            self.strike("event told twice");
        }
        twice
    }

    /// Whether a metric provider gives no proper answer, and which of some.
    pub fn metric(&mut self) -> Option<u64> {
        let bad = self.dice.permille(self.climate.metrics);
        bad.then(|| self.dice.below(4))
    }

    /// From now on it is fine; what is hidden comes to light.
    pub fn clear_up(&mut self) {
        self.climate = Climate::default();
        self.plan.clear();
        self.next.clear();
        self.forbidden.clear();
        self.lags.clear();
        self.pasts.clear();
        self.hidden.clear();
    }
}
