//! Random documents from a seed: splitmix64, so that the same seed is the same test everywhere.

use serde_json::{Map, Value, json};

/// A stream of random choices.
pub struct Random(u64);

/// Says the seed if the test that it began panics.
struct Said(u64);

impl Drop for Said {
    #[allow(clippy::print_stderr, reason = "the test's own report")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this was SEED={}", self.0);
        }
    }
}

/// Plays a test with the first `n` seeds, or with `$SEED` alone.
pub fn seeds(n: u64, test: impl Fn(&mut Random)) {
    let one = std::env::var_os("SEED").map(|s| s.to_string_lossy().parse().expect("a number"));
    for seed in one.map_or(0..n, |seed: u64| seed..seed + 1) {
        let _said = Said(seed);
        test(&mut Random(seed));
    }
}

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n.max(1) as u64).unwrap_or(0)
    }

    /// True once in `n`.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of them.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// The same in another order.
    pub fn shuffle<T>(&mut self, of: &mut [T]) {
        for i in (1..of.len()).rev() {
            of.swap(i, self.below(i + 1));
        }
    }

    /// Some JSON of at most this depth.
    pub fn json(&mut self, depth: usize) -> Value {
        match self.below(if depth == 0 { 5 } else { 7 }) {
            0 => Value::Null,
            1 => json!(self.once_in(2)),
            2 => json!(self.below(200)),
            3 => json!(-1.5),
            4 => json!(*self.pick(&["", "checkout-stable", "checkout-canary", "~/\"\u{e9}"])),
            5 => (0..self.below(3)).map(|_| self.json(depth - 1)).collect(),
            _ => {
                let mut fields = Map::new();
                self.fields(&mut fields, depth - 1);
                Value::Object(fields)
            }
        }
    }

    fn fields(&mut self, into: &mut Map<String, Value>, depth: usize) {
        for _ in 0..self.below(3) {
            let name = *self.pick(&["unknown", "x-note", "a/b~c", "Weight", "backend"]);
            into.insert(name.to_owned(), self.json(depth));
        }
    }

    /// Fields that nobody knows, everywhere in a document.
    pub fn strew(&mut self, document: &mut Value) {
        match document {
            Value::Object(fields) => {
                fields.values_mut().for_each(|v| self.strew(v));
                self.fields(fields, 2);
            }
            Value::Array(items) => items.iter_mut().for_each(|v| self.strew(v)),
            _ => {}
        }
    }

    /// Takes away, repeats or replaces something in a document.
    pub fn damage(&mut self, document: &mut Value) {
        let stop = self.once_in(6);
        match document {
            Value::Object(fields) if !fields.is_empty() && !stop => {
                let names: Vec<String> = fields.keys().cloned().collect();
                let name = self.pick(&names);
                if self.once_in(6) {
                    fields.remove(name);
                } else if let Some(field) = fields.get_mut(name) {
                    self.damage(field);
                }
            }
            Value::Array(items) if !items.is_empty() && !stop => {
                let at = self.below(items.len());
                match self.below(6) {
                    0 => drop(items.remove(at)),
                    1 => items.push(items[at].clone()),
                    _ => self.damage(&mut items[at]),
                }
            }
            other => *other = self.json(2),
        }
    }
}
