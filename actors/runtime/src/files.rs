//! Small files that must be whole or not be: identity and ring. Written to a temporary name, synced, renamed,
//! and the directory synced; the version before is kept beside. A file that does not open is an error that
//! says which file and what to do, never a silent new beginning.

use ringwork_core::wire::{self, Kind, WireError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, IntoInnerError, Read, Write as _};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Larger files than this are none of ours: a ring of 65 536 partitions takes about 1.2 MB.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A file that could not be read or written. What was there before is still there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is there but is not what was written.
    #[error(
        "{} is damaged ({reason}). Way out: restore it from a backup, or put the version before it in place \
         (mv {}.previous {}) if there is one", path.display(), path.display(), path.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: WireError,
    },
    /// It was written by a release that knows more.
    #[error(
        "{} has version {version}, which this release of ringwork does not know: start a newer one",
        path.display()
    )]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its version.
        version: u16,
    },
}

/// What a path's operating-system error is about.
pub fn io_error(path: &Path) -> impl FnOnce(io::Error) -> FileError + '_ {
    move |source| FileError::Io { path: path.to_owned(), source }
}

/// Writes `value` to `path`, whole or not at all, and keeps what was there as `path.previous`.
pub fn write_whole<T: Serialize>(path: &Path, kind: Kind, version: u16, value: &T) -> Result<(), FileError> {
    let (next, previous) = (with_suffix(path, "next"), with_suffix(path, "previous"));
    let mut file = BufWriter::new(File::create(&next).map_err(io_error(&next))?);
    let mut written = Ok(());
    let mut write = |piece: &[u8]| {
        if written.is_ok() {
            written = file.write_all(piece);
        }
    };
    wire::seal_in_pieces(kind, version, value, &mut write)
        .map_err(|reason| FileError::Damaged { path: path.to_owned(), reason })?;
    let synced = written.and_then(|()| file.into_inner().map_err(IntoInnerError::into_error)?.sync_all());
    synced.map_err(io_error(&next))?;
    if path.exists() {
        // A hard link, so that there is no moment without a file under the real name.
        let _ = fs::remove_file(&previous);
        fs::hard_link(path, &previous).map_err(io_error(&previous))?;
    }
    fs::rename(&next, path).map_err(io_error(path))?;
    let directory = path.parent().unwrap_or(Path::new("."));
    File::open(directory).and_then(|d| d.sync_all()).map_err(io_error(directory))
}

/// Reads what [`write_whole`] wrote; none when there is no such file.
pub fn read_whole<T: DeserializeOwned>(
    path: &Path,
    kind: Kind,
    version: u16,
) -> Result<Option<T>, FileError> {
    read_versions(path, kind, version, |_, body| wire::codec::decode(body))
}

/// As [`read_whole`], for a file of whose layout there are several versions up to `newest`: `decode` gets the
/// version and the body.
pub fn read_versions<T>(
    path: &Path,
    kind: Kind,
    newest: u16,
    decode: impl FnOnce(u16, &[u8]) -> Result<T, WireError>,
) -> Result<Option<T>, FileError> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(path)(error)),
    };
    let damaged = |reason| FileError::Damaged { path: path.to_owned(), reason };
    let length = file.metadata().map_err(io_error(path))?.len();
    if length > FILE_BYTES_MAX {
        return Err(damaged(WireError::TooLarge { limit: FILE_BYTES_MAX as usize, found: length as usize }));
    }
    let mut bytes = Vec::with_capacity(length as usize);
    Read::by_ref(&mut file).take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(io_error(path))?;
    let (found, body) = wire::open(kind, &bytes).map_err(damaged)?;
    if found > newest {
        return Err(FileError::Newer { path: path.to_owned(), version: found });
    }
    decode(found, body).map(Some).map_err(damaged)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

/// One number in a file of its own, overwritten in place and never synced: it survives the process, not the
/// machine. Number and check of it, 16 bytes.
pub struct NumberFile {
    path: PathBuf,
    file: File,
    value: Option<u64>,
}

impl NumberFile {
    /// Opens or creates the file. Content that does not check counts as none.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let mut options = OpenOptions::new();
        let file =
            options.read(true).write(true).create(true).truncate(false).open(path).map_err(io_error(path))?;
        let mut bytes = [0u8; 16];
        let whole = file.read_exact_at(&mut bytes, 0).is_ok();
        let (value, check) = bytes.split_at(8);
        let value = u64::from_be_bytes(value.try_into().unwrap_or_default());
        let good = whole && check == (!value).to_be_bytes();
        Ok(Self { path: path.to_owned(), file, value: good.then_some(value) })
    }

    /// The number as it was when the file was opened or last set.
    pub fn value(&self) -> Option<u64> {
        self.value
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Overwrites the number.
    pub fn set(&mut self, value: u64) -> Result<(), FileError> {
        let mut bytes = [0u8; 16];
        bytes[..8].copy_from_slice(&value.to_be_bytes());
        bytes[8..].copy_from_slice(&(!value).to_be_bytes());
        self.file.write_all_at(&bytes, 0).map_err(io_error(&self.path))?;
        self.value = Some(value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_back_and_the_one_before_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ring");
        assert!(read_whole::<u32>(&path, Kind::Ring, 1).unwrap().is_none());
        write_whole(&path, Kind::Ring, 1, &7u32).unwrap();
        write_whole(&path, Kind::Ring, 1, &8u32).unwrap();
        assert_eq!(read_whole::<u32>(&path, Kind::Ring, 1).unwrap(), Some(8));
        assert_eq!(read_whole::<u32>(&with_suffix(&path, "previous"), Kind::Ring, 1).unwrap(), Some(7));
    }

    #[test]
    fn a_damaged_file_is_named_together_with_the_way_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ring");
        write_whole(&path, Kind::Ring, 1, &vec![1u64, 2, 3]).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let message = read_whole::<Vec<u64>>(&path, Kind::Ring, 1).unwrap_err().to_string();
        assert!(message.contains("ring is damaged") && message.contains("Way out"), "{message}");
        write_whole(&path, Kind::Ring, 2, &1u64).unwrap();
        let message = read_whole::<u64>(&path, Kind::Ring, 1).unwrap_err().to_string();
        assert!(message.contains("newer"), "{message}");
    }

    #[test]
    fn a_number_survives_and_a_torn_one_counts_as_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mark");
        NumberFile::open(&path).unwrap().set(41).unwrap();
        assert_eq!(NumberFile::open(&path).unwrap().value(), Some(41));
        fs::write(&path, [1u8; 9]).unwrap();
        assert_eq!(NumberFile::open(&path).unwrap().value(), None);
    }
}
