//! The paths themselves. What comes before the counted part of each is set-up and warm-up; what is in it is a number of
//! operations of one kind and nothing else.

use crate::cluster::{cluster_of, system};
use crate::hosted::{Hosted, message, text};
use crate::{Outcome, counted_section, ring};
use actix_web::dev::Service as _;
use actix_web::middleware::from_fn;
use actix_web::test::TestRequest;
use actix_web::{App, web};
use futures_util::future::join_all;
use ringwork::chat::{Chat, ChatCommand, ChatItem, ChatReply, Content, MessageId, PageQuery};
use ringwork::core::clock::dotted::CausalContext;
use ringwork::core::clock::hybrid::HybridTime;
use ringwork::core::ids::{ActorId, Dot};
use ringwork::core::limits::MESSAGE_BYTES_MAX;
use ringwork::core::quorum::Verdict;
use ringwork::core::ring::KeyHash;
use ringwork::core::store::memory::MemoryStore;
use ringwork::core::vnode::{Item as _, Merged};
use ringwork::core::wire::codec;
use ringwork::core::wire::frame::{FrameDecoder, FrameHeader, FrameKind, encode_into};
use ringwork::http::{admit, routes};
use ringwork::kv::{Conflicts, Content as Value, Kv, KvStore, Object, ObjectName, PutRequest, Request};
use ringwork::runtime::coordinator::Answered;
use ringwork::runtime::node::Node;
use ringwork::runtime::store::disk::{DiskOptions, DiskStore};
use ringwork::server::app_state;
use ringwork::settings::Settings;
use std::collections::BTreeSet;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::watch;

/// Something that is done again and again.
pub struct Path {
    /// What it is called.
    pub name: &'static str,
    /// How often it is done where nobody says.
    pub operations: u64,
    /// Sets up, warms up, and does it so often within the counted part.
    pub run: fn(u64) -> Outcome,
}

/// All of them.
pub const ALL: [Path; 12] = [
    Path { name: "look-up", operations: 5000, run: look_up },
    Path { name: "codec-send", operations: 5000, run: codec_send },
    Path { name: "join-chat", operations: 5000, run: join_chat },
    Path { name: "join-kv", operations: 5000, run: join_kv },
    Path { name: "turn-send", operations: 4096, run: turn_send },
    Path { name: "turn-send-disk", operations: 4096, run: turn_send_disk },
    Path { name: "http-ping", operations: 2000, run: http_ping },
    Path { name: "http-send", operations: 1024, run: http_send },
    Path { name: "send", operations: 1024, run: send },
    Path { name: "get", operations: 512, run: get },
    Path { name: "kv-put", operations: 1024, run: kv_put },
    Path { name: "kv-get", operations: 1024, run: kv_get },
];

/// Requests under way at a time, and turns that share a commit.
const AT_ONCE: u64 = 16;
/// Keys or users that are asked about.
const KEYS: u64 = 64;
/// Messages of a page.
const PAGE: u16 = 20;

/// From a key to its active preference list, of five nodes one of which is down.
fn look_up(operations: u64) -> Outcome {
    let view = ring::view(64, 5, 1)?;
    counted_section(|| {
        for n in 0..operations as u32 {
            let mut key = *b"user00000000";
            key[8..].copy_from_slice(&n.to_be_bytes());
            black_box(view.preflist("chat", &KeyHash::of("chat", black_box(&key)), 3));
        }
    });
    Ok(())
}

/// A message into a frame and out of it, and the same of what a replica answers.
fn codec_send(operations: u64) -> Outcome {
    let decoder = FrameDecoder::new(MESSAGE_BYTES_MAX);
    let request =
        FrameHeader { family: 4, version: 1, remaining_ms: 10_000, ..FrameHeader::bare(FrameKind::Request) };
    let reply = FrameHeader { kind: FrameKind::Reply, remaining_ms: 0, ..request };
    let items: Vec<ChatItem> = (0..AT_ONCE).map(message).collect();
    let mut out = Vec::with_capacity(64 * 1024);
    let mut read = bytes::BytesMut::with_capacity(1024 * 1024);
    counted_section(|| {
        for n in 0..operations {
            out.clear();
            encode_into(&mut out, &request, |into| codec::encode_into(&items[(n % AT_ONCE) as usize], into))?;
            read.extend_from_slice(&out);
            let frame = decoder.decode(&mut read)?.ok_or("a frame was cut")?;
            black_box(codec::decode::<ChatItem>(&frame.body)?);
            out.clear();
            encode_into(&mut out, &reply, |into| codec::encode_into(&(Merged::Changed, true), into))?;
            read.extend_from_slice(&out);
            let frame = decoder.decode(&mut read)?.ok_or("a frame was cut")?;
            black_box(codec::decode::<(Merged, bool)>(&frame.body)?);
        }
        Ok(())
    })
}

/// Two states of a keyed message with an alias each.
fn join_chat(operations: u64) -> Outcome {
    let keyed = |number: u64| {
        let (ChatItem::Message { user, id, content }, aliases) = (message(number), BTreeSet::new()) else {
            return Err("a message is another item");
        };
        Ok(ChatItem::Keyed { user, key: "order-4711".into(), id, aliases, content: Some(content) })
    };
    let (one, other) = (keyed(1000)?, keyed(2000)?);
    counted_section(|| {
        for _ in 0..operations {
            black_box(black_box(one.clone()).join(black_box(other.clone())));
        }
    });
    Ok(())
}

/// Two states of an object of three siblings, of which each lacks one.
fn join_kv(operations: u64) -> Outcome {
    let written = |actors: [u64; 2]| {
        let mut object = Object::new();
        for actor in actors {
            let dot = Dot { actor: ActorId(actor), counter: 1 };
            let content = Value::of(text(actor).as_str());
            if !object.put(content, &CausalContext::default(), dot, Conflicts::Siblings) {
                return Err("a value was not stored");
            }
        }
        Ok(object)
    };
    let (one, other) = (written([1, 2])?, written([2, 3])?);
    counted_section(|| {
        for _ in 0..operations {
            let mut joined = black_box(one.clone());
            joined.join(black_box(&other));
            black_box(joined);
        }
    });
    Ok(())
}

fn turns(mut hosted: Hosted, operations: u64) -> Outcome {
    let warm_up = 256;
    let mut items: Vec<ChatItem> = (0..warm_up + operations).map(message).collect();
    let rest = items.split_off(warm_up as usize);
    let mut merge = |items: Vec<ChatItem>| -> Outcome {
        for (number, item) in (1..).zip(items) {
            hosted.merge(item)?;
            if number % AT_ONCE == 0 {
                hosted.commit()?;
            }
        }
        hosted.commit()
    };
    merge(items)?;
    counted_section(|| merge(rest))
}

/// The turn of a vnode that takes a message in, and its share of a commit in memory.
fn turn_send(operations: u64) -> Outcome {
    turns(Hosted::new(Arc::new(MemoryStore::without_crashes()))?, operations)
}

/// The same with a commit to the engine on disk. Its own threads, which flush and compact, are not counted.
fn turn_send_disk(operations: u64) -> Outcome {
    let directory = tempfile::tempdir()?;
    let options = DiskOptions { directory: directory.path().join("store"), cache_bytes: 8 << 20 };
    turns(Hosted::new(Arc::new(DiskStore::open(&options, false)?))?, operations)
}

/// Requests through all routes of a node that is a cluster of its own; only sockets are left out.
fn through_http(operations: u64, request: impl Fn(u64) -> TestRequest, status: u16) -> Outcome {
    let system = system();
    let nodes = system.block_on(cluster_of(1))?;
    let node = nodes.first().ok_or("a cluster has nodes")?;
    let (_closing, closes) = watch::channel(false);
    let state = app_state(&Settings::default(), node, ([10, 0, 0, 1], 8098).into(), closes)?;
    state.ready.store(true, Ordering::Relaxed);
    let app = App::new().app_data(web::Data::new(state)).wrap(from_fn(admit)).configure(routes);
    let app = system.block_on(actix_web::test::init_service(app));
    let warm_up = (4 * KEYS) as usize;
    let mut requests: Vec<TestRequest> = (0..warm_up as u64 + operations).map(request).collect();
    let rest = requests.split_off(warm_up);
    let ask = async |requests: Vec<TestRequest>| -> Outcome {
        for request in requests {
            let response = app.call(request.to_request()).await?;
            let found = response.status().as_u16();
            let body = actix_web::body::to_bytes(response.into_body()).await;
            if found != status || body.is_err() {
                return Err(format!("a request was answered with {found}, not {status}").into());
            }
        }
        Ok(())
    };
    system.block_on(ask(requests))?;
    counted_section(|| system.block_on(ask(rest)))
}

/// Asks the node whether it lives: the door, the way to a route, and the answer.
fn http_ping(operations: u64) -> Outcome {
    through_http(operations, |_| TestRequest::get().uri("/ping"), 200)
}

/// A send, one at a time, to three vnodes of one node.
fn http_send(operations: u64) -> Outcome {
    let request = |number: u64| {
        let body = format!("{{\"text\":\"{}\"}}", text(number));
        TestRequest::post()
            .uri(&format!("/chat/users/{}/messages", user(number)))
            .insert_header(("content-type", "application/json"))
            .set_payload(body)
    };
    through_http(operations, request, 201)
}

fn user(number: u64) -> String {
    format!("user-{:07}", number % KEYS)
}

/// Carries out operations at three nodes, [`AT_ONCE`] at a time, each node in its turn: first as many as set-up takes,
/// by `fill`, then those that count, by `work`. Both get the node, and a number that none had before.
fn over_three(
    operations: u64,
    fill: (u64, impl AsyncFn(&Node, u64) -> Outcome),
    work: impl AsyncFn(&Node, u64) -> Outcome,
) -> Outcome {
    let system = system();
    let nodes = system.block_on(cluster_of(3))?;
    let node = |number: u64| &nodes[(number % nodes.len() as u64) as usize];
    let (filled, warm_up) = (fill.0, 4 * KEYS);
    for begin in (0..filled).step_by(AT_ONCE as usize) {
        let together = (begin..begin + AT_ONCE).map(|number| fill.1(node(number), number));
        system.block_on(join_all(together)).into_iter().collect::<Outcome>()?;
    }
    let carry_out = async |from: u64, operations: u64| -> Outcome {
        for begin in (from..from + operations).step_by(AT_ONCE as usize) {
            let together = (begin..begin + AT_ONCE).map(|number| work(node(number), number));
            join_all(together).await.into_iter().collect::<Outcome>()?;
        }
        Ok(())
    };
    system.block_on(carry_out(filled, warm_up))?;
    counted_section(|| system.block_on(carry_out(filled + warm_up, operations)))
}

async fn send_one(node: &Node, number: u64) -> Outcome {
    let chat = node.service::<Chat>().ok_or("chat is not hosted")?;
    let (user, id) = (user(number), MessageId::from_stamp(node.core().stamp_above(HybridTime::default())));
    let item =
        ChatItem::Message { user: user.clone(), id, content: Content { text: text(number), from: None } };
    match chat.key(user.as_bytes()).merge(item).await?.verdict {
        Verdict::Done => Ok(()),
        other => Err(format!("a send ended as {other:?}").into()),
    }
}

/// A send at one of three nodes, w = 2 of 3: its coordinator, three vnodes of three nodes, two requests between nodes
/// with their answers, three commits' share.
fn send(operations: u64) -> Outcome {
    over_three(operations, (0, send_one), send_one)
}

/// A page of 20 messages at one of three nodes, r = 2 of 3.
fn get(operations: u64) -> Outcome {
    let ask = async |node: &Node, number: u64| -> Outcome {
        let chat = node.service::<Chat>().ok_or("chat is not hosted")?;
        let user = user(number);
        let query = PageQuery { user: user.clone(), after: None, before: None, limit: PAGE, backward: true };
        match chat.key(user.as_bytes()).read(ChatCommand::Page(query)).await? {
            Ok(Answered { reply: ChatReply::Page(page), .. }) if page.items.len() == usize::from(PAGE) => {
                Ok(())
            }
            other => Err(format!("no full page: {other:?}").into()),
        }
    };
    over_three(operations, (2 * u64::from(PAGE) * KEYS, send_one), ask)
}

async fn put_one(node: &Node, number: u64) -> Outcome {
    let store = KvStore::new(node.service::<Kv>().ok_or("kv is not hosted")?);
    let name = ObjectName::new("default", b"bench", user(number).as_bytes())?;
    let props = store.bucket_props("default", b"bench")?;
    store.put(&Request::new(&name, &props), PutRequest::of(Value::of(text(number).as_str()))).await?;
    Ok(())
}

/// A put of an object at one of three nodes, by the bucket's defaults.
fn kv_put(operations: u64) -> Outcome {
    over_three(operations, (0, put_one), put_one)
}

/// A get of an object at one of three nodes, by the bucket's defaults.
fn kv_get(operations: u64) -> Outcome {
    let ask = async |node: &Node, number: u64| -> Outcome {
        let store = KvStore::new(node.service::<Kv>().ok_or("kv is not hosted")?);
        let name = ObjectName::new("default", b"bench", user(number).as_bytes())?;
        let props = store.bucket_props("default", b"bench")?;
        let got = store.get(&Request::new(&name, &props)).await?;
        if got.object.len() == 1 { Ok(()) } else { Err("an object was not found".into()) }
    };
    over_three(operations, (KEYS, put_one), ask)
}
