//! What a comparison costs where there is much: trees of a million items, without a store behind them (whoever asks for
//! more than the trees know makes the test fail); listings of more than a page goes through.

use super::{Peak, Peaks, Replica, names, prints, size};
use crate::antientropy::exchange::{Answer, Effect, Ending, Event, Exchange, Question, Side};
use crate::antientropy::listing::{Through, Wanted, list};
use crate::antientropy::tree::Tree;
use crate::ids::Partition;
use crate::limits::ENTRIES_VISITED_MAX;
use crate::vnode::Item;
use crate::wire::codec;

const ITEMS: u64 = 1_000_000;

fn item(number: u64) -> Peak {
    Peak { name: format!("a{number:07}"), number: number + 1 }
}

fn tree_of(numbers: impl Iterator<Item = u64>) -> Tree {
    let (mut tree, prints, mut scratch) = (Tree::default(), prints(), Vec::new());
    for item in numbers.map(item) {
        let print = prints.of(&item, &mut scratch).unwrap();
        tree.change(prints.leaf_of(&item.key()), None, Some(print));
    }
    tree
}

/// How a first look ends, and the bytes of all questions and answers between nodes.
fn compare(mine: &Tree, theirs: &Tree) -> (Ending, usize) {
    let mut exchange = Exchange::new(Partition(1), prints(), 1000, None);
    let (mut now_ms, mut bytes, mut events) = (0, 0, vec![Event::Tick]);
    loop {
        let mut wake_at_ms = now_ms;
        for effect in exchange.handle(now_ms, events.pop().unwrap_or(Event::Tick)) {
            match effect {
                Effect::End(ending) => return (ending, bytes),
                Effect::WakeAt(at_ms) => wake_at_ms = at_ms,
                Effect::Ask { side, number, question } => {
                    assert!(question.is_lawful(size()));
                    let tree = if side == Side::Mine { mine } else { theirs };
                    let answer = match &question {
                        Question::Root => Answer::Root(tree.root()),
                        Question::Children { level, nodes } => Answer::Children(tree.children(*level, nodes)),
                        asked => panic!("a scan: {asked:?}"),
                    };
                    if side == Side::Theirs {
                        bytes +=
                            codec::encode(&question).unwrap().len() + codec::encode(&answer).unwrap().len();
                    }
                    events.push(Event::Answered { number, answer });
                }
            }
        }
        if events.is_empty() {
            now_ms = wake_at_ms;
        }
    }
}

#[test]
fn two_equal_trees_of_a_million_items_are_compared_in_few_bytes_and_without_a_scan() {
    let (mine, mut theirs) = (tree_of(0..ITEMS), tree_of((0..ITEMS).rev()));
    let (ended, bytes) = compare(&mine, &theirs);
    assert_eq!(ended, Ending::Equal);
    assert_eq!(bytes, 16);

    // One of them in another state: one leaf is to be listed, a four thousandth of the items.
    let mut other = item(ITEMS / 2);
    let was = prints().of(&other, &mut Vec::new()).unwrap();
    other.number += 1;
    let is = prints().of(&other, &mut Vec::new()).unwrap();
    let leaf = prints().leaf_of(&other.key());
    theirs.change(leaf, Some(was), Some(is));
    let (ended, bytes) = compare(&mine, &theirs);
    assert_eq!(ended, Ending::Unsettled(vec![leaf]));
    assert_eq!(bytes, 466);
}

#[test]
fn a_page_ends_where_it_has_gone_through_enough_and_the_next_goes_on_there() {
    let mut replica = Replica::new(Partition(3));
    let (group, within, _) = names(ENTRIES_VISITED_MAX + 500);
    for name in &within {
        replica.merge(name, 1);
    }
    let mut wanted = Wanted { group, leaves: vec![7], after: None };
    let mut found = Vec::new();
    for pages in 1.. {
        let snapshot = replica.host.snapshot();
        let page = list::<Peaks>(&snapshot, replica.keeper.groups(), &wanted).unwrap();
        assert!(page.is_lawful(&wanted, &prints()));
        found.extend(page.entries.into_iter().map(|entry| entry.key));
        match page.through {
            Through::Key(key) => wanted.after = Some(key),
            Through::End => {
                assert_eq!(pages, 2);
                break;
            }
        }
    }
    let mut expected: Vec<_> = within.iter().map(|name| name.clone().into_bytes()).collect();
    expected.retain(|key| prints().leaf_of(key) == 7);
    expected.sort();
    assert!(!expected.is_empty());
    assert_eq!(found, expected);
}
