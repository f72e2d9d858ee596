//! Claim over all ring sizes up to 1 024 and up to 64 nodes: how many moves beside the bound, which windows repeat
//! beyond what the numbers force, and how long single decisions take. Fails when a balance is wrong or a window of
//! nodes repeats that need not.
//!
//! Run: `cargo bench -p ringwork-core --bench claim` (some minutes; with `-- quick` only nodes and times).

use ringwork_core::claim::simulation::{Path, Simulation, SimulationRow, simulate};
use ringwork_core::claim::{STEPS_DEFAULT, TARGET_N_DEFAULT};
use ringwork_core::ring::RingSize;
use std::error::Error;
use std::io::Write;
use std::time::{Duration, Instant};

const SIZES: [u32; 8] = [8, 16, 32, 64, 128, 256, 512, 1024];
const RANGES: [(usize, usize); 4] = [(2, 4), (5, 8), (9, 16), (17, 64)];

#[derive(Default, Clone)]
struct Sum {
    steps: usize,
    moved: usize,
    bound: usize,
    at_least: usize,
    windows_beyond: usize,
    worst: f64,
    longest: Duration,
}

impl Sum {
    fn add(&mut self, row: &SimulationRow, took: Duration) {
        self.steps += 1;
        self.moved += row.claim.moved;
        self.bound += row.claim.moves_bound;
        let (found, least) = (&row.claim.violations.locations, &row.least.locations);
        self.at_least += usize::from(found == least);
        self.windows_beyond +=
            found.iter().zip(least).map(|(found, least)| found - least.min(found)).sum::<usize>();
        self.worst = self.worst.max(row.claim.moved as f64 / row.claim.moves_bound.max(1) as f64);
        self.longest = self.longest.max(took);
    }

    fn ratio(&self) -> String {
        match self.bound {
            0 => "-".to_owned(),
            bound => format!("{:.3} ({:.2})", self.moved as f64 / bound as f64, self.worst),
        }
    }
}

#[allow(clippy::disallowed_methods)] // core has no clock; here the wall clock is what is measured
fn walk(
    q: u32,
    path: &str,
    locations: usize,
    location_n: usize,
    see: &mut dyn FnMut(&SimulationRow, Duration),
) -> Result<(), Box<dyn Error>> {
    let simulation = Simulation {
        size: RingSize::try_from(q)?,
        path: path.parse::<Path>()?,
        locations,
        target_n: TARGET_N_DEFAULT,
        location_n,
        steps_max: STEPS_DEFAULT,
    };
    let mut wrong = Vec::new();
    let mut begun = Instant::now();
    simulate(&simulation, &mut |row| {
        let took = begun.elapsed();
        if !row.claim.violations.is_balanced() || row.claim.violations.nodes != row.least.nodes {
            wrong.push(format!("Q={q} {}→{}: {:?}", row.from, row.to, row.claim.violations));
        }
        see(&row, took);
        begun = Instant::now();
        true
    })?;
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}

fn range_of(row: &SimulationRow) -> Option<usize> {
    RANGES.iter().position(|(first, last)| (*first..=*last).contains(&row.to))
}

fn nodes_table(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    for (name, path) in [
        ("one by one, 1 to 64", "1..64".to_owned()),
        ("one leaves after the other, 64 to 1", "64..1".to_owned()),
        (
            "in groups",
            (2..=64usize).map(|n| format!("{n},{}", n * 37 % 64 + 1)).collect::<Vec<_>>().join(","),
        ),
    ] {
        writeln!(out, "\n{name}: moved / bound (worst single), by number of nodes after")?;
        write!(out, "{:>6}", "Q")?;
        for (first, last) in RANGES {
            write!(out, "{:>18}", format!("{first}-{last}"))?;
        }
        writeln!(out, "{:>12}", "longest")?;
        for q in SIZES {
            let mut sums = vec![Sum::default(); RANGES.len()];
            walk(q, &path, 0, 3, &mut |row, took| {
                if let Some(range) = range_of(row) {
                    sums[range].add(row, took);
                }
            })?;
            write!(out, "{q:>6}")?;
            for sum in &sums {
                write!(out, "{:>18}", sum.ratio())?;
            }
            let longest = sums.iter().map(|sum| sum.longest).max().unwrap_or_default();
            writeln!(out, "{:>9} ms", longest.as_millis())?;
        }
    }
    Ok(())
}

fn locations_table(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    writeln!(out, "\nwith locations, nodes 1..20, 25, 32, 48, 64 and back to 40, 20, 12, 6")?;
    writeln!(
        out,
        "{:>6}{:>3}{:>3}{:>7}{:>10}{:>9}{:>18}{:>12}",
        "Q", "L", "n", "steps", "at least", "beyond", "moved/bound", "longest"
    )?;
    for q in [16, 64, 256, 1024] {
        for locations in 2..=5 {
            for n in 2..=locations.min(4) {
                let mut sum = Sum::default();
                walk(q, "1..20,25,32,48,64,40,20,12,6", locations, n, &mut |row, took| sum.add(row, took))?;
                writeln!(
                    out,
                    "{q:>6}{locations:>3}{n:>3}{:>7}{:>10}{:>9}{:>18}{:>9} ms",
                    sum.steps,
                    sum.at_least,
                    sum.windows_beyond,
                    sum.ratio(),
                    sum.longest.as_millis()
                )?;
                out.flush()?;
            }
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let out = &mut std::io::stdout();
    writeln!(out, "one decision: ms, moved, bound")?;
    for (q, path, locations) in [
        (1024, "100,101,100", 0),
        (1024, "100,101,100", 5),
        (4096, "400,401", 0),
        (16_384, "1000,1001,900", 0),
        (16_384, "1000,1001,900", 5),
    ] {
        walk(q, path, locations, 3, &mut |row, took| {
            let (ms, claim) = (took.as_secs_f64() * 1000.0, &row.claim);
            let (from, to) = (row.from, row.to);
            let line = format!(
                "{ms:.2} ms, {} of {}, exhausted: {}",
                claim.moved, claim.moves_bound, claim.exhausted
            );
            // A table that cannot be written is seen at the next line.
            let _ = writeln!(out, "Q={q} {from}→{to} L={locations}: {line}");
        })?;
    }
    nodes_table(out)?;
    if !std::env::args().any(|argument| argument == "quick") {
        locations_table(out)?;
    }
    Ok(())
}
