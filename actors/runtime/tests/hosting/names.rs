//! Under which names vnodes count: when they go on under the one they had, and when they must not.

use super::summit::{Ask, Summit, Told};
use super::{options, run, start, stop};
use ringwork_core::store::memory::MemoryStore;
use ringwork_core::store::{KeyspaceId, Store};
use ringwork_runtime::coordinator::Service;
use ringwork_runtime::node::{Keep, NodeOptions};
use ringwork_runtime::randomness::Randomness;
use ringwork_runtime::spawner::Placement;
use std::sync::Arc;

#[test]
fn a_vnode_of_whose_dots_others_have_seen_more_than_it_has_counted_takes_a_new_name_for_good() {
    run(async {
        let store = MemoryStore::new();
        let (node, summit) = start(options(Placement::Here, Arc::new(store.clone()))).await;
        let raise = async |summit: &Service<Summit>, ask: Ask| match summit
            .key(b"k2")
            .run(ask)
            .await
            .unwrap()
            .reply
        {
            Some(Told::Dot(actor, counter)) => (actor, counter),
            other => panic!("{other:?}"),
        };
        let (before, _) = raise(&summit, Ask::Raise("k2".into())).await;
        let (known, counted) = raise(&summit, Ask::RaiseUnseen("k2".into(), before, 1)).await;
        assert_eq!((known, counted), (before, 2), "its own dots are no reason");
        let (after, counted) = raise(&summit, Ask::RaiseUnseen("k2".into(), before, 9)).await;
        assert!(after != before && counted == 1);
        stop(node).await;
        let (node, summit) = start(options(Placement::Here, Arc::new(store))).await;
        assert_eq!(raise(&summit, Ask::Raise("k2".into())).await, (after, 2), "and keeps it");
        stop(node).await;
    });
}

#[test]
fn a_vnode_whose_rows_are_gone_takes_a_new_name() {
    run(async {
        let store = MemoryStore::new();
        let mut actors = Vec::new();
        for life in 0..2 {
            let randomness = Randomness::seeded(100 + life);
            let options = NodeOptions { randomness, ..options(Placement::Here, Arc::new(store.clone())) };
            let (node, summit) = start(options).await;
            let written = summit.key(b"k2").run(Ask::Raise("k2".into())).await.unwrap();
            actors.push(written.reply);
            stop(node).await;
            for keyspace in store.keyspaces().unwrap() {
                // Who counted lies in the node's own, which is still there.
                if keyspace != KeyspaceId::Node {
                    store.drop_keyspace(&keyspace).unwrap();
                }
            }
        }
        let [Some(Told::Dot(before, 1)), Some(Told::Dot(after, 1))] = actors[..] else {
            panic!("{actors:?}")
        };
        assert_ne!(before, after);
    });
}

/// What a directory holds after a start, and whether vnodes then go on under their names.
#[test]
fn a_directory_whose_parts_are_of_different_moments_has_vnodes_take_new_names() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        let mut actors = Vec::new();
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let keep = || Keep::Given { store: store.clone(), directory: Some(path.clone()), machine_boot: None };
        let file = |name: &str| path.join(name);
        for start_number in 0..5 {
            match start_number {
                // An operator goes on without what a damaged journal lost, or has put a whole copy back.
                2 => std::fs::remove_file(file("commit-mark")).unwrap(),
                // One was put back without the other.
                4 => std::fs::copy(file("identity.of-before"), file("identity")).map(|_| ()).unwrap(),
                _ => {}
            }
            // As in production no two lives draw the same.
            let randomness = Randomness::seeded(100 + start_number);
            let other = options(Placement::Here, Arc::new(MemoryStore::new()));
            let options = NodeOptions { keep: keep(), randomness, ..other };
            let (node, summit) = start(options).await;
            let Some(Told::Dot(actor, _)) =
                summit.key(b"k2").run(Ask::Raise("k2".into())).await.unwrap().reply
            else {
                panic!()
            };
            actors.push(actor);
            stop(node).await;
            if start_number == 2 {
                std::fs::copy(file("identity"), file("identity.of-before")).unwrap();
            }
        }
        assert_eq!(actors[0], actors[1], "a stop in peace");
        assert_ne!(actors[1], actors[2], "no mark");
        assert_eq!(actors[2], actors[3]);
        assert_ne!(actors[3], actors[4], "an identity of another moment");
    });
}
