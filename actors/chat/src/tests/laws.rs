//! That the module is lawful, and that the laws would notice if it were not.

use crate::bed::{content, id_at};
use crate::chat::{Chat, ChatCommand, ChatConfig, ChatError, ChatReply};
use crate::item::ChatItem;
use crate::layout::{self, StoredMark};
use crate::users::{UserList, UserRow};
use ringwork_core::coverage::question::{Question, Seen};
use ringwork_core::ids::Partition;
use ringwork_core::keyspace::{Keyspace, Snapshot};
use ringwork_core::store::{Flow, KeyRange};
use ringwork_core::testing::{Draw, check_laws, check_listing_laws, find_listing_violation, find_violation};
use ringwork_core::vnode::{Item, Merged, Outcome, Turn, Vnode};
use ringwork_core::wire::{Wire, stored};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Few users, ids, keys and texts, so that everything meets everything, plain and keyed ids included.
fn any_item(draw: &mut Draw) -> ChatItem {
    let user = ["a", "a\0b", "a\u{1}", "b"][draw.below(4) as usize].to_owned();
    let user = if draw.one_in(2) { "a".to_owned() } else { user };
    let id = id_at(draw.below(9));
    let text = content(["x", "y", "z"][draw.below(3) as usize]);
    match draw.below(8) {
        0..=2 => ChatItem::Message { user, id, content: text },
        3..=6 => {
            let aliases: BTreeSet<_> = if draw.one_in(3) {
                (0..2).map(|_| id_at(draw.below(9))).filter(|alias| *alias < id).collect()
            } else {
                BTreeSet::new()
            };
            let content = if draw.one_in(5) { None } else { Some(text) };
            let key = ["k", "kk"][draw.below(2) as usize].to_owned();
            ChatItem::Keyed { user, key, id, aliases, content }
        }
        _ => ChatItem::Mark { user, through: id_at(draw.below(7)) },
    }
}

#[test]
fn the_chat_is_lawful() {
    check_laws::<Chat>(&ChatConfig::default(), any_item);
}

fn any_list(draw: &mut Draw) -> UserList {
    let prefix = ["", "", "a", "a\0", "b"][draw.below(5) as usize].to_owned();
    UserList { prefix }
}

#[test]
fn the_list_of_users_is_lawful() {
    check_listing_laws::<Chat>(&ChatConfig::default(), any_item, any_list);
}

#[test]
fn a_list_that_begins_with_where_it_is_to_go_on_is_found() {
    type Broken = BrokenChat<LIST_SHOWS_AFTER_ITSELF>;
    let question = |draw: &mut Draw| BrokenList(any_list(draw));
    let item = |draw: &mut Draw| Wrapped(any_item(draw));
    let found = find_listing_violation::<Broken>(&ChatConfig::default(), 300, item, question);
    assert_eq!(
        found.map(|found| found.law),
        Some("a list that goes on behind a key is the rest of the list")
    );
}

#[test]
fn the_chat_is_lawful_over_many_more_cases() {
    let violation = find_violation::<Chat>(&ChatConfig::default(), 3_000, any_item);
    assert!(violation.is_none(), "{violation:?}");
}

/// An item whose join keeps the keyed content that was there first.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Wrapped<const BROKEN: u8>(ChatItem);

const KEYED_JOIN_KEEPS_THE_FIRST: u8 = 1;
const KEYED_MERGE_KEEPS_THE_FIRST: u8 = 2;
const MARK_MERGE_KEEPS_THE_NEWEST: u8 = 3;
const MARK_DOES_NOT_ABSORB: u8 = 4;
const DELETE_FORGETS_TO_FORGET: u8 = 5;
const LIST_SHOWS_AFTER_ITSELF: u8 = 6;

impl<const BROKEN: u8> Wire for Wrapped<BROKEN> {
    const VERSION: u16 = 1;
}

impl<const BROKEN: u8> Item for Wrapped<BROKEN> {
    fn routing_key(&self) -> &[u8] {
        self.0.routing_key()
    }
    fn key(&self) -> Vec<u8> {
        self.0.key()
    }
    fn join(self, other: Self) -> Self {
        if BROKEN == KEYED_JOIN_KEEPS_THE_FIRST && matches!(self.0, ChatItem::Keyed { .. }) {
            return self;
        }
        Self(self.0.join(other.0))
    }
}

struct BrokenChat<const BROKEN: u8>(Chat);

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct BrokenList<const BROKEN: u8>(UserList);

impl<const BROKEN: u8> Wire for BrokenList<BROKEN> {
    const VERSION: u16 = 1;
}

impl<const BROKEN: u8> Question<BrokenChat<BROKEN>> for BrokenList<BROKEN> {
    type Row = UserRow;

    fn cover(
        &self,
        snapshot: &Snapshot,
        after: Option<&[u8]>,
        visit: &mut dyn FnMut(Seen<'_, UserRow>) -> Flow,
    ) -> Result<(), ChatError> {
        if BROKEN != LIST_SHOWS_AFTER_ITSELF {
            return self.0.cover(snapshot, after, visit);
        }
        let inclusive = after.map(|after| after.get(..after.len().saturating_sub(1)).unwrap_or_default());
        self.0.cover(snapshot, inclusive, visit)
    }
}

impl<const BROKEN: u8> BrokenChat<BROKEN> {
    fn row_exists(&self, item: &ChatItem) -> bool {
        self.0.store.get(&item.key()).unwrap().is_some()
    }
}

impl<const BROKEN: u8> Vnode for BrokenChat<BROKEN> {
    const SERVICE: &'static str = Chat::SERVICE;
    type Config = ChatConfig;
    type Command = ChatCommand;
    type Reply = ChatReply;
    type Item = Wrapped<BROKEN>;
    type Question = BrokenList<BROKEN>;
    type Error = ChatError;

    fn init(partition: Partition, config: &ChatConfig, store: Keyspace) -> Result<Self, ChatError> {
        Chat::init(partition, config, store).map(Self)
    }

    fn handle_command(&mut self, _: ChatCommand, _: &mut Turn<'_, Self>) -> Result<Outcome<Self>, ChatError> {
        Ok(Outcome::Nothing)
    }

    fn merge(&mut self, Wrapped(item): Self::Item) -> Result<Merged, ChatError> {
        match &item {
            ChatItem::Keyed { .. } if BROKEN == KEYED_MERGE_KEEPS_THE_FIRST && self.row_exists(&item) => {
                return Ok(Merged::Unchanged);
            }
            ChatItem::Mark { user, through } if BROKEN == MARK_MERGE_KEEPS_THE_NEWEST => {
                let through = *through;
                self.0.store.put(layout::mark_key(user), stored(&StoredMark { through })?);
                self.0.heads.clear();
                return Ok(Merged::Unchanged);
            }
            ChatItem::Mark { .. } if BROKEN == MARK_DOES_NOT_ABSORB => {
                let merged = self.0.merge(item);
                self.0.heads.values_mut().for_each(|head| head.mark = None);
                return merged;
            }
            _ => {}
        }
        self.0.merge(item)
    }

    fn fold(
        snapshot: &Snapshot,
        range: &KeyRange,
        visit: &mut dyn FnMut(Self::Item) -> Flow,
    ) -> Result<(), ChatError> {
        Chat::fold(snapshot, range, &mut |item| visit(Wrapped(item)))
    }

    fn is_empty(&self) -> Result<bool, ChatError> {
        self.0.is_empty()
    }

    fn delete(&mut self) -> Result<(), ChatError> {
        let heads = self.0.heads.clone();
        self.0.delete()?;
        if BROKEN == DELETE_FORGETS_TO_FORGET {
            self.0.heads = heads;
        }
        Ok(())
    }
}

fn law_broken_by<const BROKEN: u8>() -> Option<&'static str> {
    let generate = |draw: &mut Draw| Wrapped::<BROKEN>(any_item(draw));
    find_violation::<BrokenChat<BROKEN>>(&ChatConfig::default(), 300, generate).map(|found| found.law)
}

#[test]
fn the_wrapper_alone_breaks_no_law() {
    assert_eq!(law_broken_by::<0>(), None);
}

#[test]
fn a_keyed_join_that_keeps_the_first_is_found() {
    assert_eq!(law_broken_by::<KEYED_JOIN_KEEPS_THE_FIRST>(), Some("join is commutative"));
}

#[test]
fn a_keyed_merge_that_keeps_the_first_is_found() {
    assert!(law_broken_by::<KEYED_MERGE_KEEPS_THE_FIRST>().is_some());
}

#[test]
fn a_mark_that_keeps_the_newest_arrival_is_found() {
    assert!(law_broken_by::<MARK_MERGE_KEEPS_THE_NEWEST>().is_some());
}

#[test]
fn a_mark_that_is_forgotten_is_found() {
    assert!(law_broken_by::<MARK_DOES_NOT_ABSORB>().is_some());
}

#[test]
fn a_delete_that_leaves_marks_in_memory_is_found() {
    assert_eq!(law_broken_by::<DELETE_FORGETS_TO_FORGET>(), Some("delete leaves nothing in memory"));
}
