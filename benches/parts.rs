//! Parts of a request, timed alone with criterion's statistics: look-ups in the ring, the codec, joins, a vnode's turn,
//! a commit for many turns, and claim. For whoever changes one of them; what whole requests cost, `scripts/bench.sh`
//! says, and what must not grow, `scripts/guard.sh`.
//!
//! Run: `cargo bench --bench parts`, or with a part's name behind `--`.

#![allow(unreachable_pub)] // nothing here is reachable from anywhere

#[path = "counted/hosted.rs"]
mod hosted;
#[path = "counted/ring.rs"]
mod ring;

use criterion::{BatchSize, Criterion, Throughput};
use hosted::{Hosted, message, text};
use ringwork::chat::ChatItem;
use ringwork::core::claim::{ClaimNode, ClaimRequest, STEPS_DEFAULT, TARGET_N_DEFAULT, claim};
use ringwork::core::clock::dotted::CausalContext;
use ringwork::core::ids::{ActorId, Dot, NodeId};
use ringwork::core::limits::MESSAGE_BYTES_MAX;
use ringwork::core::ring::{KeyHash, RingSize};
use ringwork::core::store::Store;
use ringwork::core::store::memory::MemoryStore;
use ringwork::core::vnode::Item as _;
use ringwork::core::wire::codec;
use ringwork::core::wire::frame::{FrameDecoder, FrameHeader, FrameKind, encode_into};
use ringwork::kv::{Conflicts, Content, Object};
use ringwork::runtime::store::disk::{DiskOptions, DiskStore};
use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Outcome = Result<(), Box<dyn Error>>;

/// Turns that share a commit.
const GROUP: u64 = 64;

fn main() -> Outcome {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    look_ups(&mut criterion)?;
    codec_of_a_send(&mut criterion)?;
    joins(&mut criterion)?;
    turns(&mut criterion)?;
    claims(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}

/// A key's first partition; and its active preference list, where all nodes are up and where some are not.
fn look_ups(criterion: &mut Criterion) -> Outcome {
    let size = RingSize::try_from(64)?;
    criterion.bench_function("ring/partition", |bench| {
        bench.iter(|| size.partition_of(&KeyHash::of("chat", black_box(b"user00004711"))));
    });
    for (q, nodes, down) in [(64, 5, 0), (64, 5, 1), (1024, 100, 10), (16_384, 100, 10)] {
        let view = ring::view(q, nodes, down)?;
        criterion.bench_function(&format!("preflist/Q={q} nodes={nodes} down={down}"), |bench| {
            let mut key = *b"user00000000";
            let mut number = 0_u32;
            bench.iter(|| {
                number = number.wrapping_add(1);
                key[8..].copy_from_slice(&number.to_be_bytes());
                view.preflist("chat", &KeyHash::of("chat", black_box(&key)), 3)
            });
        });
    }
    Ok(())
}

/// A message of 100 bytes into a frame, and out of it.
fn codec_of_a_send(criterion: &mut Criterion) -> Outcome {
    let header = FrameHeader { family: 4, version: 1, ..FrameHeader::bare(FrameKind::Request) };
    let (item, decoder) = (message(7), FrameDecoder::new(MESSAGE_BYTES_MAX));
    let mut frame = Vec::new();
    encode_into(&mut frame, &header, |into| codec::encode_into(&item, into))?;
    criterion.bench_function("codec/encode a message into a frame", |bench| {
        let mut out = Vec::with_capacity(frame.len());
        bench.iter(|| {
            out.clear();
            encode_into(&mut out, &header, |into| codec::encode_into(black_box(&item), into))
        });
    });
    criterion.bench_function("codec/decode a message from a frame", |bench| {
        let mut read = bytes::BytesMut::with_capacity(1 << 20);
        bench.iter(|| {
            read.extend_from_slice(black_box(&frame));
            let frame = decoder.decode(&mut read).ok().flatten();
            frame.map(|frame| codec::decode::<ChatItem>(&frame.body))
        });
    });
    Ok(())
}

/// An object of two siblings with another state of it, which knows one of them and another.
fn joins(criterion: &mut Criterion) -> Outcome {
    let written = |actors: [u64; 2]| {
        let mut object = Object::new();
        for actor in actors {
            let dot = Dot { actor: ActorId(actor), counter: 1 };
            let content = Content::of(text(actor).as_str());
            if !object.put(content, &CausalContext::default(), dot, Conflicts::Siblings) {
                return Err("a value was not stored");
            }
        }
        Ok(object)
    };
    let (one, other) = (written([1, 2])?, written([2, 3])?);
    criterion.bench_function("join/kv object", |bench| {
        bench.iter_batched_ref(|| one.clone(), |one| one.join(black_box(&other)), BatchSize::SmallInput);
    });
    let (one, other) = (message(1), message(1));
    criterion.bench_function("join/chat message", |bench| {
        let pair = || (one.clone(), other.clone());
        bench.iter_batched(pair, |(one, other)| one.join(other), BatchSize::SmallInput);
    });
    Ok(())
}

/// A vnode that takes messages in, with its trees: turns alone, and turns with a commit for each group of them.
fn turns(criterion: &mut Criterion) -> Outcome {
    let directory = tempfile::tempdir()?;
    let options = DiskOptions { directory: directory.path().join("store"), cache_bytes: 8 << 20 };
    let disk: Arc<dyn Store> = Arc::new(DiskStore::open(&options, false)?);
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::without_crashes());
    let mut group = criterion.benchmark_group("turn");
    group.throughput(Throughput::Elements(GROUP));
    for (name, store, synced) in [
        ("64 turns, a commit in memory", &memory, false),
        ("64 turns, a commit on disk", &disk, false),
        ("64 turns, a commit on disk, synced", &disk, true),
    ] {
        let mut hosted = Hosted::new(store.clone())?;
        let (mut number, mut failed) = (0, None);
        group.bench_function(name, |bench| {
            bench.iter_batched(
                || {
                    number += GROUP;
                    (number..number + GROUP).map(message).collect::<Vec<_>>()
                },
                |items| {
                    let all = || -> Outcome {
                        items.into_iter().try_for_each(|item| hosted.merge(item))?;
                        hosted.commit()?;
                        if synced { Ok(store.sync()?) } else { Ok(()) }
                    };
                    failed = all().err().or(failed.take());
                },
                BatchSize::LargeInput,
            );
        });
        if let Some(error) = failed {
            return Err(error);
        }
    }
    group.finish();
    Ok(())
}

/// The 101st node joins a ring of 1 024 partitions.
fn claims(criterion: &mut Criterion) -> Outcome {
    let size = RingSize::try_from(1024)?;
    let node = |number: u64| {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        ClaimNode { node: NodeId(id), location: None }
    };
    let nodes: Vec<ClaimNode> = (0..101).map(node).collect();
    let nobody = vec![None; size.count()];
    let before = claim(&request(size, &nobody, &nodes[..100]))?;
    let owners: Vec<Option<NodeId>> = before.owners.iter().copied().map(Some).collect();
    criterion.bench_function("claim/Q=1024, the 101st joins", |bench| {
        bench.iter(|| claim(black_box(&request(size, &owners, &nodes))));
    });
    Ok(())
}

fn request<'a>(size: RingSize, owners: &'a [Option<NodeId>], nodes: &'a [ClaimNode]) -> ClaimRequest<'a> {
    let (target_n, steps_max) = (TARGET_N_DEFAULT, STEPS_DEFAULT);
    ClaimRequest { size, owners, nodes, target_n, location_n: 3, steps_max }
}
