//! The kinds of value a setting can have beyond numbers and words: durations, sizes, quorums, choices. Each
//! is read from text, printed in the form it is read, and exact: what is printed reads back as the same
//! value. It does not know which setting uses which, nor the range a setting allows.

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A text that is not a value of the wanted kind. Nothing was changed; it says what would have been right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub struct ValueError {
    /// What would have been right, with an example.
    pub expected: &'static str,
}

const EXPECTED_SPAN: ValueError =
    ValueError { expected: "a whole number and ms, s, m, h or d, such as 500ms or 1s" };
const EXPECTED_SIZE: ValueError =
    ValueError { expected: "a whole number and B, KiB, MiB, GiB or TiB, such as 64KiB or 1MiB" };
const EXPECTED_QUORUM: ValueError =
    ValueError { expected: "a whole number from 1 up, or one, quorum or all" };

/// A length of time, in whole milliseconds. Written as one number and one unit: `500ms`, `1s`, `30d`. What is
/// read prints as something that reads the same; one made from more milliseconds than 584 years have does
/// not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(Duration);

/// Units of a span from the coarsest to the finest, so that printing takes the first that divides evenly.
const SPAN_UNITS: [(&str, u128); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Span {
    /// A span of so many milliseconds.
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }

    /// A span of so many seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The span as the standard library counts it.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.0
    }
}

impl FromStr for Span {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        // Only one number and one unit reach humantime. It takes sums as well, where `1M` (a month) beside
        // `1m` is a trap, and where a carry at the very end of the range makes `Duration::new` panic.
        let unit = unit_after_whole_number(text).ok_or(EXPECTED_SPAN)?;
        if !SPAN_UNITS.iter().any(|(name, _)| *name == unit) {
            return Err(EXPECTED_SPAN);
        }
        humantime::parse_duration(text).map(Self).map_err(|_| EXPECTED_SPAN)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0.as_millis();
        let coarsest =
            SPAN_UNITS.iter().find(|(_, size)| milliseconds != 0 && milliseconds.is_multiple_of(*size));
        match coarsest {
            Some((name, size)) => write!(f, "{}{name}", milliseconds / size),
            None => f.write_str("0s"),
        }
    }
}

/// A number of bytes. Written as one number and one binary unit: `64KiB`, `1MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(u64);

const SIZE_UNITS: [(&str, u64); 5] = [
    ("TiB", bytesize::TIB),
    ("GiB", bytesize::GIB),
    ("MiB", bytesize::MIB),
    ("KiB", bytesize::KIB),
    ("B", 1),
];

impl Size {
    /// A size of so many bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The size in bytes as an index type; on a machine with narrower addresses, at most what it can address.
    pub fn bytes_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for Size {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        // bytesize would take `64KB` as 64000 and `1.5B` as 1. A setting must not be silently smaller than
        // its writer meant, so only whole numbers of binary units get through.
        let unit = unit_after_whole_number(text).ok_or(EXPECTED_SIZE)?;
        if !SIZE_UNITS.iter().any(|(name, _)| *name == unit) {
            return Err(EXPECTED_SIZE);
        }
        match bytesize::ByteSize::from_str(text) {
            // What does not fit comes back as the largest number; nobody means that one.
            Ok(size) if size.as_u64() != u64::MAX => Ok(Self(size.as_u64())),
            _ => Err(EXPECTED_SIZE),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SIZE_UNITS.iter().find(|(_, size)| self.0 != 0 && self.0.is_multiple_of(*size)) {
            Some((name, size)) => write!(f, "{}{name}", self.0 / size),
            None => f.write_str("0B"),
        }
    }
}

/// What follows the digits that begin the text (one space between is fine), if it does begin with digits.
fn unit_after_whole_number(text: &str) -> Option<&str> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let rest = text.get(digits..)?;
    (digits > 0).then(|| rest.strip_prefix(' ').unwrap_or(rest))
}

/// How many replicas must answer: a number, or a word that is resolved against the number of replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QuorumSetting {
    /// Exactly so many.
    Count(usize),
    /// One: fastest, and the first answer may be an old one.
    One,
    /// More than half.
    Quorum,
    /// Every replica: one slow or absent replica fails the request.
    All,
}

impl QuorumSetting {
    /// The number of answers wanted of `n` replicas. A count is returned as it is, also when it is above `n`:
    /// settings are checked against `quorum.n_val`, and a request that lowers its own `n_val` must refuse.
    pub const fn resolve(self, n: usize) -> usize {
        match self {
            Self::Count(count) => count,
            Self::One => 1,
            Self::Quorum => n / 2 + 1,
            Self::All => n,
        }
    }
}

impl FromStr for QuorumSetting {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "one" => Ok(Self::One),
            "quorum" => Ok(Self::Quorum),
            "all" => Ok(Self::All),
            number => match number.parse() {
                Ok(0) | Err(_) => Err(EXPECTED_QUORUM),
                Ok(count) => Ok(Self::Count(count)),
            },
        }
    }
}

impl fmt::Display for QuorumSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::One => f.write_str("one"),
            Self::Quorum => f.write_str("quorum"),
            Self::All => f.write_str("all"),
        }
    }
}

impl Serialize for QuorumSetting {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(count) => count.serialize(serializer),
            _ => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for QuorumSetting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrWord;

        impl Visitor<'_> for NumberOrWord {
            type Value = QuorumSetting;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED_QUORUM.expected)
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<QuorumSetting, E> {
                u64::try_from(number)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &self))
                    .and_then(|number| self.visit_u64(number))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<QuorumSetting, E> {
                match usize::try_from(number) {
                    Ok(0) | Err(_) => Err(E::invalid_value(de::Unexpected::Unsigned(number), &self)),
                    Ok(count) => Ok(QuorumSetting::Count(count)),
                }
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<QuorumSetting, E> {
                text.parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(NumberOrWord)
    }
}

/// How old something may become before it may be dropped. Written as a span or as `forever`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RetentionAge {
    /// Age never is a reason to drop anything.
    Forever,
    /// What is older may be dropped.
    For(Span),
}

impl RetentionAge {
    /// The longest age kept, or nothing when age does not matter.
    pub const fn limit(self) -> Option<Span> {
        match self {
            Self::Forever => None,
            Self::For(span) => Some(span),
        }
    }
}

impl FromStr for RetentionAge {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text == "forever" { Ok(Self::Forever) } else { text.parse().map(Self::For) }
    }
}

impl fmt::Display for RetentionAge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forever => f.write_str("forever"),
            Self::For(span) => span.fmt(f),
        }
    }
}

/// How many bytes may pass in a second. Written as a size or as `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rate {
    /// As many as can.
    Unlimited,
    /// At most this many.
    PerSecond(Size),
}

impl Rate {
    /// The bytes of a second, or nothing when it is not limited.
    pub const fn bytes_per_second(self) -> Option<u64> {
        match self {
            Self::Unlimited => None,
            Self::PerSecond(size) => Some(size.bytes()),
        }
    }
}

impl FromStr for Rate {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text == "none" { Ok(Self::Unlimited) } else { text.parse().map(Self::PerSecond) }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlimited => f.write_str("none"),
            Self::PerSecond(size) => size.fmt(f),
        }
    }
}

/// serde as text, through `Display` and `FromStr`: the form an operator writes is the only one there is.
macro_rules! serde_as_text {
    ($($type:ty),*) => { $(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )* };
}

serde_as_text!(Span, Size, RetentionAge, Rate);

/// What keeps a vnode's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Files under the data directory.
    Disk,
    /// Memory alone: everything is gone when the process ends.
    Memory,
}

/// When a write counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// After the disk has confirmed it; writes that wait together share one flush.
    Sync,
    /// After the operating system has it; flushed to the disk at a fixed interval.
    Interval,
    /// After the operating system has it; flushed when that sees fit.
    Os,
}

/// How long a deleted object is seen to have been deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeleteMode {
    /// A while.
    Delayed,
    /// Not at all.
    Immediate,
    /// As long as it is remembered.
    Keep,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// `pretty` on a terminal, `json` elsewhere.
    Auto,
    /// For people.
    Pretty,
    /// One JSON object a line, for machines.
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[test]
    fn spans_and_sizes_are_exact_and_take_one_number_and_one_unit() {
        for (text, milliseconds, printed) in [
            ("500ms", 500, "500ms"),
            ("75s", 75_000, "75s"),
            ("90 s", 90_000, "90s"),
            ("60s", 60_000, "1m"),
            ("0s", 0, "0s"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!(
                (span.duration(), span.to_string().as_str()),
                (Duration::from_millis(milliseconds), printed)
            );
        }
        for text in
            ["", "5", "s", "1M", "1y", "1.5s", "-1s", "1s ", "1s 1s", "18446744073709551615s1000ms", "1µs"]
        {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
        for (text, bytes, printed) in
            [("64KiB", 65_536, "64KiB"), ("1 MiB", 1_048_576, "1MiB"), ("1025B", 1025, "1025B")]
        {
            let size: Size = text.parse().unwrap();
            assert_eq!((size.bytes(), size.to_string().as_str()), (bytes, printed));
        }
        for text in [
            "",
            "5",
            "B",
            "1KB",
            "1K",
            "1.5MiB",
            "-1B",
            "1kib",
            "18446744073709551615TiB",
            "99999999999999999999B",
        ] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_quorum_is_a_number_or_a_word_and_is_resolved_against_the_replicas() {
        let read = |json: Value| serde_json::from_value::<QuorumSetting>(json).ok();
        assert_eq!(read(json!(2)), Some(QuorumSetting::Count(2)));
        assert_eq!(read(json!("2")), Some(QuorumSetting::Count(2)));
        assert_eq!(read(json!("all")), Some(QuorumSetting::All));
        for wrong in [json!(0), json!(-1), json!("0"), json!("most"), json!(1.5), json!(null)] {
            assert_eq!(read(wrong.clone()), None, "{wrong}");
        }
        for setting in
            [QuorumSetting::Count(7), QuorumSetting::One, QuorumSetting::Quorum, QuorumSetting::All]
        {
            assert_eq!(read(serde_json::to_value(setting).unwrap()), Some(setting));
        }
        let resolved = |n| {
            [QuorumSetting::One, QuorumSetting::Quorum, QuorumSetting::All, QuorumSetting::Count(2)]
                .map(|q| q.resolve(n))
        };
        assert_eq!((resolved(1), resolved(3), resolved(4)), ([1, 1, 1, 2], [1, 2, 3, 2], [1, 3, 4, 2]));
    }

    proptest! {
           #[test]
           fn what_was_read_is_printed_as_something_that_reads_the_same(
    number: u64, of_spans in 0..5usize, of_sizes in 0..5usize) {
               for number in [number, number >> 16, number >> 32, number >> 48] {
                   let span = format!("{number}{}", SPAN_UNITS[of_spans].0).parse::<Span>();
                   prop_assert!(span.is_err() || span.as_ref().unwrap().to_string().parse() == span);
                   let size = format!("{number}{}", SIZE_UNITS[of_sizes].0).parse::<Size>();
                   prop_assert!(size.is_err() || size.as_ref().unwrap().to_string().parse() == size);
               }
           }
       }
}
