//! The cluster state on disk: one file, written whole or not at all, the version before kept beside it. It decides
//! what a start finds, and how an older release's file is read.

use crate::files::{self, FileError};
use crate::start_error::StartError;
use ringwork_core::ids::{ClusterId, NodeId};
use ringwork_core::limits::RING_SIZE_MAX;
use ringwork_core::membership::{ClusterState, Member};
use ringwork_core::ring::RingSize;
use ringwork_core::wire::Kind;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

const RING_FILE_VERSION: u16 = 2;

/// Where the state is kept; none for a node that keeps nothing.
pub(crate) type RingFile = Option<PathBuf>;

/// What the first release wrote: a ring with one owner for each partition, before there were clusters.
#[derive(Serialize, Deserialize)]
struct RingV1 {
    cluster: ClusterId,
    size: RingSize,
    owners: Vec<NodeId>,
}

/// Finds the node's cluster state: the one in its file, or that of a cluster born with this node as its only member,
/// synced to the file before it is returned. A file that disagrees with `size` is an error: a ring's size is fixed
/// at its birth.
pub(crate) fn load_or_create(
    file: &RingFile,
    size: RingSize,
    node: NodeId,
    member: Member,
    cluster: impl FnOnce() -> std::io::Result<ClusterId>,
) -> Result<ClusterState, StartError> {
    let kept = match file {
        Some(path) => {
            files::read_versions(path, Kind::Ring, RING_FILE_VERSION, |version, body| match version {
                1 => {
                    let ring: RingV1 = ringwork_core::wire::codec::decode(body)?;
                    debug_assert!(ring.owners.len() <= RING_SIZE_MAX as usize);
                    Ok(ClusterState::born(ring.cluster, ring.size, node, member.clone()))
                }
                _ => ringwork_core::wire::codec::decode(body),
            })?
        }
        None => None,
    };
    if let Some(state) = kept {
        if state.size() != size {
            return Err(StartError::RingSize { configured: size, kept: state.size(), file: file.clone() });
        }
        return Ok(state);
    }
    let cluster = cluster().map_err(StartError::Randomness)?;
    let state = ClusterState::born(cluster, size, node, member);
    keep(file, &state)?;
    tracing::info!(%cluster, partitions = size.count(), "a ring was born");
    Ok(state)
}

/// Syncs the state to its file.
pub(crate) fn keep(file: &RingFile, state: &ClusterState) -> Result<(), FileError> {
    match file {
        Some(path) => files::write_whole(path, Kind::Ring, RING_FILE_VERSION, state),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringwork_core::membership::Status;

    #[test]
    fn the_first_releases_ring_becomes_a_cluster_of_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ring");
        let (me, cluster) = (NodeId([1; 16]), ClusterId([2; 16]));
        let size = RingSize::try_from(8).unwrap();
        let old = RingV1 { cluster, size, owners: vec![me; 8] };
        files::write_whole(&path, Kind::Ring, 1, &old).unwrap();
        let member = Member::new("n1", "127.0.0.1:1", None, Status::Valid, me).unwrap();
        let state =
            load_or_create(&Some(path), size, me, member, || unreachable!("there is a ring")).unwrap();
        assert_eq!((state.cluster(), state.held_by(me).count()), (cluster, 8));
    }
}
