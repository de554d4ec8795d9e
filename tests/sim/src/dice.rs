//! Every choice comes from the seed: the world's, and what libraries ask the system for.

use std::cell::Cell;

thread_local! {
    /// What libraries get: hash keys, jitter. A stream of its own, so that a library that asks once
    /// more changes nothing in the world.
    static SYSTEM: Cell<u64> = const { Cell::new(0x5e21) };
}

fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The system's random numbers, for every library in this process.
///
/// # Safety
/// `buffer` must be valid for `length` bytes, as the system's own function demands it.
#[allow(
    unsafe_code,
    reason = "it takes the place of the C library's function, which is how hash maps get their keys"
)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    // SAFETY: the caller's promise, see above.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer, length) };
    let mut state = SYSTEM.get();
    for chunk in bytes.chunks_mut(8) {
        let word = splitmix(&mut state).to_le_bytes();
        for (byte, random) in chunk.iter_mut().zip(word) {
            *byte = random;
        }
    }
    SYSTEM.set(state);
    isize::try_from(length).unwrap_or(isize::MAX)
}

/// From here on, what libraries get on this thread follows from `seed`.
pub fn seed_the_system(seed: u64) {
    SYSTEM.set(seed ^ 0x0005_e21a_5eed);
    fastrand::seed(seed);
}

/// A stream of choices.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x00d1_ce00)
    }
    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        splitmix(&mut self.0) % n.max(1)
    }
    /// A number from `low` to `high`.
    pub fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }
    /// True in so many of a thousand cases.
    pub fn permille(&mut self, n: u64) -> bool {
        self.below(1000) < n
    }
    /// True once in `n`.
    pub fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
    /// One of them.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        let at = usize::try_from(self.below(of.len() as u64)).unwrap_or(0);
        of[at]
    }
}
