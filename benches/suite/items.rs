//! Nodes with few and with many items: how long they take to start, what memory they hold, and what a request costs,
//! which must not grow with the number of items that nobody asks for.

use crate::fill::{fill, users_of};
use crate::load::Load;
use crate::node::{Cluster, Process, now};
use crate::table::{Bar, Table};
use crate::{Outcome, Suite};

const LARGEST: u64 = 10_000_000;
/// Of the smallest only sends are measured: it has too few users for gets.
const SIZES: [u64; 4] = [1_000, 100_000, 1_000_000, LARGEST];
/// Who is asked, whatever the number of items: what grows with the number of users is the share of what is asked that
/// lies in no cache, and not what an item costs.
const ASKED: u64 = 1000;

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
        let run = |load: Load<'_>| load.run(&suite.programs, &cluster.urls(), &echo);
        let load = Load { prefilled: true, ..Load::sends(suite.rounds.min(4)) };
        if items == LARGEST {
            let found = run(Load { users: Some(users_of(items)), rounds: 2, ..load }.reading(1.0))?;
            let (remark, bar) =
                (format!("{at_rest:.0} once it serves, then gets all over"), Bar::Most(512.0, 256.0));
            table.row(
                "resident memory with 10 million items of 100 bytes",
                bar,
                node.resident_mb(),
                "MB",
                remark,
            );
            let what = "get of 20, one node, of any of 166 667 users";
            table.row(what, Bar::None, found.ratio, "×", found.remark());
        }
        if users_of(items) >= ASKED && items != 1_000_000 {
            gets.push((name.clone(), run(load.reading(1.0))?.ratio));
        }
        if items != 1_000_000 {
            sends.push((name, run(Load { users: Some(ASKED), ..load })?.ratio));
        }
        cluster.stop()?;
        std::fs::remove_dir_all(&directory)?;
    }
    table.flat("CPU of a send, one node, over items on disk", " ×", &sends);
    table.flat("CPU of a get of 20, one node, over items on disk", " ×", &gets);
    Ok(())
}
