//! The metadata on disk: one file, written whole or not at all, the version before kept beside it. It decides what a
//! start finds.

use crate::files::{self, FileError};
use ringwork_core::ids::ClusterId;
use ringwork_core::metadata::Metadata;
use ringwork_core::wire::Kind;
use std::path::PathBuf;

const METADATA_FILE_VERSION: u16 = 1;

/// Where it is kept; none for a node that keeps nothing.
pub(crate) type MetadataFile = Option<PathBuf>;

/// What the file has; nothing where there is none, as in a directory of an earlier release, and nothing of another
/// cluster, which this node was a member of before it joined its present one. A damaged file is an error.
pub(crate) fn load(file: &MetadataFile, cluster: ClusterId) -> Result<Metadata, FileError> {
    let kept: Option<Metadata> = match file {
        Some(path) => files::read_whole(path, Kind::Metadata, METADATA_FILE_VERSION)?,
        None => None,
    };
    let of_here = kept.filter(|metadata| metadata.cluster() == cluster);
    Ok(of_here.unwrap_or_else(|| Metadata::new(cluster)))
}

/// Syncs the metadata to its file.
pub(crate) fn keep(file: &MetadataFile, metadata: &Metadata) -> Result<(), FileError> {
    match file {
        Some(path) => files::write_whole(path, Kind::Metadata, METADATA_FILE_VERSION, metadata),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringwork_core::clock::hybrid::HybridTime;
    use ringwork_core::ids::NodeId;
    use ringwork_core::metadata::{At, NamespaceName};

    #[test]
    fn what_was_kept_is_found_again_and_a_damaged_file_is_named_with_the_way_out() {
        let directory = tempfile::tempdir().unwrap();
        let file = Some(directory.path().join("metadata"));
        let (cluster, other) = (ClusterId([1; 16]), ClusterId([2; 16]));
        let mut metadata = load(&file, cluster).unwrap();
        assert_eq!(metadata, Metadata::new(cluster));
        let now = HybridTime::at_ms(1);
        let at = At { life: metadata.begin_life(NodeId([3; 16]), now), now };
        metadata.put(&NamespaceName::try_from("settings").unwrap(), "k", vec![1], at).unwrap();
        keep(&file, &metadata).unwrap();
        assert_eq!(load(&file, cluster).unwrap(), metadata);
        assert_eq!(load(&file, other).unwrap(), Metadata::new(other), "two clusters never mix");
        let path = file.clone().unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let message = load(&file, cluster).unwrap_err().to_string();
        assert!(message.contains("metadata is damaged") && message.contains("Way out"), "{message}");
    }
}
