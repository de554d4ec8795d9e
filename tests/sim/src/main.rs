//! The real controller in a simulated world.

mod api;
mod cases;
mod copies;
mod dice;
mod laws;
mod log;
mod nature;
mod people;
mod plans;
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
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use clap::Parser;

use plans::{Plan, WORKLOADS, Wrong};
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
    /// Every plan: each workload with one thing going wrong, wherever it could
    #[arg(long)]
    plans: bool,
    /// This plan alone, with its log
    #[arg(long)]
    plan: Option<Plan>,
    /// This plan alone, for a machine
    #[arg(long, hide = true)]
    report_plan: Option<Plan>,
    /// So many at a time
    #[arg(long, default_value_t = 2)]
    jobs: u64,
    /// Print the hash of each run's log
    #[arg(long)]
    hashes: bool,
    /// End after so many that failed
    #[arg(long, default_value_t = 10)]
    most: u64,
}

/// Most of a run's time is JSON, and most of that is memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn storm(seed: u64) -> Storm {
    Storm::of(seed, cases::cases().len())
}

fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(seed) = options.seed {
        return one(&play(seed, &storm(seed), &BTreeMap::new(), true));
    }
    if let Some(plan) = &options.plan {
        return one(&planned(plan, true));
    }
    if let Some(seed) = options.report {
        return told(&play(seed, &storm(seed), &BTreeMap::new(), false));
    }
    if let Some(plan) = &options.report_plan {
        return told(&planned(plan, false));
    }
    if options.plans {
        plans(&options)
    } else {
        many(&options)
    }
}

/// A plan is played with one seed.
fn planned(plan: &Plan, verbose: bool) -> Report {
    let (storm, fates) = plan.storm();
    play(1, &storm, &fates, verbose)
}

/// For the process that asked.
fn told(report: &Report) -> ExitCode {
    match serde_json::to_string(report) {
        Ok(text) => println!("{text}"),
        Err(_) => return ExitCode::FAILURE,
    }
    ExitCode::SUCCESS
}

/// One run with its log.
fn one(report: &Report) -> ExitCode {
    for line in report.lines.iter().chain(&report.end) {
        println!("{line}");
    }
    println!(
        "{}: hash {:016x}, {} writes, {} s",
        report.case,
        report.hash,
        report.writes,
        report.lasted / 1000
    );
    for law in &report.broken {
        println!("BROKEN {law}");
    }
    outcome(report.broken.is_empty())
}

fn outcome(good: bool) -> ExitCode {
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// One run in a process of its own: libraries count what they made so far, and take their random
/// numbers from that.
fn apart(flag: &str, what: &str) -> Report {
    let child = std::env::current_exe().and_then(|exe| {
        Command::new(exe)
            .args([flag, what])
            .stderr(Stdio::inherit())
            .output()
    });
    let said = child.map_err(|e| e.to_string()).and_then(|out| {
        serde_json::from_slice(&out.stdout).map_err(|e| format!("{e}: {}", out.status))
    });
    said.unwrap_or_else(play::failed)
}

/// What many runs came to.
#[derive(Default)]
struct Sum {
    runs: u64,
    writes: u64,
    lasted: u64,
    cases: BTreeMap<String, u64>,
    struck: BTreeMap<String, u64>,
    failed: u64,
}

impl Sum {
    fn add(&mut self, report: Report) {
        self.runs += 1;
        self.writes += report.writes;
        self.lasted += report.lasted;
        *self.cases.entry(report.case).or_insert(0) += 1;
        for (what, n) in report.struck {
            *self.struck.entry(what).or_insert(0) += n;
        }
        self.failed += u64::from(!report.broken.is_empty());
    }

    fn print(&self, what: &str, seconds: f64) {
        println!(
            "{} {what}, {} broke a law; {} writes, {} simulated hours; {:.1} {what} a second",
            self.runs,
            self.failed,
            self.writes,
            self.lasted / 3_600_000,
            self.runs as f64 / seconds
        );
        for (case, n) in &self.cases {
            println!("  {case}: {n} runs");
        }
        for (fault, n) in &self.struck {
            println!("  {fault}: {n} times");
        }
    }
}

/// Does `work` for each of `all`, some at a time, until as many failed as may.
fn each<T: Sync>(
    options: &Options,
    all: &[T],
    sum: &Mutex<Sum>,
    work: impl Fn(&T) -> Report + Sync,
) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(|| {
                loop {
                    let one = all.get(next.fetch_add(1, Ordering::Relaxed));
                    let Some(one) = one.filter(|_| lock(sum).failed < options.most) else {
                        return;
                    };
                    let report = work(one);
                    lock(sum).add(report);
                }
            });
        }
    });
}

#[allow(
    clippy::disallowed_methods,
    reason = "how many runs a second takes real time"
)]
fn now() -> Instant {
    Instant::now()
}

fn many(options: &Options) -> ExitCode {
    let began = now();
    let seeds: Vec<u64> = (options.from..options.from + options.seeds).collect();
    let sum = Mutex::new(Sum::default());
    each(options, &seeds, &sum, |seed| {
        let mut report = apart("--report", &seed.to_string());
        // The same seed is the same run, to the last byte.
        if seed % TWICE == 0 && apart("--report", &seed.to_string()).hash != report.hash {
            report.broken.push("the same seed is another run".into());
        }
        if options.hashes {
            println!("seed {seed} {:016x}", report.hash);
        }
        if let Some(law) = report.broken.first() {
            println!("{law}\n  to see it: make sim REPLAY={seed}");
        }
        report
    });
    let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    sum.print("seeds", began.elapsed().as_secs_f64());
    outcome(sum.failed == 0)
}

/// One seed in so many is played twice.
const TWICE: u64 = 50;

fn plans(options: &Options) -> ExitCode {
    let began = now();
    let sum = Mutex::new(Sum::default());
    for workload in 0..WORKLOADS.len() {
        let nothing = Plan {
            workload,
            wrong: Wrong::Nothing,
        };
        let clean = apart("--report-plan", &nothing.to_string());
        for law in &clean.broken {
            println!("{law}\n  to see it: make sim PLAN={nothing}");
        }
        let all = Plan::all(workload, &clean);
        println!("workload {workload}, {}: {} plans", clean.case, all.len());
        each(options, &all, &sum, |plan| {
            let mut report = apart("--report-plan", &plan.to_string());
            if report.end != clean.end {
                let odd = report.end.iter().filter(|line| !clean.end.contains(line));
                let odd: Vec<&str> = odd.map(String::as_str).collect();
                report
                    .broken
                    .push(format!("another end: {}", odd.join("; ")));
            }
            *report.struck.entry(plan.words()).or_insert(0) += 1;
            if let Some(law) = report.broken.first() {
                println!("{law}\n  to see it: make sim PLAN={plan}");
            }
            report
        });
        lock(&sum).add(clean);
    }
    let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    sum.print("plans", began.elapsed().as_secs_f64());
    outcome(sum.failed == 0)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
