//! What a seed stands for: how large the cluster is, how its nodes are set up, what is asked of it, and which kinds of
//! faults it meets. Each seed has only some of the kinds: all at once hide each other's bugs.

use crate::faults;
use ringwork_core::testing::Draw;
use ringwork_runtime::storage::Durability;
use std::time::Duration;

/// A run to be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Which service: its name.
    pub service: &'static str,
    /// Nodes that found the cluster.
    pub founders: u8,
    /// Nodes that may join later.
    pub spares: u8,
    /// Partitions.
    pub ring_size: usize,
    /// When acknowledgements leave.
    pub durability: Durability,
    /// How long a commit takes on a good day, in milliseconds.
    pub commit_ms: u64,
    /// Different keys.
    pub keys: u64,
    /// Clients, each with one request at a time.
    pub clients: u64,
    /// The longest pause between two requests of a client.
    pub pause_max: Duration,
    /// Of a thousand requests so many are reads, and so many deletions.
    pub reads: u64,
    /// See `reads`.
    pub forgets: u64,
    /// Of a thousand writes so many ask for one confirmation only.
    pub weak: u64,
    /// Shortest and longest time that a request is given.
    pub within: (Duration, Duration),
    /// How long faults go on.
    pub faults_for: Duration,
    /// The longest pause between two faults.
    pub fault_pause_max: Duration,
    /// Names of the kinds of faults.
    pub faults: Vec<&'static str>,
    /// Whether everybody is asked for everything whenever all nodes see each other again: it finds what is missing at
    /// once, and mends what would otherwise be found later.
    pub probes: bool,
    /// Items in one batch of a transfer: with few, transfers take long and are interrupted often.
    pub batch_items_max: usize,
    /// Whether members change again and again, and connections break, while much is on its way.
    pub churn: bool,
    /// How fast a transfer may be while faults go on.
    pub transfer_bytes_per_second: Option<u64>,
    /// How old trees may become before they are built anew, and compared with what was built.
    pub rebuild_interval: Duration,
    /// How wrong each node's wall clock is, in milliseconds, node 1 first.
    pub skews_ms: Vec<i64>,
}

/// Some number for a name, the same on every machine.
fn hash_of(name: &str) -> u64 {
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

impl Plan {
    /// What that seed stands for.
    pub fn of(seed: u64) -> Self {
        let mut draw = Draw::from_seed(seed);
        let founders = 3 + draw.below(3) as u8;
        let spares = draw.below(3) as u8;
        let durability = match draw.below(4) {
            0 => Durability::Sync,
            1 => Durability::Os,
            _ => Durability::Interval(Duration::from_secs(1)),
        };
        let mut faults: Vec<&'static str> = faults::all().iter().map(|fault| fault.name()).collect();
        let share = 2 + draw.below(4);
        // From a source of each kind's own, so that a further kind changes nothing for the others.
        faults.retain(|name| Draw::from_seed(seed ^ hash_of(name)).below(8) < share);
        if matches!(durability, Durability::Os) {
            // Nothing is promised about a machine's death then.
            faults.retain(|name| *name != "power-loss");
        }
        let skew_max = if draw.one_in(3) { 200_000 } else { 500 };
        let skews_ms =
            (0..founders + spares).map(|_| draw.below(skew_max * 2 + 1) as i64 - skew_max as i64).collect();
        let mut plan = Self {
            seed,
            service: if draw.one_in(3) { "counter" } else { "chat" },
            founders,
            spares,
            ring_size: [8, 16, 32][draw.below(3) as usize],
            durability,
            commit_ms: if draw.one_in(2) { 0 } else { 1 + draw.below(5) },
            keys: 2 + draw.below(12),
            clients: 4 + draw.below(5),
            pause_max: Duration::from_millis(40 + draw.below(120)),
            reads: 250 + draw.below(300),
            forgets: if draw.one_in(3) { 0 } else { draw.below(12) },
            weak: if draw.one_in(2) { 0 } else { draw.below(200) },
            within: (
                Duration::from_millis(300 + draw.below(1200)),
                Duration::from_millis(2000 + draw.below(6000)),
            ),
            faults_for: Duration::from_secs(20 + draw.below(25)),
            fault_pause_max: Duration::from_millis(800 + draw.below(6000)),
            faults,
            probes: draw.one_in(2),
            batch_items_max: [1, 1, 5, 1000][draw.below(4) as usize],
            transfer_bytes_per_second: draw.one_in(2).then(|| 4_000 + draw.below(16_000)),
            churn: draw.one_in(5),
            rebuild_interval: [4, 12, 600].map(Duration::from_secs)
                [Draw::from_seed(seed ^ hash_of("rebuild")).below(3) as usize],
            skews_ms,
        };
        if plan.churn {
            plan.transfer_bytes_per_second = Some(1_000 + draw.below(8_000));
            plan.spares = plan.spares.max(1);
            plan.faults.retain(|name| !["membership", "reset"].contains(name));
            plan.faults.extend(["membership", "membership", "membership", "reset", "reset"]);
            plan.faults.extend(["to-and-fro", "to-and-fro"]);
            // Either interrupted often, or all on its way at once.
            plan.batch_items_max = if draw.one_in(2) { 1 } else { 1000 };
            plan.fault_pause_max = Duration::from_millis(300 + draw.below(1500));
            plan.skews_ms.resize(usize::from(plan.nodes()), 0);
        }
        // From a source of its own, so that a further service changes nothing for the other runs.
        if plan.service == "chat" && Draw::from_seed(seed ^ hash_of("presence")).one_in(6) {
            plan.service = "presence";
        }
        if plan.service == "chat" && Draw::from_seed(seed ^ hash_of("objects")).one_in(5) {
            plan.service = "kv";
        }
        if plan.service == "counter" {
            plan.keys += 8;
            // Reads would mend what is to be shown here.
            plan.reads /= 3;
        }
        // What only services with dots can show: an actor that counts on from a state that was lost.
        if ["counter", "kv"].contains(&plan.service)
            && plan.durability != Durability::Os
            && !plan.faults.contains(&"power-loss")
        {
            plan.faults.push("power-loss");
        }
        plan
    }

    /// All nodes there may ever be.
    pub fn nodes(&self) -> u8 {
        self.founders + self.spares
    }

    /// How long what is acknowledged may stay unsynced.
    pub fn unsynced_at_most(&self) -> Option<Duration> {
        match self.durability {
            Durability::Sync => Some(Duration::ZERO),
            // The committer's interval, and what a slow disk adds.
            Durability::Interval(every) => Some(every + Duration::from_secs(2)),
            Durability::Os => None,
        }
    }
}
