//! What a replica tells of a page in place of the page, where another one tells all of it: a sum that is the same for
//! the same page. It decides what goes into the sum, and which answers to one question are enough. It does not know
//! how pages are joined.
//!
//! Two pages with one sum would be taken for one, and what one of them lacks would not be mended by that read. Clients
//! choose what is in pages, so the sum has 128 bits and is a keyed hash (SipHash, Aumasson and Bernstein 2012).

use crate::chat::ChatReply;
use crate::id::MessageId;
use crate::item::ChatItem;
use crate::page::{PageReply, Span};
use crate::shared::SharedItem;
use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hash;

/// See the module's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageDigest(
    /// None: of no page that anybody else could tell. Answers of several that differ have no sum in common.
    Option<u128>,
);

fn hasher() -> SipHasher13 {
    SipHasher13::new_with_keys(0x72_69_6e_67, 0x77_6f_72_6b)
}

impl PageDigest {
    /// What stands for a page of items with these sums.
    pub(crate) fn of(
        mark: Option<MessageId>,
        sums: impl Iterator<Item = u128>,
        covered: Span,
        more: bool,
    ) -> Self {
        let mut hasher = hasher();
        (mark, covered, more).hash(&mut hasher);
        sums.for_each(|sum| sum.hash(&mut hasher));
        Self(Some(hasher.finish128().as_u128()))
    }

    /// What stands for an item.
    pub(crate) fn sum_of(item: &ChatItem) -> u128 {
        let mut hasher = hasher();
        item.hash(&mut hasher);
        hasher.finish128().as_u128()
    }

    /// What stands for a page.
    pub fn of_page(page: &PageReply) -> Self {
        Self::of(page.mark, page.items.iter().map(SharedItem::sum), page.covered, page.more)
    }

    /// Whether both stand for the same page.
    pub fn same(self, other: Self) -> bool {
        self.0.is_some() && self == other
    }

    /// What stands for the answers of several that are one replica to the asker.
    pub(crate) fn joined(replies: &[ChatReply]) -> Option<Self> {
        let mut digests = replies.iter().filter_map(|reply| match reply {
            ChatReply::Digest(digest) => Some(*digest),
            _ => None,
        });
        let first = digests.next()?;
        Some(if digests.all(|other| other.same(first)) { first } else { Self(None) })
    }
}

/// Whose digests stand for none of the pages that were told: one of each kind, and one at least where no page was told.
pub(crate) fn unseen(replies: &[ChatReply]) -> Vec<usize> {
    let mut seen: Vec<PageDigest> = Vec::new();
    let mut digests: Vec<(usize, PageDigest)> = Vec::new();
    for (place, reply) in replies.iter().enumerate() {
        match reply {
            ChatReply::Page(page) => seen.push(PageDigest::of_page(page)),
            ChatReply::Digest(digest) => digests.push((place, *digest)),
            _ => {}
        }
    }
    let mut unseen = Vec::new();
    for (place, digest) in digests {
        if !seen.iter().any(|other| other.same(digest)) {
            seen.push(digest);
            unseen.push(place);
        }
    }
    unseen
}

/// The page of each replica that told one, or whose digest stands for one that was told; with its place.
pub(crate) fn pages(replies: &[ChatReply]) -> Vec<(usize, &PageReply)> {
    let wholes: Vec<(usize, &PageReply)> = (replies.iter().enumerate())
        .filter_map(|(place, reply)| match reply {
            ChatReply::Page(page) => Some((place, page)),
            _ => None,
        })
        .collect();
    // With one page, what `unseen` has let pass stands for that.
    let sums: Vec<PageDigest> = match wholes.as_slice() {
        [] | [_] => Vec::new(),
        several => several.iter().map(|(_, page)| PageDigest::of_page(page)).collect(),
    };
    let stands_for = |digest: PageDigest| match wholes.as_slice() {
        [(_, one)] => Some(*one),
        _ => sums.iter().position(|sum| sum.same(digest)).and_then(|at| Some(wholes.get(at)?.1)),
    };
    (replies.iter().enumerate())
        .filter_map(|(place, reply)| match reply {
            ChatReply::Page(page) => Some((place, page)),
            ChatReply::Digest(digest) => Some((place, stands_for(*digest)?)),
            _ => None,
        })
        .collect()
}
