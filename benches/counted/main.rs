//! The paths whose instructions are counted: each runs so many times in one thread, on virtual time, with seeded
//! randomness and data in memory, so that the number of instructions says what the code does and not how the machine
//! feels. It decides what an operation of a path is. Who counts, and what is too many, is `scripts/guard.sh`.
//!
//! Run: `scripts/guard.sh`, or by itself `cargo bench --bench counted -- send 1000`.

#![allow(unreachable_pub)] // nothing here is reachable from anywhere

mod cluster;
mod hosted;
mod paths;
mod ring;

use std::error::Error;
use std::io::Write;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let out = &mut std::io::stdout();
    let Some(name) = arguments.first() else {
        // For the guard: what there is, and how often each is worth running.
        for path in paths::ALL {
            writeln!(out, "{} {}", path.name, path.operations)?;
        }
        return Ok(());
    };
    let known = || paths::ALL.iter().map(|path| path.name).collect::<Vec<_>>().join(", ");
    let path = paths::ALL.iter().find(|path| path.name == name.as_str());
    let path = path.ok_or_else(|| format!("no path is named {name}; there are {}", known()))?;
    let operations = match arguments.get(1) {
        Some(text) => text.parse().map_err(|_| format!("{text} is no number of operations"))?,
        None => path.operations,
    };
    (path.run)(operations)
}

/// The only code of a path that is counted: everything below this function, on this thread.
#[inline(never)]
pub fn counted_section<T>(work: impl FnOnce() -> T) -> T {
    work()
}
