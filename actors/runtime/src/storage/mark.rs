//! The number of the last commit, kept beside the database. It decides whether a store that was opened has lost
//! commits which it cannot have lost by itself. It does not know when anything is committed.

use ringwork_core::store::StoreError;

/// A file beside the database with the number of the last commit that this process made. Not synced: it
/// outlives the process like the journal's own tail, and after a loss of power an older number only makes the
/// check weaker. See [`crate::files`] for how the file is laid out.
pub struct CommitMark {
    file: crate::files::NumberFile,
    boot_unchanged: bool,
}

impl CommitMark {
    /// The mark in `file`. `boot_unchanged`: the machine has not been restarted since it was written, so even
    /// commits that were never synced must be there.
    pub fn new(file: crate::files::NumberFile, boot_unchanged: bool) -> Self {
        Self { file, boot_unchanged }
    }

    /// Whether a store whose last commit has this number has lost some that were marked, or has some although none was
    /// marked ever: then the mark is not of this store's last life.
    pub(crate) fn is_not_of(&self, number: u64) -> bool {
        self.file.value().map_or(number > 0, |marked| number < marked)
    }

    pub(super) fn check(&mut self, number: u64) -> Result<(), StoreError> {
        match self.file.value() {
            // The machine has lost them, which is lawful, and they will never come: the next life of this process must
            // not miss them, even if this one ends before its first commit.
            Some(marked) if !self.boot_unchanged && number < marked => {
                self.file.set(number).map_err(|e| StoreError::Broken(e.to_string()))
            }
            Some(marked) if self.boot_unchanged && number < marked => {
                let mark = self.file.path();
                let data = mark.parent().unwrap_or(mark).display();
                Err(StoreError::Damaged(format!(
                    "the journal is damaged: the store ends at commit {number}, but commit {marked} was \
                     acknowledged. Way out: restore {data} from a backup; or, when other nodes hold replicas of \
                     its data, move {data}/store away and start the node with --rebuild, which fetches its data \
                     from them; or go on without what was written after the damage: remove {}",
                    mark.display()
                )))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn advance(&mut self, number: u64) -> Result<(), StoreError> {
        self.file.set(number).map_err(|e| StoreError::Broken(e.to_string()))
    }
}
