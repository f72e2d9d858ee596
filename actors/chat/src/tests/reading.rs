//! That pages from memory are those of the store, and when an answer from memory may leave.

use crate::bed::{Bed, content, id_at, keyed, mark, message};
use crate::chat::{Chat, ChatCommand, ChatReply};
use crate::digest::PageDigest;
use crate::item::ChatItem;
use crate::layout;
use crate::limits::{RECENT_BYTES_MAX, RECENT_PIECE_BYTES_MAX};
use crate::page::{PageBounds, PageQuery, PageReply, read_page};
use ringwork_core::keyspace::Sequence;
use ringwork_core::store::{KeyspaceId, Store, Write};
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
    let id = |draw: &mut Draw| draw.one_in(2).then(|| id_at(draw.below(40)));
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
    assert_eq!(memory(&bed, &last).unwrap().items.last().unwrap(), &message("a", id_at(31), "new"));
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
fn a_message_that_was_lost_on_the_disk_and_comes_back_is_shown_once() {
    let mut bed = Bed::new();
    for ms in 1..=3 {
        bed.merge(message("a", id_at(ms), "x"));
    }
    let whole = page(&mut bed, &of("a"));
    let tree = bed.store.open(&KeyspaceId::Node).unwrap().slot;
    let lost = Write { tree, key: layout::message_key("a", id_at(2), None).into(), value: None };
    bed.store.commit(&mut vec![lost]).unwrap();
    assert_eq!(page(&mut bed, &of("a")), whole, "memory has it");
    bed.merge(message("a", id_at(2), "x"));
    assert_eq!(page(&mut bed, &of("a")), whole);
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

#[test]
fn sums_of_pages_lead_to_what_the_pages_would() {
    let (mut alike, mut asked_whole) = (0, 0);
    for seed in 0..300 {
        let mut draw = Draw::from_seed(seed);
        let mut beds = [Bed::new(), Bed::new(), Bed::new()];
        let differ = draw.below(4);
        for _ in 0..30 {
            let change = any_change(&mut draw);
            for bed in &mut beds {
                if differ == 0 || !draw.one_in(8) {
                    bed.merge(change.clone());
                }
            }
        }
        for _ in 0..6 {
            let query = any_query(&mut draw);
            let command = ChatCommand::Page(query.clone());
            let glance = Chat::glance(&command).unwrap();
            let mut ask = |place: usize, command: &ChatCommand| beds[place].run(command.clone());
            let pages: Vec<ChatReply> = (0..3).map(|place| ask(place, &command)).collect();
            let first = draw.below(4) as usize;
            let mut replies: Vec<ChatReply> =
                (0..3).map(|place| ask(place, if place == first { &command } else { &glance })).collect();
            for round in 0.. {
                let unseen = Chat::unseen(&command, &replies);
                alike += usize::from(round == 0 && unseen.is_empty());
                if unseen.is_empty() {
                    break;
                }
                assert!(round < 3);
                for place in unseen {
                    assert!(matches!(replies[place], ChatReply::Digest(_)));
                    replies[place] = ask(place, &command);
                    asked_whole += 1;
                }
            }
            let (told, expected) = (Chat::resolve(&command, &replies), Chat::resolve(&command, &pages));
            let (told, expected) = (told.unwrap(), expected.unwrap());
            assert_eq!(told.reply, expected.reply, "seed {seed}: {query:?}");
            assert_eq!(told.repairs, expected.repairs, "seed {seed}: {query:?}");
        }
    }
    assert!(alike > 200 && asked_whole > 200, "{alike} {asked_whole}");
}

#[test]
fn a_sum_tells_any_difference_of_two_pages() {
    let mut bed = Bed::new();
    bed.merge(message("a", id_at(1), "x"));
    bed.merge(keyed("a", "k", id_at(2), Some("y")));
    let told = page(&mut bed, &of("a"));
    let sum = PageDigest::of_page(&told);
    assert!(sum.same(PageDigest::of_page(&told)));
    let differ = |change: &dyn Fn(&mut PageReply)| {
        let mut other = told.clone();
        change(&mut other);
        assert_ne!(other, told);
        assert!(!sum.same(PageDigest::of_page(&other)), "{other:?}");
    };
    differ(&|page| page.mark = Some(id_at(0)));
    differ(&|page| page.more = true);
    differ(&|page| page.covered.through = id_at(9));
    differ(&|page| page.items[0] = message("a", id_at(1), "y").into());
    differ(&|page| page.items[1] = keyed("a", "l", id_at(2), Some("y")).into());
    differ(&|page| drop(page.items.pop()));
}

#[test]
fn sums_of_several_that_are_one_replica_stand_for_a_page_only_where_they_are_the_same() {
    let mut bed = Bed::new();
    bed.merge(message("a", id_at(1), "x"));
    let (one, other) = (ChatCommand::Digest(of("a")), ChatCommand::Digest(of("b")));
    let (sum, none) = (bed.run(one.clone()), bed.run(other));
    let joined = |replies: &[ChatReply]| Chat::resolve(&one, replies).unwrap().reply;
    assert_eq!(joined(&[sum.clone(), sum.clone()]), sum);
    let differ = joined(&[sum, none]);
    let page = ChatCommand::Page(of("a"));
    let replies = [bed.run(page.clone()), differ.clone(), differ];
    assert_eq!(Chat::unseen(&page, &replies), [1, 2], "not even of each other");
}
