//! The largest objects: four sides of a cut network are joined, and whoever goes through many rests between them.

use crate::bed::{Bed, name, put};
use crate::command::{Put, PutRefusal, PutReply};
use crate::content::Content;
use crate::keys::KvList;
use crate::kv::{Kv, KvConfig};
use crate::limits::OBJECT_BYTES_MAX;
use ringwork_core::antientropy::listing::{GroupOf, Summing, Through, Wanted, list};
use ringwork_core::coverage::page::{PageBounds, read_page};
use ringwork_core::ids::{ClusterId, Partition};
use ringwork_core::limits::{STORE_VALUE_BYTES_MAX, TREE_LEAVES, VISITED_BYTES_MAX};
use ringwork_core::ring::{KeyHash, RingSize};
use ringwork_core::store::KeyRange;
use ringwork_core::vnode::{Merged, Vnode};
use ringwork_core::wire::codec;

fn large() -> KvConfig {
    KvConfig { object_bytes_max: OBJECT_BYTES_MAX, ..KvConfig::default() }
}

fn sized(key: &str, bytes: usize) -> Put {
    Put { content: Content::of(vec![b'v'; bytes]), return_object: false, ..put(key, "") }
}

#[test]
fn what_four_sides_of_a_cut_network_wrote_is_joined_whatever_it_comes_to() {
    let mut here = Bed::with(large(), 1);
    here.stored(sized("k", OBJECT_BYTES_MAX));
    let more = here.put(sized("other", OBJECT_BYTES_MAX + 1));
    assert!(matches!(more, PutReply::Refused(PutRefusal::TooLarge { siblings: 1, .. })), "{more:?}");
    assert!(matches!(here.put(put("k", "x")), PutReply::Refused(PutRefusal::TooLarge { siblings: 2, .. })));
    for actor in 2..=4 {
        let mut there = Bed::with(large(), actor);
        there.stored(sized("k", OBJECT_BYTES_MAX));
        assert_eq!(here.merge(there.fold().remove(0)), Merged::Changed);
    }
    let item = here.fold().remove(0);
    assert_eq!((item.object.len(), here.get("k").len()), (4, 4));
    let bytes = codec::encode(&item).unwrap().len();
    assert!((4 * OBJECT_BYTES_MAX..STORE_VALUE_BYTES_MAX).contains(&bytes), "{bytes}");
    // One value in the place of all.
    let seen = here.get("k").context();
    here.stored(Put { seen, ..put("k", "one") });
    assert_eq!(here.get("k").len(), 1);
}

#[test]
fn who_goes_through_large_objects_rests_by_their_bytes() {
    let mut bed = Bed::with(large(), 1);
    let keys = ["a", "b", "c"];
    keys.iter().for_each(|key| drop(bed.stored(sized(key, VISITED_BYTES_MAX / 2))));
    let size = RingSize::try_from(8).unwrap();
    let of = |partition: u16| GroupOf::new(ClusterId([7; 16]), Kv::SERVICE, size, Partition(partition));
    let group = size.partition_of(&KeyHash::of(Kv::SERVICE, name("a").bytes()));
    let (mut summing, mut steps) = (Summing::new(bed.keyspace.snapshot(), KeyRange::all(), of(0)), 1);
    while summing.step::<Kv>(1000).unwrap() {
        steps += 1;
    }
    assert_eq!(steps, 2);
    let leaves = (0..TREE_LEAVES as u16).collect();
    let page = list::<Kv>(&bed.keyspace.snapshot(), of(group.0), &Wanted { group, leaves, after: None });
    assert_eq!(page.unwrap().through, Through::Key(name("b").bytes().to_vec()));

    // A list of keys, page by page.
    let question = KvList::Keys { bucket_type: "default".into(), bucket: "b".into() };
    let (mut bounds, mut pages) =
        (PageBounds { after: None, rows_max: 100, bytes_max: 1000, filter: None }, Vec::new());
    loop {
        let page = read_page::<Kv>(&bed.keyspace.snapshot(), &question, &bounds, Partition(0), size).unwrap();
        page.check(&bounds).unwrap();
        pages.push(page.rows.iter().map(|row| row.0.to_vec()).collect::<Vec<_>>());
        let Some(through) = page.through else { break };
        bounds.after = Some(through);
    }
    assert_eq!(pages, [vec![b"a".to_vec(), b"b".to_vec()], vec![b"c".to_vec()]]);
}
