//! Who a data directory is, and which of its lives this is. It decides what a first start may find missing (all)
//! and a later one (nothing), and that no boot number is given twice. It does not know what is kept beside it.

use crate::files::{self, FileError};
use crate::node_options::NodeOptions;
use crate::randomness::Randomness;
use crate::start_error::StartError;
use bytes::Bytes;
use ringwork_core::ids::{Boot, NodeId};
use ringwork_core::limits::BOOTS_MAX;
use ringwork_core::membership::{Member, Status};
use ringwork_core::store::{KeyspaceId, Store, StoreError, Write};
use ringwork_core::wire::Kind;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, TryLockError};
use std::path::Path;

const IDENTITY_FILE_VERSION: u16 = 1;
/// The node keyspace's key under which the number of the last boot lies.
const BOOT_KEY: &[u8] = b"boot";

/// Who this data directory is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) node: NodeId,
    pub(crate) boot: Boot,
    /// The machine's boot id at the last start: tells whether unsynced writes may be lost.
    pub(crate) machine_boot: String,
    pub(crate) stopped_in_peace: bool,
    /// Whether every acknowledged write of this life was synced.
    pub(crate) synced: bool,
}

pub(crate) fn lock(directory: &Path) -> Result<File, StartError> {
    fs::create_dir_all(directory).map_err(files::io_error(directory))?;
    let path = directory.join("lock");
    let file = File::create(&path).map_err(files::io_error(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StartError::InUse(directory.to_owned())),
        Err(TryLockError::Error(source)) => Err(FileError::Io { path, source }.into()),
    }
}

/// Counts this boot in the store as well, and says which it is, and which the store had counted before. An identity
/// file that was put back from before would otherwise give a boot number, and with it message ids, a second time.
pub(crate) fn count_boot(store: &dyn Store, boot: Boot) -> Result<(Boot, Boot), StoreError> {
    let own = store.open(&KeyspaceId::Node)?;
    let kept = own.tree.get(BOOT_KEY)?;
    let kept = kept.and_then(|bytes| <[u8; 4]>::try_from(bytes.as_ref()).ok()).map_or(0, u32::from_be_bytes);
    let boot = Boot(boot.0.max(kept.saturating_add(1)));
    let value = Some(Bytes::copy_from_slice(&boot.0.to_be_bytes()));
    store.commit(&mut vec![Write { tree: own.slot, key: Bytes::from_static(BOOT_KEY), value }])?;
    Ok((boot, Boot(kept)))
}

/// Names this machine's life since it was last switched on.
pub(crate) fn machine_boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

/// What a node knows of its life before it knows who it is.
pub(crate) struct Life {
    pub(crate) machine_boot: String,
    pub(crate) synced: bool,
}

/// The identity of this life, not kept yet, and that of the life before.
pub(crate) fn identify(
    directory: Option<&Path>,
    randomness: &Randomness,
    Life { machine_boot, synced }: Life,
) -> Result<(Identity, Option<Identity>), StartError> {
    let before: Option<Identity> = match directory {
        Some(d) => files::read_whole(&d.join("identity"), Kind::Identity, IDENTITY_FILE_VERSION)?,
        None => None,
    };
    let before = match (before, directory) {
        (None, Some(directory)) => {
            if ["ring", "store", "commit-mark"].iter().any(|name| directory.join(name).exists()) {
                return Err(StartError::Missing(directory.join("identity")));
            }
            let node = NodeId::from_random(randomness.bytes().map_err(StartError::Randomness)?);
            let machine_boot = machine_boot.clone();
            // The first file of a directory: from now on whatever else is missing is missed.
            let birth = Identity { node, boot: Boot(0), machine_boot, stopped_in_peace: true, synced };
            birth.keep(directory)?;
            Some(birth)
        }
        (before, _) => before,
    };
    let node = match &before {
        Some(before) => before.node,
        None => NodeId::from_random(randomness.bytes().map_err(StartError::Randomness)?),
    };
    let boot = Boot(before.as_ref().map_or(0, |b| b.boot.0) + 1);
    if boot.0 > BOOTS_MAX {
        return Err(StartError::Boots(directory.unwrap_or(Path::new("memory")).to_owned()));
    }
    Ok((Identity { node, boot, machine_boot, stopped_in_peace: false, synced }, before))
}

/// This node as a member of the cluster that it is born with.
pub(crate) fn own_member(options: &NodeOptions, identity: &Identity) -> Result<Member, StartError> {
    let (address, location) = match &options.cluster {
        Some(cluster) => {
            let own = || cluster.listen.to_string();
            (cluster.advertise.clone().unwrap_or_else(own), cluster.location.clone())
        }
        None => ("nowhere:0".to_owned(), None),
    };
    Member::new(&options.name, &address, location.as_deref(), Status::Valid, identity.node)
        .map_err(|error| StartError::Member(error.to_string()))
}

impl Identity {
    pub(crate) fn keep(&self, directory: &Path) -> Result<(), FileError> {
        files::write_whole(&directory.join("identity"), Kind::Identity, IDENTITY_FILE_VERSION, self)
    }
}
