//! That the module is lawful, and that the laws would notice if it were not.

use crate::bed::Bed;
use crate::blob::Blob;
use crate::content::Content;
use crate::keys::{KvList, KvRow};
use crate::kv::{Kv, KvConfig};
use crate::name::ObjectName;
use crate::object::{Conflicts, KvItem, Object};
use crate::rows::Standing;
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

fn listed(bed: &Bed, list: &KvList, after: Option<&[u8]>) -> Vec<KvRow> {
    let mut rows = Vec::new();
    list.cover(&bed.keyspace.snapshot(), after, &mut |seen| {
        if let Seen::Row { row, .. } = seen {
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
    for _ in 0..200 {
        bed.merge(any_item(&mut draw));
    }
    let mut object = Object::new();
    for (deleted, time) in [(false, 5), (true, 9)] {
        let content = Content { deleted, modified: HybridTime(time), ..Content::of("v") };
        let dot = Dot { actor: ActorId(7), counter: time };
        assert!(object.put(content, &CausalContext::new(), dot, Conflicts::Siblings));
    }
    bed.merge(KvItem { name: ObjectName::new("default", b"b", b"deleted last").unwrap(), object });
    let keys = KvList::Keys { bucket_type: "default".into(), bucket: "b".into() };
    let rows = listed(&bed, &keys, None);
    for conflicts in [Conflicts::Siblings, Conflicts::Latest, Conflicts::Overwrite, Conflicts::First] {
        let shown = rows.iter().filter(|row| row.1.is_readable_in(conflicts)).map(|row| row.0.clone());
        let items = bed.fold().into_iter();
        let of_bucket =
            items.filter(|item| item.name.bucket_type() == "default" && item.name.bucket() == b"b");
        let readable = of_bucket.filter(|item| !item.object.clone().shown(conflicts).is_dead());
        let expected: Vec<Blob> = readable.map(|item| item.name.key().into()).collect();
        assert_eq!(shown.collect::<Vec<_>>(), expected, "{conflicts:?}");
    }
    assert!(rows.iter().any(|row| row.1 == Standing::DeletedLast), "some tombstones stand beside values");
    // Behind a bucket's last name the next bucket begins.
    let names = KvList::Names { bucket_type: "t".into() };
    let buckets = |after: Option<&[u8]>| {
        let first = listed(&bed, &names, after).first().cloned();
        first.map(|row| row.name().unwrap().bucket())
    };
    let mut found = Vec::new();
    let mut after = None;
    while let Some(bucket) = buckets(after.as_deref()) {
        after = Some(crate::name::last_of_bucket("t", &bucket));
        found.push(bucket);
    }
    let mut all: Vec<_> =
        listed(&bed, &names, None).into_iter().map(|row| row.name().unwrap().bucket()).collect();
    all.dedup();
    assert_eq!(found, all);
    assert!(all.len() > 1);
}
