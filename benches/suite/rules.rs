//! Two rules that every request or every plan pays for, alone, in CPU time of this thread: a look-up in the ring, and
//! claim.

use crate::node::thread_cpu;
use crate::table::{Bar, Table, median};
use crate::{Outcome, Suite, ring};
use ringwork::core::claim::simulation::{Path, Simulation, simulate};
use ringwork::core::claim::{STEPS_DEFAULT, TARGET_N_DEFAULT};
use ringwork::core::ring::{KeyHash, RingSize};
use std::hint::black_box;

const LOOKUPS: u32 = 500_000;
const ROUNDS: usize = 7;

/// See the module's head.
pub fn rules(_: &Suite, table: &mut Table) -> Outcome {
    let mut figures = Vec::new();
    for (q, nodes, down) in [(64, 5, 0), (64, 5, 1), (1024, 100, 10), (16_384, 100, 10)] {
        let view = ring::view(q, nodes, down)?;
        let round = |_| {
            let begun = thread_cpu();
            for n in 0..LOOKUPS {
                let mut key = *b"user00000000";
                key[8..].copy_from_slice(&n.to_be_bytes());
                black_box(view.preflist("chat", &KeyHash::of("chat", black_box(&key)), 3));
            }
            (thread_cpu() - begun).as_secs_f64() * 1e9 / f64::from(LOOKUPS)
        };
        let found = median((0..ROUNDS).map(round).collect()).unwrap_or_default();
        if down > 0 {
            figures.push((format!("Q = {q}, {nodes} nodes"), found));
        } else {
            let remark = "five nodes; SHA-1 of a 12-byte key and liveness included";
            table.row("ring look-up", Bar::Most(150.0, 100.0), found, "ns", remark);
        }
    }
    table.flat("ring look-up with a tenth of the nodes down, over Q", " ns", &figures);
    let simulation = Simulation {
        size: RingSize::try_from(1024)?,
        path: "100,101,100,101".parse::<Path>()?,
        locations: 0,
        target_n: TARGET_N_DEFAULT,
        location_n: 3,
        steps_max: STEPS_DEFAULT,
    };
    let (mut begun, mut took) = (thread_cpu(), Vec::new());
    simulate(&simulation, &mut |row| {
        if (row.from, row.to) == (100, 101) {
            took.push((thread_cpu() - begun).as_secs_f64() * 1e3);
        }
        begun = thread_cpu();
        true
    })?;
    let found = median(took).unwrap_or_default();
    table.row("claim, Q = 1 024, the 101st node joins", Bar::Most(1000.0, 100.0), found, "ms", "");
    Ok(())
}
