//! Sending, retrying, deleting and reading on one replica.

use crate::bed::{Bed, content, id_at, keyed, mark, message};
use crate::chat::{Chat, ChatCommand, ChatConfig, ChatError, ChatReply};
use crate::id::MessageId;
use crate::item::ChatItem;
use crate::layout;
use crate::page::{PageQuery, PageReply};
use bytes::Bytes;
use ringwork_core::ids::Partition;
use ringwork_core::keyspace::{Keyspace, KeyspaceHost};
use ringwork_core::store::memory::MemoryStore;
use ringwork_core::store::{Direction, KeyRange, KeyspaceId, OpenTree, Store, StoreError, Tree, Visit};
use ringwork_core::vnode::{Merged, Turn, Vnode};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const USER: &str = "anna";

fn send(bed: &mut Bed, key: &str, text: &str) -> (MessageId, bool, bool) {
    let command = ChatCommand::SendKeyed { user: USER.into(), key: key.into(), content: content(text) };
    match bed.run(command) {
        ChatReply::Sent { id, new, conflicting } => (id, new, conflicting),
        other => panic!("{other:?}"),
    }
}

fn query(limit: u16) -> PageQuery {
    PageQuery { user: USER.into(), after: None, before: None, limit, backward: false }
}

fn read(bed: &mut Bed, query: PageQuery) -> PageReply {
    match bed.run(ChatCommand::Page(query)) {
        ChatReply::Page(page) => page,
        other => panic!("{other:?}"),
    }
}

fn texts(page: &PageReply) -> Vec<&str> {
    page.items.iter().map(|item| item.content().unwrap().text.as_str()).collect()
}

#[test]
fn a_retry_under_a_key_is_one_message_and_is_sent_to_the_replicas_again() {
    let mut bed = Bed::new();
    let (id, new, conflicting) = send(&mut bed, "order 66", "hello");
    assert!(new && !conflicting);
    assert_eq!(send(&mut bed, "order 66", "hello"), (id, false, false));
    assert_eq!(send(&mut bed, "order 66", "something else"), (id, false, true));
    assert_eq!(bed.touched, vec![keyed(USER, "order 66", id, Some("hello")); 3]);
    assert_eq!(texts(&read(&mut bed, query(10))), ["hello"]);
    assert_ne!(send(&mut bed, "order 67", "hello").0, id);
}

#[test]
fn keyed_ids_rise_above_the_tail_and_the_mark() {
    let mut bed = Bed::new();
    let ahead = id_at(bed.host.now_ms + 60_000);
    bed.merge(message(USER, ahead, "from a fast clock"));
    let (first, ..) = send(&mut bed, "a", "first");
    assert!(first > ahead);
    let deleted = id_at(bed.host.now_ms + 120_000);
    bed.merge(mark(USER, deleted));
    let (second, ..) = send(&mut bed, "b", "second");
    assert!(second > deleted);
    assert_eq!(texts(&read(&mut bed, query(10))), ["second"]);
}

#[test]
fn nothing_is_sent_below_a_mark_that_is_not_believed() {
    let mut bed = Bed::new();
    let through = id_at(bed.host.now_ms + 3_600_000);
    assert!(through.is_too_far_ahead(bed.host.now_ms));
    bed.merge(mark(USER, through));
    let command = ChatCommand::SendKeyed { user: USER.into(), key: "k".into(), content: content("x") };
    assert!(matches!(bed.try_run(command), Err(ChatError::BelowMark { .. })));
    assert_eq!(bed.fold(), [mark(USER, through)]);
}

#[test]
fn a_key_answers_with_its_old_id_after_its_message_was_deleted() {
    let mut bed = Bed::new();
    let (id, ..) = send(&mut bed, "k", "hello");
    assert_eq!(bed.merge(mark(USER, id)), Merged::Changed);
    assert_eq!(send(&mut bed, "k", "hello"), (id, false, false));
    assert_eq!(bed.merge(keyed(USER, "k", id, Some("hello"))), Merged::Absorbed);
    assert_eq!(texts(&read(&mut bed, query(10))), Vec::<&str>::new());
    assert_eq!(bed.fold(), [mark(USER, id), keyed(USER, "k", id, None)]);
}

#[test]
fn deleting_through_an_id_leaves_what_is_later_and_takes_what_comes_late() {
    let mut bed = Bed::new();
    for ms in 1..=9 {
        assert_eq!(bed.merge(message(USER, id_at(ms), &ms.to_string())), Merged::Changed);
    }
    assert_eq!(bed.merge(mark(USER, id_at(6))), Merged::Changed);
    assert_eq!(bed.merge(mark(USER, id_at(4))), Merged::Unchanged);
    assert_eq!(bed.merge(message(USER, id_at(5), "late")), Merged::Absorbed);
    assert_eq!(bed.merge(message(USER, id_at(6), "6")), Merged::Absorbed);
    let page = read(&mut bed, query(10));
    assert_eq!((texts(&page), page.mark), (vec!["7", "8", "9"], Some(id_at(6))));
    assert_eq!(bed.rows(), 4);
}

#[test]
fn the_same_id_with_another_text_is_told_and_ends_alike_everywhere() {
    let id = id_at(5);
    let (mut one, mut two) = (Bed::new(), Bed::new());
    assert_eq!(one.merge(message(USER, id, "a")), Merged::Changed);
    assert_eq!(one.merge(message(USER, id, "a")), Merged::Unchanged);
    assert_eq!(one.merge(message(USER, id, "b")), Merged::Conflicting);
    assert_eq!(two.merge(message(USER, id, "b")), Merged::Changed);
    assert_eq!(two.merge(message(USER, id, "a")), Merged::Conflicting);
    assert_eq!(one.fold(), two.fold());
}

#[test]
fn two_ids_of_one_key_become_one_and_the_smaller_an_alias() {
    let (mut one, mut two) = (Bed::with(ChatConfig::default(), 1), Bed::with(ChatConfig::default(), 2));
    two.host.now_ms += 10;
    let (small, ..) = send(&mut one, "k", "hello");
    let (large, ..) = send(&mut two, "k", "hello");
    let between = id_at(small.time_ms() + 5);
    for bed in [&mut one, &mut two] {
        bed.merge(message(USER, between, "between"));
    }
    let (from_one, from_two) = (one.fold(), two.fold());
    for item in from_one {
        two.merge(item);
    }
    for item in from_two {
        one.merge(item);
    }
    assert_eq!(one.fold(), two.fold());
    for bed in [&mut one, &mut two] {
        assert_eq!(texts(&read(bed, query(10))), ["between", "hello"]);
        let aliased = |id| ChatCommand::Aliased { user: USER.into(), id };
        let ChatReply::Aliased(Some(item)) = bed.run(aliased(small)) else { panic!("{small} is an alias") };
        assert_eq!((item.id(), item.content()), (large, Some(&content("hello"))));
        assert_eq!(bed.run(aliased(large)), ChatReply::Aliased(None));
        // Places stay what they are; who has seen the message under the alias knows it by its cursor.
        let named = PageQuery { after: Some(small), ..query(10) };
        assert_eq!(texts(&read(bed, named)), ["between", "hello"]);
        let before = PageQuery { before: Some(large), backward: true, ..query(10) };
        assert_eq!(texts(&read(bed, before)), ["between"]);
        assert_eq!(send(bed, "k", "hello"), (large, false, false));
    }
}

#[test]
fn a_mark_that_hides_one_id_of_a_key_does_not_hide_the_other() {
    // The first attempt got an id below a mark that its node did not know; the second was acknowledged above it.
    let items =
        [mark(USER, id_at(5)), keyed(USER, "k", id_at(3), Some("x")), keyed(USER, "k", id_at(7), Some("x"))];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut bed = Bed::new();
        for at in order {
            bed.merge(items[at].clone());
        }
        let page = read(&mut bed, query(10));
        let ids: Vec<_> = page.items.iter().map(|item| item.id()).collect();
        assert_eq!((ids, texts(&page)), (vec![id_at(7)], vec!["x"]), "{order:?}");
        assert_eq!(send(&mut bed, "k", "x"), (id_at(7), false, false));
        // Deleted as a message, it is gone under every id that was known.
        let gone = ChatItem::Keyed {
            user: USER.into(),
            key: "k".into(),
            id: id_at(7),
            aliases: [id_at(3)].into(),
            content: None,
        };
        bed.merge(gone);
        bed.merge(items[2].clone());
        assert_eq!(texts(&read(&mut bed, query(10))), Vec::<&str>::new());
    }
}

#[test]
fn a_page_is_read_both_ways_and_a_long_one_off_the_vnode() {
    let mut bed = Bed::new();
    for ms in 1..=300u64 {
        bed.merge(message(USER, id_at(ms), &ms.to_string()));
        bed.merge(message("anna2", id_at(ms), "another's"));
    }
    let page = read(&mut bed, query(3));
    assert_eq!((texts(&page), page.next_after()), (vec!["1", "2", "3"], Some(id_at(3))));
    let newest = read(&mut bed, PageQuery { backward: true, ..query(3) });
    assert_eq!((texts(&newest), newest.next_before()), (vec!["298", "299", "300"], Some(id_at(298))));
    let inner = PageQuery { after: Some(id_at(10)), before: Some(id_at(13)), ..query(10) };
    let inner = read(&mut bed, inner);
    assert_eq!((texts(&inner), inner.more, inner.next_after()), (vec!["11", "12"], false, None));
    let all = read(&mut bed, query(1000));
    assert_eq!((all.items.len(), all.more), (300, false));
}

#[test]
fn a_page_ends_at_a_mebibyte_but_holds_one_message() {
    let mut bed = Bed::new();
    let long = "x".repeat(700 * 1024);
    for ms in 1..=3 {
        bed.merge(message(USER, id_at(ms), &long));
    }
    let page = read(&mut bed, query(10));
    assert_eq!((page.items.len(), page.next_after()), (1, Some(id_at(1))));
    let none = read(&mut bed, query(0));
    assert_eq!(none.items.len(), 1);
}

#[test]
fn hostile_ids_and_names_are_only_places_and_names() {
    let mut bed = Bed::new();
    for id in [MessageId::SMALLEST, MessageId::LARGEST, MessageId([9; 20])] {
        bed.merge(message(USER, id, "x"));
        bed.merge(keyed(USER, "k\u{ffff}", id, Some("y")));
    }
    for user in ["", "\0", "\0\u{1}", "anna\0", "\u{10ffff}"] {
        bed.merge(message(user, id_at(1), "x"));
    }
    for (after, before) in
        [(MessageId::SMALLEST, MessageId::LARGEST), (MessageId::LARGEST, MessageId::SMALLEST)]
    {
        for backward in [false, true] {
            let query = PageQuery { after: Some(after), before: Some(before), backward, ..query(10) };
            read(&mut bed, query);
        }
    }
    assert_eq!(read(&mut bed, query(10)).items.len(), 4);
    let long = ChatCommand::SendKeyed { user: "u".repeat(129), key: "k".into(), content: content("x") };
    assert!(matches!(bed.try_run(long), Err(ChatError::Input(_))));
    let none = ChatCommand::SendKeyed { user: USER.into(), key: String::new(), content: content("x") };
    assert!(matches!(bed.try_run(none), Err(ChatError::Input(_))));
    assert_eq!(bed.merge(mark(USER, MessageId::LARGEST)), Merged::Changed);
    assert!(read(&mut bed, query(10)).items.is_empty());
}

#[test]
fn unreadable_rows_are_skipped_and_counted_and_a_repair_heals_them() {
    let mut bed = Bed::new();
    let (id, ..) = send(&mut bed, "k", "hello");
    for ms in 1..=3 {
        bed.merge(message(USER, id_at(ms), "x"));
    }
    let whole = bed.fold();
    let garbage = [
        layout::message_key(USER, id_at(2), None),
        layout::message_key(USER, id, Some("k")),
        b"no user".to_vec(),
        [&layout::user_prefix(USER)[..], &[99]].concat(),
        [&layout::user_prefix(USER)[..], &[4, 1, 2]].concat(),
    ];
    for key in garbage {
        bed.chat.store.put(key, &b"\xffgarbage"[..]);
    }
    let before = layout::unreadable_rows();
    let (items, unreadable) = bed.fold_of_what_is_damaged();
    // A keyed message whose content is one of these is left out where its key is.
    assert_eq!((items.len(), unreadable), (2, 5));
    assert_eq!(read(&mut bed, query(10)).items.len(), 2);
    assert_eq!(read(&mut bed, PageQuery { backward: true, ..query(10) }).items.len(), 2);
    assert!(layout::unreadable_rows() > before);
    assert!(!bed.chat.is_empty().unwrap());
    let retry = ChatCommand::SendKeyed { user: USER.into(), key: "k".into(), content: content("hello") };
    assert!(matches!(bed.try_run(retry), Err(ChatError::KeyUnreadable { .. })));
    for item in &whole {
        bed.merge(item.clone());
    }
    // Two rows that are nobody's stay, and one in the user's log.
    assert_eq!(bed.fold_of_what_is_damaged(), (whole, 3));
    assert!(!send(&mut bed, "k", "hello").1);
}

#[test]
fn a_turn_that_fails_leaves_memory_as_the_store_is() {
    // The first user's mark takes one look, saying what the new one hides another, and removing that a third.
    for damaged_at in 0..12 {
        let (mut chat, keyspace, _) = counting(damaged_at);
        let mut host = Bed::new().host;
        let marks = ["a", "b", "c"].map(|user| (user.to_owned(), id_at(5))).to_vec();
        let mut turn = Turn::new(&mut host, Bed::new().place());
        let command = ChatCommand::Expire { marks, next: None };
        if chat.handle_command(command, &mut turn).is_ok() {
            assert!(damaged_at >= 9);
            continue;
        }
        keyspace.discard();
        for user in ["a", "b", "c"] {
            assert_eq!(chat.merge(message(user, id_at(3), "x")).unwrap(), Merged::Changed, "{damaged_at}");
        }
    }
}

#[test]
fn an_item_that_cannot_be_written_changes_nothing() {
    let mut bed = Bed::new();
    bed.merge(message(USER, id_at(1), "x"));
    let huge = "x".repeat(ringwork_core::limits::MESSAGE_BYTES_MAX + 1);
    let result = bed.chat.merge(message(USER, id_at(9), &huge));
    assert!(matches!(result, Err(ChatError::Unwritable(_))));
    bed.keyspace.discard();
    assert_eq!(bed.fold(), [message(USER, id_at(1), "x")]);
    assert_eq!(bed.merge(message(USER, id_at(5), "y")), Merged::Changed);
}

#[test]
fn a_keyed_message_that_comes_below_the_mark_leaves_only_its_key() {
    let mut bed = Bed::new();
    bed.merge(mark(USER, id_at(5)));
    assert_eq!(bed.merge(keyed(USER, "k", id_at(3), Some("x"))), Merged::Changed);
    assert_eq!(bed.merge(keyed(USER, "k", id_at(3), Some("x"))), Merged::Absorbed);
    assert_eq!(bed.rows(), 2);
    assert_eq!(send(&mut bed, "k", "x"), (id_at(3), false, false));
}

#[test]
fn every_alias_of_a_key_leads_to_the_largest_id() {
    let mut bed = Bed::new();
    for ms in [9, 5, 7, 3] {
        bed.merge(keyed(USER, "k", id_at(ms), Some("x")));
    }
    for ms in [5, 7, 3] {
        let aliased = ChatCommand::Aliased { user: USER.into(), id: id_at(ms) };
        let ChatReply::Aliased(Some(item)) = bed.run(aliased) else { panic!("{ms} is an alias") };
        assert_eq!(item.id(), id_at(9));
    }
    assert_eq!(read(&mut bed, query(10)).items.len(), 1);
}

#[test]
fn the_memory_of_heads_is_bounded_and_forgetting_is_harmless() {
    let mut bed = Bed::new();
    for n in 0..2 * crate::limits::HEADS_MAX {
        bed.merge(message(&format!("u{n}"), id_at(7), "x"));
        assert!(bed.chat.heads.len() <= crate::limits::HEADS_MAX);
    }
    assert_eq!(bed.merge(message("u0", id_at(7), "x")), Merged::Unchanged);
    assert_eq!(bed.merge(message("u0", id_at(6), "x")), Merged::Changed);
}

/// A keyspace's read side that counts how often it is asked, and at a certain count is damaged.
struct Counting {
    tree: Arc<dyn Tree>,
    asked: Arc<AtomicU64>,
    damaged_at: u64,
}

impl Counting {
    fn ask(&self) -> Result<(), StoreError> {
        if self.asked.fetch_add(1, Ordering::Relaxed) == self.damaged_at {
            return Err(StoreError::Damaged("for the test".into()));
        }
        Ok(())
    }
}

fn counting(damaged_at: u64) -> (Chat, KeyspaceHost, Arc<AtomicU64>) {
    let open = MemoryStore::new().open(&KeyspaceId::Node).unwrap();
    let asked = Arc::new(AtomicU64::new(0));
    let tree = Arc::new(Counting { tree: open.tree, asked: asked.clone(), damaged_at });
    let (keyspace, host) = Keyspace::new(OpenTree { slot: open.slot, tree });
    (Chat::init(Partition(0), &ChatConfig::default(), keyspace).unwrap(), host, asked)
}

impl Tree for Counting {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.ask()?;
        self.tree.get(key)
    }
    fn scan(&self, range: &KeyRange, direction: Direction, visit: Visit<'_>) -> Result<(), StoreError> {
        self.ask()?;
        self.tree.scan(range, direction, visit)
    }
    fn snapshot(&self) -> Arc<dyn Tree> {
        self.tree.snapshot()
    }
}

#[test]
fn a_new_message_at_the_end_reads_nothing() {
    let (mut chat, _host, asked) = counting(u64::MAX);
    chat.merge(message(USER, id_at(1), "x")).unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 2, "the first touch looks for the mark and for the row");
    for ms in 2..100 {
        assert_eq!(chat.merge(message(USER, id_at(ms), "x")).unwrap(), Merged::Changed);
    }
    assert_eq!(
        asked.load(Ordering::Relaxed),
        3,
        "the second looks for the end of the log, and no other reads"
    );
}

#[test]
fn replies_that_do_not_fit_the_command_are_passed_over() {
    let of = |ms| ChatReply::Aliased(Some(keyed(USER, "k", id_at(ms), Some("x"))));
    let page = ChatCommand::Page(query(3));
    assert!(Chat::resolve(&page, &[of(2)]).is_none());
    let aliased = ChatCommand::Aliased { user: USER.into(), id: id_at(1) };
    let reply = Chat::resolve(&aliased, &[ChatReply::Aliased(None), of(2), of(3)]).unwrap().reply;
    let ChatReply::Aliased(Some(ChatItem::Keyed { id, aliases, .. })) = reply else { panic!("{reply:?}") };
    assert_eq!((id, aliases), (id_at(3), [id_at(2)].into()));
    assert_eq!(Chat::resolve(&aliased, &[ChatReply::Aliased(None)]).unwrap().reply, ChatReply::Aliased(None));
    let sent = ChatReply::Sent { id: id_at(1), new: true, conflicting: false };
    let send = ChatCommand::SendKeyed { user: USER.into(), key: "k".into(), content: content("x") };
    assert_eq!(Chat::resolve(&send, std::slice::from_ref(&sent)).unwrap().reply, sent);
}

#[test]
fn an_id_is_twenty_bytes_on_the_wire() {
    let bytes = ringwork_core::wire::codec::encode(&id_at(1)).unwrap();
    assert_eq!(bytes.len(), 20);
    let item: ChatItem = message(USER, id_at(1), "x");
    let bytes = ringwork_core::wire::codec::encode(&item).unwrap();
    assert_eq!(ringwork_core::wire::codec::decode::<ChatItem>(&bytes).unwrap(), item);
}
