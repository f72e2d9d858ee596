//! Where random bytes come from: the operating system in production, a seed in simulations. Used for
//! identities only; nothing on a request's path draws any.

use ringwork_core::testing::Draw;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// A source of random bytes, cheap to clone.
#[derive(Clone)]
pub struct Randomness(Source);

#[derive(Clone)]
enum Source {
    System,
    Seeded(Arc<Mutex<Draw>>),
}

impl Randomness {
    /// The operating system's.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// The same bytes for the same seed. For simulations.
    pub fn seeded(seed: u64) -> Self {
        Self(Source::Seeded(Arc::new(Mutex::new(Draw::from_seed(seed)))))
    }

    /// That many random bytes; an error when the system has none to give.
    pub fn bytes<const N: usize>(&self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        match &self.0 {
            Source::System => getrandom::fill(&mut bytes).map_err(io::Error::other)?,
            Source::Seeded(draw) => {
                let mut draw = draw.lock().unwrap_or_else(PoisonError::into_inner);
                for chunk in bytes.chunks_mut(8) {
                    chunk.copy_from_slice(&draw.bits().to_be_bytes()[..chunk.len()]);
                }
            }
        }
        Ok(bytes)
    }
}
