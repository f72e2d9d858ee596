//! What happened in a run, in order: always as a running checksum, which two runs of one seed must share, and as text
//! where somebody is going to read it.

use bytes::BytesMut;
use ringwork_core::limits::FRAME_BYTES_MAX;
use ringwork_core::wire::frame::FrameDecoder;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use tokio::time::Instant;

/// Cheap to clone.
#[derive(Clone)]
pub struct Trace(Arc<Mutex<Inner>>);

struct Inner {
    origin: Instant,
    sum: u32,
    lines: u64,
    text: Option<Vec<String>>,
    /// What is not a whole frame yet, by connection and sender.
    rests: std::collections::BTreeMap<(u64, u8), BytesMut>,
}

impl Trace {
    /// An empty trace; `readable`: with its text.
    pub fn new(readable: bool) -> Self {
        #[allow(clippy::disallowed_methods)] // the simulation's own clock
        let origin = Instant::now();
        let text = readable.then(Vec::new);
        Self(Arc::new(Mutex::new(Inner { origin, sum: 0, lines: 0, text, rests: Default::default() })))
    }

    /// Something happened. `what` is made only where somebody reads it or its checksum is cheap.
    pub fn note(&self, what: &str) {
        let mut inner = self.0.lock().unwrap();
        inner.add(what.as_bytes());
        if inner.text.is_some() {
            let line = format!("{} {what}", inner.time());
            inner.text.iter_mut().for_each(|text| text.push(line.clone()));
        }
    }

    /// Bytes left a node.
    pub fn packet(&self, from: u8, to: u8, connection: u64, bytes: &[u8]) {
        let mut inner = self.0.lock().unwrap();
        inner.add(&[from, to]);
        inner.add(bytes);
        if inner.text.is_none() {
            return;
        }
        let mut words = String::new();
        if bytes.is_empty() {
            words.push_str("hangs up");
        }
        let rest = inner.rests.entry((connection, from)).or_default();
        rest.extend_from_slice(bytes);
        if rest.starts_with(ringwork_core::wire::handshake::MAGIC.as_ref()) {
            let _ = rest.split_to(ringwork_core::wire::handshake::MAGIC.len());
        }
        while let Ok(Some(frame)) = FrameDecoder::new(FRAME_BYTES_MAX).decode(rest) {
            let header = frame.header;
            let family = match header.family {
                1 => "vnode",
                2 => "detector",
                3 => "gossip",
                4 => "join",
                5 => "administration",
                6 => "strays",
                7 => "bequest",
                _ => "",
            };
            let (kind, request, length) = (header.kind, header.request, frame.body.len());
            let _ = write!(words, "{kind:?} {family} #{request} {length} B; ");
        }
        let line = format!("{} n{from} -> n{to} [{connection}] {words}", inner.time());
        inner.text.iter_mut().for_each(|text| text.push(line.clone()));
    }

    /// The checksum of all so far, and of how many things.
    pub fn sum(&self) -> (u32, u64) {
        let inner = self.0.lock().unwrap();
        (inner.sum, inner.lines)
    }

    /// The lines, where they were kept.
    pub fn text(&self) -> Vec<String> {
        self.0.lock().unwrap().text.clone().unwrap_or_default()
    }
}

impl Inner {
    fn add(&mut self, bytes: &[u8]) {
        let at = self.origin.elapsed().as_nanos() as u64;
        let mut hasher = crc32fast::Hasher::new_with_initial(self.sum);
        hasher.update(&at.to_be_bytes());
        hasher.update(bytes);
        self.sum = hasher.finalize();
        self.lines += 1;
    }

    fn time(&self) -> String {
        let at = self.origin.elapsed();
        format!("{:>4}.{:06}", at.as_secs(), at.subsec_micros())
    }
}
