//! What may be asked of properties, by table, and that no document does more than is right.

use super::*;
use proptest::prelude::*;
use ringwork_core::quorum::QuorumDefaults;
use serde_json::json;

fn asked(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn change(value: Value, target: Target) -> Result<BucketProps, PropProblems> {
    let none = Overrides::default();
    let typed = target != Target::Bucket;
    let now = BucketProps::in_force(typed, QuorumDefaults::of(3), &none, &none);
    none.change(&asked(value), &now, target, 3)
        .map(|given| BucketProps::in_force(typed, QuorumDefaults::of(3), &none, &given))
}

fn wrong(value: Value, target: Target) -> Value {
    change(value, target).unwrap_err().to_json()
}

#[test]
fn properties_are_changed_as_asked_and_the_others_stay() {
    let given = json!({"n_val": 2, "r": 1, "w": "all", "dw": "one", "pr": 0, "pw": "quorum", "rw": 2,
        "allow_mult": true,
        "notfound_ok": "false", "basic_quorum": true, "sync_on_write": "all", "young_vclock": 7, "precommit": [],
        "node_confirms": 2, "search_index": "people", "repl": "both"});
    let props = change(given.clone(), Target::Bucket).unwrap();
    let shown = props.to_json();
    for (name, value) in asked(given) {
        let expected = if name == "notfound_ok" { json!(false) } else { value };
        assert_eq!(shown[&name], expected, "{name}");
    }
    assert_eq!(props.old_vclock, 86_400);
}

#[test]
fn what_a_client_was_shown_can_be_sent_back() {
    for typed in [false, true] {
        let props = BucketProps::defaults(typed, QuorumDefaults::of(3));
        let document = if typed { props.type_document(true, "n1") } else { props.bucket_document(b"b") };
        let read = read_document(document.to_string().as_bytes()).unwrap();
        let target = if typed { Target::ActiveType } else { Target::Bucket };
        let none = Overrides::default();
        let given = none.change(&read, &props, target, 3).unwrap();
        assert_eq!(BucketProps::in_force(typed, QuorumDefaults::of(3), &none, &given), props);
    }
}

#[test]
fn every_property_that_is_wrong_is_named_and_nothing_is_changed() {
    let given = json!({"n_val": "x", "r": "many", "allow_mult": 3, "pw": -1, "w": 0, "sync_on_write": "never", "who": 1,
        "precommit": [{"mod": "m", "fun": "f"}], "linkfun": {"mod": "m", "fun": "f"}, "consistent": true, "rw": 1});
    let expected = json!({"n_val": "not_integer", "r": "not_valid", "allow_mult": "not_boolean", "pw": "not_valid",
        "w": "not_valid", "sync_on_write": "not_valid", "who": "unknown", "precommit": "not_valid",
        "linkfun": "not_valid", "consistent": "not_valid"});
    assert_eq!(wrong(given.clone(), Target::Bucket), expected);
    let text = change(given, Target::Bucket).unwrap_err().to_string();
    assert!(text.contains("n_val: a whole number from 1 to 16 is expected, not \"x\""), "{text}");
}

#[test]
fn counts_fit_the_replicas_and_replicas_the_service() {
    assert_eq!(wrong(json!({"r": 4}), Target::Bucket), json!({"r": "not_valid"}));
    assert_eq!(wrong(json!({"n_val": 4}), Target::Bucket), json!({"n_val": "not_valid"}));
    assert_eq!(wrong(json!({"n_val": 2, "pw": 3}), Target::Bucket), json!({"pw": "not_valid"}));
    assert_eq!(
        wrong(json!({"n_val": 2, "node_confirms": 3}), Target::Bucket),
        json!({"node_confirms": "not_valid"})
    );
    // What was given before and is too much now is the fault of the change.
    let none = Overrides::default();
    let three = none
        .change(
            &asked(json!({"r": 3})),
            &BucketProps::defaults(false, QuorumDefaults::of(3)),
            Target::Bucket,
            3,
        )
        .unwrap();
    let now = BucketProps::in_force(false, QuorumDefaults::of(3), &none, &three);
    let problems = three.change(&asked(json!({"n_val": 2})), &now, Target::Bucket, 3).unwrap_err();
    assert_eq!(problems.to_json(), json!({"n_val": "not_valid"}));
}

#[test]
fn what_data_was_written_by_is_given_once() {
    let create = |value| change(value, Target::NewType);
    assert_eq!(create(json!({"datatype": "map"})).unwrap().datatype, Some(Datatype::Map));
    assert!(create(json!({"write_once": true})).unwrap().write_once);
    assert_eq!(wrong(json!({"datatype": "list"}), Target::NewType), json!({"datatype": "not_valid"}));
    let both = json!({"datatype": "set", "allow_mult": false, "write_once": true, "last_write_wins": true});
    let expected =
        json!({"allow_mult": "must_be_true", "write_once": "not_valid", "last_write_wins": "not_valid"});
    assert_eq!(wrong(both, Target::NewType), expected);
    for target in [Target::ActiveType, Target::Bucket] {
        let given = json!({"datatype": "map", "allow_mult": true});
        assert_eq!(wrong(given, target), json!({"datatype": "immutable"}));
        assert_eq!(wrong(json!({"write_once": true}), target), json!({"write_once": "immutable"}));
        assert_eq!(wrong(json!({"hll_precision": 15}), target), json!({"hll_precision": "immutable"}));
        assert_eq!(change(json!({"hll_precision": 12}), target).unwrap().hll_precision, 12);
    }
}

#[test]
fn a_buckets_properties_stand_before_its_types_and_these_before_the_defaults() {
    let none = Overrides::default();
    let typed = BucketProps::defaults(true, QuorumDefaults::of(3));
    let of_type = none.change(&asked(json!({"r": 1, "w": 1})), &typed, Target::NewType, 3).unwrap();
    let now = BucketProps::in_force(true, QuorumDefaults::of(3), &of_type, &none);
    let of_bucket = none.change(&asked(json!({"w": 3})), &now, Target::Bucket, 3).unwrap();
    let props = BucketProps::in_force(true, QuorumDefaults::of(3), &of_type, &of_bucket);
    assert_eq!((props.r, props.w, props.allow_mult), (Count::Exactly(1), Count::Exactly(3), true));
    assert_eq!(BucketProps::in_force(true, QuorumDefaults::of(2), &of_type, &none).n_val, 2);
}

#[test]
fn documents_are_bounded_and_of_one_form() {
    assert_eq!(read_document(b"{\"props\": {}}").unwrap().len(), 0);
    assert!(matches!(read_document(b"{"), Err(PropsDocumentError::Json(_))));
    for form in ["[]", "{}", "{\"props\": 1}"] {
        assert_eq!(read_document(form.as_bytes()), Err(PropsDocumentError::Form));
    }
    let long = vec![b' '; PROPS_BYTES_MAX + 1];
    assert_eq!(read_document(&long), Err(PropsDocumentError::TooLong(long.len())));
    let deep = format!("{{\"props\": {}{}}}", "[".repeat(5000), "]".repeat(5000));
    assert!(
        matches!(read_document(deep.as_bytes()), Err(PropsDocumentError::Json(_))),
        "no stack is used up"
    );
}

fn values() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::from),
        (0..20u64).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop_oneof![Just("one"), Just("quorum"), Just("all"), Just("default"), Just("map")]
            .prop_map(Value::from),
        Just(json!([])),
        Just(json!({"mod": "a", "fun": "b"})),
        Just(Value::Null),
    ]
}

fn names() -> impl Strategy<Value = String> {
    let known =
        BucketProps::defaults(true, QuorumDefaults::of(3)).to_json().keys().cloned().collect::<Vec<_>>();
    prop_oneof![
        8 => prop::sample::select(known),
        1 => Just("datatype".to_owned()),
        1 => "[a-z]{1,8}",
    ]
}

proptest! {
    /// What is taken can be kept, read back, put in force and shown again; the quorums in it are possible.
    #[test]
    fn what_is_taken_is_possible_and_kept(
        given in prop::collection::btree_map(names(), values(), 0..8), n in 1..5usize,
    ) {
        let given: Map<String, Value> = given.into_iter().collect();
        let none = Overrides::default();
        let now = BucketProps::defaults(true, QuorumDefaults::of(n));
        if let Ok(taken) = none.change(&given, &now, Target::NewType, n) {
            let kept = Overrides::from_bytes(&taken.to_bytes());
            prop_assert_eq!(&kept, &taken);
            let props = BucketProps::in_force(true, QuorumDefaults::of(n), &kept, &none);
            for count in [props.r, props.w, props.dw, props.rw, props.pr, props.pw] {
                prop_assert!(count.of(props.n_val) <= props.n_val);
            }
            prop_assert!(props.n_val <= n && props.r.of(n) >= 1 && props.w.of(n) >= 1);
            let again = none.change(&props.to_json(), &now, Target::NewType, n).unwrap();
            prop_assert_eq!(BucketProps::in_force(true, QuorumDefaults::of(n), &again, &none), props);
        }
    }
}
