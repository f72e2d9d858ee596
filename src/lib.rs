//! ringwork: a masterless, actor-based node runtime. You give it a vnode module (a small state machine over
//! keyed items that merge), and it gives you partitioning, replication, quorums, durability and operations.
//!
//! The facade: what a module author or an embedder imports. [`core`] has the rules and the contract
//! ([`core::vnode::Vnode`]), [`runtime`] the actors, [`chat`] and [`kv`] the modules that come with it; [`settings`],
//! [`http`] and [`server`] are the node that the `ringwork` program runs. A program of one's own adds
//! [`modules`] to such a node and is run by [`cli::start::program`]; `examples/presence.rs` is one.
//!
//! A node inside another program, with its data in memory:
//!
//! ```
//! use ringwork::chat::{Chat, ChatConfig, ChatItem, Content, MessageId};
//! use ringwork::core::clock::hybrid::HybridTime;
//! use ringwork::core::quorum::Verdict;
//! use ringwork::runtime::node::Node;
//! use ringwork::runtime::spawner::Placement;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! actix_rt::System::new().block_on(async {
//!     let options = ringwork::server::trial_options(Placement::Here);
//!     let node = Node::builder(options).service::<Chat>(ChatConfig::default()).start().await?;
//!     let chat = node.service::<Chat>().ok_or("chat is not hosted")?;
//!
//!     let id = MessageId::from_stamp(node.core().stamp_above(HybridTime::default()));
//!     let content = Content { text: "hello".into(), from: None };
//!     let written = chat.key(b"ann").merge(ChatItem::Message { user: "ann".into(), id, content }).await?;
//!     assert_eq!(written.verdict, Verdict::Done);
//!     node.stop(std::time::Duration::from_secs(5)).await?;
//!     Ok(())
//! })
//! # }
//! ```

pub mod cli;
pub mod http;
pub mod kv;
pub mod modules;
pub mod server;
pub mod settings;

pub use ringwork_chat as chat;
pub use ringwork_core as core;
pub use ringwork_runtime as runtime;
