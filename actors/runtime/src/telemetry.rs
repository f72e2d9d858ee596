//! What the node counts. Plain atomics, one relaxed add each; it decides no more than the names under which
//! they are shown. It does not know who scrapes them.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// That many more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// As of now.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Every counter of a node's runtime.
        #[derive(Default)]
        pub struct Telemetry {
            $($(#[doc = $doc])+ pub $name: Counter,)+
        }

        impl Telemetry {
            /// Name, meaning and value of each.
            pub fn read(&self) -> Vec<(&'static str, &'static str, u64)> {
                vec![$((stringify!($name), concat!($($doc),+), self.$name.value()),)+]
            }
        }
    };
}

counters! {
    /// Vnodes that were started.
    vnode_starts,
    /// Turns that panicked; each cost one vnode its life.
    vnode_panics,
    /// Vnodes that were started again after a panic.
    vnode_restarts,
    /// Vnodes that could not be opened over their store.
    vnode_start_failures,
    /// Turns that ended with an error of the module.
    vnode_errors,
    /// Requests refused because a vnode's or the store's queue was full.
    requests_overloaded,
    /// Requests whose deadline had passed before their turn came.
    requests_expired,
    /// Requests whose outcome was unknown to the one who asked.
    requests_unknown,
    /// Merges that named an identity with other content.
    merge_conflicts,
    /// Items sent to a replica that lacked them, found by a read.
    read_repairs,
    /// Reads that asked a further replica because one was late.
    reads_hedged,
    /// Reads that asked a replica for all it has, because its glance showed more than the whole answers had.
    reads_asked_whole,
    /// Reads for which fewer than r complete replicas could be asked.
    reads_degraded,
    /// Requests answered with another holder of the partition.
    requests_moved,
    /// Requests of other nodes that could not be read.
    requests_unreadable,
    /// Listings over all vnodes that were begun.
    listings,
    /// Listings that ended with an error instead of a whole list.
    listings_failed,
    /// Vnodes that were given a part of a listing, replacements included.
    listing_parts,
    /// Parts of listings that another vnode took over.
    listing_parts_replaced,
    /// Rows that listings gave.
    listing_rows,
    /// Times that others had taken this node for down and it came back.
    taken_for_down,
    /// Parts of the cluster state that could not be and were ignored.
    states_refused,
    /// Datagrams and gossip messages that could not be read, or came from strangers.
    datagrams_refused,
    /// Datagrams and gossip messages dropped because too many waited.
    datagrams_dropped,
    /// Groups of writes that were committed together.
    storage_commits,
    /// Writes in them.
    storage_writes,
    /// Times the store was synced to disk.
    storage_syncs,
    /// Connections to other members that came to stand.
    links_opened,
    /// Connections to other members that ended.
    links_lost,
    /// Messages written to other nodes.
    frames_sent,
    /// Messages read from other nodes.
    frames_received,
    /// Of the messages read from other nodes those of transfers.
    transfer_frames_received,
    /// Messages of other nodes that were damaged, too large or out of place; each cost its connection.
    frames_refused,
    /// Bytes written to other nodes.
    link_bytes_sent,
    /// Bytes read from other nodes.
    link_bytes_received,
    /// Writes that carried them.
    link_writes,
    /// Messages to other nodes refused because too much waited.
    sends_refused,
    /// Requests to other nodes without a reply within their deadline.
    replies_missed,
    /// Connections that were not let in.
    handshakes_refused,
}

impl Telemetry {
    /// All counters as Prometheus text.
    pub fn prometheus(&self) -> String {
        let mut text = String::new();
        for (name, help, value) in self.read() {
            let help = help.trim();
            let _ =
                write!(text, "# HELP ringwork_{name}_total {help}\n# TYPE ringwork_{name}_total counter\n");
            let _ = writeln!(text, "ringwork_{name}_total {value}");
        }
        text
    }
}
