//! A whole cluster in one thread, from one seed: real nodes with all their actors, under a simulated network, clock and
//! disk, with faults; and what must hold all the same. The same seed gives the same run, to the byte.
//!
//! ```console
//! $ cargo test --test sim                        # the tests of the simulator, and some seeds
//! $ cargo test --test sim -- --seed 17           # one seed, and what happened in it
//! $ cargo test --test sim -- --seeds 300         # that many, from 0 on, on all processors
//! $ cargo test --test sim -- --seeds 300 --from 5000
//! ```
//!
//! Reading order: `plan` (what a seed stands for), `world` (a run), `machine`, `host`, `network`, `disk`, `clock` (what
//! a node stands on), `history` (what clients were told), `faults` and `invariants` (a file each), `services` (what is
//! hosted), `runner` (many seeds).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test that cannot go on has failed
#![allow(unreachable_pub)] // nothing here is reachable from anywhere
#![allow(clippy::print_stdout, clippy::print_stderr)] // a command line of its own

mod clock;
mod disk;
mod faults;
mod history;
mod host;
mod invariants;
mod last_look;
mod lister;
mod machine;
mod network;
mod own_requests;
mod plan;
mod runner;
mod service;
mod services;
mod tests;
mod trace;
mod world;

/// As in production; a run allocates much.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    runner::main()
}
