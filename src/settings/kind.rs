//! What a setting takes: its type, its range, the words that say so to an operator, and the check of one
//! given value against them. It does not know which settings exist, nor how their values relate.

use super::endpoint::is_endpoint;
use super::problem::quoted;
use super::values::{QuorumSetting, Rate, RetentionAge, Size, Span};
use config::ValueKind;
use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;

/// Characters of a node's name: it stands in log lines, tables and on command lines.
pub const NODE_NAME_CHARACTERS_MAX: usize = 64;
/// Characters of a location: a rack's or a room's name, which stands in tables.
pub const LOCATION_CHARACTERS_MAX: usize = 64;
/// Bytes of a path: what Linux takes at most.
pub const PATH_BYTES_MAX: usize = 4096;
/// Bytes of a log filter: far more than anyone writes by hand, and compiling one costs with its length.
pub const LOG_FILTER_BYTES_MAX: usize = 1024;

/// Items of a wrong list that are told: one of them is enough to find the place.
const LIST_ITEMS_SHOWN_MAX: usize = 3;

/// What a setting takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A node's name.
    Name,
    /// A location's name, or nothing.
    Location,
    /// A path of the file system, not looked at here: it may not exist yet.
    Path,
    /// An IP address and a port.
    Address,
    /// A host, by name or address, and a port; or nothing.
    Endpoint,
    /// Such hosts and ports, each once.
    Endpoints {
        /// The most allowed.
        max: usize,
    },
    /// A directive for the log filter.
    LogFilter,
    /// One of a few words.
    Choice(&'static [&'static str]),
    /// A whole number.
    Count {
        /// The smallest allowed.
        min: u64,
        /// The largest allowed.
        max: u64,
    },
    /// A power of two.
    PowerOfTwo {
        /// The smallest allowed.
        min: u64,
        /// The largest allowed.
        max: u64,
    },
    /// A duration.
    Span {
        /// The shortest allowed.
        min: Span,
        /// The longest allowed.
        max: Span,
    },
    /// A duration, or `forever`.
    Age {
        /// The shortest allowed.
        min: Span,
        /// The longest allowed besides `forever`.
        max: Span,
    },
    /// A number of bytes.
    Size {
        /// The smallest allowed.
        min: Size,
        /// The largest allowed.
        max: Size,
    },
    /// A number of bytes a second, or `none`.
    Rate {
        /// The slowest allowed.
        min: Size,
        /// The fastest allowed besides `none`.
        max: Size,
    },
    /// A number of replicas, or a word for one.
    Quorum {
        /// The largest number allowed.
        max: u64,
    },
}

/// A value as somebody wrote it, before anything is known of it.
pub(super) enum Given {
    /// A whole number in a file.
    Integer(i64),
    /// A string in a file.
    Text(String),
    /// A value of the environment or of a flag, where numbers and words look alike.
    Untyped(String),
    /// A list of strings in a file.
    List(Vec<String>),
    /// Anything that no setting takes; says what it is.
    Other(&'static str),
}

impl Given {
    fn integer(&self) -> Option<u64> {
        match self {
            Self::Integer(number) => u64::try_from(*number).ok(),
            Self::Untyped(text) => text.parse().ok(),
            Self::Text(_) | Self::List(_) | Self::Other(_) => None,
        }
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Untyped(text) => Some(text),
            Self::Integer(_) | Self::List(_) | Self::Other(_) => None,
        }
    }

    /// The items of a list, which the environment and flags write with commas between.
    fn list(&self) -> Option<Vec<&str>> {
        match self {
            Self::List(items) => Some(items.iter().map(String::as_str).collect()),
            Self::Untyped(text) if text.is_empty() => Some(Vec::new()),
            Self::Untyped(text) => Some(text.split(',').collect()),
            Self::Text(_) | Self::Integer(_) | Self::Other(_) => None,
        }
    }
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => number.fmt(f),
            Self::Untyped(text) if text.parse::<i64>().is_ok() => f.write_str(text),
            Self::Text(text) | Self::Untyped(text) => f.write_str(&quoted(text)),
            Self::List(items) => {
                let shown: Vec<_> =
                    items.iter().take(LIST_ITEMS_SHOWN_MAX).map(|item| quoted(item)).collect();
                let rest = if items.len() > LIST_ITEMS_SHOWN_MAX { ", …" } else { "" };
                write!(f, "[{}{rest}]", shown.join(", "))
            }
            Self::Other(what) => f.write_str(what),
        }
    }
}

impl Kind {
    /// The value in the one form in which the settings' own types read it, or nothing if it is not allowed.
    /// The `config` crate would also round fractions and read `yes` as 1; strictness here keeps that out.
    pub(super) fn accept(&self, given: &Given) -> Option<ValueKind> {
        match self {
            Self::Name => given.text().filter(|name| is_node_name(name)).map(ValueKind::from),
            Self::Location => given.text().filter(|location| is_location(location)).map(ValueKind::from),
            Self::Path => given.text().filter(|path| is_path(path)).map(ValueKind::from),
            Self::Address => parsed::<SocketAddr>(given).map(|address| address.to_string().into()),
            Self::Endpoint => {
                given.text().filter(|text| text.is_empty() || is_endpoint(text)).map(ValueKind::from)
            }
            Self::Endpoints { max } => {
                let items = given.list()?;
                let distinct: BTreeSet<_> = items.iter().collect();
                let right = items.len() <= *max
                    && distinct.len() == items.len()
                    && items.iter().all(|item| is_endpoint(item));
                right.then(|| ValueKind::from(items.into_iter().map(str::to_owned).collect::<Vec<_>>()))
            }
            Self::LogFilter => given.text().filter(|filter| is_log_filter(filter)).map(ValueKind::from),
            Self::Choice(words) => given.text().filter(|word| words.contains(word)).map(ValueKind::from),
            Self::Count { min, max } => in_range(given, *min, *max),
            Self::PowerOfTwo { min, max } => {
                in_range(given, *min, *max).filter(|_| given.integer().is_some_and(u64::is_power_of_two))
            }
            Self::Span { min, max } => parsed::<Span>(given)
                .filter(|span| (min..=max).contains(&span))
                .map(|span| span.to_string().into()),
            Self::Age { min, max } => parsed::<RetentionAge>(given)
                .filter(|age| age.limit().is_none_or(|span| (*min..=*max).contains(&span)))
                .map(|age| age.to_string().into()),
            Self::Size { min, max } => parsed::<Size>(given)
                .filter(|size| (min..=max).contains(&size))
                .map(|size| size.to_string().into()),
            Self::Rate { min, max } => parsed::<Rate>(given)
                .filter(|rate| {
                    rate.bytes_per_second().is_none_or(|bytes| (min.bytes()..=max.bytes()).contains(&bytes))
                })
                .map(|rate| rate.to_string().into()),
            Self::Quorum { max } => match parsed::<QuorumSetting>(given) {
                Some(QuorumSetting::Count(count)) => in_range(&Given::Untyped(count.to_string()), 1, *max),
                Some(word) => Some(word.to_string().into()),
                None => in_range(given, 1, *max),
            },
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => write!(
                f,
                "1 to {NODE_NAME_CHARACTERS_MAX} letters, digits, dots, underscores and hyphens, \
                 beginning with a letter or digit"
            ),
            Self::Location => write!(
                f,
                "up to {LOCATION_CHARACTERS_MAX} characters without control characters, not beginning or \
                 ending with a space; or nothing"
            ),
            Self::Path => f.write_str("a path that is not empty, as a string"),
            Self::Address => f.write_str("an IP address and a port, such as 127.0.0.1:8098 or [::1]:8098"),
            Self::Endpoint => f.write_str(
                "a host that others can reach and a port, such as 10.0.0.1:8099 or n1.example:8099; or nothing",
            ),
            Self::Endpoints { max } => write!(
                f,
                "up to {max} different hosts with ports, such as 10.0.0.1:8099: a list of strings in a file, \
                 with commas between elsewhere"
            ),
            Self::LogFilter => {
                f.write_str("a log filter without spaces, such as info or info,ringwork=debug")
            }
            Self::Choice(words) => match words.split_last() {
                Some((last, others)) => write!(f, "{} or {last}", others.join(", ")),
                None => f.write_str("nothing"),
            },
            Self::Count { min, max } => write!(f, "a whole number from {min} to {max}"),
            Self::PowerOfTwo { min, max } => write!(f, "a power of two from {min} to {max}"),
            Self::Span { min, max } => write!(f, "a duration from {min} to {max}, written like 500ms or 1s"),
            Self::Age { min, max } => {
                write!(f, "forever, or a duration from {min} to {max}, written like 30d")
            }
            Self::Size { min, max } => write!(f, "a size from {min} to {max}, written like 64KiB or 1MiB"),
            Self::Rate { min, max } => {
                write!(f, "none, or a size a second from {min} to {max}, written like 64MiB")
            }
            Self::Quorum { max } => write!(f, "a whole number from 1 to {max}, or one, quorum or all"),
        }
    }
}

fn parsed<T: std::str::FromStr>(given: &Given) -> Option<T> {
    given.text()?.parse().ok()
}

fn in_range(given: &Given, min: u64, max: u64) -> Option<ValueKind> {
    let number = given.integer().filter(|number| (min..=max).contains(number))?;
    i64::try_from(number).ok().map(ValueKind::I64)
}

fn is_node_name(name: &str) -> bool {
    // A hyphen in front would be taken for a flag where the command line asks for a node, and a name of dots
    // for a directory.
    name.len() <= NODE_NAME_CHARACTERS_MAX
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// Whether a location may be called so.
fn is_location(location: &str) -> bool {
    location.chars().count() <= LOCATION_CHARACTERS_MAX
        && location.trim() == location
        && !location.contains(char::is_control)
}

fn is_path(path: &str) -> bool {
    !path.trim().is_empty() && path.len() <= PATH_BYTES_MAX && !path.contains('\0')
}

fn is_log_filter(filter: &str) -> bool {
    // tracing-subscriber 0.3.23 counts from the first character that is not a space but cuts from the very
    // first: behind a space it takes `info` for the name of a module, and beside letters such as ä it panics.
    filter.bytes().all(|byte| byte.is_ascii_graphic())
        && (1..=LOG_FILTER_BYTES_MAX).contains(&filter.len())
        && tracing_subscriber::EnvFilter::try_new(filter).is_ok()
}
