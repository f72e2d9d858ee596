//! What a page of 100 messages from the middle of a log costs, over logs of different lengths: it must not depend
//! on the length. A whole node without HTTP in front, its data on disk, three replicas, two of them read.
//!
//! Run: `cargo bench --bench pages` (about a minute and 2 GB of temporary disk for the longest log).

use ringwork::chat::{Chat, ChatCommand, ChatConfig, ChatItem, ChatReply, Content, MessageId, PageQuery};
use ringwork::core::clock::hybrid::HybridTime;
use ringwork::core::quorum::Verdict;
use ringwork::runtime::coordinator::{Answered, Service};
use ringwork::runtime::node::{Keep, Node, NodeOptions};
use ringwork::runtime::spawner::Placement;
use ringwork::server::trial_options;
use std::error::Error;
use std::io::Write;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const LENGTHS: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];
const PAGES: usize = 400;
const MESSAGES_AT_ONCE: usize = 256;

fn main() -> Result<(), Box<dyn Error>> {
    actix_rt::System::new().block_on(async {
        let directory = tempfile::tempdir()?;
        let keep = Keep::Directory { path: directory.path().to_owned(), cache_bytes: 64 << 20 };
        let options = NodeOptions { keep, ..trial_options(Placement::Own(1)) };
        let node = Node::builder(options).service::<Chat>(ChatConfig::default()).start().await?;
        let chat = node.service::<Chat>().ok_or("chat is not hosted")?;
        let out = &mut std::io::stdout();
        writeln!(out, "{:>12} {:>16} {:>16} {:>18}", "messages", "median", "p99", "CPU per page")?;
        for length in LENGTHS {
            let user = format!("user-{length}");
            let middle = fill(&node, &chat, &user, length).await?;
            let (mut times, cpu_before) = (Vec::new(), cpu_time());
            let clock = &node.core().clock;
            for _ in 0..PAGES {
                let begun = clock.moment();
                let query = PageQuery {
                    user: user.clone(),
                    after: Some(middle),
                    before: None,
                    limit: 100,
                    backward: false,
                };
                match chat.key(user.as_bytes()).read(ChatCommand::Page(query)).await? {
                    Ok(Answered { reply: ChatReply::Page(page), .. }) if page.items.len() == 100 => {}
                    other => return Err(format!("no full page: {other:?}").into()),
                }
                times.push(clock.moment() - begun);
            }
            let cpu = (cpu_time() - cpu_before) / PAGES as u32;
            times.sort();
            let (median, p99) = (times[PAGES / 2], times[PAGES * 99 / 100]);
            writeln!(out, "{length:>12} {median:>16.1?} {p99:>16.1?} {cpu:>18.1?}")?;
        }
        node.stop(Duration::from_secs(30)).await?;
        Ok(())
    })
}

/// Sends that many messages and says which is in the middle.
async fn fill(
    node: &Node,
    chat: &Service<Chat>,
    user: &str,
    length: usize,
) -> Result<MessageId, Box<dyn Error>> {
    let mut middle = MessageId::SMALLEST;
    let mut waiting = Vec::new();
    for number in 0..length {
        let id = MessageId::from_stamp(node.core().stamp_above(HybridTime::default()));
        if number == length / 2 {
            middle = id;
        }
        let content = Content { text: format!("{number} {}", "x".repeat(90)), from: None };
        let item = ChatItem::Message { user: user.to_owned(), id, content };
        let (chat, user) = (chat.clone(), user.to_owned());
        waiting
            .push(actix_rt::spawn(async move { Ok(chat.key(user.as_bytes()).merge(item).await?.verdict) }));
        if waiting.len() == MESSAGES_AT_ONCE || number + 1 == length {
            for send in waiting.drain(..) {
                let verdict: Result<Verdict, ringwork::core::quorum::ImpossibleQuorum> = send.await?;
                if verdict? != Verdict::Done {
                    return Err("a send was not done".into());
                }
            }
        }
    }
    // Flushes and compactions that the filling has left would be counted as the reading's cost.
    let mut before = cpu_time();
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = cpu_time();
        if now - before < Duration::from_millis(50) {
            return Ok(middle);
        }
        before = now;
    }
}

/// User and system time of this process, from the kernel's own account (in hundredths of a second).
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}
