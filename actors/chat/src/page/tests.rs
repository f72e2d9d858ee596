//! Paging over replicas that differ.

use super::*;
use crate::bed::{Bed, id_at, keyed, mark, message};
use proptest::prelude::*;
use std::collections::BTreeSet;

const USER: &str = "u";

/// One log, of which each replica has a part.
#[derive(Clone, Debug)]
struct Replicas {
    items: Vec<ChatItem>,
    /// For each replica: which items, and its mark.
    has: Vec<(Vec<bool>, Option<u64>)>,
}

fn replicas() -> impl Strategy<Value = Replicas> {
    prop::collection::btree_map(1u64..60, any::<bool>(), 0..30).prop_flat_map(|log| {
        let items: Vec<_> = log
            .into_iter()
            .map(|(ms, with_key)| {
                if with_key {
                    keyed(USER, &format!("k{}", 100 - ms), id_at(ms), Some("t"))
                } else {
                    message(USER, id_at(ms), "t")
                }
            })
            .collect();
        let replica =
            (prop::collection::vec(prop::bool::weighted(0.7), items.len()), prop::option::of(0u64..40));
        prop::collection::vec(replica, 1..4).prop_map(move |has| Replicas { items: items.clone(), has })
    })
}

impl Replicas {
    fn beds(&self) -> Vec<Bed> {
        self.has
            .iter()
            .map(|(has, through)| {
                let mut bed = Bed::new();
                for (item, _) in self.items.iter().zip(has).filter(|(_, has)| **has) {
                    bed.merge(item.clone());
                }
                if let Some(through) = through {
                    bed.merge(mark(USER, id_at(*through)));
                }
                bed
            })
            .collect()
    }

    /// What any replica has above the highest mark.
    fn visible(&self) -> Vec<ChatItem> {
        let mark = self.has.iter().filter_map(|(_, through)| through.map(id_at)).max();
        let somewhere = |at: usize| self.has.iter().any(|(has, _)| has[at]);
        let items = self.items.iter().enumerate().filter(|(at, _)| somewhere(*at)).map(|(_, item)| item);
        items.filter(|item| mark < Some(item.id())).cloned().collect()
    }
}

fn query(limit: u16, backward: bool) -> PageQuery {
    PageQuery { user: USER.into(), after: None, before: None, limit, backward }
}

fn read_all(beds: &[Bed], query: &PageQuery) -> (PageReply, Repairs) {
    let bounds = PageBounds::default();
    let pages: Vec<_> = beds.iter().map(|bed| read_page(&bed.chat.store, query, bounds).unwrap()).collect();
    let numbered: Vec<_> = pages.iter().enumerate().collect();
    resolve(query, &numbered, bounds).unwrap()
}

/// Pages through to the end; the items in the order of the log.
fn page_through(beds: &mut [Bed], limit: u16, backward: bool, repair: bool) -> Vec<ChatItem> {
    let mut query = query(limit, backward);
    let mut shown: Vec<ChatItem> = Vec::new();
    for _ in 0..200 {
        let (page, repairs) = read_all(beds, &query);
        assert!(page.items.len() <= usize::from(limit));
        if repair {
            for (at, item) in repairs {
                beds[at].merge(item);
            }
            // Beyond it a replica that had wasted its page below the mark may now show more.
            let (_, mut again) = read_all(beds, &query);
            again.retain(|(_, item)| page.covered.contains(item.id()));
            assert_eq!(again, [], "after repairs nothing is lacking in {query:?}");
        }
        if backward {
            shown.splice(0..0, page.items.iter().map(|item| ChatItem::clone(item)));
        } else {
            shown.extend(page.items.iter().map(|item| ChatItem::clone(item)));
        }
        let next = if backward { page.next_before() } else { page.next_after() };
        if !page.more {
            return shown;
        }
        assert!(next.is_some());
        if backward {
            assert!(query.before.is_none_or(|before| next < Some(before)), "no way forward from {query:?}");
            query.before = next;
        } else {
            assert!(query.after < next, "no way forward from {query:?}");
            query.after = next;
        }
    }
    panic!("paging does not end");
}

proptest! {
    #[test]
    fn paging_over_replicas_that_differ_shows_their_union_once(
        replicas in replicas(), limit in 1u16..12, backward: bool, repair: bool
    ) {
        let shown = page_through(&mut replicas.beds(), limit, backward, repair);
        prop_assert_eq!(shown, replicas.visible());
    }

    #[test]
    fn a_page_is_what_the_log_says_between_its_ends(
        replicas in replicas(), limit in 1u16..12, backward: bool, after in prop::option::of(0u64..60),
        before in prop::option::of(0u64..60)
    ) {
        let (after, before) = (after.map(id_at), before.map(id_at));
        let query = PageQuery { after, before, ..query(limit, backward) };
        let (page, _) = read_all(&replicas.beds(), &query);
        let inside = |item: &&ChatItem| {
            after < Some(item.id()) && before.is_none_or(|before| item.id() < before)
        };
        let all = replicas.visible();
        let wanted: Vec<_> = all.iter().filter(inside).collect();
        let covered: Vec<_> = wanted.iter().filter(|item| page.covered.contains(item.id())).collect();
        prop_assert_eq!(page.items.iter().collect::<Vec<_>>(), covered.into_iter().copied().collect::<Vec<_>>());
        prop_assert!(page.more || page.items.len() == wanted.len());
    }

    #[test]
    fn paging_through_with_repairs_makes_the_replicas_equal(replicas in replicas(), limit in 1u16..12) {
        let mut beds = replicas.beds();
        page_through(&mut beds, limit, false, true);
        let union: BTreeSet<_> = replicas.visible().iter().map(Item::key).collect();
        for bed in &beds {
            let has: BTreeSet<_> =
                bed.fold().iter().filter(|item| item.content().is_some()).map(Item::key).collect();
            prop_assert_eq!(&has, &union);
        }
    }
}

#[test]
fn a_key_with_two_ids_is_repaired_to_one() {
    let mut beds = [Bed::new(), Bed::new(), Bed::new()];
    beds[0].merge(keyed(USER, "k", id_at(3), Some("a")));
    beds[1].merge(keyed(USER, "k", id_at(5), Some("a")));
    beds[1].merge(message(USER, id_at(4), "m"));
    let (page, repairs) = read_all(&beds, &query(10, false));
    let ids: Vec<_> = page.items.iter().map(|item| item.id()).collect();
    assert_eq!(ids, [id_at(4), id_at(5)]);
    for (at, item) in repairs {
        beds[at].merge(item);
    }
    let (again, none) = read_all(&beds, &query(10, false));
    assert_eq!((again, none), (page, Vec::new()));
    assert_eq!(beds[0].fold(), beds[2].fold());
}

#[test]
fn an_id_that_only_some_know_for_an_alias_skips_nothing() {
    let mut beds = [Bed::new(), Bed::new()];
    // The first has joined the key's two ids; the second knows only one, and a message that the first lacks.
    beds[0].merge(keyed(USER, "k", id_at(3), Some("a")));
    beds[0].merge(keyed(USER, "k", id_at(9), Some("a")));
    beds[1].merge(keyed(USER, "k", id_at(3), Some("a")));
    beds[1].merge(message(USER, id_at(5), "between"));
    beds[1].merge(message(USER, id_at(12), "later"));
    let mut onward = PageQuery { after: Some(id_at(1)), ..query(1, false) };
    let mut shown = Vec::new();
    for _ in 0..6 {
        let (page, _) = read_all(&beds, &onward);
        shown.extend(page.items.iter().map(|item| item.id()));
        let Some(next) = page.next_after() else { break };
        onward.after = Some(next);
    }
    for ms in [5, 9, 12] {
        assert!(shown.contains(&id_at(ms)), "{shown:?}");
    }
    // Who goes backward from between the two ids finds it under the one that lies before him.
    let backward = PageQuery { after: None, before: Some(id_at(7)), ..query(10, true) };
    let (page, _) = read_all(&beds, &backward);
    let ids: Vec<_> = page.items.iter().map(|item| item.id()).collect();
    assert_eq!(ids, [id_at(3), id_at(5)]);
}

#[test]
fn a_page_that_goes_backward_shows_a_message_before_it_though_another_replica_has_it_behind() {
    let mut beds = [Bed::new(), Bed::new()];
    beds[0].merge(keyed(USER, "k", id_at(3), Some("a")));
    beds[1].merge(keyed(USER, "k", id_at(9), Some("a")));
    let (page, _) = read_all(&beds, &PageQuery { before: Some(id_at(7)), ..query(10, true) });
    let ids: Vec<_> = page.items.iter().map(|item| item.id()).collect();
    assert_eq!(ids, [id_at(3)]);
    let (page, _) = read_all(&beds, &query(10, true));
    let ids: Vec<_> = page.items.iter().map(|item| item.id()).collect();
    assert_eq!(ids, [id_at(9)]);
}

#[test]
fn a_plain_and_a_keyed_message_of_one_id_are_shown_as_one() {
    let mut beds = [Bed::new()];
    beds[0].merge(keyed(USER, "k", id_at(3), Some("a")));
    beds[0].merge(message(USER, id_at(3), "b"));
    let (page, repairs) = read_all(&beds, &query(10, false));
    assert_eq!(page.items, [message(USER, id_at(3), "b")]);
    assert_eq!(repairs, []);
}

#[test]
fn replicas_with_different_texts_under_one_id_are_repaired_to_the_same() {
    let mut beds = [Bed::new(), Bed::new()];
    beds[0].merge(message(USER, id_at(3), "b"));
    beds[1].merge(message(USER, id_at(3), "a"));
    let (page, repairs) = read_all(&beds, &query(10, false));
    assert_eq!(page.items, [message(USER, id_at(3), "a")]);
    assert_eq!(repairs, [(0, message(USER, id_at(3), "a"))]);
}

#[test]
fn nothing_is_said_about_what_a_replica_does_not_cover() {
    let mut beds = [Bed::new(), Bed::new()];
    for ms in 1..=9 {
        beds[0].merge(message(USER, id_at(ms), "x"));
    }
    beds[1].merge(message(USER, id_at(1), "x"));
    beds[1].merge(message(USER, id_at(9), "x"));
    let (page, repairs) = read_all(&beds, &query(3, false));
    assert_eq!(page.covered.through, id_at(3));
    assert_eq!(repairs, [(1, message(USER, id_at(2), "x")), (1, message(USER, id_at(3), "x"))]);
    let (page, repairs) = read_all(&beds, &query(3, true));
    assert_eq!(page.next_before(), Some(id_at(7)));
    assert_eq!(repairs, [(1, message(USER, id_at(7), "x")), (1, message(USER, id_at(8), "x"))]);
}

#[test]
fn a_page_that_was_wasted_below_another_replicas_mark_goes_on_above_it() {
    let mut beds = [Bed::new(), Bed::new()];
    for bed in &mut beds {
        for ms in 1..=50 {
            bed.merge(message(USER, id_at(ms), "x"));
        }
    }
    beds[0].merge(mark(USER, id_at(40)));
    let (page, repairs) = read_all(&beds, &query(5, false));
    assert_eq!((page.items.len(), page.mark, page.next_after()), (0, Some(id_at(40)), Some(id_at(40))));
    assert_eq!(repairs, [(1, mark(USER, id_at(40)))]);
    let newest = read_all(&beds, &query(10, true)).0;
    assert_eq!((newest.items.len(), newest.more), (10, true));
    let before = PageQuery { before: newest.next_before(), ..query(10, true) };
    let last = read_all(&beds, &before).0;
    assert_eq!((last.items, last.more), (Vec::new(), false));
}

/// A reader that counts the rows it is shown.
struct CountingRows<'a> {
    inner: &'a dyn Read,
    rows: std::cell::Cell<usize>,
}

impl Read for CountingRows<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<bytes::Bytes>, ringwork_core::store::StoreError> {
        self.rows.set(self.rows.get() + 1);
        self.inner.get(key)
    }

    fn scan(
        &self,
        range: &ringwork_core::store::KeyRange,
        direction: ringwork_core::store::Direction,
        visit: ringwork_core::store::Visit<'_>,
    ) -> Result<(), ringwork_core::store::StoreError> {
        self.inner.scan(range, direction, &mut |key, value| {
            self.rows.set(self.rows.get() + 1);
            visit(key, value)
        })
    }
}

#[test]
fn a_page_reads_its_own_rows_whatever_the_length_of_the_log() {
    for length in [300u64, 3_000, 30_000] {
        let mut bed = Bed::new();
        for ms in 1..=length {
            bed.merge(message(USER, id_at(ms), "x"));
        }
        for backward in [false, true] {
            let (after, before) = (Some(id_at(length / 3)), Some(id_at(length / 3 * 2)));
            let query = PageQuery { user: USER.into(), after, before, limit: 100, backward };
            let reader = CountingRows { inner: &bed.chat.store, rows: std::cell::Cell::new(0) };
            let page = read_page(&reader, &query, PageBounds::default()).unwrap();
            assert_eq!(page.items.len(), 100.min(length as usize / 3 - 1));
            assert!(reader.rows.get() <= page.items.len() + 8, "{} rows read of {length}", reader.rows.get());
        }
    }
}
