//! The bars of gossip, over simulated clusters.

use super::*;
use experiments::{convergence, crash, idle, starved};

#[test]
fn scratch() {
    let t = std::time::SystemTime::now();
    let e = |name: &str| eprintln!("   {name} took {:?}", t.elapsed().unwrap());
    for n in [5, 10, 100, 1000] {
        eprintln!("conv {n} {:?}", convergence(SimulationConfig::of(n, 1)));
        e("conv");
        eprintln!("idle {n} {:?}", idle(SimulationConfig::of(n, 1), 10));
        e("idle");
        if n <= 100 {
        eprintln!("crash {n} {:?}", crash(SimulationConfig::of(n, 1)));
        eprintln!("join {n} {:?}", experiments::join(SimulationConfig::of(n, 1)));
        eprintln!("heal {n} {:?}", experiments::heal(SimulationConfig::of(n, 1)));
        e("crash");
        }
    }
    let mut all: Vec<_> = (0..200).map(|s| crash(SimulationConfig::of(5, s)).unwrap()).collect();
    all.sort();
    eprintln!("crash p50 {} p99 {} max {}", all[100], all[198], all[199]);
    e("crash200");
    eprintln!("{:?}", starved(SimulationConfig::of(5, 1), 60));
    e("starved");
}
