//! The lab from the command line.

use std::{
    os::unix::process::ExitStatusExt,
    process::{Command, ExitStatus},
};

use clap::{Parser, Subcommand};
use serin_lab::{Lab, Options, Terminal};

#[derive(Parser)]
#[command(about = "A real cluster with a real data plane, without root or containers")]
struct Cli {
    #[command(subcommand)]
    command: Do,
}

#[derive(Subcommand)]
enum Do {
    /// Find or build the parts, so that the lab comes up quickly afterwards.
    Prepare,
    /// Start a lab, and a shell in it.
    Shell,
    /// Start a lab, run a command in it, and exit with its code.
    Run {
        /// The command; `KUBECONFIG` and the lab's URLs are in its environment.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// The sample application (what the image lab/app runs).
    App,
}

fn main() {
    let asked = std::env::args().nth(1);
    // These two need nothing of the lab, and the app's own way in is the role.
    if !matches!(asked.as_deref(), Some("shell" | "run" | "serin-lab-role")) {
        std::process::exit(outside());
    }
    serin_lab::enter();
    let cli = Cli::parse();
    let command = match cli.command {
        Do::Run { command } => command,
        _ => vec![std::env::var("SHELL").unwrap_or_else(|_| "bash".into())],
    };
    let done = tokio::runtime::Runtime::new()
        .map_err(|e| e.to_string())
        .and_then(|r| r.block_on(in_lab(&command)));
    std::process::exit(done.unwrap_or_else(|e| {
        eprintln!("serin-lab: {e}");
        2
    }))
}

fn outside() -> i32 {
    match Cli::parse().command {
        Do::App => serin_lab::run_app(),
        _ => match serin_lab::prepare(&Terminal::new()) {
            Ok(parts) => {
                for (name, tool) in [
                    ("API server", &parts.apiserver),
                    ("Envoy Gateway", &parts.envoy_gateway),
                    ("Envoy", &parts.envoy),
                    ("Prometheus", &parts.prometheus),
                    ("promtool", &parts.promtool),
                    ("Alertmanager", &parts.alertmanager),
                    ("Helm", &parts.helm),
                ] {
                    println!("{name}: {}", tool.program.display());
                }
                0
            }
            Err(e) => {
                eprintln!("serin-lab: {e}");
                2
            }
        },
    }
}

async fn in_lab(command: &[String]) -> Result<i32, String> {
    let lab = Lab::up(Options::default())
        .await
        .map_err(|e| e.to_string())?;
    eprintln!("lab up in {:.1} s", lab.took().as_secs_f64());
    for (name, value) in lab.environment() {
        if name.starts_with("LAB_") || name == "KUBECONFIG" {
            eprintln!("  {name}={value}");
        }
    }
    install_serin(&lab)?;
    let mut child = Command::new(&command[0]);
    child.args(&command[1..]).envs(lab.environment());
    let mut child = tokio::process::Command::from(child)
        .spawn()
        .map_err(|e| format!("running {}: {e}", command[0]))?;
    let status = tokio::select! {
        status = child.wait() => status.map_err(|e| e.to_string())?,
        failure = lab.failure() => return Err(failure.to_string()),
    };
    lab.down().await;
    Ok(code(status))
}

/// Where the controller was built beside this program: it is the image of the chart, and `serin` and
/// `kubectl serin` are found.
fn install_serin(lab: &Lab) -> Result<(), String> {
    let beside = std::env::current_exe().map_err(|e| e.to_string())?;
    let beside = beside.with_file_name("serin");
    if !beside.exists() {
        return Ok(());
    }
    lab.images()
        .register("ghcr.io/serin-dev/serin:*", &beside, &[]);
    for name in ["serin", "kubectl-serin"] {
        let link = lab.run_dir().join("bin").join(name);
        std::os::unix::fs::symlink(&beside, link).map_err(|e| format!("{name}: {e}"))?;
    }
    Ok(())
}

fn code(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}
