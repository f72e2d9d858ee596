//! A start in which the store is gone and is not missed: the node keeps its identity, begins with an empty store, and
//! fetches what it holds from the other replicas. It decides what has to be there for that and what may not, and sees
//! that a rebuild that was cut short is one at the next start too. What is fetched from whom it does not know.

use crate::files::io_error;
use crate::start_error::StartError;
use std::fs::{self, File};
use std::path::Path;

/// Is there while it is not on disk yet which partitions are lacking.
const MARKER: &str = "rebuilding";

/// Whether this start is a rebuild: because it is `asked` for, or because an earlier one was not finished. Makes the
/// directory ready for it.
pub(crate) fn prepare(directory: &Path, asked: bool) -> Result<bool, StartError> {
    let marker = directory.join(MARKER);
    if marker.exists() {
        forget_commits(directory)?;
        return Ok(true);
    }
    if !asked {
        return Ok(false);
    }
    if !directory.join("identity").exists() {
        return Err(StartError::NoIdentity(directory.to_owned()));
    }
    let store = directory.join("store");
    if fs::read_dir(&store).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(StartError::StoreInTheWay(store));
    }
    File::create(&marker).and_then(|file| file.sync_all()).map_err(io_error(&marker))?;
    sync(directory)?;
    forget_commits(directory)?;
    Ok(true)
}

/// The mark counts the commits of the store that is gone.
fn forget_commits(directory: &Path) -> Result<(), StartError> {
    let commits = directory.join("commit-mark");
    match fs::remove_file(&commits) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io_error(&commits)(error).into()),
        _ => Ok(()),
    }
}

/// It is on disk which partitions are lacking: from now on a start is one like any other.
pub(crate) fn prepared(directory: &Path) -> Result<(), StartError> {
    let marker = directory.join(MARKER);
    fs::remove_file(&marker).map_err(io_error(&marker))?;
    sync(directory)
}

fn sync(directory: &Path) -> Result<(), StartError> {
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(io_error(directory))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rebuild_needs_an_identity_and_no_store_and_is_one_until_it_is_prepared() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        assert!(!prepare(path, false).unwrap());
        assert!(matches!(prepare(path, true), Err(StartError::NoIdentity(_))));
        fs::write(path.join("identity"), "who").unwrap();
        fs::write(path.join("commit-mark"), "7").unwrap();
        fs::create_dir(path.join("store")).unwrap();
        fs::write(path.join("store").join("version"), "1").unwrap();
        assert!(matches!(prepare(path, true), Err(StartError::StoreInTheWay(_))));
        assert!(path.join("commit-mark").exists(), "a refusal changes nothing");
        fs::remove_file(path.join("store").join("version")).unwrap();
        assert!(prepare(path, true).unwrap());
        assert!(!path.join("commit-mark").exists());
        fs::write(path.join("commit-mark"), "7").unwrap();
        assert!(prepare(path, false).unwrap(), "cut short, it goes on");
        assert!(!path.join("commit-mark").exists(), "wherever it was cut");
        prepared(path).unwrap();
        assert!(!prepare(path, false).unwrap());
    }
}
