//! The real controller in a simulated world.

mod against;
mod api;
mod cases;
mod copies;
mod dice;
mod heap;
mod laws;
mod log;
mod nature;
mod people;
mod plans;
mod play;
mod scenario;
mod shrink;
mod soak;
mod storm;
mod weather;
mod wire;
mod world;

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::Write,
    path::Path,
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
use soak::Fortnight;
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
    /// Leaves parts of the seed's run out: act1,gust0,lag
    #[arg(long, default_value = "")]
    without: String,
    /// This plan alone, with its log
    #[arg(long)]
    plan: Option<Plan>,
    /// This plan alone, for a machine
    #[arg(long, hide = true)]
    report_plan: Option<Plan>,
    /// This scenario, a file or the name of one of this project, with its log
    #[arg(long)]
    scenario: Option<String>,
    /// Every scenario of this project
    #[arg(long)]
    scenarios: bool,
    /// This scenario, for a machine
    #[arg(long, hide = true)]
    report_scenario: Option<std::path::PathBuf>,
    /// The seeds' requests to the simulated API server and to the one of this kubeconfig, compared
    #[arg(long, value_name = "KUBECONFIG")]
    against: Option<std::path::PathBuf>,
    /// A fortnight of so many Rollouts, each with a deploy an hour
    #[arg(long)]
    soak: Option<u64>,
    /// The fortnight of this Rollout, for a machine
    #[arg(long, hide = true)]
    report_soak: Option<u64>,
    /// So many at a time
    #[arg(long, default_value_t = 2)]
    jobs: u64,
    /// A file to which a table of what struck is appended
    #[arg(long)]
    table: Option<std::path::PathBuf>,
    /// Print the hash of each run's log
    #[arg(long)]
    hashes: bool,
    /// End after so many that failed
    #[arg(long, default_value_t = 10)]
    most: u64,
}

/// Most of a run's time is JSON, and most of that is memory.
#[global_allocator]
static ALLOCATOR: heap::Counting = heap::Counting(mimalloc::MiMalloc);

fn storm(seed: u64) -> Storm {
    Storm::of(seed, cases::cases().len())
}

/// A seed is played without some parts.
fn seeded(seed: u64, without: &str, verbose: bool) -> Report {
    let whole = storm(seed);
    match whole.without(&shrink::parse(without)) {
        Some(storm) => play(seed, &storm, &BTreeMap::new(), verbose),
        None => play::failed(format!(
            "--without {without}: seed {seed} has no such part; it has {}",
            shrink::parts(&whole).join(",")
        )),
    }
}

/// The smallest run of a seed that breaks the same law, as a command.
fn smallest(seed: u64, broken: &str) -> String {
    let law = shrink::law(broken);
    let left_out = shrink::shrink(&shrink::parts(&storm(seed)), |out| {
        let report = apart("--report", &seed.to_string(), &shrink::words(out));
        report.broken.first().is_some_and(|b| shrink::law(b) == law)
    });
    if left_out.is_empty() {
        return format!("make sim REPLAY={seed}");
    }
    format!(
        "make sim REPLAY={seed} WITHOUT={}  (all of it: make sim REPLAY={seed})",
        shrink::words(&left_out)
    )
}

fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(kubeconfig) = &options.against {
        return against::compare(kubeconfig, options.from, options.seeds);
    }
    if let Some(seed) = options.seed {
        return one(&seeded(seed, &options.without, true));
    }
    if let Some(plan) = &options.plan {
        return one(&planned(plan, true));
    }
    if let Some(name) = &options.scenario {
        let file = scenario::file(name);
        return one(&file.map_or_else(play::failed, |path| scenario::play(&path, true)));
    }
    if let Some(path) = &options.report_scenario {
        return told(&scenario::play(path, false));
    }
    if options.scenarios {
        return scenarios(&options);
    }
    if let Some(seed) = options.report {
        return told(&seeded(seed, &options.without, false));
    }
    if let Some(plan) = &options.report_plan {
        return told(&planned(plan, false));
    }
    if let Some(n) = options.report_soak {
        return told(&soak::fortnight(n));
    }
    if let Some(rollouts) = options.soak {
        return soaked(&options, rollouts);
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
fn told(report: &impl serde::Serialize) -> ExitCode {
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
fn apart(flag: &str, what: &str, without: &str) -> Report {
    asked(&[flag, what, "--without", without]).unwrap_or_else(play::failed)
}

/// What another process says of what is asked.
fn asked<T: serde::de::DeserializeOwned>(words: &[&str]) -> Result<T, String> {
    let child = std::env::current_exe().and_then(|exe| {
        Command::new(exe)
            .args(words)
            .stderr(Stdio::inherit())
            .output()
    });
    child.map_err(|e| e.to_string()).and_then(|out| {
        serde_json::from_slice(&out.stdout).map_err(|e| format!("{e}: {}", out.status))
    })
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

    fn line(&self, what: &str, seconds: f64) -> String {
        format!(
            "{} {what}, {} broke a law; {} writes, {} simulated hours; {:.1} {what} a second",
            self.runs,
            self.failed,
            self.writes,
            self.lasted / 3_600_000,
            self.runs as f64 / seconds
        )
    }

    /// Says what came of it all, and writes it down.
    fn end(&self, what: &str, began: Instant, table: Option<&Path>, more: &str) -> ExitCode {
        let line = self.line(what, began.elapsed().as_secs_f64());
        self.print(&line);
        let written = table.is_none_or(|path| {
            let file = OpenOptions::new().append(true).create(true).open(path);
            let written = file.and_then(|mut f| f.write_all(self.table(&line, more).as_bytes()));
            written
                .inspect_err(|e| eprintln!("{}: {e}", path.display()))
                .is_ok()
        });
        outcome(self.failed == 0 && written)
    }

    fn table(&self, line: &str, more: &str) -> String {
        let mut text = format!("\n{line}\n\n{more}");
        for (what, rows) in [("Case", &self.cases), ("Fault", &self.struck)] {
            text.push_str(&format!("\n| {what} | Times |\n|---|---|\n"));
            for (name, n) in rows {
                text.push_str(&format!("| {name} | {n} |\n"));
            }
        }
        text
    }

    fn print(&self, line: &str) {
        println!("{line}");
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
        let mut report = apart("--report", &seed.to_string(), "");
        // The same seed is the same run, to the last byte.
        if seed % TWICE == 0 && apart("--report", &seed.to_string(), "").hash != report.hash {
            report.broken.push("the same seed is another run".into());
        }
        if options.hashes {
            println!("seed {seed} {:016x}", report.hash);
        }
        if let Some(law) = report.broken.first() {
            println!("seed {seed}: {law}\n  to see it: {}", smallest(*seed, law));
        }
        report
    });
    let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    sum.end("seeds", began, options.table.as_deref(), "")
}

/// Every scenario of this project.
fn scenarios(options: &Options) -> ExitCode {
    let began = now();
    let sum = Mutex::new(Sum::default());
    let all = match scenario::all() {
        Ok(all) => all,
        Err(why) => return one(&play::failed(why)),
    };
    each(options, &all, &sum, |path| {
        let report = apart("--report-scenario", &path.display().to_string(), "");
        if !report.broken.is_empty() {
            let name = path.file_stem().unwrap_or_default().display();
            println!("{name}:\n  {}", report.broken.join("\n  "));
        }
        report
    });
    let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    sum.end("scenarios", began, options.table.as_deref(), "")
}

/// The fortnights of many Rollouts.
fn soaked(options: &Options, rollouts: u64) -> ExitCode {
    let began = now();
    let all: Vec<u64> = (options.from..options.from + rollouts).collect();
    let sum = Mutex::new(Sum::default());
    let done = Mutex::new(vec![]);
    each(options, &all, &sum, |n| {
        let fortnight: Fortnight =
            asked(&["--report-soak", &n.to_string()]).unwrap_or_else(soak::failed);
        for law in fortnight.broken.iter().take(3) {
            println!("Rollout {n}, {}: {law}", fortnight.case);
        }
        let report = fortnight.report();
        lock(&done).push(fortnight);
        report
    });
    let mut sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    let done = lock(&done);
    if let Some(grown) = soak::grown(&done) {
        println!("{grown}");
        sum.failed += 1;
    }
    let table = soak::table(&done);
    println!("{table}");
    sum.end("fortnights", began, options.table.as_deref(), &table)
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
        let clean = apart("--report-plan", &nothing.to_string(), "");
        for law in &clean.broken {
            println!("{law}\n  to see it: make sim PLAN={nothing}");
        }
        let all = Plan::all(workload, &clean);
        println!("workload {workload}, {}: {} plans", clean.case, all.len());
        each(options, &all, &sum, |plan| {
            let mut report = apart("--report-plan", &plan.to_string(), "");
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
    sum.end("plans", began, options.table.as_deref(), "")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
