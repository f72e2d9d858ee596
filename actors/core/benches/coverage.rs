//! What a plan of a listing costs, as a table: the reason why plans are not kept.
//!
//! ```console
//! $ cargo bench -p ringwork-core --bench coverage
//! ```

use ringwork_core::coverage::plan::plan;
use ringwork_core::ids::{NodeId, Partition};
use ringwork_core::ring::RingSize;
use std::hint::black_box;
use std::io::{Error, Result, Write};
use std::time::{Duration, Instant};

const NODES: usize = 5;
/// Each row is measured so often, and the median told.
const ROUNDS: usize = 21;
const ROUND: Duration = Duration::from_millis(20);

/// Time of one call in microseconds: the median of rounds.
#[allow(clippy::disallowed_methods)] // a bench measures time
fn microseconds(mut call: impl FnMut(u64)) -> f64 {
    let mut rotation = 0;
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let (begun, mut calls) = (Instant::now(), 0u32);
            while begun.elapsed() < ROUND {
                rotation += 1;
                calls += 1;
                call(rotation);
            }
            begun.elapsed().as_secs_f64() * 1e6 / f64::from(calls)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

fn main() -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "| Q, n = 3, 5 nodes | a plan, µs | with one node down, µs | pages at least |")?;
    writeln!(out, "|---|---|---|---|")?;
    for q in [64, 256, 1024, 4096] {
        let size = RingSize::try_from(q).map_err(Error::other)?;
        let wanted: Vec<Partition> = size.partitions().collect();
        let of = |partition: Partition| usize::from(partition.0) % NODES;
        let all = |partition| Some(NodeId([of(partition) as u8; 16]));
        let some = |partition| all(partition).filter(|_| of(partition) > 0);
        let up = microseconds(|rotation| {
            black_box(plan(size, 3, black_box(&wanted), &all, rotation));
        });
        let down = microseconds(|rotation| {
            black_box(plan(size, 3, black_box(&wanted), &some, rotation));
        });
        let pages = plan(size, 3, &wanted, &all, 0).parts.len();
        writeln!(out, "| {q} | {up:.1} | {down:.1} | {pages} |")?;
    }
    Ok(())
}
