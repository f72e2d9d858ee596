//! Why a node does not start: one sentence for each reason, with the way out. It does not decide any of them.

use crate::files::FileError;
use ringwork_core::limits::{BOOTS_MAX, SERVICE_NAME_BYTES_MAX};
use ringwork_core::ring::RingSize;
use ringwork_core::store::StoreError;
use std::path::{Path, PathBuf};

/// Why a node did not start. Nothing of it runs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// One of its own files.
    #[error(transparent)]
    File(#[from] FileError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The directory belongs to a running node.
    #[error(
        "{} is in use by another process: is this node running already? Stop it, or choose another \
         node.data_dir", .0.display()
    )]
    InUse(PathBuf),
    /// The ring has another size than configured.
    #[error(
        "cluster.ring_size is {configured}, but the ring in {} was born with {kept} partitions, and a ring's size \
         does not change: set cluster.ring_size = {kept}", file.as_deref().unwrap_or(Path::new("memory")).display()
    )]
    RingSize {
        /// What the settings say.
        configured: RingSize,
        /// What is kept.
        kept: RingSize,
        /// Where.
        file: Option<PathBuf>,
    },
    /// A file that this directory had is gone.
    #[error("{} is missing, although this node has kept data beside it. Way out: restore it from a backup of this \
             very directory; without it the data cannot be served", .0.display())]
    Missing(PathBuf),
    /// A rebuild of nobody.
    #[error("{} has no identity to rebuild: put the file 'identity' of the node there whose data is lost; without it the \
             node cannot come back as itself: start a new one and run 'ringwork cluster force-replace OLD NEW'",
             .0.display())]
    NoIdentity(PathBuf),
    /// A rebuild where there is a store.
    #[error("{} is there, and a rebuild begins with an empty one: move it away first, or start without --rebuild to \
             use it", .0.display())]
    StoreInTheWay(PathBuf),
    /// A rebuild that cannot find its cluster.
    #[error("{} has no file 'ring', so a rebuild has to ask a member of the cluster: name one with --join",
             .0.display())]
    NoSeeds(PathBuf),
    /// Too many starts.
    #[error(
        "{} has been started {BOOTS_MAX} times; message ids have no room for more: begin a new data directory",
        .0.display()
    )]
    Boots(PathBuf),
    /// No random bytes.
    #[error("the operating system gives no random bytes: {0}")]
    Randomness(std::io::Error),
    /// No thread.
    #[error("a thread cannot be started: {0}")]
    Thread(std::io::Error),
    /// What the settings say of this node cannot be told to a cluster.
    #[error("{0}")]
    Member(String),
    /// The cluster address cannot be used.
    #[error(transparent)]
    Network(#[from] crate::net::NetworkError),
    /// A service's name cannot be used.
    #[error(
        "service name {0:?} is not 1 to {SERVICE_NAME_BYTES_MAX} lower-case letters and digits, or is taken"
    )]
    ServiceName(&'static str),
}
