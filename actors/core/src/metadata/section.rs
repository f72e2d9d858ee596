//! How metadata travels: a version for each namespace and for each piece of the statements; then only what differs,
//! each namespace whole. It decides the cut and how much goes into one message; who sends what to whom is gossip's.

use super::namespace::{Namespace, NamespaceName};
use super::statement::Statement;
use super::store::{Metadata, MetadataError};
use crate::gossip::spread::Shared;
use crate::ids::{ClusterId, NodeId};
use crate::limits::{
    MEMBERS_MAX, METADATA_JOINED_BYTES_MAX, METADATA_NAMESPACES_MAX, METADATA_PART_BYTES_MAX,
};
use crate::membership::section::{PIECES, digest_of, piece_of};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A part that is compared and sent as one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MetadataSection {
    /// One namespace.
    Namespace(NamespaceName),
    /// Statements of nodes whose ids fall into that piece.
    Statements(usize),
}

/// The versions of all sections.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MetadataDigest {
    namespaces: BTreeMap<NamespaceName, u64>,
    statements: Vec<u64>,
}

/// Some sections of one cluster's metadata.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MetadataPart {
    cluster: ClusterId,
    namespaces: Vec<(NamespaceName, Namespace)>,
    statements: Vec<(NodeId, Statement)>,
}

impl MetadataPart {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let namespaces = metadata.namespaces().map(|(name, namespace)| (name.clone(), namespace.clone()));
        let statements = metadata.statements().iter().map(|(node, statement)| (*node, statement.clone()));
        Self {
            cluster: metadata.cluster(),
            namespaces: namespaces.collect(),
            statements: statements.collect(),
        }
    }
}

impl Metadata {
    /// Joins what a peer sent. Says whether anything changed; of a part that cannot be, nothing is taken over. See
    /// [`Metadata::join`].
    pub fn join_part(
        &mut self,
        part: &MetadataPart,
        is_known: impl Fn(NodeId) -> bool,
    ) -> Result<bool, MetadataError> {
        if part.cluster != self.cluster() {
            return Err(MetadataError::OtherCluster { ours: self.cluster(), theirs: part.cluster });
        }
        if part.statements.len() > MEMBERS_MAX || !part.statements.iter().all(|(_, s)| s.is_sound()) {
            return Err(MetadataError::Statements(part.statements.len()));
        }
        if part.namespaces.len() > METADATA_NAMESPACES_MAX {
            return Err(MetadataError::Namespaces(part.namespaces.len()));
        }
        let mut joined = self.clone();
        let mut changed = false;
        for (name, theirs) in &part.namespaces {
            let others = joined.bytes() - joined.namespace(name).map_or(0, Namespace::bytes);
            changed |=
                joined.take_namespace(name, theirs, METADATA_JOINED_BYTES_MAX.saturating_sub(others))?;
        }
        for (node, statement) in &part.statements {
            changed |= is_known(*node) && joined.take_statement(*node, statement);
        }
        *self = joined;
        Ok(changed)
    }
}

/// The metadata as spreading sees it: what it is now, with its versions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SharedMetadata {
    metadata: Arc<Metadata>,
    digest: MetadataDigest,
}

impl SharedMetadata {
    /// `metadata`, to be spread.
    pub fn of(metadata: Arc<Metadata>) -> Self {
        let namespaces = metadata.namespaces().map(|(name, namespace)| (name.clone(), digest_of(namespace)));
        let digest = MetadataDigest {
            namespaces: namespaces.collect(),
            statements: (0..PIECES).map(|piece| digest_of(&metadata.piece(piece))).collect(),
        };
        Self { metadata, digest }
    }

    /// What is spread.
    pub fn metadata(&self) -> &Arc<Metadata> {
        &self.metadata
    }
}

impl Metadata {
    fn piece(&self, piece: usize) -> Vec<(NodeId, Statement)> {
        let all = self.statements().iter().filter(|(node, _)| piece_of(**node) == piece);
        all.map(|(node, statement)| (*node, statement.clone())).collect()
    }
}

impl Shared for SharedMetadata {
    type Digest = MetadataDigest;
    type Section = MetadataSection;
    type Part = MetadataPart;

    fn digest(&self) -> MetadataDigest {
        self.digest.clone()
    }

    fn sections_differing(&self, theirs: &MetadataDigest) -> Vec<MetadataSection> {
        let ours = &self.digest;
        // What only they have differs, too: nothing is sent of it, but they learn what this side lacks.
        let names = ours.namespaces.keys().chain(theirs.namespaces.keys().take(METADATA_NAMESPACES_MAX));
        let mut names: Vec<_> =
            names.filter(|name| ours.namespaces.get(name) != theirs.namespaces.get(name)).collect();
        names.sort_unstable();
        names.dedup();
        let pieces = (0..PIECES).filter(|piece| ours.statements.get(*piece) != theirs.statements.get(*piece));
        names
            .into_iter()
            .map(|name| MetadataSection::Namespace(name.clone()))
            .chain(pieces.map(MetadataSection::Statements))
            .collect()
    }

    fn extract(&self, sections: &[MetadataSection]) -> MetadataPart {
        let mut part =
            MetadataPart { cluster: self.metadata.cluster(), namespaces: Vec::new(), statements: Vec::new() };
        let mut namespaces = Vec::new();
        let mut bytes = 0;
        for section in sections {
            match section {
                MetadataSection::Namespace(name) => {
                    namespaces.extend(self.metadata.namespace(name).map(|namespace| (name, namespace)));
                }
                // Pieces, and then namespaces, until there are enough: what is beyond that goes with a later exchange,
                // for which these are equal.
                MetadataSection::Statements(piece) if bytes <= METADATA_PART_BYTES_MAX => {
                    let statements = self.metadata.piece(*piece);
                    bytes += statements.iter().map(|(_, statement)| statement.bytes()).sum::<usize>();
                    part.statements.extend(statements);
                }
                MetadataSection::Statements(_) => {}
            }
        }
        // Small ones first, so that a large one holds up nothing.
        namespaces.sort_by_key(|(name, namespace)| (namespace.bytes(), *name));
        bytes = 0;
        for (name, namespace) in namespaces {
            bytes += namespace.bytes();
            if bytes > METADATA_PART_BYTES_MAX && !part.namespaces.is_empty() {
                break;
            }
            part.namespaces.push((name.clone(), namespace.clone()));
        }
        part
    }
}
