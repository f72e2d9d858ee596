//! The suite: one run that measures everything quality has a bar for, as ratios to a bare HTTP echo where it is a
//! request, and writes one table. It decides which parts there are and in which order they run; what a part measures
//! is in its own file, how the table looks in `table`.
//!
//! Run: `scripts/bench.sh`, which builds what this needs and says where it is.

#![allow(unreachable_pub)] // nothing here is reachable from anywhere

mod fill;
mod items;
mod load;
mod members;
mod memory;
mod moves;
mod node;
mod requests;
#[path = "../counted/ring.rs"]
mod ring;
mod rules;
mod table;

use clap::Parser;
use node::Programs;
use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use table::Table;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What a part of the suite may end with.
pub type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Measures nodes on this machine beside a bare echo server, and prints one table.
#[derive(Parser)]
#[command(after_help = "Example:\n  scripts/bench.sh --only sends --only rules")]
struct Arguments {
    /// One part instead of all; may be repeated.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Rounds of each ratio; more are steadier, and take longer.
    #[arg(long, value_name = "N", default_value_t = 10)]
    rounds: u32,
    /// Where to write the table, between its two marks, when all parts have run.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// What the table says of the tree it was taken of.
    #[arg(long, value_name = "TEXT", default_value = "an unknown tree")]
    commit: String,
    /// The program `ringwork`, of a release build.
    #[arg(long, value_name = "FILE")]
    ringwork: PathBuf,
    /// benches/echo.rs, built.
    #[arg(long, value_name = "FILE")]
    echo: PathBuf,
    /// benches/transfer.rs, built.
    #[arg(long, value_name = "FILE")]
    transfer: PathBuf,
    /// For the data of nodes; on a disk, not in memory. By default the system's place for temporary files.
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// What all parts have.
pub struct Suite {
    programs: Programs,
    rounds: u32,
    directory: tempfile::TempDir,
}

type Part = (&'static str, fn(&Suite, &mut Table) -> Outcome);

/// In the order of the table.
const PARTS: [Part; 9] = [
    ("sends", requests::sends),
    ("three", requests::three_nodes),
    ("tail", requests::tail),
    ("rings", requests::rings),
    ("members", members::members),
    ("moves", moves::moves),
    ("transfer", moves::transfer),
    ("items", items::items),
    ("rules", rules::rules),
];

fn main() -> Outcome {
    let arguments = Arguments::parse();
    let names = || PARTS.map(|(name, _)| name).join(", ");
    if let Some(unknown) = arguments.only.iter().find(|only| PARTS.iter().all(|(name, _)| name != only)) {
        return Err(format!("no part is named {unknown}; there are {}", names()).into());
    }
    let directory = match &arguments.directory {
        Some(directory) => tempfile::tempdir_in(directory)?,
        None => tempfile::tempdir()?,
    };
    let programs = Programs {
        ringwork: arguments.ringwork,
        echo: arguments.echo,
        transfer: arguments.transfer,
        memory: memory::Memory::new(),
    };
    let suite = Suite { programs, rounds: arguments.rounds, directory };
    let (clock, errors) = (ringwork::runtime::time::Clock::system(), &mut std::io::stderr());
    let mut table = Table::default();
    let mut failed = Vec::new();
    for (name, part) in PARTS {
        if !arguments.only.is_empty() && !arguments.only.iter().any(|only| only == name) {
            continue;
        }
        writeln!(errors, "{name} …")?;
        suite.programs.memory.begin(name);
        let begun = clock.moment();
        // One part that fails is no reason to lose what the others found.
        if let Err(error) = part(&suite, &mut table) {
            writeln!(errors, "{name}: {error}")?;
            failed.push(format!("{name}: {error}"));
        }
        writeln!(errors, "{name} took {} s", (clock.moment() - begun).as_secs())?;
    }
    if let Some((ns, of_parts)) = suite.programs.memory.found() {
        table.row("a read of memory, anywhere, on this machine", table::Bar::None, ns, "ns", of_parts);
    }
    let text = table.markdown(&arguments.commit, clock.wall_ms());
    writeln!(std::io::stdout(), "{text}")?;
    if !failed.is_empty() {
        return Err(
            format!("not everything was measured, so nothing is written: {}", failed.join("; ")).into()
        );
    }
    if let (Some(file), true) = (&arguments.write, arguments.only.is_empty()) {
        table::write_between_marks(file, &text)?;
        writeln!(errors, "written to {}", file.display())?;
    }
    Ok(())
}
