//! The simulator's own tests, and the seeds that `cargo test` runs.

use crate::runner::{runs, summary};
use libtest_mimic::{Arguments, Failed, Trial};
use std::process::ExitCode;

/// Runs them as `cargo test` and `cargo nextest` ask.
pub fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = vec![Trial::test("some_seeds_hold", some_seeds_hold)];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn some_seeds_hold() -> Result<(), Failed> {
    let failed: Vec<String> =
        runs(0, 4, 2).iter().filter(|report| !report.violations.is_empty()).map(summary).collect();
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n").into()) }
}
