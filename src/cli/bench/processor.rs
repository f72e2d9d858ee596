//! How much CPU time processes of this machine have used, out of `/proc`. It decides what is believed of
//! those files, and what cannot be known. It does not know which process is a node: the node says its number.

use crate::cli::client::{NodeClient, NodeUrl};
use std::collections::BTreeSet;
use std::time::Duration;

/// The unit of the times in `/proc/<pid>/stat`. It is a constant of Linux's interface (USER_HZ) on all the
/// machines that ringwork is built for, whatever the kernel's own tick is.
const TICKS_PER_SECOND: u64 = 100;

/// CPU time in user and kernel mode of a process with all its threads, or why it is not known.
fn process_time(process: &str) -> Result<Duration, String> {
    let path = format!("/proc/{process}/stat");
    let bytes = std::fs::read(&path).map_err(|error| format!("cannot read {path}: {}", error.kind()))?;
    parse_stat(&bytes).ok_or_else(|| format!("{path} is not written as expected"))
}

/// Reads utime and stime, the fields 14 and 15. The name in field 2 may hold blanks, parentheses and any
/// other byte, so the fields are counted from the last closing parenthesis.
fn parse_stat(bytes: &[u8]) -> Option<Duration> {
    let name_end = bytes.iter().rposition(|byte| *byte == b')')?;
    let fields = std::str::from_utf8(bytes.get(name_end + 1..)?).ok()?;
    // Field 3, the state, is the first after the name.
    let mut fields = fields.split_ascii_whitespace().skip(14 - 3);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let ticks = user.checked_add(system)?;
    Some(Duration::from_millis(ticks.checked_mul(1000 / TICKS_PER_SECOND)?))
}

/// CPU time of this process.
pub(super) fn own_time() -> Option<Duration> {
    process_time("self").ok()
}

/// The processes behind some URLs, each once.
#[derive(Debug, Clone)]
pub(super) struct Processes(Result<BTreeSet<u32>, String>);

impl Processes {
    /// Asks each node for the number of its process.
    pub(super) async fn of(urls: &[(NodeUrl, NodeClient)]) -> Self {
        let mut numbers = BTreeSet::new();
        for (url, client) in urls {
            if !url.is_loopback() {
                return Self(Err(format!("{} is another machine", url.authority())));
            }
            let number = match client.get("/admin/status").await {
                Ok(status) => status.get("pid").and_then(serde_json::Value::as_u64),
                Err(error) => return Self(Err(error.to_string())),
            };
            let Some(number) = number.and_then(|number| u32::try_from(number).ok()) else {
                return Self(Err(format!("{} does not say its process number", url.authority())));
            };
            numbers.insert(number);
        }
        Self(Ok(numbers))
    }

    /// What they have used together since they started.
    pub(super) fn time(&self) -> Result<Duration, String> {
        self.0.as_ref().map_err(Clone::clone)?.iter().map(|number| process_time(&number.to_string())).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stat(name: &str, user: u64, system: u64) -> Vec<u8> {
        format!("4711 ({name}) S 1 2 3 0 -1 4194560 5 0 0 0 {user} {system} 0 0 20 0 9 0 100 0 0\n")
            .into_bytes()
    }

    #[test]
    fn user_and_system_time_are_added() {
        assert_eq!(parse_stat(&stat("ringwork", 150, 25)), Some(Duration::from_millis(1750)));
    }

    #[test]
    fn a_name_that_looks_like_fields_deceives_nobody() {
        for name in ["a b", ") S 1 2 3", "((", "a) R 9 9 9 (b", "", "\u{fffd}"] {
            assert_eq!(parse_stat(&stat(name, 1, 2)), Some(Duration::from_millis(30)), "{name}");
        }
        let mut bytes = b"1 (\xff\xfe".to_vec();
        bytes.extend_from_slice(&stat("", 1, 2)[6..]);
        assert_eq!(parse_stat(&bytes), Some(Duration::from_millis(30)));
    }

    #[test]
    fn what_is_not_a_stat_line_is_nothing() {
        for text in ["", ")", "1 (a) S 1 2", "1 (a) S 1 2 3 4 5 6 7 8 9 10 x y"] {
            assert_eq!(parse_stat(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse_stat(&stat("a", u64::MAX, 1)), None);
    }

    #[test]
    fn our_own_time_and_that_of_a_process_that_is_not_there() {
        assert!(own_time().is_some());
        assert!(process_time("4294967295").unwrap_err().contains("cannot read /proc/4294967295/stat"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse_stat(&bytes);
        }
    }
}
