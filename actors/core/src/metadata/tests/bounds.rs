//! What is too much, and what is not possible.

use super::*;
use crate::limits::*;

#[test]
fn what_is_too_large_is_refused_and_changes_nothing() {
    let (mut one, settings) = (fresh(), name("settings"));
    let life = at(&one, 0, 1);
    let before = one.clone();
    let large = vec![0; METADATA_VALUE_BYTES_MAX + 1];
    assert_eq!(one.put(&settings, "k", large, life), Err(EntryRefusal::Value(METADATA_VALUE_BYTES_MAX + 1)));
    for key in ["", "a\nb", &"k".repeat(METADATA_KEY_BYTES_MAX + 1)] {
        assert!(matches!(one.put(&settings, key, vec![], life), Err(EntryRefusal::Key(_))));
    }
    assert_eq!(one, before);
    for text in ["", "Settings", "a b", "ä", &"n".repeat(METADATA_NAME_BYTES_MAX + 1)] {
        assert!(matches!(NamespaceName::try_from(text), Err(EntryRefusal::Name(_))), "{text}");
    }
}

#[test]
fn a_full_namespace_takes_nothing_more_but_what_does_not_grow() {
    let (mut one, settings) = (fresh(), name("settings"));
    let life = at(&one, 0, 1);
    let value = || vec![0; METADATA_VALUE_BYTES_MAX];
    let mut written = 0;
    let refusal = loop {
        match one.put(&settings, &format!("k{written}"), value(), life) {
            Ok(()) => written += 1,
            Err(refusal) => break refusal,
        }
    };
    assert!(refusal.to_string().contains("remove entries first"), "{refusal}");
    assert!(refusal.is_full() && !refusal.is_passing());
    assert_eq!(written, METADATA_NAMESPACE_BYTES_MAX / METADATA_VALUE_BYTES_MAX - 1);
    one.put(&settings, "k0", value(), life).unwrap();
    one.remove(&settings, "k0");
    one.put(&settings, "another", value(), life).unwrap();
}

#[test]
fn all_together_have_a_bound_and_so_has_their_number() {
    let mut one = fresh();
    let life = at(&one, 0, 1);
    let refusal = (0..METADATA_NAMESPACES_MAX * 16).find_map(|number| {
        let namespace = name(&format!("n{}", number / 15));
        one.put(&namespace, &format!("k{}", number % 15), vec![0; METADATA_VALUE_BYTES_MAX], life).err()
    });
    assert!(matches!(refusal, Some(EntryRefusal::Whole(_))), "{refusal:?}");
    assert!(one.bytes() <= METADATA_BYTES_MAX);
    let mut many = fresh();
    for number in 0..METADATA_NAMESPACES_MAX {
        many.put(&name(&format!("n{number}")), "k", vec![], life).unwrap();
    }
    let refusal = many.put(&name("another"), "k", vec![], life);
    assert_eq!(refusal, Err(EntryRefusal::Namespaces(METADATA_NAMESPACES_MAX)));
}

#[test]
fn two_sides_that_are_both_full_still_meet_and_travel_in_bounded_parts() {
    let mut sides = [fresh(), fresh()];
    for (number, side) in sides.iter_mut().enumerate() {
        let life = at(side, number, 1);
        for entry in 0..80 {
            let namespace = name(&format!("n{}", entry / 15));
            let key = format!("{number}-{}", entry % 15);
            side.put(&namespace, &key, vec![number as u8; METADATA_VALUE_BYTES_MAX], life).unwrap();
        }
    }
    let [one, other] = sides;
    let both = joined(&one, &other);
    assert!(both.bytes() > METADATA_BYTES_MAX);
    let shared = SharedMetadata::of(std::sync::Arc::new(both.clone()));
    let mut behind = one;
    for _ in 0..10 {
        use crate::gossip::spread::Shared;
        let digest = SharedMetadata::of(std::sync::Arc::new(behind.clone())).digest();
        let part = shared.extract(&shared.sections_differing(&digest));
        let bytes = crate::wire::codec::encode(&part).unwrap().len();
        assert!(bytes <= METADATA_PART_BYTES_MAX + 4096, "{bytes}");
        behind.join_part(&part, |_| true).unwrap();
    }
    assert_eq!(behind, both);
}

#[test]
fn what_would_be_beyond_all_bounds_is_refused_whole() {
    let side = |number: usize| {
        let mut side = fresh();
        let life = at(&side, number, 1);
        for entry in 0..100 {
            let namespace = name(&format!("n{}", entry / 15));
            let key = format!("{number}-{}", entry % 15);
            side.put(&namespace, &key, vec![0; METADATA_VALUE_BYTES_MAX], life).unwrap();
        }
        side
    };
    let mut one = side(0);
    let before = one.clone();
    let refusal = one.join(&side(1), |_| true).unwrap_err();
    assert!(matches!(refusal, MetadataError::Whole(bytes) if bytes > METADATA_JOINED_BYTES_MAX), "{refusal}");
    assert_eq!(one, before);
    let refusal = one.join(&Metadata::new(ClusterId([8; 16])), |_| true).unwrap_err();
    assert!(refusal.to_string().contains("two clusters never mix"), "{refusal}");
}

#[test]
fn forged_bytes_are_no_namespace() {
    use crate::wire::codec;
    use std::collections::BTreeMap;
    let dot = LifeDot { life: at(&fresh(), 0, 1).life, counter: std::num::NonZeroU64::MIN };
    let version = Version { written: HybridTime(1), value: vec![], stage: Stage::Active };
    let nothing_seen = Seen::default();
    let entries = BTreeMap::from([("k".to_owned(), BTreeMap::from([(dot, version)]))]);
    let bytes = codec::encode(&(&nothing_seen, &entries)).unwrap();
    assert!(codec::decode::<Namespace>(&bytes).is_err(), "a version that was not seen");
    let mut seen = Seen::default();
    seen.write(dot.life).unwrap();
    assert!(codec::decode::<Namespace>(&codec::encode(&(&seen, &entries)).unwrap()).is_ok());
    let empty: BTreeMap<String, BTreeMap<LifeDot, Version>> =
        BTreeMap::from([("k".to_owned(), BTreeMap::new())]);
    assert!(codec::decode::<Namespace>(&codec::encode(&(&seen, &empty)).unwrap()).is_err());
}
