//! What every member can do. A *feature* is a way of speaking or of keeping data that older releases do not know; it
//! is used when every member has said that it has it. It decides the names of this release's features and what is
//! active; what a feature is for, whoever asks for it knows.

use super::store::Metadata;
use crate::ids::NodeId;
use crate::limits::{FEATURE_NAME_BYTES_MAX, FEATURES_MAX};
use std::collections::BTreeSet;

/// Settings and properties that the members share.
pub const SHARED_SETTINGS: &str = "shared-settings";

/// Sums of the pages of a chat, of replicas that need not tell all of a page.
pub const CHAT_DIGESTS: &str = "chat-digests";

/// What this release can do. A later one adds to it, and takes nothing away that a member may still count on.
pub const FEATURES: [&str; 2] = [SHARED_SETTINGS, CHAT_DIGESTS];

/// What the release before this one could do: for tests of members of different releases.
pub const FEATURES_BEFORE: [&str; 0] = [];

const _: () = {
    assert!(FEATURES.len() <= FEATURES_MAX);
    assert!(SHARED_SETTINGS.len() <= FEATURE_NAME_BYTES_MAX && CHAT_DIGESTS.len() <= FEATURE_NAME_BYTES_MAX);
};

/// This release's features, as nodes publish them.
pub fn own() -> BTreeSet<String> {
    FEATURES.iter().map(|name| (*name).to_owned()).collect()
}

impl Metadata {
    /// Of `members`, those that have not said that they have a feature.
    pub fn lacking(&self, feature: &str, members: &[NodeId]) -> Vec<NodeId> {
        let has = |member: NodeId| self.said(member).is_some_and(|said| said.features.contains(feature));
        members.iter().copied().filter(|member| !has(*member)).collect()
    }

    /// What all of `members` have said that they have. Who has said nothing, or speaks of it in a way that this
    /// release does not know, has nothing; of no members at all, nothing is active.
    pub fn features_of_all(&self, members: &[NodeId]) -> BTreeSet<String> {
        let mut all = members.iter().map(|member| self.said(*member).map(|said| said.features));
        let first = all.next().flatten().unwrap_or_default();
        all.fold(first, |common, said| &common & &said.unwrap_or_default())
    }
}
