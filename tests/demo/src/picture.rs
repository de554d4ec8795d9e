//! What is drawn while a release is on its way: in place on a terminal, line by line elsewhere.

use std::io::{IsTerminal, Write};

/// One look.
pub(crate) struct Frame {
    pub(crate) version: String,
    pub(crate) phase: String,
    pub(crate) step: String,
    pub(crate) message: String,
    pub(crate) weight: i32,
    pub(crate) accepted: Option<i32>,
    pub(crate) measured: f64,
    pub(crate) errors: f64,
    pub(crate) verdict: String,
    pub(crate) sent: u64,
}

pub(crate) struct Picture {
    terminal: bool,
    drawn: usize,
    last: String,
}

const WIDTH: usize = 50;

impl Picture {
    pub(crate) fn new() -> Self {
        Self {
            terminal: std::io::stdout().is_terminal(),
            drawn: 0,
            last: String::new(),
        }
    }

    /// A line that stays.
    pub(crate) fn say(&mut self, text: &str) {
        println!("{text}");
        self.drawn = 0;
    }

    pub(crate) fn draw(&mut self, f: &Frame) {
        if !self.terminal {
            let line = format!(
                "{} {:<11} step {:<5} weight {:>3} accepted {:>3}  {}",
                f.version,
                f.phase,
                f.step,
                f.weight,
                f.accepted.map_or("?".into(), |a| a.to_string()),
                f.message
            );
            if line != self.last {
                println!(
                    "{line}  [measured {:.0} %, errors {:.1} %, {}]",
                    f.measured, f.errors, f.verdict
                );
                self.last = line;
            }
            return;
        }
        let colour = match f.phase.as_str() {
            "Healthy" => "32",
            "Degraded" => "31",
            "Paused" => "33",
            _ => "36",
        };
        let verdict: String = f.verdict.chars().take(64).collect();
        // Nothing may be wider than a narrow terminal: it is drawn over line by line.
        let mut lines = vec![
            format!(
                "\x1b[1m{}\x1b[0m  \x1b[{colour}m{:<11}\x1b[0m step {:<5} {} requests",
                f.version, f.phase, f.step, f.sent
            ),
            format!(
                "  weight    {} {:>3} %{}",
                bar(f64::from(f.weight), "34"),
                f.weight,
                if f.accepted == Some(f.weight) {
                    ""
                } else {
                    " ..."
                }
            ),
            format!(
                "  measured  {} {:>3.0} %",
                bar(f.measured, "36"),
                f.measured
            ),
            format!("  errors    {} {:>3.1} %", bar(f.errors, "31"), f.errors),
            format!("  verdicts  {verdict}"),
        ];
        let letters: Vec<char> = f.message.chars().collect();
        let mut told = letters.chunks(74).map(|c| c.iter().collect::<String>());
        lines.extend((0..3).map(|_| format!("  {}", told.next().unwrap_or_default())));
        let mut out = std::io::stdout().lock();
        if self.drawn > 0 {
            let _ = write!(out, "\x1b[{}A", self.drawn);
        }
        for line in &lines {
            let _ = writeln!(out, "\x1b[2K{line}");
        }
        let _ = out.flush();
        self.drawn = lines.len();
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share between 0 and 100"
)]
fn bar(percent: f64, colour: &str) -> String {
    let full = ((percent.clamp(0.0, 100.0) / 100.0) * WIDTH as f64).round() as usize;
    format!(
        "\x1b[{colour}m{}\x1b[0m{}",
        "█".repeat(full),
        "·".repeat(WIDTH - full)
    )
}
