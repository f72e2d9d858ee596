//! The simulator's own tests: that each kind of fault happens, that a seed is a run and always the same one, and that
//! what was once found stays away.

use crate::faults;
use crate::plan::Plan;
use crate::runner::summary;
use crate::world::run;
use libtest_mimic::{Arguments, Failed, Trial};
use std::process::ExitCode;
use std::time::Duration;

/// Seeds that failed once, and at what. A change of the simulator may make another run of a seed; the bug's own test
/// is then what is left, and docs/testing.md says which that is.
const REGRESSIONS: [(u64, &str); 9] = [
    (
        35,
        "after a loss of power and a kill: a journal taken for damaged, and a vnode counting on as an actor of before",
    ),
    (53, "a connection that was to end while its socket took nothing spun for ever"),
    (
        200_410,
        "a batch of hints failed, those behind it were merged, and the transfer was resumed behind the gap",
    ),
    (
        820_158,
        "a claimant was removed before members that were cut off knew its successor: strangers for ever",
    ),
    (830_689, "metadata changed right after a join was acknowledged and dropped"),
    (830_778, "the same"),
    (850_272, "a deletion through an id that became an alias"),
    (
        860_337,
        "a key's smaller id lay below a deletion that its node did not know, and won: an acknowledged send was gone",
    ),
    (850_752, "the oracle: nodes may see each other up by a third one's word, and not be connected"),
];

/// Seeds that are run twice.
const TWICE: u64 = 20;

/// Runs them as `cargo test` and `cargo nextest` ask.
pub fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = vec![
        Trial::test("one_seed_is_one_run_to_the_byte", one_seed_is_one_run_to_the_byte),
        Trial::test("what_was_found_once_stays_away", what_was_found_once_stays_away),
    ];
    for fault in faults::all() {
        let name = format!("{}_happens", fault.name().replace('-', "_"));
        trials.push(Trial::test(name, move || happens(fault)));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn one_seed_is_one_run_to_the_byte() -> Result<(), Failed> {
    for seed in 0..TWICE {
        let (first, second) = (run(Plan::of(seed), true), run(Plan::of(seed), true));
        let differing = first.text.iter().zip(&second.text).position(|(one, other)| one != other);
        if let Some(line) = differing {
            let (one, other) = (&first.text[line], &second.text[line]);
            return Err(format!("seed {seed}, line {line}: {one}\n{other}").into());
        }
        if first.sum != second.sum || first.text.len() != second.text.len() {
            return Err(format!("seed {seed}: one run went on after the other had ended").into());
        }
    }
    Ok(())
}

fn what_was_found_once_stays_away() -> Result<(), Failed> {
    for (seed, what) in REGRESSIONS {
        let report = run(Plan::of(seed), false);
        if !report.violations.is_empty() {
            return Err(format!("{what}, or something else: {}", summary(&report)).into());
        }
    }
    Ok(())
}

/// A run in which nothing but that kind goes wrong shows that it did, and nothing is broken by it.
fn happens(fault: &'static dyn faults::Fault) -> Result<(), Failed> {
    let plan = |seed: u64| Plan {
        faults: vec![fault.name()],
        fault_pause_max: Duration::from_secs(2),
        faults_for: Duration::from_secs(20),
        spares: 2,
        skews_ms: vec![0; 7],
        ..Plan::of(seed)
    };
    for seed in 1..=5 {
        let report = run(plan(seed), false);
        if !report.violations.is_empty() {
            return Err(summary(&report).into());
        }
        if report.happened.contains_key(fault.name()) && fault.is_seen_in(&report.evidence) {
            return Ok(());
        }
    }
    Err("five runs, and it never happened".into())
}
