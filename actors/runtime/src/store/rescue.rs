//! The journals as they were before the engine opened them. The engine cuts a journal at the first byte that it
//! cannot read, in place, and says so only in its debug log; whether that was an unfinished last write or damage in
//! the middle is found out afterwards (by the commit mark). By then the rest would be gone, so it is set aside
//! first. It decides nothing about what is damaged.

use crate::files::{FileError, io_error};
use crate::store::disk::way_out;
use ringwork_core::store::StoreError;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const CHUNK_BYTES: usize = 1024 * 1024;

/// Copies of a store's journals, beside it, until the start has succeeded.
pub struct JournalRescue {
    store: PathBuf,
    copies: PathBuf,
}

impl JournalRescue {
    /// Sets the journals of the store in `directory` aside, in `<directory>.rescue`. Copies that are there from an
    /// earlier start stay as they are: they were made before that start changed anything.
    pub fn begin(directory: &Path) -> Result<Self, FileError> {
        let mut name = directory.as_os_str().to_owned();
        name.push(".rescue");
        let copies = PathBuf::from(name);
        if !copies.exists() {
            let unfinished = copies.with_extension("rescue-unfinished");
            let _ = fs::remove_dir_all(&unfinished);
            fs::create_dir_all(&unfinished).map_err(io_error(&unfinished))?;
            for journal in journals(directory) {
                if let Some(name) = journal.file_name() {
                    copy_sparse(&journal, &unfinished.join(name))?;
                }
            }
            fs::rename(&unfinished, &copies).map_err(io_error(&copies))?;
        }
        Ok(Self { store: directory.to_owned(), copies })
    }

    /// Whose journals.
    pub fn store(&self) -> &Path {
        &self.store
    }

    /// Where the copies lie.
    pub fn path(&self) -> &Path {
        &self.copies
    }

    /// The start has succeeded: nothing was cut that should be there.
    pub fn done(self) {
        if let Err(error) = fs::remove_dir_all(&self.copies) {
            tracing::warn!(path = %self.copies.display(), %error, "copies of journals could not be removed");
        }
    }
}

/// The journal files of the store in `directory`, oldest first.
pub(crate) fn journals(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut numbered: Vec<(u64, PathBuf)> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "jnl"))
        .filter_map(|path| Some((path.file_stem()?.to_str()?.parse().ok()?, path)))
        .collect();
    numbered.sort();
    numbered.into_iter().map(|(_, path)| path).collect()
}

/// Journals are allocated ahead and mostly zeros: these become holes.
fn copy_sparse(from: &Path, to: &Path) -> Result<(), FileError> {
    let mut source = File::open(from).map_err(io_error(from))?;
    let mut target = File::create(to).map_err(io_error(to))?;
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut length: u64 = 0;
    loop {
        let read = source.read(&mut buffer).map_err(io_error(from))?;
        let Some(chunk) = buffer.get(..read).filter(|chunk| !chunk.is_empty()) else { break };
        if chunk.iter().any(|byte| *byte != 0) {
            target.seek(SeekFrom::Start(length)).map_err(io_error(to))?;
            target.write_all(chunk).map_err(io_error(to))?;
        }
        length += read as u64;
    }
    target.set_len(length).map_err(io_error(to))
}

/// Adds to an error about damage where the journals are kept as they were, and the way out where it has none.
pub(crate) fn with_rescue(error: StoreError, rescue: Option<&JournalRescue>) -> StoreError {
    let (StoreError::Damaged(text), Some(rescue)) = (&error, rescue) else { return error };
    let store = rescue.store().display().to_string();
    let mut text = text.replace("the journal is damaged", &format!("the journal in {store} is damaged"));
    if !text.contains("Way out") {
        text = format!("{text}. {}", way_out(rescue.store()));
    }
    text.push_str(&format!(
        " (the journals as they were before this start are kept in {})",
        rescue.path().display()
    ));
    StoreError::Damaged(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn journals_are_set_aside_once_and_removed_when_all_is_well() {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("store");
        fs::create_dir_all(&store).unwrap();
        let mut content = vec![0u8; 3 * CHUNK_BYTES + 17];
        content[5] = 1;
        content[2 * CHUNK_BYTES + 9] = 2;
        fs::write(store.join("4.jnl"), &content).unwrap();
        fs::write(store.join("version"), "x").unwrap();
        let rescue = JournalRescue::begin(&store).unwrap();
        assert_eq!(fs::read(rescue.path().join("4.jnl")).unwrap(), content);
        assert!(!rescue.path().join("version").exists());
        fs::write(store.join("4.jnl"), "cut").unwrap();
        let again = JournalRescue::begin(&store).unwrap();
        assert_eq!(fs::read(again.path().join("4.jnl")).unwrap(), content, "the first copy stays");
        again.done();
        assert!(!rescue.path().exists());
    }
}
