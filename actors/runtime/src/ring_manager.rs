//! The ring manager: the one writer of the node's ring. A ring is synced to its file before anybody sees it,
//! then published as an immutable snapshot that requests read without a lock. At this stage its only change is
//! the birth of a ring; membership will send it further ones.

use crate::files::{self, FileError};
use crate::start_error::StartError;
use actix::{Actor, Context, Handler};
use arc_swap::ArcSwap;
use ringwork_core::ids::{ClusterId, NodeId};
use ringwork_core::ring::{Ring, RingSize, RingView};
use ringwork_core::wire::Kind;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::oneshot;

use crate::post::{Permits, Postbox, Posted};

const RING_FILE_VERSION: u16 = 1;

/// Where a ring is kept; none for a node that keeps nothing.
pub type RingFile = Option<PathBuf>;

/// Finds the node's ring: the one in its file, or a fresh one of `size`, synced to the file before it is
/// returned. A file that disagrees with `size` is an error: a ring's size is fixed at its birth.
pub fn load_or_create(
    file: &RingFile,
    size: RingSize,
    node: NodeId,
    cluster: impl FnOnce() -> std::io::Result<ClusterId>,
) -> Result<Ring, StartError> {
    let kept = match file {
        Some(path) => files::read_whole::<Ring>(path, Kind::Ring, RING_FILE_VERSION)?,
        None => None,
    };
    if let Some(ring) = kept {
        if ring.size() != size {
            return Err(StartError::RingSize { configured: size, kept: ring.size(), file: file.clone() });
        }
        return Ok(ring);
    }
    let cluster = cluster().map_err(StartError::Randomness)?;
    let ring = Ring::fresh(cluster, size, node);
    keep(file, &ring)?;
    tracing::info!(%cluster, partitions = size.count(), "a ring was born");
    Ok(ring)
}

fn keep(file: &RingFile, ring: &Ring) -> Result<(), FileError> {
    match file {
        Some(path) => files::write_whole(path, Kind::Ring, RING_FILE_VERSION, ring),
        None => Ok(()),
    }
}

/// See the module's head.
pub struct RingManager {
    file: RingFile,
    view: Arc<ArcSwap<RingView>>,
}

/// Replace the ring. The answer says whether it is kept and published; if not, nothing has changed.
pub struct Replace {
    /// The new ring.
    pub ring: Ring,
    /// Where the outcome goes.
    pub done: oneshot::Sender<Result<(), FileError>>,
}

impl RingManager {
    /// Starts the manager on the calling thread.
    pub fn start(file: RingFile, view: Arc<ArcSwap<RingView>>) -> Postbox<Self> {
        Postbox::new(Actor::start(Self { file, view }), Permits::new(64))
    }
}

impl Actor for RingManager {
    type Context = Context<Self>;
}

impl Handler<Posted<Replace>> for RingManager {
    type Result = ();

    fn handle(&mut self, posted: Posted<Replace>, _: &mut Self::Context) {
        let Replace { ring, done } = posted.message;
        let kept = keep(&self.file, &ring);
        if kept.is_ok() {
            let me = self.view.load().me;
            self.view.store(Arc::new(RingView { me, ring }));
        }
        let _ = done.send(kept);
    }
}
