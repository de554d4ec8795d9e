//! The `serin` binary.

fn main() -> std::process::ExitCode {
    serin::cli::main()
}
