//! That pages from memory are those of the store, and when an answer from memory may leave.

use crate::bed::{Bed, content, id_at, keyed, mark, message};
use crate::chat::{ChatCommand, ChatReply};
use crate::item::ChatItem;
use crate::limits::{RECENT_BYTES_MAX, RECENT_PIECE_BYTES_MAX};
use crate::page::{PageBounds, PageQuery, PageReply, read_page};
use ringwork_core::keyspace::Sequence;
use ringwork_core::testing::Draw;
use ringwork_core::vnode::Vnode;

fn of(user: &str) -> PageQuery {
    PageQuery { user: user.to_owned(), after: None, before: None, limit: 20, backward: false }
}

fn page(bed: &mut Bed, query: &PageQuery) -> PageReply {
    match bed.run(ChatCommand::Page(query.clone())) {
        ChatReply::Page(page) => page,
        other => panic!("{other:?}"),
    }
}

fn any_query(draw: &mut Draw) -> PageQuery {
    let mut id = |draw: &mut Draw| draw.one_in(2).then(|| id_at(draw.below(40)));
    let (after, before) = (id(draw), id(draw));
    let user = ["a", "b"][draw.below(2) as usize].to_owned();
    PageQuery { user, after, before, limit: draw.below(8) as u16, backward: draw.one_in(2) }
}

fn any_change(draw: &mut Draw) -> ChatItem {
    let user = ["a", "b"][draw.below(2) as usize];
    let id = id_at(draw.below(40));
    match draw.below(12) {
        0 => mark(user, id_at(draw.below(20))),
        1 | 2 => keyed(user, ["k", "l"][draw.below(2) as usize], id, draw.one_in(3).then_some("t")),
        // Now and then an id that is there, with another text.
        _ => message(user, id, ["x", "y"][draw.below(8) as usize / 7]),
    }
}

#[test]
fn a_page_from_memory_is_the_page_of_the_store() {
    let mut told_from_memory = 0;
    for seed in 0..400 {
        let mut draw = Draw::from_seed(seed);
        let mut bed = Bed::new();
        for step in 0..60 {
            if draw.one_in(2) {
                bed.merge(any_change(&mut draw));
                continue;
            }
            let query = any_query(&mut draw);
            let bounds = PageBounds::default();
            told_from_memory += usize::from(bed.chat.recent.page(&query, bounds).is_some());
            let store = read_page(&bed.keyspace.snapshot(), &query, bounds).unwrap();
            assert_eq!(page(&mut bed, &query), store, "seed {seed}, step {step}: {query:?}");
        }
    }
    assert!(told_from_memory > 2000, "{told_from_memory}");
}

#[test]
fn what_was_read_is_told_from_memory_with_what_has_come_since() {
    let mut bed = Bed::new();
    for ms in 1..=30 {
        bed.merge(message("a", id_at(ms), "x"));
    }
    let memory = |bed: &Bed, query: &PageQuery| {
        bed.chat.recent.page(query, PageBounds::default()).map(|(page, _)| page)
    };
    let (first, last) = (of("a"), PageQuery { backward: true, ..of("a") });
    assert_eq!(memory(&bed, &first), None);
    let told = page(&mut bed, &first);
    assert_eq!((told.items.len(), told.more), (20, true));
    assert_eq!(memory(&bed, &first), Some(told));
    assert_eq!(memory(&bed, &last), None, "the end was not read");
    let told = page(&mut bed, &last);
    assert_eq!(memory(&bed, &last), Some(told));
    bed.merge(message("a", id_at(31), "new"));
    assert_eq!(memory(&bed, &last).unwrap().items.last(), Some(&message("a", id_at(31), "new")));
    // A message beside what is kept changes nothing of it.
    bed.merge(message("a", id_at(2), "y"));
    assert!(memory(&bed, &last).is_some());
    bed.merge(mark("a", id_at(3)));
    assert_eq!(memory(&bed, &last), None);
}

#[test]
fn an_answer_from_memory_waits_for_the_commit_of_what_it_shows() {
    let mut bed = Bed::new();
    bed.merge(message("a", id_at(1), "x"));
    page(&mut bed, &of("a"));
    // A turn whose writes are not committed yet.
    bed.chat.merge(message("a", id_at(2), "y")).unwrap();
    let under_way = bed.keyspace.seal();
    assert!(under_way.sequence > Sequence(0));
    let told = bed.chat.recent.page(&of("a"), PageBounds::default());
    assert_eq!(told.unwrap().0.items.len(), 2, "it is told from memory");
    let place = bed.place();
    let mut turn = ringwork_core::vnode::Turn::new(&mut bed.host, place);
    bed.chat.handle_command(ChatCommand::Page(of("a")), &mut turn).unwrap();
    assert_eq!(bed.keyspace.seal().wait_for, under_way.sequence);
}

#[test]
fn a_turn_that_fails_leaves_nothing_in_memory() {
    let mut bed = Bed::new();
    bed.merge(message("a", id_at(1), "x"));
    page(&mut bed, &of("a"));
    let send = |user: &str| ChatCommand::SendKeyed {
        user: user.to_owned(),
        key: String::new(),
        content: content("t"),
    };
    assert!(bed.try_run(send("a")).is_err());
    assert!(bed.chat.recent.page(&of("a"), PageBounds::default()).is_none());
}

#[test]
fn what_is_kept_is_bounded() {
    let mut bed = Bed::new();
    let text = "x".repeat(RECENT_PIECE_BYTES_MAX / 16);
    for user in 0..40 {
        let user = format!("user{user}");
        for ms in 1..=30 {
            bed.merge(message(&user, id_at(ms), &text));
            page(&mut bed, &of(&user));
            assert!(bed.chat.recent.bytes() <= RECENT_BYTES_MAX);
        }
        let told = page(&mut bed, &of(&user));
        assert_eq!((told.items.len(), told.more), (20, true), "what is too large to be kept is read");
    }
    let few = "user-with-few";
    bed.merge(message(few, id_at(1), "x"));
    page(&mut bed, &of(few));
    assert!(bed.chat.recent.page(&of(few), PageBounds::default()).is_some());
}
