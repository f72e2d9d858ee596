//! The questions that have bars, each a function of the cluster's size and a seed: how long, how many bytes.
//! The bench prints their answers, the tests hold them against the bars.

use super::{Simulation, SimulationConfig};
use crate::gossip::detector::Availability;

/// How one change came to all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Convergence {
    /// Until the last node had it.
    pub milliseconds: u64,
    /// The same in rounds: a round is one interval of pushing (200 ms), the time of one hop.
    pub rounds: u64,
    /// Sent by all nodes, above what they send when idle, for each node. At 1 KiB the section that changed
    /// must travel once to each.
    pub bytes_per_node: u64,
}

/// What a node sends when nothing happens, in bytes per second.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Idle {
    /// The detector.
    pub detector_bytes: f64,
    /// The spreading of state.
    pub spread_bytes: f64,
    /// Datagrams and messages together.
    pub messages: f64,
}

/// How a partition into two halves healed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heal {
    /// From the end of the partition until everybody saw everybody up.
    pub milliseconds: u64,
    /// Detectors' bytes for each node in that time.
    pub bytes_per_node: u64,
}

/// One change at one node, until all have it; none: not within a minute.
pub fn convergence(config: SimulationConfig) -> Option<Convergence> {
    let mut simulation = Simulation::new(config);
    simulation.run_until(2000);
    simulation.take_traffic();
    let begin_ms = simulation.now_ms();
    simulation.change(0);
    let at_ms = simulation.run_until_shared(begin_ms + 60_000, 0)?;
    let milliseconds = at_ms - begin_ms;
    // What is still on its way belongs to the change; from then on it is quiet again.
    simulation.run_until(at_ms + 2000);
    let bytes = simulation.take_traffic().spread_bytes;
    simulation.run_until(at_ms + 7000);
    let idle_bytes = simulation.take_traffic().spread_bytes * (milliseconds + 2000) / 5000;
    let rounds = milliseconds.div_ceil(config.spread.push_interval_ms.max(1));
    let bytes_per_node = bytes.saturating_sub(idle_bytes) / config.nodes as u64;
    Some(Convergence { milliseconds, rounds, bytes_per_node })
}

/// What nodes send over `seconds` in which nothing happens.
pub fn idle(config: SimulationConfig, seconds: u64) -> Idle {
    let mut simulation = Simulation::new(config);
    simulation.run_until(2000);
    simulation.take_traffic();
    simulation.run_until(2000 + seconds * 1000);
    let traffic = simulation.take_traffic();
    let per_node = |count: u64| count as f64 / (config.nodes as f64 * seconds as f64);
    Idle {
        detector_bytes: per_node(traffic.detector_bytes),
        spread_bytes: per_node(traffic.spread_bytes),
        messages: per_node(traffic.detector_messages + traffic.spread_messages),
    }
}

/// The node dies or stops without a word, its connections stay: milliseconds until all others know.
pub fn crash(config: SimulationConfig) -> Option<u64> {
    let mut simulation = Simulation::new(config);
    simulation.run_until(3000 + config.seed % 997);
    let begin_ms = simulation.now_ms();
    let others = config.nodes - 1;
    simulation.crash(0);
    let at_ms = simulation.run_until_seen(begin_ms + 120_000, |s| s.seen_down(0) == others)?;
    Some(at_ms - begin_ms)
}

/// As [`crash`], but its end resets the connections of all others, as the death of a process does.
pub fn crash_noticed(config: SimulationConfig) -> Option<u64> {
    let mut simulation = Simulation::new(config);
    simulation.run_until(3000 + config.seed % 997);
    let begin_ms = simulation.now_ms();
    simulation.crash(0);
    for observer in 1..config.nodes {
        simulation.break_connection(observer, 0);
    }
    let at_ms = simulation.run_until_seen(begin_ms + 120_000, |s| s.seen_down(0) == config.nodes - 1)?;
    Some(at_ms - begin_ms)
}

/// A tenth of the nodes, one at least, die at once and without a word: milliseconds until all others know.
pub fn crash_of_tenth(config: SimulationConfig) -> Option<u64> {
    let mut simulation = Simulation::new(config);
    simulation.run_until(3000 + config.seed % 997);
    let begin_ms = simulation.now_ms();
    let crashed = (config.nodes / 10).max(1);
    for number in 0..crashed {
        simulation.crash(number);
    }
    let others = config.nodes - crashed;
    let all_known = |s: &Simulation| (0..crashed).all(|number| s.seen_down(number) == others);
    let at_ms = simulation.run_until_seen(begin_ms + 120_000, all_known)?;
    Some(at_ms - begin_ms)
}

/// All start at once, knowing only who should exist: milliseconds until everybody sees everybody up.
pub fn join(config: SimulationConfig) -> Option<u64> {
    let mut simulation = Simulation::new(SimulationConfig { joined: false, ..config });
    simulation.run_until_seen(120_000, Simulation::all_see_all_up)
}

/// Two halves do not hear each other for 60 s, then do again.
pub fn heal(config: SimulationConfig) -> Option<Heal> {
    let mut simulation = Simulation::new(config);
    simulation.run_until(2000);
    simulation.split(Some(config.nodes / 2));
    simulation.run_until(62_000);
    simulation.split(None);
    simulation.take_traffic();
    let at_ms = simulation.run_until_seen(300_000, Simulation::all_see_all_up)?;
    let bytes_per_node = simulation.take_traffic().detector_bytes / config.nodes as u64;
    Some(Heal { milliseconds: at_ms - 62_000, bytes_per_node })
}

/// One node of several stands still for 5 s of every 10 s.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Starved {
    /// How often the starved node declared another down.
    pub by_starved: usize,
    /// How often a node that was never stopped was declared down by anybody.
    pub of_healthy: usize,
    /// How often the others declared the starved node down, as they should.
    pub of_starved: usize,
}

/// Counts the declarations of `minutes` in which node 0 is starved.
pub fn starved(config: SimulationConfig, minutes: u64) -> Starved {
    let mut simulation = Simulation::new(config);
    simulation.run_until(2000);
    simulation.take_observations();
    let mut counted = Starved { by_starved: 0, of_healthy: 0, of_starved: 0 };
    for ten_seconds in 0..minutes * 6 {
        // At another point of the probing each time.
        let begin_ms = 2000 + ten_seconds * 10_000 + ten_seconds * 37 % 1000;
        simulation.run_until(begin_ms);
        simulation.stop_until(0, begin_ms + 5000);
        simulation.run_until(begin_ms + 9000);
        for seen in simulation.take_observations() {
            if seen.availability == Availability::Down {
                counted.by_starved += usize::from(seen.observer == 0);
                counted.of_healthy += usize::from(seen.subject != 0);
                counted.of_starved += usize::from(seen.subject == 0);
            }
        }
    }
    counted
}
