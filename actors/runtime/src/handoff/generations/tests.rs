//! What a store has of generations after its first start and later ones.

use super::*;
use crate::spawner::Placement;
use crate::storage::{Durability, QueueLimits};
use crate::time::{Clock, HybridClock};
use ringwork_core::ids::ClusterId;
use ringwork_core::membership::{Member, Status};
use ringwork_core::ring::RingSize;
use ringwork_core::store::memory::MemoryStore;

const ME: NodeId = NodeId([1; 16]);

fn state() -> ClusterState {
    let member = Member::new("n1", "127.0.0.1:1", None, Status::Valid, ME).unwrap();
    ClusterState::born(ClusterId([7; 16]), RingSize::try_from(64).unwrap(), ME, member)
}

/// A life of a node, as far as its store and its generations go.
fn life(store: &Arc<MemoryStore>, seed: u64, lost: bool) -> Arc<Generations> {
    let clock = Clock::system();
    let clocks = (clock.clone(), Arc::new(HybridClock::new(clock)));
    let limits = QueueLimits { writes_max: 100, bytes_max: 10_000 };
    let placement = Placement::Own(1);
    let storage =
        Storage::start(store.clone(), Durability::Os, limits, placement, clocks, Arc::default(), None);
    let (storage, random) = (storage.unwrap(), Randomness::seeded(seed));
    Generations::load(store.clone(), storage, random, &state(), ME, lost).unwrap()
}

/// The records of partitions that the store has.
fn records(store: &MemoryStore) -> usize {
    let own = store.open(&KeyspaceId::Node).unwrap();
    let mut records = 0;
    own.tree
        .scan(&KeyRange::prefix(HELD_PREFIX.as_bytes()), Direction::Ascending, &mut |_, _| {
            records += 1;
            Flow::Continue(())
        })
        .unwrap();
    records
}

/// When all that was submitted has been committed.
fn settled(generations: &Generations) {
    let (told, hears) = std::sync::mpsc::channel();
    let write = Write { tree: generations.slot, key: Bytes::from_static(b"last"), value: Some(Bytes::new()) };
    generations.storage.submit(vec![write], false, move |result| {
        let _ = told.send(result.is_ok());
    });
    assert_eq!(hears.recv_timeout(std::time::Duration::from_secs(30)), Ok(true));
}

fn write_row(store: &MemoryStore, partition: Partition, generation: Generation) {
    let keyspace = KeyspaceId::Vnode { service: "chat".to_owned(), partition, generation };
    let slot = store.open(&keyspace).unwrap().slot;
    let write = Write { tree: slot, key: Bytes::from_static(b"k"), value: Some(Bytes::new()) };
    store.commit(&mut vec![write]).unwrap();
}

#[test]
fn a_new_store_has_no_record_of_any_partition_and_the_next_life_has_the_same_generations() {
    let store = Arc::new(MemoryStore::new());
    let first = life(&store, 1, false);
    assert_eq!(records(&store), 0);
    let lives = |of: &Generations| (0..64).map(|n| of.live(Partition(n)).unwrap()).collect::<Vec<_>>();
    let before = lives(&first);
    assert_eq!(first.live(Partition(64)), None);
    // What a vnode writes into its first generation stays in it, and is taken for nobody's.
    write_row(&store, Partition(3), before[3].number);
    let next = life(&store, 2, false);
    assert_eq!(lives(&next), before);
    assert_eq!((records(&store), next.with_sealed()), (0, BTreeSet::new()));

    let elsewhere = life(&Arc::new(MemoryStore::new()), 3, false);
    let differ = lives(&elsewhere).iter().zip(&before).all(|(one, other)| one.mark != other.mark);
    assert!(differ, "marks tell stores apart");
}

#[test]
fn what_has_happened_to_a_partition_is_recorded_and_nothing_else() {
    let store = Arc::new(MemoryStore::new());
    let first = life(&store, 1, false);
    let (touched, others) = (Partition(5), first.live(Partition(6)));
    write_row(&store, touched, Generation(0));
    let sealed = first.seal_live(touched).unwrap().unwrap();
    write_row(&store, touched, first.live(touched).unwrap().number);
    settled(&first);
    assert_eq!(records(&store), 1);

    let next = life(&store, 2, false);
    assert_eq!(next.held(touched), first.held(touched));
    assert_eq!(next.sealed(touched), [sealed]);
    assert_eq!(next.with_sealed(), BTreeSet::from([touched]));
    assert_eq!(next.live(Partition(6)), others);
}

#[test]
fn a_keyspace_that_no_record_names_is_taken_for_hints_unless_it_is_the_latest() {
    let store = Arc::new(MemoryStore::new());
    drop(life(&store, 1, false));
    // As after a power failure that took the record of a partition with it.
    write_row(&store, Partition(9), Generation(0));
    write_row(&store, Partition(9), Generation(2));
    let next = life(&store, 2, false);
    let held = next.held(Partition(9)).unwrap();
    assert_eq!((held.live.number, held.next), (Generation(2), Generation(3)));
    let sealed: Vec<_> = held.sealed.iter().map(|id| id.number).collect();
    assert_eq!(sealed, [Generation(0)]);
    assert_eq!(records(&store), 1);
    assert_eq!(life(&store, 3, false).held(Partition(9)), Some(held));
}

#[test]
fn of_a_store_in_place_of_a_lost_one_everything_that_is_held_is_lacking_until_it_is_repaired() {
    let store = Arc::new(MemoryStore::new());
    let rebuilt = life(&store, 1, true);
    assert_eq!(rebuilt.lacking(&state(), ME).len(), 64);
    rebuilt.repaired(Partition(7));
    settled(&rebuilt);
    let next = life(&store, 2, false);
    let lacking = next.lacking(&state(), ME);
    assert!(lacking.len() == 63 && !lacking.contains(&Partition(7)), "{lacking:?}");
    assert_eq!(next.lacking(&state(), NodeId([2; 16])), BTreeSet::new(), "only what is held");
}

#[test]
fn a_store_from_before_birth_marks_keeps_its_records() {
    let store = Arc::new(MemoryStore::new());
    let own = store.open(&KeyspaceId::Node).unwrap();
    let held = |n: u16| first(None, 1000 + u64::from(n));
    let mut writes = (0..64).map(|n| write_of(own.slot, Partition(n), &held(n))).collect();
    store.commit(&mut writes).unwrap();
    let next = life(&store, 1, false);
    (0..64).for_each(|n| assert_eq!(next.held(Partition(n)), Some(held(n))));
}
