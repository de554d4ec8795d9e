//! The real controller in a simulated world.

mod api;
mod cases;
mod copies;
mod dice;
mod laws;
mod log;
mod nature;
mod people;
mod play;
mod storm;
mod weather;
mod wire;
mod world;

use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use clap::Parser;

use play::{Report, play};
use storm::Storm;

/// Plays seeds.
#[derive(Parser)]
#[command(name = "serin-sim")]
struct Options {
    /// So many seeds
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// From this one on
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// This one alone, with its log
    #[arg(long)]
    seed: Option<u64>,
    /// Threads
    #[arg(long, default_value_t = 2)]
    threads: u64,
    /// Go on after so many that failed
    #[arg(long, default_value_t = 10)]
    most: usize,
}

fn storm(seed: u64) -> Storm {
    Storm::of(seed, cases::cases().len())
}

fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(seed) = options.seed {
        return one(seed);
    }
    many(&options)
}

/// One seed with its log.
fn one(seed: u64) -> ExitCode {
    let storm = storm(seed);
    let report = play(seed, &storm, &BTreeMap::new(), true);
    for line in &report.lines {
        println!("{line}");
    }
    println!("{storm:?}");
    println!(
        "hash {:016x}, {} writes, {} s",
        report.hash,
        report.writes,
        report.lasted / 1000
    );
    for law in &report.broken {
        println!("BROKEN {law}");
    }
    if report.broken.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What many runs came to.
#[derive(Default)]
struct Sum {
    seeds: u64,
    writes: u64,
    lasted: u64,
    struck: BTreeMap<&'static str, u64>,
    failed: Vec<(u64, Vec<String>)>,
}

impl Sum {
    fn add(&mut self, seed: u64, report: Report) {
        self.seeds += 1;
        self.writes += report.writes;
        self.lasted += report.lasted;
        for (what, n) in report.struck {
            *self.struck.entry(what).or_insert(0) += n;
        }
        if !report.broken.is_empty() {
            self.failed.push((seed, report.broken));
        }
    }
}

fn many(options: &Options) -> ExitCode {
    #[allow(
        clippy::disallowed_methods,
        reason = "how many seeds a second takes real time"
    )]
    let began = Instant::now();
    let next = AtomicU64::new(options.from);
    let end = options.from + options.seeds;
    let sum = Mutex::new(Sum::default());
    std::thread::scope(|scope| {
        for _ in 0..options.threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let report = play(seed, &storm(seed), &BTreeMap::new(), false);
                    let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(law) = report.broken.first() {
                        println!("seed {seed}: {law}");
                    }
                    sum.add(seed, report);
                    if sum.failed.len() >= options.most {
                        return;
                    }
                }
            });
        }
    });
    let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{} seeds, {} broke a law; {} writes, {} simulated hours; {:.1} seeds a second",
        sum.seeds,
        sum.failed.len(),
        sum.writes,
        sum.lasted / 3_600_000,
        sum.seeds as f64 / seconds
    );
    for (what, n) in &sum.struck {
        println!("  {what}: {n}");
    }
    if sum.failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
