//! Nodes with few and with many items: how long they take to start, what memory they hold, and what a request costs,
//! which must not grow with the number of items that nobody asks for.

use crate::fill::{fill, users_of};
use crate::load::Load;
use crate::node::{Cluster, Process, now};
use crate::requests::FLAT_ROUNDS;
use crate::table::{Bar, Table};
use crate::{Outcome, Suite};

const LARGEST: u64 = 10_000_000;
const SIZES: [u64; 4] = [1_000, 100_000, ONLY_STARTED, LARGEST];
/// It lies between others.
const ONLY_STARTED: u64 = 1_000_000;
/// Who is asked, whatever the number of items, and read where there are so many: what grows with the number of users is
/// the share of what is asked that lies in no cache, and not what an item costs.
const ASKED: u64 = 1000;

/// See the module's head.
pub fn items(suite: &Suite, table: &mut Table) -> Outcome {
    let echo = Process::echo(&suite.programs)?;
    let load = Load { prefilled: true, ..Load::sends(suite.rounds.min(FLAT_ROUNDS)) };
    let mut asked = Vec::new();
    for (host, items) in (1..).zip(SIZES) {
        let directory = suite.directory.path().join(format!("items-{items}"));
        let begun = now();
        fill(&suite.programs, host, &directory, items)?;
        let filled = (now() - begun).as_secs_f64();
        let begun = now();
        let cluster = Cluster::alone_at(host, &suite.programs, &directory, &[])?;
        let took = (now() - begun).as_secs_f64();
        let name = format!("{items} items");
        let bar = if items == LARGEST { Bar::Most(2.0, 0.5) } else { Bar::None };
        table.row(&format!("start with {name} on disk"), bar, took, "s", format!("filled in {filled:.0} s"));
        if items == LARGEST {
            ask_all_over(suite, table, &cluster, &echo)?;
        }
        if items == ONLY_STARTED {
            cluster.stop()?;
            std::fs::remove_dir_all(&directory)?;
        } else {
            asked.push((items, name, cluster));
        }
    }
    for (what, share) in [
        ("CPU of a get of 20, one node, over items on disk", 1.0),
        ("CPU of a send, one node, over items on disk", 0.0),
    ] {
        let of_this = asked.iter().filter(|(items, ..)| share == 0.0 || users_of(*items) >= ASKED);
        let load = Load { users: Some(ASKED), ..load.reading(share) };
        let (names, loads): (Vec<_>, Vec<_>) =
            of_this.map(|(_, name, cluster)| (name, (load, cluster.urls()))).unzip();
        let found = Load::run_in_turn(&loads, &suite.programs, &echo)?;
        let ratios = found.iter().map(|found| found.ratio);
        table.flat(what, " ×", &names.into_iter().cloned().zip(ratios).collect::<Vec<_>>());
    }
    asked.into_iter().try_for_each(|(_, _, cluster)| cluster.stop())
}

/// What it costs, and what memory it takes, to read what any of all users have.
fn ask_all_over(suite: &Suite, table: &mut Table, cluster: &Cluster<'_>, echo: &Process) -> Outcome {
    let node = cluster.node(0)?;
    let at_rest = node.resident_mb();
    let load = Load {
        prefilled: true,
        users: Some(users_of(LARGEST)),
        ..Load::sends(suite.rounds.min(FLAT_ROUNDS))
    };
    let found = load.reading(1.0).run(&suite.programs, &cluster.urls(), echo)?;
    let remark = format!("{at_rest:.0} once it serves, then gets all over");
    let (what, bar) = ("resident memory with 10 million items of 100 bytes", Bar::Most(512.0, 256.0));
    table.row(what, bar, node.resident_mb(), "MB", remark);
    let what = "get of 20, one node, of any of 166 667 users";
    table.row(what, Bar::None, found.ratio, "×", found.remark());
    Ok(())
}
