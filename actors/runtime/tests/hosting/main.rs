//! Whole nodes with a module of the tests' own: turns, panics, overload, durability, stopping. The module keeps
//! the largest number it has seen under each key, which is about the smallest thing that merges.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test that cannot go on has failed
#![allow(clippy::disallowed_methods)] // a slow store sleeps, and the tests' own threads are not the node's

mod heard;
mod log;
mod names;
mod releases;
mod seen;
mod sharing;
mod skipping;
mod stores;
mod summit;

use ringwork_core::clock::hybrid::HybridTime;
use ringwork_core::quorum::{Count, QuorumDefaults, QuorumOptions, Refusal, Verdict};
use ringwork_core::ring::RingSize;
use ringwork_core::store::Store;
use ringwork_core::store::memory::MemoryStore;
use ringwork_core::testing::check_laws;
use ringwork_runtime::antientropy::board::RepairSettings;
use ringwork_runtime::coordinator::{Answered, ReadFailure, Service};
use ringwork_runtime::handoff::board::HandoffSettings;
use ringwork_runtime::messages::{ReplyTo, Sink, VnodeAnswer};
use ringwork_runtime::net::Transport;
use ringwork_runtime::node::{Keep, Node, NodeLimits, NodeOptions, StartError};
use ringwork_runtime::randomness::Randomness;
use ringwork_runtime::spawner::Placement;
use ringwork_runtime::storage::{Durability, QueueLimits};
use ringwork_runtime::time::{Clock, TimeSource};
use ringwork_runtime::watch::Heard;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use stores::{FailingStore, SlowStore};
use summit::{Ask, Highest, Summit, Told};

fn options(placement: Placement, store: Arc<dyn Store>) -> NodeOptions {
    NodeOptions {
        name: "n1".into(),
        keep: Keep::Given { store, directory: None, machine_boot: None },
        ring_size: RingSize::try_from(8).unwrap(),
        cluster: None,
        rebuild: false,
        durability: Durability::Sync,
        queue: QueueLimits { writes_max: 1000, bytes_max: 1 << 20 },
        limits: NodeLimits::default(),
        placement,
        quorum: QuorumDefaults { n_val: 3, r: Count::Quorum, w: Count::Quorum },
        handoff: HandoffSettings::default(),
        features: ringwork_core::metadata::features::own(),
        repair: RepairSettings::default(),
        clock: Clock::system(),
        randomness: Randomness::seeded(1),
        transport: Transport::tcp(),
    }
}

async fn start(options: NodeOptions) -> (Node, Service<Summit>) {
    let node = Node::builder(options).service::<Summit>(()).start().await.unwrap();
    let summit = node.service::<Summit>().unwrap();
    (node, summit)
}

async fn stop(node: Node) {
    node.stop(Duration::from_secs(10)).await.unwrap();
}

fn run<T>(body: impl Future<Output = T>) -> T {
    actix_rt::System::new().block_on(body)
}

/// The same test on one thread and on several.
fn on_each_placement<F: Future<Output = ()>>(body: impl Fn(Placement) -> F) {
    for placement in [Placement::Here, Placement::Own(2)] {
        run(body(placement));
    }
}

fn item(name: &str, number: u64) -> Highest {
    Highest { name: name.into(), number }
}

async fn get(summit: &Service<Summit>, name: &str) -> Result<Answered<Told>, ReadFailure> {
    summit.key(name.as_bytes()).read(Ask::Get(name.into())).await.unwrap()
}

/// A node alone is complete, so no read of these tests is degraded.
fn complete(reply: Told) -> Answered<Told> {
    Answered { reply, degraded: false }
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..2000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}

#[test]
fn the_tests_own_module_is_lawful() {
    check_laws::<Summit>(&(), |draw| item(["a", "b", "c"][draw.below(3) as usize], 1 + draw.below(5)));
}

#[test]
fn a_write_is_on_all_three_vnodes_and_survives_the_loss_of_everything_unsynced() {
    on_each_placement(async |placement| {
        let store = MemoryStore::new();
        let (node, summit) = start(options(placement, Arc::new(store.clone()))).await;
        let all = QuorumOptions { w: Some(Count::All), ..QuorumOptions::default() };
        let written = summit.key(b"everest").quorum(all).merge(item("everest", 8848)).await.unwrap();
        assert_eq!((written.verdict, written.acks), (Verdict::Done, 3));
        assert_eq!(written.nodes, [node.core().id], "three vnodes, one machine");
        assert_eq!(get(&summit, "everest").await, Ok(complete(Told::Number(8848))));
        store.lose_unsynced(); // the machine dies here; the acknowledgement was durable
        let (again, summit) = start(options(placement, Arc::new(store.clone()))).await;
        assert_eq!(get(&summit, "everest").await, Ok(complete(Told::Number(8848))));
        stop(again).await;
        drop(node);
    });
}

#[test]
fn what_is_not_synced_may_be_lost_and_dw_says_it_must_not() {
    run(async {
        let store = MemoryStore::new();
        let lazy = || NodeOptions {
            durability: Durability::Os,
            ..options(Placement::Here, Arc::new(store.clone()))
        };
        let (_node, summit) = start(lazy()).await;
        let durable = QuorumOptions { dw: Some(Count::All), ..QuorumOptions::default() };
        summit.key(b"kept").quorum(durable).merge(item("kept", 1)).await.unwrap();
        summit.key(b"lost").merge(item("lost", 1)).await.unwrap();
        store.lose_unsynced();
        let (node, summit) = start(lazy()).await;
        assert_eq!(get(&summit, "kept").await, Ok(complete(Told::Number(1))));
        assert_eq!(get(&summit, "lost").await, Ok(complete(Told::Number(0))), "this test can see a loss");
        stop(node).await;
    });
}

#[test]
fn the_interval_sync_comes_by_itself() {
    run(async {
        let store = MemoryStore::new();
        let interval = Durability::Interval(Duration::from_millis(20));
        let lazy =
            NodeOptions { durability: interval, ..options(Placement::Own(1), Arc::new(store.clone())) };
        let (node, summit) = start(lazy).await;
        summit.key(b"k2").merge(item("k2", 1)).await.unwrap();
        eventually("a sync", async || node.core().telemetry.storage_syncs.value() > 0).await;
        store.lose_unsynced();
        assert_eq!(get(&summit, "k2").await, Ok(complete(Told::Number(1))));
        stop(node).await;
    });
}

#[test]
fn a_panic_costs_one_vnode_and_the_next_request_is_served_from_the_store() {
    log::listen();
    on_each_placement(async |placement| {
        let (node, summit) = start(options(placement, Arc::new(MemoryStore::new()))).await;
        let all = QuorumOptions { w: Some(Count::All), ..QuorumOptions::default() };
        summit.key(b"k2").quorum(all).merge(item("k2", 8611)).await.unwrap();
        let before = node.census()()[0].vnodes_running;
        // At w = 1 of n = 1 the command meets exactly one vnode.
        let one = QuorumOptions { n_val: Some(1), ..QuorumOptions::default() };
        for (round, command) in [Ask::Panic, Ask::PanicAfterWriting("k2".into())].into_iter().enumerate() {
            let written = summit.key(b"k2").quorum(one).run(command).await.unwrap();
            assert!(
                matches!(&written.verdict, Verdict::Refused(Refusal::Unavailable(why)) if why.contains("planted")),
                "nothing was done, and the answer says so: {:?}",
                written.verdict
            );
            assert_eq!(node.core().telemetry.vnode_panics.value(), round as u64 + 1);
            eventually("it is started again without being asked", async || {
                node.census()()[0].vnodes_running == before
            })
            .await;
            let read = async || summit.key(b"k2").quorum(one).read(Ask::Get("k2".into())).await;
            if round == 0 {
                assert_eq!(
                    read().await.unwrap(),
                    Ok(complete(Told::Number(8611))),
                    "at once, from the store"
                );
            }
            eventually("the vnode is back", async || {
                read().await.unwrap() == Ok(complete(Told::Number(8611)))
            })
            .await;
            assert_eq!(node.census()()[0].vnodes_running, before, "only that vnode had ended");
        }
        assert_eq!(node.core().telemetry.vnode_restarts.value(), 2);
        let words =
            ["a vnode panicked", "service=\"summit\"", "partition=", "panic=\"planted after a write\""];
        assert!(log::says(&words), "the log says which vnode, and why");
        stop(node).await;
    });
}

/// What the dead vnode had handed over is in the store before its successor looks.
#[test]
fn a_restarted_vnode_sees_the_writes_that_were_under_way_when_it_died() {
    run(async {
        let commit_ms = Arc::new(AtomicU64::new(0));
        let slow = SlowStore { inner: MemoryStore::new(), commit_ms: commit_ms.clone() };
        let (node, summit) = start(options(Placement::Own(1), Arc::new(slow))).await;
        let one = QuorumOptions { n_val: Some(1), ..QuorumOptions::default() };
        summit.key(b"k2").quorum(one).merge(item("k2", 1)).await.unwrap();
        commit_ms.store(200, Ordering::Relaxed);
        let writing = actix_rt::spawn({
            let summit = summit.clone();
            async move { summit.key(b"k2").quorum(one).merge(item("k2", 7)).await.unwrap().verdict }
        });
        eventually("a write waits", async || node.core().storage.waiting().0 > 0).await;
        let _ = summit.key(b"k2").quorum(one).run(Ask::Panic).await.unwrap();
        let read = summit.key(b"k2").quorum(one).read(Ask::Get("k2".into())).await.unwrap();
        assert_eq!(read, Ok(complete(Told::Number(7))));
        assert_eq!(writing.await.unwrap(), Verdict::Done);
        commit_ms.store(0, Ordering::Relaxed);
        stop(node).await;
    });
}

#[derive(Default)]
struct Answers(std::sync::Mutex<Vec<&'static str>>);

impl Sink<Summit> for Answers {
    fn answer(&self, _: usize, answer: VnodeAnswer<Summit>) {
        self.0.lock().unwrap().push(match answer {
            VnodeAnswer::Refused(_) => "refused",
            VnodeAnswer::Failed(_) => "unknown",
            _ => "something else",
        });
    }
}

#[test]
fn a_reply_that_is_lost_says_refused_before_its_turn_and_unknown_after() {
    let heard = Arc::new(Answers::default());
    drop(ReplyTo::new(heard.clone(), 0));
    let mut begun = ReplyTo::new(heard.clone(), 0);
    begun.begin();
    drop(begun);
    assert_eq!(*heard.0.lock().unwrap(), ["refused", "unknown"]);
}

#[test]
fn a_vnode_that_panics_again_and_again_rests_in_between_and_the_others_answer() {
    run(async {
        let (node, summit) = start(options(Placement::Own(1), Arc::new(MemoryStore::new()))).await;
        summit.key(b"k2").merge(item("k2", 1)).await.unwrap();
        let one = QuorumOptions { n_val: Some(1), ..QuorumOptions::default() };
        for _ in 0..4 {
            let _ = summit.key(b"k2").quorum(one).run(Ask::Panic).await.unwrap();
        }
        let lone = summit.key(b"k2").quorum(one).read(Ask::Get("k2".into())).await.unwrap();
        assert!(
            matches!(&lone, Err(ReadFailure::Refused(Refusal::Unavailable(why))) if why.contains("started again in"))
        );
        assert_eq!(get(&summit, "k2").await, Ok(complete(Told::Number(1))), "r = 2 of 3 asks the other two");
        stop(node).await;
    });
}

#[test]
fn a_panic_on_the_pool_is_an_answer_and_the_pool_goes_on() {
    run(async {
        let (node, summit) = start(options(Placement::Own(1), Arc::new(MemoryStore::new()))).await;
        summit.key(b"k2").merge(item("k2", 5)).await.unwrap();
        for _ in 0..4 {
            let read = summit.key(b"k2").read(Ask::PanicOnThePool).await.unwrap();
            assert!(matches!(read, Err(ReadFailure::Refused(_))), "{read:?}");
        }
        let read = summit.key(b"k2").read(Ask::GetOnThePool("k2".into())).await.unwrap();
        assert_eq!(read, Ok(complete(Told::Number(5))));
        stop(node).await;
    });
}

#[test]
fn a_coordinated_write_runs_once_and_reaches_the_other_replicas() {
    on_each_placement(async |placement| {
        let (node, summit) = start(options(placement, Arc::new(MemoryStore::new()))).await;
        let all = QuorumOptions { w: Some(Count::All), ..QuorumOptions::default() };
        let first = summit.key(b"k2").quorum(all).run(Ask::Raise("k2".into())).await.unwrap();
        let second = summit.key(b"k2").quorum(all).run(Ask::Raise("k2".into())).await.unwrap();
        assert_eq!((first.verdict, first.acks, second.acks), (Verdict::Done, 3, 3));
        let (Some(Told::Dot(one, 1)), Some(Told::Dot(two, 2))) = (first.reply, second.reply) else {
            panic!("dots count from one")
        };
        assert_eq!(one, two, "one actor");
        let three = QuorumOptions { r: Some(Count::All), ..QuorumOptions::default() };
        let read = summit.key(b"k2").quorum(three).read(Ask::Get("k2".into())).await.unwrap();
        assert_eq!(read, Ok(complete(Told::Number(2))));
        assert_eq!(node.core().telemetry.read_repairs.value(), 0, "all three had it");
        stop(node).await;
    });
}

#[test]
fn dots_go_on_counting_after_a_restart_under_the_same_actor() {
    run(async {
        let store = MemoryStore::new();
        let mut dots = Vec::new();
        for _ in 0..3 {
            let (node, summit) = start(options(Placement::Here, Arc::new(store.clone()))).await;
            let written = summit.key(b"k2").run(Ask::Raise("k2".into())).await.unwrap();
            dots.push(written.reply);
            stop(node).await;
        }
        let [Some(Told::Dot(a, 1)), Some(Told::Dot(b, 2)), Some(Told::Dot(c, 3))] = dots[..] else {
            panic!("{dots:?}")
        };
        assert!(a == b && b == c);
    });
}

#[test]
fn a_read_mends_the_replica_that_lacks_something() {
    run(async {
        let store = MemoryStore::new();
        let (node, summit) = start(options(Placement::Here, Arc::new(store.clone()))).await;
        let one = QuorumOptions { n_val: Some(1), ..QuorumOptions::default() };
        summit.key(b"k2").quorum(one).merge(item("k2", 9)).await.unwrap();
        assert_eq!(get(&summit, "k2").await, Ok(complete(Told::Number(9))));
        assert_eq!(node.core().telemetry.read_repairs.value(), 1);
        eventually("the second replica has it", async || {
            get(&summit, "k2").await.unwrap();
            node.core().telemetry.read_repairs.value() == 1
        })
        .await;
        stop(node).await;
    });
}

#[test]
fn what_a_vnode_does_by_itself_reaches_its_replicas_and_those_who_watch() {
    run(async {
        let (node, summit) = start(options(Placement::Own(2), Arc::new(MemoryStore::new()))).await;
        let mut watch = summit.watch(b"k2").unwrap();
        let _ = summit.key(b"k2").within(Duration::from_millis(100)).run(Ask::RaiseTo("k2".into(), 5)).await;
        eventually("five at all replicas", async || {
            let three = QuorumOptions { r: Some(Count::All), ..QuorumOptions::default() };
            summit.key(b"k2").quorum(three).read(Ask::Get("k2".into())).await.unwrap()
                == Ok(complete(Told::Number(5)))
        })
        .await;
        let mut heard = Vec::new();
        while heard.last() != Some(&5) {
            match watch.next().await {
                Heard::Item(item) => heard.push(item.number),
                Heard::Lagged => panic!("a short feed does not lag"),
            }
        }
        assert!(heard.contains(&1), "{heard:?}");
        stop(node).await;
    });
}

#[test]
fn a_slow_store_gives_refusals_not_a_growing_queue_and_all_is_well_afterwards() {
    run(async {
        let commit_ms = Arc::new(AtomicU64::new(50));
        let inner = MemoryStore::new();
        let slow = SlowStore { inner: inner.clone(), commit_ms: commit_ms.clone() };
        let mut options = options(Placement::Own(1), Arc::new(slow));
        options.queue.writes_max = 64;
        let (node, summit) = start(options).await;
        summit.key(b"warm").merge(item("warm", 1)).await.unwrap();
        let mut most = 0;
        let sends: Vec<_> = (0..2000u64)
            .map(|n| {
                let summit = summit.clone();
                actix_rt::spawn(async move {
                    let name = format!("peak-{}", n % 7);
                    let written = summit.key(name.as_bytes()).merge(item(&name, n)).await.unwrap();
                    (name, n, written.verdict)
                })
            })
            .collect();
        while sends.iter().any(|s| !s.is_finished()) {
            most = most.max(node.core().storage.waiting().0);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (mut done, mut refused) = (std::collections::BTreeMap::<String, u64>::new(), 0);
        for send in sends {
            match send.await.unwrap() {
                (name, n, Verdict::Done) => {
                    let kept = done.entry(name).or_default();
                    *kept = (*kept).max(n);
                }
                (_, _, Verdict::Refused(Refusal::Overloaded)) => refused += 1,
                (_, _, Verdict::Unknown) => {} // one replica took it, two were full
                (_, _, other) => panic!("{other:?}"),
            }
        }
        assert!(refused > 0, "an excess is refused");
        assert!(most <= 64 + 8, "the queue kept its bound, {most} writes waited");
        commit_ms.store(0, Ordering::Relaxed);
        for (name, number) in done {
            let Ok(Answered { reply: Told::Number(found), .. }) = get(&summit, &name).await else {
                panic!("no answer")
            };
            assert!(found >= number, "{name}: an acknowledged write is there");
        }
        let written = summit.key(b"after").merge(item("after", 1)).await.unwrap();
        assert_eq!(written.verdict, Verdict::Done);
        stop(node).await;
    });
}

#[test]
fn a_deadline_that_passes_is_unknown_and_the_write_may_still_appear() {
    run(async {
        let commit_ms = Arc::new(AtomicU64::new(0));
        let slow = SlowStore { inner: MemoryStore::new(), commit_ms: commit_ms.clone() };
        let (node, summit) = start(options(Placement::Own(1), Arc::new(slow))).await;
        summit.key(b"k2").merge(item("k2", 1)).await.unwrap();
        commit_ms.store(300, Ordering::Relaxed);
        let hurried = summit.key(b"k2").within(Duration::from_millis(30));
        assert_eq!(hurried.merge(item("k2", 2)).await.unwrap().verdict, Verdict::Unknown);
        commit_ms.store(0, Ordering::Relaxed);
        eventually("it appears", async || get(&summit, "k2").await == Ok(complete(Told::Number(2)))).await;
        stop(node).await;
    });
}

#[test]
fn a_store_that_fails_is_told_to_whoever_waits_and_to_the_node() {
    run(async {
        let failing = FailingStore { inner: MemoryStore::new(), commits_left: AtomicU64::new(2) };
        let (node, summit) = start(options(Placement::Own(1), Arc::new(failing))).await;
        let mut last = Verdict::Done;
        for number in 1..10 {
            last = summit.key(b"k2").merge(item("k2", number)).await.unwrap().verdict;
        }
        assert_ne!(last, Verdict::Done);
        let error =
            tokio::time::timeout(Duration::from_secs(5), node.core().storage.failure()).await.unwrap();
        assert!(error.to_string().contains("no space left"), "{error}");
        assert!(node.stop(Duration::from_secs(5)).await.is_err(), "an end without a sync is no end in peace");
    });
}

#[test]
fn a_stopping_node_finishes_what_it_has_and_refuses_what_comes() {
    on_each_placement(async |placement| {
        let store = MemoryStore::new();
        let lazy = NodeOptions { durability: Durability::Os, ..options(placement, Arc::new(store.clone())) };
        let (node, summit) = start(lazy).await;
        let one = QuorumOptions { w: Some(Count::One), ..QuorumOptions::default() };
        summit.key(b"k2").quorum(one).merge(item("k2", 7)).await.unwrap();
        // What waits for a vnode that has not started is refused at a stop; this is about what was posted to one.
        eventually("all three run", async || node.core().telemetry.vnode_starts.value() == 3).await;
        stop(node).await;
        store.lose_unsynced(); // the end in peace has synced
        let late = summit.key(b"k2").merge(item("k2", 8)).await.unwrap();
        assert_eq!(late.verdict, Verdict::Refused(Refusal::Stopping));
        let (node, summit) = start(options(placement, Arc::new(store))).await;
        let three = QuorumOptions { r: Some(Count::All), ..QuorumOptions::default() };
        let read = summit.key(b"k2").quorum(three).read(Ask::Get("k2".into())).await.unwrap();
        assert_eq!((read, node.core().telemetry.read_repairs.value()), (Ok(complete(Told::Number(7))), 0));
        stop(node).await;
    });
}

/// A clock that somebody sets.
struct SetClock(AtomicU64);

impl TimeSource for SetClock {
    fn wall_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
    fn moment(&self) -> Duration {
        Duration::ZERO
    }
}

#[test]
fn times_rise_over_a_restart_with_the_clock_set_back() {
    run(async {
        let store = MemoryStore::new();
        let mut last = HybridTime::default();
        for wall_ms in [10_000_000, 9_940_000, 9_900_000] {
            let clock = Clock::of(Arc::new(SetClock(AtomicU64::new(wall_ms))));
            let set = NodeOptions { clock, ..options(Placement::Here, Arc::new(store.clone())) };
            let (node, summit) = start(set).await;
            let stamp = node.core().stamp_above(HybridTime::default());
            assert!(stamp.time > last, "at {wall_ms}");
            last = stamp.time;
            // What was minted is remembered with what was committed after it.
            let all = QuorumOptions { w: Some(Count::All), ..QuorumOptions::default() };
            summit.key(b"k2").quorum(all).merge(item("k2", last.0)).await.unwrap();
            stop(node).await;
        }
    });
}

#[test]
fn a_data_directory_belongs_to_one_node_and_remembers_its_ring() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let keep = Keep::Directory { path: directory.path().to_owned(), cache_bytes: 1 << 20 };
        let on_disk =
            || NodeOptions { keep: keep.clone(), ..options(Placement::Own(1), Arc::new(MemoryStore::new())) };
        let (node, summit) = start(on_disk()).await;
        summit.key(b"k2").merge(item("k2", 3)).await.unwrap();
        let second = Node::builder(on_disk()).service::<Summit>(()).start().await;
        assert!(matches!(second.err(), Some(StartError::InUse(_))));
        let (id, boot) = (node.core().id, node.core().boot);
        drop(summit); // a call site keeps the store open
        stop(node).await;
        // The vnodes' actors let go of the store a moment after they have stopped.
        let expected = "born with 8 partitions";
        let other = NodeOptions { ring_size: RingSize::try_from(16).unwrap(), ..on_disk() };
        let mut error = String::new();
        eventually("the ring's size is refused", async || {
            error =
                Node::builder(other.clone()).service::<Summit>(()).start().await.err().unwrap().to_string();
            error.contains(expected)
        })
        .await;
        assert!(error.contains("ring_size = 8"), "{error}");
        let (node, summit) = start(on_disk()).await;
        assert_eq!(node.core().id, id);
        assert!(node.core().boot > boot, "no boot number is given twice");
        assert_eq!(get(&summit, "k2").await, Ok(complete(Told::Number(3))));
        stop(node).await;
    });
}

#[test]
fn a_start_creates_the_keyspaces_of_a_default_ring_and_no_more_of_a_larger_one() {
    run(async {
        for (q, created) in [(8, 8), (64, 64), (1024, 64)] {
            let store = MemoryStore::new();
            let ring_size = RingSize::try_from(q).unwrap();
            let options = NodeOptions { ring_size, ..options(Placement::Here, Arc::new(store.clone())) };
            let (node, summit) = start(options).await;
            assert_eq!(store.keyspaces().unwrap().len(), created + 1, "Q = {q}: those, and the node's own");
            for n in 0..20 {
                let name = format!("k{n}");
                summit.key(name.as_bytes()).merge(item(&name, 3)).await.unwrap();
                assert_eq!(get(&summit, &name).await, Ok(complete(Told::Number(3))), "Q = {q}");
            }
            stop(node).await;
        }
    });
}
