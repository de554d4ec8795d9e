//! The table of figures.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::Result;

/// One figure.
pub struct Row {
    pub figure: String,
    pub found: String,
    pub goal: &'static str,
    pub how: String,
    pub load: String,
}

impl Row {
    /// A figure that was taken under the load that `load` tells.
    pub fn new(
        figure: impl Into<String>,
        found: impl Into<String>,
        goal: &'static str,
        how: impl Into<String>,
        load: &str,
    ) -> Self {
        let row = Self {
            figure: figure.into(),
            found: found.into(),
            goal,
            how: how.into(),
            load: load.to_owned(),
        };
        println!(
            "{}: {} (goal {}); {}",
            row.figure, row.found, row.goal, row.how
        );
        row
    }
}

/// The load of the machine before a figure is taken: what others do on it.
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// The `q`th quantile of some values; 0 of none.
pub fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a place in a short list"
    )]
    let at = ((sorted.len().saturating_sub(1)) as f64 * q).round() as usize;
    sorted.get(at).copied().unwrap_or(0.0)
}

/// Seconds, as people read them.
pub fn time(seconds: f64) -> String {
    if seconds < 0.9995 {
        format!("{:.0} ms", seconds * 1000.0)
    } else {
        format!("{seconds:.1} s")
    }
}

/// Median, 99th percentile and the largest of some times.
pub fn spread(times: &[f64]) -> String {
    format!(
        "p50 {}, p99 {}, most {} (n {})",
        time(quantile(times, 0.5)),
        time(quantile(times, 0.99)),
        time(quantile(times, 1.0)),
        times.len()
    )
}

/// The folder of the project.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The commit that is measured.
pub fn commit() -> String {
    let git = Command::new("git")
        .args([
            "describe",
            "--always",
            "--dirty",
            "--abbrev=12",
            "--exclude",
            "*",
        ])
        .current_dir(root())
        .output();
    git.ok().filter(|o| o.status.success()).map_or_else(
        || "unknown".to_owned(),
        |o| String::from_utf8_lossy(&o.stdout).trim().to_owned(),
    )
}

const HEAD: &str = "# Figures

`make bench` writes this table; `make bench FIGURE=abort` takes one group anew (requests, abort, failure, rest,
gateway, and soak, which is taken only where it is named), and leaves the other rows as they are. The build is the profile `figures`: a release but for what makes its
build slow. Load is the machine's load average before the figure was taken: what else ran on it.

| Figure | Found | Goal | How | Commit | Cores | Load |
|---|---|---|---|---|---|---|
";

/// Writes the rows into the table, each in the place of the one with its name; or, in small, beside it.
pub fn write(rows: &[Row], small: bool) -> Result {
    let path = if small {
        root().join("target/bench-small.md")
    } else {
        root().join("tests/bench/TABLE.md")
    };
    let old = fs::read_to_string(&path).unwrap_or_default();
    let mut lines: Vec<String> = old
        .lines()
        .filter(|l| l.starts_with("| ") && !l.starts_with("| Figure"))
        .map(str::to_owned)
        .collect();
    let (commit, cores) = (
        commit(),
        std::thread::available_parallelism().map_or(0, usize::from),
    );
    for row in rows {
        let start = format!("| {} | ", row.figure);
        let line = format!(
            "{start}{} | {} | {} | {commit} | {cores} | {} |",
            row.found, row.goal, row.how, row.load
        );
        match lines.iter_mut().find(|l| l.starts_with(&start)) {
            Some(there) => *there = line,
            None => lines.push(line),
        }
    }
    save(&path, &format!("{HEAD}{}\n", lines.join("\n")))
}

/// Writes a table; its folder need not be there.
pub fn save(path: &Path, text: &str) -> Result {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, text)?;
    println!("\nwritten to {}", path.display());
    Ok(())
}
