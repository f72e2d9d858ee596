//! Expiry by age and by count, and the rows that are left below marks.

use crate::bed::{Bed, first_user, id_at, keyed, mark, message};
use crate::chat::{ChatCommand, ChatConfig};
use crate::item::ChatItem;
use crate::sweep::{ScanPosition, find_expired};
use std::collections::BTreeMap;
use std::time::Duration;

fn config(age_ms: Option<u64>, count: Option<u64>) -> ChatConfig {
    ChatConfig {
        retention_age: age_ms.map(Duration::from_millis),
        retention_count: count,
        ..ChatConfig::default()
    }
}

fn left(bed: &Bed, user: &str) -> usize {
    bed.fold().iter().filter(|item| item.user() == user && item.content().is_some()).count()
}

#[test]
fn messages_expire_by_age_and_the_replicas_are_told() {
    let user = first_user(true);
    let mut bed = Bed::with(config(Some(10_000), None), 1);
    bed.start();
    let now = bed.host.now_ms;
    for n in 0..10 {
        bed.merge(message(&user, id_at(now + n * 10_000), "x"));
    }
    bed.merge(keyed(&user, "k", id_at(now + 1), Some("y")));
    bed.pass(59_999);
    assert_eq!(left(&bed, &user), 11);
    bed.pass(2);
    assert_eq!(bed.touched, [mark(&user, id_at(now + 40_000))]);
    assert_eq!(left(&bed, &user), 5);
    bed.pass(600_000);
    assert_eq!(left(&bed, &user), 0);
    let kept_for_good = keyed(&user, "k", id_at(now + 1), None);
    assert_eq!(bed.fold(), [mark(&user, id_at(now + 90_000)), kept_for_good]);
    assert_eq!(bed.rows(), 2);
}

#[test]
fn messages_expire_by_count() {
    let user = first_user(true);
    let mut bed = Bed::with(config(None, Some(3)), 1);
    bed.start();
    for n in 1..=8 {
        bed.merge(message(&user, id_at(n), "x"));
    }
    bed.pass(61_000);
    assert_eq!(bed.touched, [mark(&user, id_at(5))]);
    assert_eq!(left(&bed, &user), 3);
    bed.pass(600_000);
    assert_eq!(bed.touched.len(), 1, "what has been said is not said again");
}

#[test]
fn a_partition_that_is_not_the_first_expires_nothing() {
    let user = first_user(false);
    let mut bed = Bed::with(config(Some(1), Some(1)), 1);
    bed.start();
    for n in 1..=8 {
        bed.merge(message(&user, id_at(n), "x"));
    }
    bed.pass(600_000);
    assert_eq!(left(&bed, &user), 8);
    assert_eq!(bed.touched, []);
}

#[test]
fn without_retention_nothing_expires_and_the_sweep_goes_on() {
    let user = first_user(true);
    let mut bed = Bed::new();
    bed.start();
    bed.merge(message(&user, id_at(1), "x"));
    bed.pass(3_600_000);
    assert_eq!((left(&bed, &user), bed.later.len()), (1, 1));
    assert!(matches!(bed.later[0], (_, ChatCommand::Sweep)));
}

#[test]
fn a_long_log_is_deleted_at_once_and_its_rows_bit_by_bit() {
    let mut bed = Bed::new();
    bed.start();
    let total = 3_500;
    for n in 1..=total {
        bed.merge(message("u", id_at(n), "x"));
    }
    bed.merge(mark("u", id_at(total - 1)));
    assert_eq!(left(&bed, "u"), 1);
    assert_eq!(bed.fold().len(), 2);
    let rows = bed.rows();
    assert!(rows > 2_400, "{rows} rows");
    bed.merge(mark("u", id_at(total)));
    assert_eq!(bed.fold(), [mark("u", id_at(total))]);
    bed.pass(60_500);
    assert_eq!(bed.rows(), 1);
}

#[test]
fn a_lost_scan_is_followed_by_another() {
    let user = first_user(true);
    let mut bed = Bed::with(config(Some(1), None), 1);
    bed.start();
    bed.merge(message(&user, id_at(1), "x"));
    bed.pass(60_000 - 1);
    bed.host.now_ms += 1;
    let at = bed.later.iter().position(|(_, command)| *command == ChatCommand::Sweep).unwrap();
    let (_, sweep) = bed.later.remove(at).unwrap();
    bed.try_run(sweep).unwrap();
    bed.later.retain(|(_, command)| !matches!(command, ChatCommand::Scan(_)));
    bed.pass(8 * 60_000);
    assert_eq!(left(&bed, &user), 1);
    bed.pass(5 * 60_000);
    assert_eq!(left(&bed, &user), 0);
}

#[test]
fn a_scan_in_small_steps_finds_what_one_great_scan_finds() {
    let config = config(Some(500_000), Some(5));
    let mut bed = Bed::with(config.clone(), 1);
    let users: Vec<String> = (0..40).map(|n| format!("user{n}\0")).collect();
    for (n, user) in users.iter().enumerate() {
        for ms in 1..=n as u64 {
            bed.merge(message(user, id_at(400_000 + 5_000 * ms), "x"));
        }
    }
    bed.chat.store.put(&b"\x00garbage"[..], &b""[..]);
    bed.chat.store.put(&b"user7"[..], &b""[..]);
    bed.merge(mark("user9\0", id_at(430_000)));
    let place = bed.place();
    let scan =
        |position, rows| find_expired(&bed.keyspace.snapshot(), &config, place, position, rows).unwrap();
    let (whole, end) = scan(ScanPosition::default(), u64::MAX);
    assert_eq!(end, None);
    assert!(whole.len() > 2, "{whole:?}");
    for rows in 1..12 {
        let (mut position, mut marks, mut steps) = (Some(ScanPosition::default()), BTreeMap::new(), 0);
        while let Some(from) = position {
            let (found, next) = scan(from, rows);
            for (user, through) in found {
                let known = marks.entry(user).or_insert(through);
                *known = through.max(*known);
            }
            position = next;
            steps += 1;
            assert!(steps < 1_000, "with {rows} rows at a time");
        }
        assert_eq!(marks.into_iter().collect::<Vec<_>>(), whole, "with {rows} rows at a time");
    }
}

#[test]
fn a_log_longer_than_a_scan_expires_by_count() {
    let user = first_user(true);
    let mut bed = Bed::with(config(None, Some(25_000)), 1);
    bed.start();
    for n in 1..=25_500 {
        bed.merge(message(&user, id_at(n), "x"));
    }
    bed.pass(61_000);
    assert_eq!(bed.touched, [mark(&user, id_at(500))]);
    assert_eq!(left(&bed, &user), 25_000);
    let other = ChatItem::Mark { user: "other".into(), through: id_at(1) };
    bed.merge(other);
    bed.pass(61_000);
    assert_eq!(bed.touched.len(), 1);
}
