//! Which keyspaces a pass need not read, because nothing has changed in their directories for a while: a node may have
//! thousands of them, of which few are written at a time. It decides from the directories' times alone, and knows
//! nothing of what is in them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

/// A keyspace rests once so many passes have met its directory with one time, and read it. With one, a change within
/// the same tick of the file system's clock as the read would never be seen; passes are seconds apart.
const PASSES_UNTIL_REST: u8 = 2;

/// See the module's head.
#[derive(Default)]
pub(super) struct Rest(BTreeMap<u64, (SystemTime, u8)>);

impl Rest {
    /// Whether nothing can have changed in a keyspace since it was read. Every new version of it is a new file in its
    /// directory, so the directory's time is another then.
    pub(super) fn rests(&mut self, number: u64, folder: &Path) -> bool {
        let Ok(changed) = fs::metadata(folder).and_then(|metadata| metadata.modified()) else {
            self.0.remove(&number);
            return false;
        };
        match self.0.get_mut(&number) {
            Some((at, passes)) if *at == changed => {
                let rests = *passes >= PASSES_UNTIL_REST;
                *passes = passes.saturating_add(1);
                rests
            }
            _ => {
                self.0.insert(number, (changed, 1));
                false
            }
        }
    }

    /// Whether a keyspace that was read had nothing that was not taken note of before. Where it had, or could not be
    /// read, it is read again, however that ends.
    pub(super) fn was_read(&mut self, number: u64, nothing_new: bool) {
        if !nothing_new {
            self.0.remove(&number);
        }
    }

    /// Forgets keyspaces that are gone: a number may be given to another.
    pub(super) fn retain(&mut self, is_there: impl Fn(u64) -> bool) {
        self.0.retain(|number, _| is_there(*number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, FileTimes};
    use std::time::Duration;

    #[test]
    fn a_keyspace_rests_from_its_third_look_until_its_directory_changes() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path();
        let at = |seconds| {
            let times = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
            File::open(folder).unwrap().set_times(times).unwrap();
        };
        at(1000);
        let mut rest = Rest::default();
        let looks = |rest: &mut Rest| [1, 2, 3, 4].map(|_| rest.rests(7, folder));
        assert_eq!(looks(&mut rest), [false, false, true, true]);
        at(1001);
        assert_eq!(looks(&mut rest), [false, false, true, true], "anything later");
        at(999);
        assert_eq!(looks(&mut rest), [false, false, true, true], "anything else: clocks are set back");
        rest.was_read(7, true);
        assert_eq!(looks(&mut rest), [true; 4]);
        rest.was_read(7, false);
        assert_eq!(looks(&mut rest), [false, false, true, true], "not taken note of");
        rest.retain(|number| number != 7);
        assert_eq!(looks(&mut rest), [false, false, true, true], "another of that number");
        assert!(!rest.rests(8, &folder.join("none")) && !rest.rests(8, &folder.join("none")));
    }

    #[test]
    fn a_new_version_changes_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        File::open(directory.path()).unwrap().set_times(FileTimes::new().set_modified(old)).unwrap();
        // As the engine does it: a file for the version, and `current` replaced by a rename.
        fs::write(directory.path().join("current.new"), "v1").unwrap();
        fs::rename(directory.path().join("current.new"), directory.path().join("current")).unwrap();
        assert_ne!(fs::metadata(directory.path()).unwrap().modified().unwrap(), old);
    }
}
