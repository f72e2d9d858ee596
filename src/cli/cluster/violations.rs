//! Neighbours on the ring that are too much alike, in words. What a ring should be like, core decides.

use crate::cli::table::{counted, in_words};

/// What occurs twice among neighbours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Alike {
    /// A node.
    Node {
        /// How many nodes have partitions: among more neighbours than that, one must occur twice.
        nodes: usize,
    },
    /// A location.
    Location,
}

/// A sentence for each length of window that has a repetition; one that says so when none has. `counts` are of
/// windows of two, three, … neighbours, of as many as there are partitions. Nothing when nothing was counted.
pub(crate) fn violations(counts: &[usize], partitions: usize, alike: Alike) -> Vec<String> {
    let (what, possible) = match alike {
        Alike::Node { nodes } => ("node", nodes),
        Alike::Location => ("location", usize::MAX),
    };
    let mut sentences = Vec::new();
    for (length, count) in (2..).zip(counts).filter(|(_, count)| **count > 0) {
        let have = if *count == 1 { "has" } else { "have" };
        let why = match possible < length {
            true => format!(" (unavoidable with {})", counted(possible, "node", "nodes")),
            false => String::new(),
        };
        let neighbours = in_words(length);
        sentences.push(format!(
            "{count} of {partitions} windows of {neighbours} neighbours {have} a {what} twice{why}"
        ));
    }
    if sentences.is_empty() && !counts.is_empty() {
        sentences.push(format!("no {what} occurs twice among {} neighbours", in_words(counts.len() + 1)));
    }
    sentences
}
