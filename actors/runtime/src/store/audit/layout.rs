//! What the engine's own files say about a keyspace: which version `current` names, and which tables that version
//! lists. It reads, and believes nothing that it cannot parse.

use super::Print;
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// The engine's `current`: number of a version, check of its file (16 bytes), kind of check.
pub(super) const CURRENT_BYTES: usize = 25;

/// Why a keyspace's layout cannot be told.
pub(super) enum Unknown {
    /// `current` is not there.
    NoCurrent,
    Damaged(PathBuf, String),
    Io(PathBuf, io::Error),
}

/// What `current` and the version file it names say about a keyspace.
pub(super) struct Layout {
    pub(super) version: u64,
    pub(super) current_crc32: u32,
    pub(super) version_path: PathBuf,
    pub(super) version_file: Print,
    pub(super) tables: BTreeSet<u64>,
}

impl Layout {
    pub(super) fn read(folder: &Path) -> Result<Self, Unknown> {
        let current_path = folder.join("current");
        let current = fs::read(&current_path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Unknown::NoCurrent,
            _ => Unknown::Io(current_path.clone(), error),
        })?;
        let number = current.first_chunk::<8>().filter(|_| current.len() == CURRENT_BYTES);
        let Some(version) = number.map(|bytes| u64::from_le_bytes(*bytes)) else {
            let what = format!("is damaged: it has {} bytes instead of {CURRENT_BYTES}", current.len());
            return Err(Unknown::Damaged(current_path, what));
        };
        let version_path = folder.join(format!("v{version}"));
        let bytes = fs::read(&version_path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                let what =
                    format!("names {}, which is missing: one of them is damaged", version_path.display());
                Unknown::Damaged(current_path, what)
            }
            _ => Unknown::Io(version_path.clone(), error),
        })?;
        match listed_tables(&bytes) {
            Some(tables) => Ok(Self {
                version,
                current_crc32: crc32fast::hash(&current),
                version_path,
                version_file: Print::of(&bytes),
                tables: tables.into_iter().collect(),
            }),
            None => {
                Err(Unknown::Damaged(version_path, "is damaged: its list of tables is unreadable".into()))
            }
        }
    }
}

/// The tables that a version file lists; none when it is not one. The file is an archive of named sections
/// with a table of contents near its end.
pub(super) fn listed_tables(bytes: &[u8]) -> Option<Vec<u64>> {
    const TRAILER_BYTES: usize = 38;
    let mut trailer = Cursor(bytes.get(bytes.len().checked_sub(TRAILER_BYTES)?..)?);
    if trailer.take(4)? != b"SFA!" {
        return None;
    }
    trailer.take(1 + 1 + 16)?; // version, kind of check, check of the contents
    let mut contents = Cursor(bytes.get(usize::try_from(trailer.u64()?).ok()?..)?);
    if contents.take(4)? != b"TOC!" {
        return None;
    }
    for _ in 0..contents.u32()? {
        let (start, length) =
            (usize::try_from(contents.u64()?).ok()?, usize::try_from(contents.u64()?).ok()?);
        let name_length = usize::from(contents.u16()?);
        if contents.take(name_length)? == b"tables" {
            return table_numbers(Cursor(bytes.get(start..start.checked_add(length)?)?));
        }
    }
    None
}

/// Levels hold runs, runs hold tables.
fn table_numbers(mut section: Cursor<'_>) -> Option<Vec<u64>> {
    let mut numbers = Vec::new();
    for _ in 0..section.u8()? {
        for _ in 0..section.u8()? {
            for _ in 0..section.u32()? {
                numbers.push(section.u64()?);
                section.take(1 + 16 + 8)?; // kind of check, check, sequence number
            }
        }
    }
    section.0.is_empty().then_some(numbers)
}

/// Little-endian numbers from the front of a slice; none when it ends.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.first_chunk().copied()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}
