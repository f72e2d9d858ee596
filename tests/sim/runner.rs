//! The command line: one seed, or many on all processors, or the tests as `cargo test` and `cargo nextest` want them.

use crate::disk::Planted;
use crate::plan::Plan;
use crate::world::{Report, run};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Which services a run may host.
const SERVICES: [&str; 4] = ["chat", "counter", "presence", "kv"];

/// What the command line asks for.
#[derive(Default)]
struct Wanted {
    seed: Option<u64>,
    seeds: Option<u64>,
    from: u64,
    mutants: bool,
    /// Only this one.
    mutant: Option<String>,
    /// Only seeds that host this service.
    service: Option<String>,
}

fn wanted() -> Result<Option<Wanted>, String> {
    let mut arguments = std::env::args().skip(1).peekable();
    let mut wanted = Wanted::default();
    let mut ours = false;
    while let Some(argument) = arguments.next() {
        let (name, given) = match argument.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (argument.clone(), None),
        };
        if name == "--mutants" {
            (ours, wanted.mutants) = (true, true);
            continue;
        }
        if !["--seed", "--seeds", "--from", "--mutant", "--service"].contains(&name.as_str()) {
            continue;
        }
        if name == "--service" {
            let service = given.or_else(|| arguments.next()).filter(|name| SERVICES.contains(&name.as_str()));
            wanted.service = Some(service.ok_or(format!("--service wants one of {}", SERVICES.join(", ")))?);
            continue;
        }
        if name == "--mutant" {
            (ours, wanted.mutants) = (true, true);
            wanted.mutant = given.or_else(|| arguments.next());
            continue;
        }
        ours = true;
        let value = given.or_else(|| arguments.next()).ok_or(format!("{name} wants a number"))?;
        let number = value.parse().map_err(|_| format!("{name} wants a number, not {value:?}"))?;
        match name.as_str() {
            "--seed" => wanted.seed = Some(number),
            "--seeds" => wanted.seeds = Some(number),
            _ => wanted.from = number,
        }
    }
    Ok(ours.then_some(wanted))
}

/// See the module's head.
pub fn main() -> ExitCode {
    quiet_planted_panics();
    match wanted() {
        Ok(Some(Wanted { mutant: Some(mutant), seed: Some(seed), .. })) => one_with(&mutant, seed),
        Ok(Some(Wanted { mutants: true, seeds, from, mutant, service, .. })) => {
            mutants(from, seeds.unwrap_or(50), mutant.as_deref(), service.as_deref())
        }
        Ok(Some(Wanted { seed: Some(seed), .. })) => one(seed),
        Ok(Some(wanted)) => many(&seeds(wanted.from, wanted.seeds.unwrap_or(1), wanted.service.as_deref())),
        Ok(None) => crate::tests::main(),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// So many seeds from one on, in ascending order: all, or those that host that service.
fn seeds(from: u64, count: u64, service: Option<&str>) -> Vec<u64> {
    let hosts = |seed: &u64| service.is_none_or(|service| Plan::of(*seed).service == service);
    (from..).filter(hosts).take(count as usize).collect()
}

/// Panics that are planted are no news.
fn quiet_planted_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.payload().is::<Planted>() {
            before(info);
        }
    }));
}

/// One run, with everything that happened.
fn one(seed: u64) -> ExitCode {
    let report = run(Plan::of(seed), true);
    for line in &report.text {
        println!("{line}");
    }
    println!("{}", summary(&report));
    if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The same with a planted fault.
#[cfg(feature = "mutants")]
fn one_with(name: &str, seed: u64) -> ExitCode {
    use ringwork_core::mutant::{Mutant, plant};
    let Some(mutant) = Mutant::ALL.iter().find(|mutant| name == format!("{mutant:?}")) else {
        eprintln!("no planted fault is named {name}; there are {:?}", Mutant::ALL);
        return ExitCode::from(2);
    };
    plant(Some(*mutant));
    one(seed)
}

#[cfg(not(feature = "mutants"))]
fn one_with(_: &str, _: u64) -> ExitCode {
    mutants(0, 0, None, None)
}

fn many(seeds: &[u64]) -> ExitCode {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let reports = runs(seeds, threads);
    let took = cpu_time();
    let failed: Vec<&Report> = reports.iter().filter(|report| !report.violations.is_empty()).collect();
    let virtual_time: Duration = reports.iter().map(|report| report.lasted).sum();
    let (asked, completed): (usize, usize) =
        reports.iter().fold((0, 0), |sum, report| (sum.0 + report.asked, sum.1 + report.completed));
    let mut happened: BTreeMap<&str, u64> = BTreeMap::new();
    for (name, times) in reports.iter().flat_map(|report| &report.happened) {
        *happened.entry(name).or_default() += times;
    }
    println!(
        "{} seeds from {} to {}, {} failed; {} virtual seconds in {:.1} s of CPU time on {threads} threads: {:.0} \
         a core-second; {asked} requests, {completed} served",
        seeds.len(),
        seeds.first().copied().unwrap_or_default(),
        seeds.last().copied().unwrap_or_default(),
        failed.len(),
        virtual_time.as_secs(),
        took.as_secs_f64(),
        virtual_time.as_secs_f64() / took.as_secs_f64(),
    );
    println!("faults: {happened:?}");
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What this process has used of the processors, in hundredths of a second: unlike what passed meanwhile, it does not
/// depend on who else works on the machine. Not known where there is no `/proc`: then a whole second.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 =
        after_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(if ticks == 0 { 1000 } else { ticks * 10 })
}

/// Plants one fault after the other, and says by which seed each is found. Without a service said, those that only one
/// service can show are looked for in runs that host it.
#[cfg(feature = "mutants")]
fn mutants(from: u64, most: u64, only: Option<&str>, service: Option<&str>) -> ExitCode {
    use ringwork_core::mutant::{Mutant, plant};
    let found: Mutex<BTreeMap<Mutant, String>> = Mutex::default();
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(mutant) = Mutant::ALL.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    if only.is_some_and(|only| only != format!("{mutant:?}")) {
                        continue;
                    }
                    plant(Some(*mutant));
                    let of = seeds(from, most, service.or(mutant.service()));
                    let caught = of.iter().zip(1..).find_map(|(seed, runs)| {
                        let report = run(Plan::of(*seed), false);
                        report.violations.first().map(|violation| {
                            let violation: String = violation.chars().take(110).collect();
                            format!("seed {seed}, after {runs}: {violation}")
                        })
                    });
                    plant(None);
                    let text = caught.unwrap_or_else(|| "NOT FOUND".to_owned());
                    println!("{mutant:?}: {text}");
                    found.lock().unwrap().insert(*mutant, text);
                }
            });
        }
    });
    let found = found.into_inner().unwrap();
    let missed = found.values().filter(|text| *text == "NOT FOUND").count();
    println!("{} of {} planted faults were found within {most} seeds", found.len() - missed, found.len());
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(not(feature = "mutants"))]
fn mutants(_: u64, _: u64, _: Option<&str>, _: Option<&str>) -> ExitCode {
    eprintln!(
        "planted faults are compiled in only with the feature: cargo test --test sim --features mutants -- --mutants"
    );
    ExitCode::from(2)
}

/// Runs those seeds, some at a time.
fn runs(seeds: &[u64], threads: usize) -> Vec<Report> {
    let (next, reports) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    let report = run(Plan::of(*seed), false);
                    if !report.violations.is_empty() {
                        println!("{}", summary(&report));
                    }
                    reports.lock().unwrap().push(report);
                }
            });
        }
    });
    let mut reports = reports.into_inner().unwrap();
    reports.sort_by_key(|report| report.seed);
    reports
}

/// What a reader wants to know of a run.
pub fn summary(report: &Report) -> String {
    let plan = &report.plan;
    let mut text = format!(
        "seed {}: {} on {}+{} nodes, ring of {}, {:?}, faults {:?}; {:.1} virtual seconds, {} requests, {} served, \
         trace {:08x} of {} lines\n",
        report.seed,
        plan.service,
        plan.founders,
        plan.spares,
        plan.ring_size,
        plan.durability,
        report.happened,
        report.lasted.as_secs_f64(),
        report.asked,
        report.completed,
        report.sum.0,
        report.sum.1,
    );
    for violation in &report.violations {
        text.push_str(&format!("  VIOLATED {violation}\n"));
    }
    if !report.violations.is_empty() {
        text.push_str(&format!("  REPRODUCE: cargo test --test sim -- --seed {}\n", report.seed));
    }
    text
}
