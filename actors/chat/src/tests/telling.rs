//! That turns tell what they change, over courses of merges, commands and passing time; and that replicas which have
//! removed what a mark hides, and those that have not yet, show the same.

use crate::bed::{Bed, content, first_user, id_at, keyed, mark, message};
use crate::chat::{ChatCommand, ChatConfig};
use crate::limits::REMOVED_ROWS_MAX;
use ringwork_core::testing::Draw;
use std::time::Duration;

#[test]
fn a_mark_over_more_rows_than_a_turn_removes_is_told_whole() {
    let (mut swept, mut unswept) = (Bed::new(), Bed::with(ChatConfig::default(), 2));
    swept.start();
    let rows = REMOVED_ROWS_MAX as u64 + 50;
    for bed in [&mut swept, &mut unswept] {
        for ms in 1..=rows {
            bed.merge(message("u", id_at(ms), "x"));
            bed.merge(keyed("u", &format!("k{}", ms % 300), id_at(ms), Some("y")));
        }
        bed.merge(message("u", id_at(rows + 1), "stays"));
        bed.merge(message("v", id_at(1), "stays, too"));
        bed.merge(mark("u", id_at(rows)));
        bed.fold();
    }
    swept.pass(120_000);
    assert!(swept.rows() < unswept.rows(), "{} rows and {}", swept.rows(), unswept.rows());
    assert_eq!(swept.fold(), unswept.fold());
    // What is hidden and not removed yet comes again.
    for bed in [&mut swept, &mut unswept] {
        bed.merge(keyed("u", "k7", id_at(rows - 1), Some("y")));
        bed.merge(keyed("u", "k8", id_at(0), Some("y")));
        bed.merge(message("u", id_at(rows), "x"));
    }
    assert_eq!(swept.fold(), unswept.fold());
}

#[test]
fn every_course_of_merges_and_commands_tells_what_it_changes() {
    let config = ChatConfig {
        retention_age: Some(Duration::from_millis(400_000)),
        retention_count: Some(6),
        ..ChatConfig::default()
    };
    let users = [first_user(true), first_user(false)];
    for seed in 0..150 {
        let mut draw = Draw::from_seed(seed);
        let mut bed = Bed::with(config.clone(), 1);
        bed.start();
        for _ in 0..60 {
            let user = users[draw.below(2) as usize].clone();
            let id = id_at(bed.host.now_ms - 5 + draw.below(10));
            let key = ["k", "kk", "kkk"][draw.below(3) as usize];
            let text = ["x", "y"][draw.below(2) as usize];
            match draw.below(12) {
                0..=3 => drop(bed.merge(message(&user, id, text))),
                4..=6 => drop(bed.merge(keyed(&user, key, id, Some(text).filter(|_| !draw.one_in(5))))),
                7..=8 => {
                    let content = content(text);
                    let _ = bed.try_run(ChatCommand::SendKeyed { user, key: key.into(), content });
                }
                9 => drop(bed.merge(mark(&user, id))),
                _ => bed.pass(1 + draw.below(90_000)),
            }
            bed.fold();
        }
    }
}
