//! Times and counts of a detector, and what of them foca is told. It decides which of foca's habits are on; it
//! does not know who the members are.

use crate::gossip::datagram;
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

/// Times and counts of a detector. The defaults are those of `docs/performance.md`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DetectorConfig {
    /// Between two probes, each of one member in turn.
    pub probe_interval_ms: u64,
    /// How long a direct answer may take before others are asked to probe; well below the interval.
    pub probe_timeout_ms: u64,
    /// How many others are asked.
    pub indirect_probes: usize,
    /// From suspect to down. Long enough for suspicion and objection to cross the cluster.
    pub suspicion_ms: u64,
    /// Between two rounds of telling news, as long as there is any.
    pub news_interval_ms: u64,
    /// Between two rounds of announcing to members that are down or unknown, so that a partition heals.
    pub announce_interval_ms: u64,
    /// To how many of them a round announces.
    pub announces_max: usize,
    /// How far one tick moves the detector's time. Twice the interval of ticking: less would let it lag on a
    /// busy machine. Below `probe_interval_ms` less `probe_timeout_ms`: a stall may begin just after a probe
    /// through others, and the first tick after it must not end that probe before the answer is read.
    pub clock_step_ms_max: u64,
}

impl Default for DetectorConfig {
    fn default() -> Self {
        Self {
            probe_interval_ms: 500,
            probe_timeout_ms: 200,
            indirect_probes: 3,
            suspicion_ms: 2000,
            news_interval_ms: 200,
            announce_interval_ms: 1000,
            announces_max: 3,
            clock_step_ms_max: 200,
        }
    }
}

/// foca's configuration in a cluster of `nodes`.
pub(super) fn of_foca(config: &DetectorConfig, nodes: usize) -> foca::Config {
    let count = |number: usize| NonZeroUsize::new(number).unwrap_or(NonZeroUsize::MIN);
    let milliseconds = |number: u64| Duration::from_millis(number.max(1));
    // Each node that has a piece of news passes it on so many times. Of n nodes about n·e^-t then miss it, and
    // each that does finds out by its own probing only, n intervals later: with t = 8 for a hundred nodes, and
    // ten of them dying at once, that was every second time.
    let transmissions = (8 * (nodes as u64 + 2).ilog2() / 3).clamp(12, 60) as u8;
    foca::Config {
        probe_period: milliseconds(config.probe_interval_ms.max(2)),
        probe_rtt: milliseconds(config.probe_timeout_ms.min(config.probe_interval_ms.saturating_sub(1))),
        num_indirect_probes: count(config.indirect_probes),
        max_transmissions: NonZeroU8::new(transmissions).unwrap_or(NonZeroU8::MIN),
        suspect_to_down_after: milliseconds(config.suspicion_ms),
        // A dead generation is dead for good: its node comes back with a greater one.
        remove_down_after: None,
        max_packet_size: count(datagram::FOCA_PACKET_BYTES_MAX),
        notify_down_members: true,
        // We announce ourselves: foca does so only while it knows somebody who is up.
        periodic_announce: None,
        periodic_announce_to_down_members: None,
        periodic_gossip: Some(foca::PeriodicParams {
            frequency: milliseconds(config.news_interval_ms),
            num_members: count(config.indirect_probes),
        }),
    }
}
