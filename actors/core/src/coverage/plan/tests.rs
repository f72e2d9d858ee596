//! The laws of coverage plans, over rings of every size and any nodes down: V1 to V7 of Riak's, restated.

use super::*;
use proptest::prelude::*;

fn id(n: usize) -> NodeId {
    NodeId([n as u8 + 1; 16])
}

/// Partitions dealt to nodes in turn, as claim does when it can; some nodes are down.
#[derive(Clone, Debug)]
struct Cluster {
    size: RingSize,
    n: usize,
    nodes: usize,
    down: Vec<bool>,
}

impl Cluster {
    fn node(&self, partition: Partition) -> Option<NodeId> {
        let node = usize::from(partition.0) % self.nodes;
        (self.down.get(node) == Some(&false)).then(|| id(node))
    }

    fn plan(&self, rotation: u64) -> Plan {
        let wanted: Vec<Partition> = self.size.partitions().collect();
        plan(self.size, self.n, &wanted, &|partition| self.node(partition), rotation)
    }

    fn everybody_up(mut self) -> Self {
        self.down.fill(false);
        self
    }
}

fn cluster(exponents: std::ops::RangeInclusive<u32>) -> impl Strategy<Value = Cluster> {
    (exponents, 1usize..=5, 1usize..=9, prop::collection::vec(prop::bool::weighted(0.25), 9)).prop_map(
        |(exponent, n, nodes, down)| {
            let size = RingSize::try_from(1 << exponent).unwrap();
            let nodes = nodes.min(size.count());
            Cluster { size, n, nodes, down: down[..nodes].to_vec() }
        },
    )
}

proptest! {
    #[test]
    fn each_partition_is_answered_for_once_by_a_vnode_that_has_it_and_can_be_asked(
        cluster in cluster(3..=12), rotation: u64,
    ) {
        let plan = cluster.plan(rotation);
        let mut times = vec![0; cluster.size.count()];
        let mut vnodes = BTreeSet::new();
        for part in &plan.parts {
            prop_assert!(vnodes.insert(part.partition), "no vnode twice");
            prop_assert_eq!(cluster.node(part.partition), Some(part.node), "V2: nobody who is down");
            let keys: Vec<Partition> = part.keys.of(cluster.size, part.partition).collect();
            prop_assert!(!keys.is_empty() && keys.len() <= cluster.n);
            prop_assert_eq!(part.filter(cluster.n).is_some(), keys.len() < cluster.n, "V7");
            for first in keys {
                prop_assert!(part.keys.contains(cluster.size, part.partition, first));
                let has = (0..cluster.n).any(|step| cluster.size.clockwise(first, step) == part.partition);
                prop_assert!(has, "the vnode has the keys");
                times[usize::from(first.0)] += 1;
            }
        }
        for partition in cluster.size.partitions() {
            let coverable =
                (0..cluster.n).any(|step| cluster.node(cluster.size.clockwise(partition, step)).is_some());
            prop_assert_eq!(plan.uncovered.contains(&partition), !coverable);
            prop_assert_eq!(times[usize::from(partition.0)], usize::from(coverable), "V1");
        }
    }

    #[test]
    fn with_everybody_up_a_plan_has_as_few_vnodes_as_can_be(cluster in cluster(3..=12), rotation: u64) {
        let cluster = cluster.everybody_up();
        let plan = cluster.plan(rotation);
        prop_assert_eq!(plan.parts.len(), cluster.size.count().div_ceil(cluster.n), "V3");
    }

    #[test]
    fn where_a_plan_begins_changes_its_size_by_one_at_most_and_never_what_it_covers(cluster in cluster(3..=7)) {
        let plans: Vec<Plan> = (0..cluster.size.count() as u64).map(|offset| cluster.plan(offset)).collect();
        let sizes: Vec<usize> = plans.iter().map(|plan| plan.parts.len()).collect();
        let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
        prop_assert!(most - least <= 1, "V4: {sizes:?}");
        prop_assert!(plans.iter().all(|plan| plan.uncovered == plans[0].uncovered), "V5");
    }

    /// Where the ring closes evenly. Where it does not, a plan that is to be smallest may leave no choice there, and
    /// a vnode that alone has some keys has none anywhere.
    #[test]
    fn over_all_rotations_no_vnode_bears_far_more_than_the_mean(
        exponent in 5u32..=8, n in 1usize..=5, nodes in prop_oneof![Just(4usize), Just(8)], down in 0usize..9,
    ) {
        let size = RingSize::try_from(1 << exponent).unwrap();
        let cluster = Cluster { size, n, nodes, down: (0..nodes).map(|node| node == down).collect() };
        let mut load = vec![0u32; size.count()];
        let rotations = 8 * size.count() as u64;
        for rotation in 0..rotations {
            cluster.plan(rotation).parts.iter().for_each(|part| load[usize::from(part.partition.0)] += 1);
        }
        let eligible = |first: Partition| {
            let places = (0..n).map(move |step| size.clockwise(first, step));
            places.filter(|partition| cluster.node(*partition).is_some()).collect::<Vec<_>>()
        };
        let forced: BTreeSet<Partition> =
            size.partitions().map(eligible).filter(|places| places.len() == 1).flatten().collect();
        let up = size.partitions().filter(|partition| cluster.node(*partition).is_some()).count();
        let mean = f64::from(load.iter().sum::<u32>()) / up as f64;
        for partition in size.partitions().filter(|partition| !forced.contains(partition)) {
            let load = f64::from(load[usize::from(partition.0)]);
            prop_assert!(load <= 1.9 * mean, "V6: {load} at {partition}, {mean} on average");
        }
    }

    #[test]
    fn a_plan_for_some_partitions_covers_these_and_no_others(
        cluster in cluster(3..=8), rotation: u64, some in prop::collection::btree_set(0u16..256, 0..6),
    ) {
        let some: Vec<Partition> =
            some.into_iter().map(|p| Partition(p % cluster.size.count() as u16)).collect();
        let wanted: BTreeSet<Partition> = some.iter().copied().collect();
        let plan = plan(cluster.size, cluster.n, &some, &|partition| cluster.node(partition), rotation);
        let keys = plan.parts.iter().flat_map(|part| part.keys.of(cluster.size, part.partition));
        let covered: Vec<Partition> = keys.chain(plan.uncovered.iter().copied()).collect();
        prop_assert_eq!(covered.len(), wanted.len());
        prop_assert_eq!(covered.into_iter().collect::<BTreeSet<_>>(), wanted);
    }
}

#[test]
fn the_keys_of_a_vnode_lie_behind_it_on_the_ring() {
    let size = RingSize::try_from(8).unwrap();
    let keys = KeyPartitions::all(3);
    assert_eq!(keys.of(size, Partition(1)).collect::<Vec<_>>(), [Partition(1), Partition(0), Partition(7)]);
    assert!(keys.contains(size, Partition(1), Partition(7)));
    assert!(!keys.contains(size, Partition(1), Partition(2)));
    assert!(!keys.contains(size, Partition(1), Partition(6)));
}
