//! The bars of gossip, over simulated clusters.

use super::experiments::{
    Starved, convergence, crash, crash_noticed, crash_of_tenth, heal, idle, join, starved,
};
use super::*;

fn lossy(nodes: usize, seed: u64) -> SimulationConfig {
    SimulationConfig { loss_per_mille: 10, ..SimulationConfig::of(nodes, seed) }
}

/// The value that 99 of 100 do not exceed.
fn p99(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values[(values.len() * 99).div_ceil(100) - 1]
}

#[test]
fn a_change_reaches_a_thousand_nodes_within_three_log_n_rounds() {
    let found = convergence(lossy(1000, 1)).unwrap();
    assert!(found.rounds as f64 <= 3.0 * 1000f64.log2(), "{found:?}");
    // Once the section itself, and the versions that found out who lacks it.
    assert!(found.bytes_per_node <= 2 * SECTION_BYTES, "{found:?}");
    for seed in 0..20 {
        let found = convergence(lossy(100, seed)).unwrap();
        assert!(found.rounds as f64 <= 3.0 * 100f64.log2(), "seed {seed}: {found:?}");
    }
}

#[test]
fn what_an_idle_node_sends_does_not_grow_with_the_cluster() {
    let (ten, thousand) = (idle(SimulationConfig::of(10, 1), 20), idle(SimulationConfig::of(1000, 1), 10));
    let per_second = |idle: experiments::Idle| idle.detector_bytes + idle.spread_bytes;
    let ratio = per_second(thousand) / per_second(ten);
    assert!((0.9..=1.1).contains(&ratio), "{ten:?}, {thousand:?}");
    assert!(per_second(thousand) < 200.0, "{thousand:?}");
}

#[test]
fn a_crash_is_known_to_all_five_within_six_seconds() {
    let times = |measure: fn(SimulationConfig) -> Option<u64>| -> Vec<u64> {
        (0..200).map(|seed| measure(lossy(5, seed)).unwrap()).collect()
    };
    let silent = p99(times(crash));
    assert!(silent <= 6000, "{silent} ms");
    let with_reset = p99(times(crash_noticed));
    assert!(with_reset <= 3000, "{with_reset} ms");
}

#[test]
fn many_deaths_at_once_are_news_that_reaches_all() {
    for seed in 0..20 {
        let known_ms = crash_of_tenth(lossy(100, seed)).unwrap();
        assert!(known_ms <= 15_000, "seed {seed}: {known_ms} ms");
    }
}

#[test]
fn a_starved_observer_declares_nobody_down_in_an_hour() {
    let found = starved(SimulationConfig::of(5, 1), 60);
    assert_eq!(Starved { of_starved: 0, ..found }, Starved { by_starved: 0, of_healthy: 0, of_starved: 0 });
    // Each time it stands still the others say so, but for the few that take until it goes on.
    assert!(found.of_starved >= 360 * 4 * 99 / 100, "{found:?}");
    let busy = starved(lossy(5, 2), 60);
    assert_eq!((busy.by_starved, busy.of_healthy), (0, 0));
}

/// That the test above can fail: with a clock that takes in the whole stall at once it does.
#[test]
fn without_the_fair_clock_a_starved_observer_would_declare_others_down() {
    let detector = DetectorConfig { clock_step_ms_max: 60_000, ..DetectorConfig::default() };
    let found = starved(SimulationConfig { detector, ..SimulationConfig::of(5, 1) }, 5);
    assert!(found.by_starved > 0, "{found:?}");
}

#[test]
fn joining_and_healing_end() {
    for nodes in [2, 5, 30] {
        for seed in 0..10 {
            let joined_ms = join(lossy(nodes, seed)).unwrap();
            assert!(joined_ms <= 10_000, "{nodes} nodes, seed {seed}: joined after {joined_ms} ms");
            let healed = heal(lossy(nodes, seed)).unwrap();
            assert!(healed.milliseconds <= 10_000, "{nodes} nodes, seed {seed}: {healed:?}");
        }
    }
}

#[test]
fn nothing_irregular_and_nobody_down_in_ten_quiet_minutes_with_loss() {
    let mut simulation = Simulation::new(lossy(20, 3));
    simulation.run_until(600_000);
    let observations = simulation.take_observations();
    let down = observations.iter().filter(|seen| seen.availability == Availability::Down).count();
    assert_eq!((down, simulation.irregularities()), (0, 0));
    assert_eq!(simulation.renewals(), [0; 20]);
}

#[test]
fn a_simulation_follows_from_its_seed() {
    let run = |seed| {
        let mut simulation = Simulation::new(lossy(10, seed));
        simulation.run_until(2000);
        simulation.crash(3);
        simulation.change(1);
        simulation.run_until(10_000);
        (simulation.take_traffic(), simulation.take_observations())
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}
