//! Which location has which partition, and which node of it, by dynamic programming with exact shares (`corridor`).
//! It decides what the sequences are made of and what may not be.

use super::corridor::{Corridor, Form, Manner, Priced};
use super::problem::{NOBODY, Problem};

/// Most windows to be told apart.
const WINDOWS_MAX: usize = 4096;
/// Most nodes of a location that are dealt with here: more are found easily by exchanges.
const NODES_MAX: usize = 4;
/// Transitions of one pass over the partitions of a location.
const WORK_MAX: usize = 1_000_000;

/// The sequences of locations in which no window is too short that need not be, and none crowded. `least` are the
/// windows of locations that must be, by their length from 2. None when there are too many windows to tell apart.
pub(super) fn of_locations(problem: &Problem, least: &[usize]) -> Option<Corridor> {
    let count = problem.locations;
    let window = problem.node_window.max(problem.location_window);
    count.checked_pow(window as u32).filter(|windows| *windows <= WINDOWS_MAX)?;
    let least: Vec<usize> = least.iter().copied().take(problem.location_window - 1).collect();
    let bits = (problem.partitions + 1).next_power_of_two().trailing_zeros() as usize;
    if bits * (least.iter().filter(|least| **least > 0).count() + 1) > 62 {
        return None;
    }
    let nodes = problem.nodes_by_location();
    // Two nodes in a location that comes so often that they must take turns all round the ring.
    let dense = problem.partitions.div_ceil(problem.node_window.max(2) - 1);
    let form = Form {
        members: count,
        remembered: window - 1,
        home: problem
            .present
            .iter()
            .map(|owner| problem.location.get(usize::from(*owner)).copied())
            .collect(),
        ranges: nodes
            .iter()
            .map(|nodes| (nodes * problem.floor, nodes * problem.floor + (*nodes).min(problem.extra)))
            .collect(),
        even_from: nodes.iter().map(|nodes| if *nodes == 2 { dense } else { usize::MAX }).collect(),
        kind: vec![0; problem.partitions],
    };
    Some(Corridor::new(form, &|_, latest| {
        let within = &latest[..problem.node_window];
        if within.iter().any(|name| within.iter().filter(|other| *other == name).count() > nodes[*name]) {
            return None;
        }
        let (mut cost, mut shift) = (0, bits);
        for (before, fewest) in least.iter().enumerate().rev() {
            let length = before + 2;
            let repeats = (0..length).any(|later| latest[..later].contains(&latest[later]));
            if repeats && *fewest == 0 {
                return None;
            }
            if *fewest > 0 {
                cost += u64::from(repeats) << shift;
                shift += bits;
            }
        }
        Some(cost)
    }))
}

/// Gives the partitions of every location of few nodes to these anew: as few windows of nodes as can be are too short,
/// and then as few partitions as can be move.
pub(super) fn dress(problem: &Problem, owners: &mut [u16], steps_max: u64, spent: &mut u64) {
    for location in 0..problem.locations as u16 {
        let nodes: Vec<u16> = (0..problem.nodes() as u16)
            .filter(|node| problem.location[usize::from(*node)] == location)
            .collect();
        if !(2..=NODES_MAX).contains(&nodes.len()) || *spent >= steps_max {
            continue;
        }
        let places: Vec<usize> = (0..owners.len()).filter(|place| nodes.contains(&owners[*place])).collect();
        let number = |node: u16| nodes.iter().position(|other| *other == node).map(|number| number as u16);
        let followed: Vec<u16> = places.iter().filter_map(|place| number(owners[*place])).collect();
        if let Some((_, sequence)) = dressed(problem, &nodes, &places, &followed, steps_max, spent) {
            for (place, member) in places.iter().zip(sequence) {
                owners[*place] = nodes[usize::from(member)];
            }
        }
    }
}

fn dressed(
    problem: &Problem,
    nodes: &[u16],
    places: &[usize],
    followed: &[u16],
    steps_max: u64,
    spent: &mut u64,
) -> Option<Priced> {
    // How many places before each are so near that they must have other nodes.
    let near = |at: usize| {
        (1..problem.node_window.min(places.len()))
            .take_while(|back| {
                let other = places[(at + places.len() - back) % places.len()];
                (places[at] + problem.partitions - other) % problem.partitions < problem.node_window
            })
            .count() as u8
    };
    let kind: Vec<u8> = (0..places.len()).map(near).collect();
    let remembered = usize::from(kind.iter().copied().max()?).max(1);
    nodes.len().checked_pow(remembered as u32 + 1).filter(|windows| *windows <= WINDOWS_MAX)?;
    let form = Form {
        members: nodes.len(),
        remembered,
        home: places
            .iter()
            .map(|place| match problem.present[*place] {
                NOBODY => None,
                home => {
                    Some(nodes.iter().position(|node| *node == home).map_or(u16::MAX, |number| number as u16))
                }
            })
            .collect(),
        ranges: vec![(problem.floor, problem.floor + usize::from(problem.extra > 0)); nodes.len()],
        even_from: vec![usize::MAX; nodes.len()],
        kind,
    };
    let price = problem.partitions as u64 + 1;
    let corridor = Corridor::new(form, &|near, latest| {
        let repeated = (1..=near).filter(|back| latest[*back] == latest[0]).count();
        Some(price * repeated as u64)
    });
    corridor.refined(
        followed,
        Manner { anywhere: nodes.len() == 2, work_max: WORK_MAX, narrowest_work_max: WORK_MAX, even: false },
        steps_max,
        spent,
    )
}
