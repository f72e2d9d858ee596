//! The figures of gossip and failure detection over simulated clusters, as a table. All times are virtual and
//! follow from the seeds, so they are the same on every machine and in every profile; only how long it takes to
//! find them differs.
//!
//! ```console
//! $ cargo bench -p ringwork-core --bench gossip
//! ```

use ringwork_core::gossip::simulation::SimulationConfig;
use ringwork_core::gossip::simulation::experiments::{
    Convergence, Heal, convergence, crash, crash_noticed, crash_of_tenth, heal, idle, join, starved,
};
use std::io::{Result, Write};

fn lossy(nodes: usize, seed: u64) -> SimulationConfig {
    SimulationConfig { loss_per_mille: 10, ..SimulationConfig::of(nodes, seed) }
}

/// Median and 99th percentile of what was found, "–" when something was not found.
fn spread(values: impl Iterator<Item = Option<u64>>) -> String {
    let Some(mut values) = values.collect::<Option<Vec<u64>>>() else {
        return "–".to_owned();
    };
    values.sort_unstable();
    let at = |percent: usize| values[(values.len() * percent).div_ceil(100).max(1) - 1];
    format!("{} / {}", at(50), at(99))
}

fn row(out: &mut impl Write, name: &str, cells: &[String]) -> Result<()> {
    writeln!(out, "| {name} | {} |", cells.join(" | "))?;
    out.flush()
}

/// Sizes and how many seeds each gets.
const SIZES: [(usize, u64); 4] = [(5, 200), (10, 200), (100, 50), (1000, 3)];

fn main() -> Result<()> {
    let mut out = std::io::stdout().lock();
    let sizes = SIZES.map(|(nodes, seeds)| format!("{nodes} nodes ({seeds} seeds)"));
    row(&mut out, "1 % of the messages lost; median / p99", &sizes)?;
    writeln!(out, "|---|---|---|---|---|")?;
    let of = |measure: &dyn Fn(SimulationConfig) -> Option<u64>| {
        SIZES.map(|(nodes, seeds)| spread((0..seeds).map(|seed| measure(lossy(nodes, seed)))))
    };
    let converged = SIZES
        .map(|(nodes, seeds)| -> Vec<_> { (0..seeds).map(|seed| convergence(lossy(nodes, seed))).collect() });
    let column = |column: fn(Convergence) -> u64| {
        converged.each_ref().map(|found| spread(found.iter().map(|found| found.map(column))))
    };
    row(&mut out, "a change known to all, ms", &column(|c| c.milliseconds))?;
    row(&mut out, "… in rounds of 200 ms", &column(|c| c.rounds))?;
    row(&mut out, "… bytes per node for it (the section has 1024)", &column(|c| c.bytes_per_node))?;
    row(&mut out, "a crash without a word known to all, ms", &of(&crash))?;
    row(&mut out, "a crash that resets connections known to all, ms", &of(&crash_noticed))?;
    row(&mut out, "a tenth of the nodes crash, known to all, ms", &of(&crash_of_tenth))?;
    row(&mut out, "all start at once, all see all up, ms", &of(&join))?;
    // A thousand nodes take minutes here: every one of them learns of a thousand new lives.
    let healed =
        SIZES.map(|(nodes, seeds)| -> Vec<_> { (0..seeds).map(|seed| heal(lossy(nodes, seed))).collect() });
    let column = |column: fn(Heal) -> u64| {
        healed.each_ref().map(|found| spread(found.iter().map(|found| found.map(column))))
    };
    row(
        &mut out,
        "60 s split in halves, from its end until all see all up, ms",
        &column(|h| h.milliseconds),
    )?;
    row(&mut out, "… detector's bytes per node for it", &column(|h| h.bytes_per_node))?;

    writeln!(out, "\n| idle, nothing lost, per node and second | detector, B | state, B | messages |")?;
    writeln!(out, "|---|---|---|---|")?;
    for (nodes, _) in SIZES {
        let idle = idle(SimulationConfig::of(nodes, 1), 20);
        let cells = [idle.detector_bytes, idle.spread_bytes, idle.messages].map(|n| format!("{n:.1}"));
        row(&mut out, &format!("{nodes} nodes"), &cells)?;
    }

    let hour = starved(lossy(5, 7), 60);
    writeln!(
        out,
        "\nOne of five stopped 5 s of every 10 s for an hour: it declared others down {} times, healthy nodes were \
         declared down {} times, it itself {} times by the four others together.",
        hour.by_starved, hour.of_healthy, hour.of_starved
    )
}
