//! Tests that share one lab: the `main` of a test binary with `harness = false`.

use std::{error::Error as StdError, sync::Arc, time::Instant};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream};

use crate::{
    inside,
    lab::{Lab, Options},
};

/// What a test gives back: any error fails it, as a panic does.
pub type CaseResult = Result<(), Box<dyn StdError + Send + Sync>>;

type Body = Box<dyn FnOnce(Arc<Lab>) -> BoxFuture<'static, CaseResult> + Send>;

/// A list of tests.
#[derive(Default)]
pub struct Suite {
    cases: Vec<(&'static str, Body)>,
    last: Vec<(&'static str, Body)>,
    options: Options,
    at_once: usize,
}

/// Bytes of stack for each thread that runs tests.
const STACK: usize = 32 << 20;

impl Suite {
    /// An empty list; the lab has everything.
    #[must_use]
    pub fn new() -> Self {
        Self {
            at_once: 1,
            ..Self::default()
        }
    }

    /// What the lab consists of.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// How many tests run at the same time; 1 unless said.
    #[must_use]
    pub fn at_once(mut self, tests: usize) -> Self {
        self.at_once = tests.max(1);
        self
    }

    /// Adds a test.
    #[must_use]
    pub fn case<F, Fut>(mut self, name: &'static str, body: F) -> Self
    where
        F: FnOnce(Arc<Lab>) -> Fut + Send + 'static,
        Fut: Future<Output = CaseResult> + Send + 'static,
    {
        self.cases
            .push((name, Box::new(move |lab| body(lab).boxed())));
        self
    }

    /// Adds a test that runs by itself when all others have ended, whichever the arguments choose, so
    /// that it may judge what they did. It does not run where no other does.
    #[must_use]
    pub fn last<F, Fut>(mut self, name: &'static str, body: F) -> Self
    where
        F: FnOnce(Arc<Lab>) -> Fut + Send + 'static,
        Fut: Future<Output = CaseResult> + Send + 'static,
    {
        self.last
            .push((name, Box::new(move |lab| body(lab).boxed())));
        self
    }

    /// Enters the lab, runs the tests that the arguments choose (as `cargo test` passes them: parts
    /// of names, `--exact`, `--skip PART`, `--list`), and exits: 0 when all passed, else 101.
    pub fn main(mut self) -> ! {
        let chosen = Chosen::from_args(std::env::args().skip(1));
        // First of all, for this program may have been run to play another part.
        if !chosen.list {
            inside::enter();
        }
        let all = self.cases.len();
        self.cases.retain(|(name, _)| chosen.takes(name));
        let left_out = all - self.cases.len();
        if chosen.list {
            for (name, _) in self.cases.iter().chain(&self.last) {
                println!("{name}: test");
            }
            std::process::exit(0);
        }
        // What a test waits for stands on the stack at once, and unoptimized that is much.
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = match runtime.enable_all().thread_stack_size(STACK).build() {
            Ok(runtime) => runtime,
            Err(e) => {
                eprintln!("starting a runtime: {e}");
                std::process::exit(101);
            }
        };
        let passed = runtime.block_on(self.run(left_out));
        std::process::exit(if passed { 0 } else { 101 })
    }

    async fn run(self, left_out: usize) -> bool {
        let start = Instant::now();
        let mut failed = Vec::new();
        let total = match self.cases.len() {
            0 => 0,
            cases => cases + self.last.len(),
        };
        println!("\nrunning {total} tests");
        if total > 0 {
            let lab = match Lab::up(self.options).await {
                Ok(lab) => Arc::new(lab),
                Err(e) => {
                    println!("the lab did not come up: {e}");
                    println!("test result: FAILED. 0 passed; {total} failed; 0 ignored");
                    return false;
                }
            };
            println!(
                "lab up in {:.1} s: {}",
                lab.took().as_secs_f64(),
                lab.run_dir().display()
            );
            let mut results = stream::iter(self.cases.into_iter().map(|(name, body)| {
                let lab = lab.clone();
                async move { (name, run_case(name, body, lab).await) }
            }))
            .buffer_unordered(self.at_once);
            while let Some((name, why)) = results.next().await {
                failed.extend(why.map(|why| (name, why)));
            }
            drop(results);
            for (name, body) in self.last {
                let why = run_case(name, body, lab.clone()).await;
                failed.extend(why.map(|why| (name, why)));
            }
            finish(lab, failed.is_empty()).await;
        }
        for (name, why) in &failed {
            println!("\n---- {name} ----\n{why}");
        }
        println!(
            "\ntest result: {}. {} passed; {} failed; 0 ignored; 0 measured; {left_out} filtered \
             out; finished in {:.2}s\n",
            if failed.is_empty() { "ok" } else { "FAILED" },
            total - failed.len(),
            failed.len(),
            start.elapsed().as_secs_f64(),
        );
        failed.is_empty()
    }
}

async fn finish(lab: Arc<Lab>, well: bool) {
    if !well {
        return; // Its folder is kept, and named when the program ends.
    }
    match Arc::try_unwrap(lab) {
        Ok(lab) => lab.down().await,
        // A test left something running; the namespaces end it.
        Err(lab) => inside::discard(lab.run_dir()),
    }
}

/// Runs one test; gives why it failed.
async fn run_case(name: &str, body: Body, lab: Arc<Lab>) -> Option<String> {
    let start = Instant::now();
    let task = tokio::spawn(body(lab.clone()));
    let abort = task.abort_handle();
    let why = tokio::select! {
        done = task => match done {
            Ok(Ok(())) => None,
            Ok(Err(e)) => Some(chain(e.as_ref())),
            Err(e) => Some(panic_text(e)),
        },
        failure = lab.failure() => {
            abort.abort();
            Some(failure.to_string())
        }
    };
    let how = if why.is_none() { "ok" } else { "FAILED" };
    println!(
        "test {name} ... {how} ({:.1} s)",
        start.elapsed().as_secs_f64()
    );
    why
}

fn chain(e: &dyn StdError) -> String {
    let mut text = e.to_string();
    let mut source = e.source();
    while let Some(e) = source {
        text.push_str(&format!("\n  because: {e}"));
        source = e.source();
    }
    text
}

fn panic_text(e: tokio::task::JoinError) -> String {
    let Ok(panic) = e.try_into_panic() else {
        return "cancelled".into();
    };
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("panicked")
        .to_owned()
}

/// Which tests the arguments choose.
#[derive(Default)]
struct Chosen {
    parts: Vec<String>,
    skipped: Vec<String>,
    exact: bool,
    list: bool,
}

impl Chosen {
    fn from_args(mut args: impl Iterator<Item = String>) -> Self {
        let mut chosen = Self::default();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--exact" => chosen.exact = true,
                "--list" => chosen.list = true,
                "--skip" => chosen.skipped.extend(args.next()),
                "--format" | "--test-threads" | "--color" | "-Z" => drop(args.next()),
                flag if flag.starts_with('-') => {}
                _ => chosen.parts.push(arg),
            }
        }
        chosen
    }

    fn takes(&self, name: &str) -> bool {
        let fits = |part: &String| {
            if self.exact {
                part == name
            } else {
                name.contains(part)
            }
        };
        (self.parts.is_empty() || self.parts.iter().any(fits)) && !self.skipped.iter().any(fits)
    }
}
