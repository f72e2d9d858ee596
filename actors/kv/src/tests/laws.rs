//! That the module is lawful, and that the laws would notice if it were not.

use crate::bed::Bed;
use crate::blob::Blob;
use crate::content::Content;
use crate::keys::{KvList, KvRow};
use crate::kv::{Kv, KvConfig};
use crate::name::ObjectName;
use crate::object::{Conflicts, KvItem, Object};
use ringwork_core::clock::dotted::CausalContext;
use ringwork_core::clock::hybrid::HybridTime;
use ringwork_core::coverage::question::{Question, Seen};
use ringwork_core::ids::{ActorId, Dot};
use ringwork_core::store::Flow;
use ringwork_core::testing::{Draw, check_laws, check_listing_laws};

/// States of few objects by few actors: everything meets everything. What a write says follows from its dot, for a dot
/// names one write.
fn any_item(draw: &mut Draw) -> KvItem {
    let bucket: &[u8] = draw.pick(&[b"b".as_slice(), b"b\0", b"c"]).copied().unwrap_or_default();
    let key: &[u8] = draw.pick(&[b"k".as_slice(), b"\0k", b"k\xff"]).copied().unwrap_or_default();
    let kind = draw.pick(&["default", "t"]).copied().unwrap_or_default();
    let mut object = Object::new();
    for actor in 0..3u64 {
        for counter in 1..=draw.below(4) {
            let seen = if draw.one_in(2) { object.context() } else { CausalContext::new() };
            let content = Content {
                deleted: (actor + counter) % 3 == 0,
                modified: HybridTime(actor * 7 + counter),
                ..Content::of(format!("{actor}.{counter}").as_str())
            };
            assert!(object.put(content, &seen, Dot { actor: ActorId(actor), counter }, Conflicts::Siblings));
        }
    }
    if draw.one_in(4) {
        object.bury();
    }
    KvItem { name: ObjectName::new(kind, bucket, key).unwrap(), object }
}

fn any_list(draw: &mut Draw) -> KvList {
    let bucket_type = draw.pick(&["default", "t", "none"]).copied().unwrap_or_default().to_owned();
    match draw.below(3) {
        0 => KvList::Names { bucket_type },
        _ => KvList::Keys {
            bucket_type,
            bucket: draw.pick(&["b", "b\0", "c", "d"]).copied().unwrap_or_default().into(),
        },
    }
}

#[test]
fn the_module_is_lawful() {
    check_laws::<Kv>(&KvConfig::default(), any_item);
}

#[test]
fn lists_are_lawful() {
    check_listing_laws::<Kv>(&KvConfig::default(), any_item, any_list);
}

fn listed(bed: &Bed, list: &KvList, after: Option<&[u8]>) -> Vec<Blob> {
    let mut rows = Vec::new();
    list.cover(&bed.keyspace.snapshot(), after, &mut |seen| {
        if let Seen::Row { row: KvRow(row), .. } = seen {
            rows.push(row);
        }
        Flow::Continue(())
    })
    .unwrap();
    rows
}

#[test]
fn what_is_listed_is_what_can_be_read() {
    let mut bed = Bed::new();
    let mut draw = Draw::from_seed(5);
    let mut expected = Vec::new();
    for _ in 0..200 {
        bed.merge(any_item(&mut draw));
    }
    for item in bed.fold() {
        if item.name.bucket_type() == "default" && item.name.bucket() == b"b" && !item.object.is_dead() {
            expected.push(Blob::from(item.name.key()));
        }
    }
    let keys = KvList::Keys { bucket_type: "default".into(), bucket: "b".into() };
    assert_eq!(listed(&bed, &keys, None), expected);
    // Behind a bucket's last name the next bucket begins.
    let names = KvList::Names { bucket_type: "t".into() };
    let buckets = |after: Option<&[u8]>| {
        let first = listed(&bed, &names, after).first().cloned();
        first.map(|row| KvRow(row).name().unwrap().bucket())
    };
    let mut found = Vec::new();
    let mut after = None;
    while let Some(bucket) = buckets(after.as_deref()) {
        after = Some(crate::name::last_of_bucket("t", &bucket));
        found.push(bucket);
    }
    let mut all: Vec<_> =
        listed(&bed, &names, None).into_iter().map(|row| KvRow(row).name().unwrap().bucket()).collect();
    all.dedup();
    assert_eq!(found, all);
    assert!(all.len() > 1);
}
