//! The object store over a whole node: requests as an HTTP layer will send them.

use super::lists::PASSED_OVER_MAX;
use super::*;
use ringwork_core::quorum::Count;
use ringwork_runtime::node::Node;
use ringwork_runtime::spawner::Placement;
use std::collections::BTreeSet;

fn on_a_node<F: Future<Output = ()>>(config: KvConfig, body: impl FnOnce(KvStore) -> F) {
    actix_rt::System::new().block_on(async {
        let options = crate::server::trial_options(Placement::Here);
        let node = Node::builder(options).service::<Kv>(config).start().await.unwrap();
        body(KvStore::new(node.service::<Kv>().unwrap())).await;
        node.stop(Duration::from_secs(5)).await.unwrap();
    });
}

fn name(key: &str) -> ObjectName {
    ObjectName::new("default", b"b", key.as_bytes()).unwrap()
}

fn values(object: &Object) -> BTreeSet<Option<Vec<u8>>> {
    let shown = |sibling: Sibling<'_>| (!sibling.content.deleted).then(|| sibling.content.value.to_vec());
    object.siblings().map(shown).collect()
}

fn some(values: &[&str]) -> BTreeSet<Option<Vec<u8>>> {
    values.iter().map(|value| Some(value.as_bytes().to_vec())).collect()
}

async fn keys_of(store: &KvStore, bucket_type: &str, bucket: &[u8]) -> Vec<Vec<u8>> {
    let mut keys = store.keys(bucket_type, bucket, WITHIN_DEFAULT).unwrap();
    let mut found = Vec::new();
    while let Some(batch) = keys.next().await.unwrap() {
        found.extend(batch);
    }
    found
}

fn returning(value: &str) -> PutRequest {
    PutRequest { return_object: true, ..PutRequest::of(Content::of(value)) }
}

#[test]
fn what_is_written_is_read_and_what_is_deleted_is_not_found() {
    on_a_node(KvConfig::default(), async |store| {
        let props = store.bucket_props("default", b"b").unwrap();
        let name = name("k");
        let request = Request::new(&name, &props);
        assert!(store.get(&request).await.unwrap().object.is_empty());
        assert_eq!(store.delete(&request, None, Conditions::default()).await, Ok(Deleted::NotFound));
        let done = store.put(&request, returning("a")).await.unwrap();
        assert!(!done.stored.existed && done.acks >= 2);
        let got = store.get(&request).await.unwrap();
        assert_eq!(values(&got.object), some(&["a"]));
        assert_eq!(done.stored.object, Some(got.object.clone()));
        assert_eq!(store.head(&request).await.unwrap().outline, got.object.outline());
        // The bucket keeps one value, whoever wrote it.
        let first = done.stored.object.unwrap();
        store.put(&request, returning("b")).await.unwrap();
        assert_eq!(values(&store.get(&request).await.unwrap().object), some(&["b"]));
        let stale = Conditions { if_not_modified: Some(first.context()), ..Conditions::default() };
        let refused = store.delete(&request, None, stale).await;
        assert!(matches!(refused, Err(KvFailure::Declined(_))), "{refused:?}");
        assert_eq!(values(&store.get(&request).await.unwrap().object), some(&["b"]));
        assert_eq!(
            store.delete(&request, None, Conditions::default()).await,
            Ok(Deleted::Done { alone: true })
        );
        let dead = store.get(&request).await.unwrap().object;
        assert!(dead.is_dead() && !dead.is_empty(), "the tombstone is seen for three seconds");
        assert_eq!(store.delete(&request, None, Conditions::default()).await, Ok(Deleted::NotFound));
    });
}

#[test]
fn siblings_are_kept_and_made_one_by_whoever_has_seen_them() {
    on_a_node(KvConfig::default(), async |store| {
        let props = BucketProps { allow_mult: true, ..store.bucket_props("default", b"b").unwrap() };
        let name = name("k");
        let request = Request::new(&name, &props);
        for value in ["a", "b", "c"] {
            store.put(&request, returning(value)).await.unwrap();
        }
        let got = store.get(&request).await.unwrap();
        assert_eq!(values(&got.object), some(&["a", "b", "c"]));
        let text = context::to_text(&got.object.context(), &name);
        let seen = context::from_text(&text, &name).unwrap();
        let put = PutRequest { seen: seen.clone(), ..returning("one") };
        let done = store.put(&request, put).await.unwrap();
        assert_eq!(values(&done.stored.object.unwrap()), some(&["one"]));
        assert_eq!(
            store.delete(&request, Some(seen), Conditions::default()).await,
            Ok(Deleted::Done { alone: true }),
            "of what it had not seen, nothing"
        );
        let beside: BTreeSet<_> = [None, Some(b"one".to_vec())].into();
        assert_eq!(values(&store.get(&request).await.unwrap().object), beside);
    });
}

#[test]
fn conditions_and_bounds_decline_a_write_and_nothing_is_written() {
    let config = KvConfig { object_bytes_max: 1000, siblings_max: 2, ..KvConfig::default() };
    on_a_node(config, async |store| {
        let props = BucketProps { allow_mult: true, ..store.bucket_props("default", b"b").unwrap() };
        let name = name("k");
        let request = Request::new(&name, &props);
        let none_match = Conditions { if_none_match: Some(Tags::Any), ..Conditions::default() };
        let create = PutRequest { conditions: none_match, ..returning("a") };
        store.put(&request, create.clone()).await.unwrap();
        let declined = store.put(&request, create).await.unwrap_err();
        assert_eq!(declined, KvFailure::Declined(ConditionFailure::NoneMatch.into()));
        let other = Conditions { if_not_modified: Some(CausalContext::new()), ..Conditions::default() };
        let declined = store.put(&request, PutRequest { conditions: other, ..returning("b") }).await;
        assert_eq!(declined, Err(KvFailure::Declined(ConditionFailure::Modified.into())));
        store.put(&request, returning("b")).await.unwrap();
        let declined = store.put(&request, returning("c")).await;
        assert!(matches!(declined, Err(KvFailure::Declined(PutRefusal::TooManySiblings { .. }))));
        let declined = store.put(&request, returning(&"x".repeat(2000))).await;
        assert!(matches!(declined, Err(KvFailure::Declined(_))));
        assert_eq!(values(&store.get(&request).await.unwrap().object), some(&["a", "b"]));
        let wrong = PutRequest::of(Content { content_type: "a\nb".into(), ..Content::of("x") });
        assert!(matches!(store.put(&request, wrong).await, Err(KvFailure::Input(_))));
        let four = Quorums { w: Some(Count::Exactly(4)), ..Quorums::default() };
        let impossible = store.put(&Request { quorums: four, ..request }, returning("x")).await;
        assert!(matches!(impossible, Err(KvFailure::Quorum(_))));
    });
}

#[test]
fn a_context_that_nobody_knows_is_asked_about_once_and_erases_nothing() {
    on_a_node(KvConfig::default(), async |store| {
        let props = BucketProps { allow_mult: true, ..store.bucket_props("default", b"b").unwrap() };
        let name = name("k");
        let request = Request::new(&name, &props);
        store.put(&request, returning("a")).await.unwrap();
        let own = store.get(&request).await.unwrap().object.context();
        let ahead = own.dots().map(|dot| ringwork_core::ids::Dot { counter: u64::MAX, ..dot }).collect();
        store.put(&request, PutRequest { seen: ahead, ..returning("b") }).await.unwrap();
        store.put(&request, returning("c")).await.unwrap();
        assert_eq!(values(&store.get(&request).await.unwrap().object), some(&["b", "c"]));
    });
}

#[test]
fn keys_and_buckets_are_listed_each_once_and_in_order() {
    on_a_node(KvConfig::default(), async |store| {
        let props = store.bucket_props("default", b"b").unwrap();
        for (bucket, count) in [("b", 3), ("ba", 40), ("c\0", 2), ("d", 1)] {
            for key in 0..count {
                let name =
                    ObjectName::new("default", bucket.as_bytes(), format!("{key:03}").as_bytes()).unwrap();
                store.put(&Request::new(&name, &props), returning("x")).await.unwrap();
            }
        }
        let gone = ObjectName::new("default", b"d", b"000").unwrap();
        store.delete(&Request::new(&gone, &props), None, Conditions::default()).await.unwrap();
        assert_eq!(keys_of(&store, "default", b"b").await, [b"000", b"001", b"002"]);
        // With the way out of large buckets, and without.
        for passed_over_max in [PASSED_OVER_MAX, 0] {
            let mut buckets = store.buckets("default", WITHIN_DEFAULT);
            buckets.passed_over_max = passed_over_max;
            let mut found = Vec::new();
            while let Some(batch) = buckets.next().await.unwrap() {
                found.extend(batch);
            }
            assert_eq!(found, [b"b".to_vec(), b"ba".to_vec(), b"c\0".to_vec()]);
        }
        assert_eq!(store.buckets("none", WITHIN_DEFAULT).next().await.unwrap(), None);
    });
}

#[test]
fn buckets_and_types_are_changed_and_what_is_wrong_is_named() {
    on_a_node(KvConfig::default(), async |store| {
        let asked = |document: serde_json::Value| document.as_object().unwrap().clone();
        store
            .set_bucket_props("default", b"b", asked(serde_json::json!({"allow_mult": true})))
            .await
            .unwrap();
        assert!(store.bucket_props("default", b"b").unwrap().allow_mult);
        let wrong = store.set_bucket_props("default", b"b", asked(serde_json::json!({"r": 7, "x": 1}))).await;
        let Err(ChangeFailure::Directory(DirectoryError::Props(problems))) = wrong else {
            panic!("{wrong:?}")
        };
        assert_eq!(problems.to_json(), serde_json::json!({"r": "not_valid", "x": "unknown"}));
        store.reset_bucket_props("default", b"b").await.unwrap();
        assert!(!store.bucket_props("default", b"b").unwrap().allow_mult);
        store.create_type("sets", asked(serde_json::json!({"datatype": "set"}))).await.unwrap();
        assert!(store.type_props("sets").is_err(), "not in use yet");
        let active = async {
            while store.activate_type("sets").await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), active).await.unwrap();
        assert_eq!(store.type_props("sets").unwrap().datatype, Some(Datatype::Set));
        assert_eq!(store.types().len(), 1);
        store.update_type("sets", asked(serde_json::json!({"w": 1}))).await.unwrap();
        assert_eq!(store.bucket_props("sets", b"b").unwrap().w, Count::Exactly(1));
    });
}

#[test]
fn a_type_that_is_not_there_is_said_to_be_unknown() {
    on_a_node(KvConfig::default(), async |store| {
        let unknown = store.bucket_props("maps", b"b").unwrap_err();
        assert_eq!(unknown.to_string(), "Unknown bucket type: maps");
    });
}

/// A write that the bucket's rules do not shape: what a cut network leaves behind.
async fn written_beside(store: &KvStore, name: &ObjectName, content: Content) {
    let put = Put {
        name: name.clone(),
        content,
        seen: CausalContext::new(),
        read: None,
        conditions: Conditions::default(),
        rules: PutRules { conflicts: Conflicts::Siblings },
        return_object: false,
    };
    let all = QuorumOptions { w: Some(Count::All), ..QuorumOptions::default() };
    let key = store.calls().key(name.bytes()).quorum(all);
    let written = key.run(KvCommand::Put(Box::new(put))).await.unwrap();
    assert_eq!(written.verdict, Verdict::Done);
}

#[test]
fn where_one_value_counts_a_tombstone_hides_what_lies_beside_it_from_everybody() {
    on_a_node(KvConfig::default(), async |store| {
        let plain = store.bucket_props("default", b"b").unwrap();
        store.set_bucket_props("default", b"m", one_prop("allow_mult", true)).await.unwrap();
        for (bucket, props) in [
            (b"b", plain.clone()),
            (b"l", BucketProps { last_write_wins: true, ..plain }),
            (b"m", store.bucket_props("default", b"m").unwrap()),
        ] {
            let name = ObjectName::new("default", bucket, b"k").unwrap();
            let request = Request::new(&name, &props);
            written_beside(&store, &name, Content::of("a")).await;
            written_beside(&store, &name, Content::tombstone()).await;
            let hides = !props.allow_mult;
            assert_eq!(store.get(&request).await.unwrap().object.is_dead(), hides);
            assert_eq!(store.head(&request).await.unwrap().outline.is_dead(), hides);
            assert_eq!(keys_of(&store, "default", bucket).await.is_empty(), hides);
            if hides {
                let gone = store.delete(&request, None, Conditions::default()).await;
                assert_eq!(gone, Ok(Deleted::NotFound));
            }
        }
        let mut buckets = store.buckets("default", WITHIN_DEFAULT);
        let mut found = Vec::new();
        while let Some(batch) = buckets.next().await.unwrap() {
            found.extend(batch);
        }
        assert_eq!(found, [b"m"]);
    });
}

fn one_prop(name: &str, value: impl Into<serde_json::Value>) -> AskedProps {
    [(name.to_owned(), value.into())].into_iter().collect()
}

#[test]
fn a_delete_in_a_bucket_with_one_value_leaves_nothing_beside_its_tombstone() {
    on_a_node(KvConfig::default(), async |store| {
        let plain = store.bucket_props("default", b"b").unwrap();
        let wins = BucketProps { last_write_wins: true, ..plain.clone() };
        let all = Quorums { r: Some(Count::All), w: Some(Count::All), ..Quorums::default() };
        for (key, props) in [("latest", plain), ("wins", wins)] {
            for seen in [None, Some(CausalContext::new())] {
                let name = name(key);
                let request = Request { quorums: all, ..Request::new(&name, &props) };
                let put = Put {
                    name: name.clone(),
                    content: Content::of("a"),
                    seen: CausalContext::new(),
                    read: None,
                    conditions: Conditions::default(),
                    rules: props.put_rules(),
                    return_object: false,
                };
                // Who will coordinate the delete is the first, and does not have it.
                let second = store.calls().preflist(name.bytes(), 3)[1];
                let put = KvCommand::Put(Box::new(put));
                store.calls().sync_command(&second, &put, WITHIN_DEFAULT).await.unwrap();
                assert_eq!(
                    store.delete(&request, seen, Conditions::default()).await,
                    Ok(Deleted::Done { alone: true })
                );
                let all = QuorumOptions { r: Some(Count::All), ..QuorumOptions::default() };
                let ends = store.ends(WITHIN_DEFAULT);
                let (object, _) = store.read_object(&name, all, ends).await.unwrap();
                assert!(object.is_dead(), "{key}: {object:?}");
            }
        }
    });
}

#[test]
fn a_list_is_whole_also_after_a_bucket_was_given_more_replicas() {
    on_a_node(KvConfig::default(), async |store| {
        let n = |n: usize| one_prop("n_val", n);
        store.set_bucket_props("default", b"b", n(1)).await.unwrap();
        let props = store.bucket_props("default", b"b").unwrap();
        let expected: Vec<Vec<u8>> = (0..100).map(|key| format!("{key:03}").into_bytes()).collect();
        for key in &expected {
            let name = ObjectName::new("default", b"b", key).unwrap();
            store.put(&Request::new(&name, &props), returning("x")).await.unwrap();
        }
        assert_eq!(keys_of(&store, "default", b"b").await, expected);
        store.set_bucket_props("default", b"b", n(3)).await.unwrap();
        assert_eq!(keys_of(&store, "default", b"b").await, expected);
        store.reset_bucket_props("default", b"b").await.unwrap();
        assert_eq!(keys_of(&store, "default", b"b").await, expected);
        let props = store.bucket_props("default", b"b").unwrap();
        let one = Quorums { n_val: Some(1), ..Quorums::default() };
        let name = name("k");
        let fewer = store.put(&Request { quorums: one, ..Request::new(&name, &props) }, returning("x")).await;
        assert!(matches!(fewer, Err(KvFailure::Quorum(ImpossibleQuorum { name: "n_val", .. }))), "{fewer:?}");
    });
}
