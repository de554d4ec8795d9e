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
    process::{Command, ExitCode, Stdio},
    sync::{
        Mutex, MutexGuard, PoisonError,
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
    /// This one alone, for a machine
    #[arg(long, hide = true)]
    report: Option<u64>,
    /// So many at a time
    #[arg(long, default_value_t = 2)]
    jobs: u64,
    /// Print the hash of each run's log
    #[arg(long)]
    hashes: bool,
    /// End after so many that failed
    #[arg(long, default_value_t = 10)]
    most: usize,
}

/// Most of a run's time is JSON, and most of that is memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn storm(seed: u64) -> Storm {
    Storm::of(seed, cases::cases().len())
}

fn main() -> ExitCode {
    let options = Options::parse();
    match (options.seed, options.report) {
        (Some(seed), _) => one(seed),
        (_, Some(seed)) => {
            println!(
                "{}",
                play(seed, &storm(seed), &BTreeMap::new(), false).to_json()
            );
            ExitCode::SUCCESS
        }
        _ => many(&options),
    }
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

/// One seed in a process of its own: libraries count what they made so far, and take their random
/// numbers from that.
fn apart(seed: u64) -> Report {
    let child = std::env::current_exe().and_then(|exe| {
        Command::new(exe)
            .args(["--report", &seed.to_string()])
            .stderr(Stdio::inherit())
            .output()
    });
    let said = child.map_err(|e| e.to_string()).and_then(|out| {
        serde_json::from_slice(&out.stdout).map_err(|e| format!("{e}: {}", out.status))
    });
    match said {
        Ok(value) => Report::from_json(&value),
        Err(why) => play::failed(why),
    }
}

/// What many runs came to.
#[derive(Default)]
struct Sum {
    seeds: u64,
    writes: u64,
    lasted: u64,
    struck: BTreeMap<String, u64>,
    failed: Vec<u64>,
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
            self.failed.push(seed);
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
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end || lock(&sum).failed.len() >= options.most {
                return;
            }
            let report = apart(seed);
            if options.hashes {
                println!("seed {seed} {:016x}", report.hash);
            }
            if let Some(law) = report.broken.first() {
                println!("seed {seed}: {law}");
            }
            lock(&sum).add(seed, report);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(work);
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
