//! How the state travels: cut into sections, each with a digest, so that two nodes find what differs by
//! comparing a few bytes and send nothing else. Members, reports and possession are cut further, so that one
//! node's report does not carry everybody's. It decides the cut; who sends what to whom is gossip's.

use super::member::Member;
use super::report::Report;
use super::staging::Staging;
use super::state::{ClusterState, StateError};
use super::target::{Possession, Target};
use crate::ids::{ClusterId, NodeId};
use crate::limits::MEMBERS_MAX;
use crate::ring::RingSize;
use crate::wire::codec;
use serde::{Deserialize, Serialize};
use sha1::{Digest as _, Sha1};

/// Into how many pieces members, reports and possession are cut.
pub const PIECES: usize = 16;
/// How many sections there are.
pub const SECTIONS: usize = 2 + 3 * PIECES;

/// A part of the state that is compared and sent as one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Section {
    /// The target.
    Target,
    /// What is staged.
    Staging,
    /// Members whose ids fall into that piece.
    Members(usize),
    /// The possession of partitions of that piece.
    Possession(usize),
    /// Reports of nodes whose ids fall into that piece.
    Reports(usize),
}

impl Section {
    /// All of them, in the order of their numbers.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..SECTIONS).filter_map(Self::from_number)
    }

    /// The section of a number.
    pub fn from_number(number: usize) -> Option<Self> {
        match number {
            0 => Some(Self::Target),
            1 => Some(Self::Staging),
            _ => {
                let (kind, piece) = ((number - 2) / PIECES, (number - 2) % PIECES);
                match kind {
                    0 => Some(Self::Members(piece)),
                    1 => Some(Self::Possession(piece)),
                    2 => Some(Self::Reports(piece)),
                    _ => None,
                }
            }
        }
    }
}

/// Into which of the pieces a node falls.
pub(crate) fn piece_of(node: NodeId) -> usize {
    // The last byte of a random id is random; the first bytes of a sorted few need not be.
    usize::from(node.0[15]) % PIECES
}

/// What one section holds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum SectionContent {
    /// See [`Section::Target`].
    Target(Target),
    /// See [`Section::Staging`].
    Staging(Staging),
    /// See [`Section::Members`].
    Members(Vec<(NodeId, Member)>),
    /// See [`Section::Possession`]: from that partition on.
    Possession(u16, Vec<Possession>),
    /// See [`Section::Reports`].
    Reports(Vec<(NodeId, Report)>),
}

/// What [`SectionContent`] holds, borrowed: it encodes to the same bytes, so that a digest costs no copy.
#[derive(Serialize)]
enum Borrowed<'a> {
    Target(&'a Target),
    Staging(&'a Staging),
    Members(Vec<(&'a NodeId, &'a Member)>),
    Possession(u16, &'a [Possession]),
    Reports(Vec<(&'a NodeId, &'a Report)>),
}

/// Some sections of one cluster's state.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StatePart {
    /// Whose.
    pub cluster: ClusterId,
    /// Of the ring.
    pub size: RingSize,
    /// The sections.
    pub sections: Vec<SectionContent>,
}

/// A short digest of a value's encoding. Not against forgers, who are members anyway.
pub fn digest_of<T: Serialize>(value: &T) -> u64 {
    // In pieces: the target of a large ring has hundreds of kilobytes, and a digest is made for each change.
    let mut hasher = Sha1::new();
    if codec::encode_in_pieces(value, &mut |piece| hasher.update(piece)).is_err() {
        // What cannot be encoded cannot be sent either; the digest of nothing then differs from every other.
        hasher = Sha1::new();
    }
    let digest: [u8; 20] = hasher.finalize().into();
    u64::from_be_bytes([
        digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7],
    ])
}

impl ClusterState {
    /// A section's content.
    pub fn section(&self, section: Section) -> SectionContent {
        match self.borrowed(section) {
            Borrowed::Target(target) => SectionContent::Target(target.clone()),
            Borrowed::Staging(staging) => SectionContent::Staging(staging.clone()),
            Borrowed::Members(members) => SectionContent::Members(
                members.into_iter().map(|(node, member)| (*node, member.clone())).collect(),
            ),
            Borrowed::Possession(first, possession) => SectionContent::Possession(first, possession.to_vec()),
            Borrowed::Reports(reports) => SectionContent::Reports(
                reports.into_iter().map(|(node, report)| (*node, report.clone())).collect(),
            ),
        }
    }

    fn borrowed(&self, section: Section) -> Borrowed<'_> {
        match section {
            Section::Target => Borrowed::Target(&self.target),
            Section::Staging => Borrowed::Staging(&self.staging),
            Section::Members(piece) => {
                Borrowed::Members(self.members.iter().filter(|(node, _)| piece_of(**node) == piece).collect())
            }
            Section::Reports(piece) => {
                Borrowed::Reports(self.reports.iter().filter(|(node, _)| piece_of(**node) == piece).collect())
            }
            Section::Possession(piece) => {
                let length = self.size.count().div_ceil(PIECES);
                let first = (piece * length).min(self.size.count());
                let end = (first + length).min(self.size.count());
                // A ring has at most 65 536 partitions; the first of an empty last piece may be just that.
                let from = u16::try_from(first).unwrap_or(u16::MAX);
                Borrowed::Possession(from, self.possession.get(first..end).unwrap_or_default())
            }
        }
    }

    /// A section's digest: equal when the contents are.
    pub fn section_digest(&self, section: Section) -> u64 {
        digest_of(&self.borrowed(section))
    }

    /// The digests of all sections, by number.
    pub fn digests(&self) -> Vec<u64> {
        Section::all().map(|section| self.section_digest(section)).collect()
    }

    /// Some sections, to be sent.
    pub fn part(&self, sections: impl IntoIterator<Item = Section>) -> StatePart {
        let sections = sections.into_iter().map(|section| self.section(section)).collect();
        StatePart { cluster: self.cluster, size: self.size, sections }
    }

    /// Merges what a peer sent. Says whether the state grew; a part that cannot be is refused whole.
    pub fn merge_part(&mut self, part: &StatePart) -> Result<bool, StateError> {
        if part.cluster != self.cluster {
            return Err(StateError::OtherCluster { ours: self.cluster, theirs: part.cluster });
        }
        if part.size != self.size {
            return Err(StateError::Partitions { expected: self.size.count(), found: part.size.count() });
        }
        for content in &part.sections {
            self.check_content(content)?;
        }
        let mut grew = false;
        for content in &part.sections {
            match content {
                SectionContent::Target(target) => grew |= self.target.merge(target),
                SectionContent::Staging(staging) => grew |= self.staging.merge(staging),
                SectionContent::Members(members) => {
                    for (node, member) in members {
                        grew |= self.merge_member(*node, member);
                    }
                }
                SectionContent::Reports(reports) => {
                    for (node, report) in reports {
                        grew |= self.merge_report(*node, report);
                    }
                }
                SectionContent::Possession(first, theirs) => {
                    for (place, theirs) in (usize::from(*first)..).zip(theirs) {
                        grew |= self.members.contains_key(&theirs.holder) && self.raise(place, *theirs);
                    }
                }
            }
        }
        Ok(grew)
    }

    fn check_content(&self, content: &SectionContent) -> Result<(), StateError> {
        let count = self.size.count();
        match content {
            SectionContent::Target(target) if target.owners().len() != count => {
                Err(StateError::Partitions { expected: count, found: target.owners().len() })
            }
            SectionContent::Target(target) if !target.is_sound() => {
                Err(StateError::Value("the target's digest does not belong to its content".into()))
            }
            SectionContent::Staging(staging) if !staging.is_sound() => {
                Err(StateError::Value("what is staged is too much, or has a detail that cannot be".into()))
            }
            SectionContent::Members(members) => {
                let unknown = members.iter().filter(|(node, _)| !self.members.contains_key(node)).count();
                if self.members.len() + unknown > MEMBERS_MAX {
                    return Err(StateError::Members(self.members.len() + unknown));
                }
                members.iter().try_for_each(|(_, member)| {
                    member.check().map_err(|error| StateError::Value(error.to_string()))
                })
            }
            SectionContent::Reports(reports) => {
                let unknown = reports.iter().filter(|(node, _)| !self.reports.contains_key(node)).count();
                if self.reports.len() + unknown > MEMBERS_MAX {
                    return Err(StateError::Members(self.reports.len() + unknown));
                }
                if reports.iter().all(|(_, report)| report.is_sound(count)) {
                    return Ok(());
                }
                Err(StateError::Value("a report names services or partitions that cannot be".into()))
            }
            SectionContent::Possession(first, theirs) if usize::from(*first) + theirs.len() > count => {
                Err(StateError::Partitions { expected: count, found: usize::from(*first) + theirs.len() })
            }
            _ => Ok(()),
        }
    }
}
