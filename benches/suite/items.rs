//! Nodes with few and with many items: how long they take to start, what memory they hold, and what a request costs,
//! which must not grow with the number of items.

use crate::fill::{fill, users_of};
use crate::load::Load;
use crate::node::{Cluster, Process, now};
use crate::table::{Bar, Table};
use crate::{Outcome, Suite};

const SIZES: [u64; 3] = [1_000, 1_000_000, 10_000_000];
const LARGEST: u64 = 10_000_000;

/// See the module's head.
pub fn items(suite: &Suite, table: &mut Table) -> Outcome {
    let echo = Process::echo(&suite.programs)?;
    let (mut sends, mut gets) = (Vec::new(), Vec::new());
    for items in SIZES {
        let directory = suite.directory.path().join(format!("items-{items}"));
        let begun = now();
        fill(&suite.programs, &directory, items)?;
        let filled = (now() - begun).as_secs_f64();
        let begun = now();
        let cluster = Cluster::alone(&suite.programs, &directory, &[])?;
        let took = (now() - begun).as_secs_f64();
        let name = format!("{items} items");
        let bar = if items == LARGEST { Bar::Most(2.0, 0.5) } else { Bar::None };
        table.row(&format!("start with {name} on disk"), bar, took, "s", format!("filled in {filled:.0} s"));
        let node = cluster.node(0)?;
        let at_rest = node.resident_mb();
        let load = Load { users: Some(users_of(items)), prefilled: true, ..Load::sends(suite.rounds.min(3)) };
        let found = load.reading(1.0).run(&suite.programs, &cluster.urls(), &echo)?;
        gets.push((name.clone(), found.ratio));
        let read = node.resident_mb();
        let found = load.run(&suite.programs, &cluster.urls(), &echo)?;
        sends.push((name, found.ratio));
        if items == LARGEST {
            let (remark, bar) =
                (format!("{at_rest:.0} once it serves, then gets all over"), Bar::Most(512.0, 256.0));
            table.row("resident memory with 10 million items of 100 bytes", bar, read, "MB", remark);
            table.row("… after some seconds of sends", Bar::None, node.resident_mb(), "MB", "");
        }
        cluster.stop()?;
        std::fs::remove_dir_all(&directory)?;
    }
    table.flat("CPU of a send, one node, over items on disk", " ×", &sends);
    table.flat("CPU of a get of 20, one node, over items on disk", " ×", &gets);
    Ok(())
}
