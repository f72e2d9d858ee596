//! The laws of a listing: whole, in order, each row once, whoever fails; or said not to be whole.

use super::super::bed::{Bed, Name, id};
use super::*;
use proptest::prelude::*;

fn whole(bed: &Bed) -> Vec<Name> {
    bed.names.iter().cloned().collect()
}

proptest! {
    #[test]
    fn a_list_is_whole_and_in_order_whatever_fails_on_the_way(
        seed: u64, exponent in 3u32..=6, n in 1usize..=5, nodes in 1usize..=6, names in 0usize..800,
        trouble in prop::option::weighted(0.7, 2u64..20),
    ) {
        let mut bed = Bed::new(seed, exponent, n, nodes, names);
        bed.trouble = trouble;
        let options = bed.options();
        let (shown, end) = bed.run(options);
        match end {
            Ok(()) => prop_assert_eq!(shown, whole(&bed)),
            Err(failure) => {
                prop_assert!(trouble.is_some_and(|times| times < 8), "little trouble is overcome: {failure:?}");
                prop_assert!(whole(&bed).starts_with(&shown), "what was shown is a beginning");
            }
        }
    }

    #[test]
    fn a_node_that_dies_in_the_middle_leaves_a_whole_list_or_an_error(
        seed: u64, exponent in 3u32..=6, n in 1usize..=4, nodes in 2usize..=6, dead in 0usize..6,
        after_ms in 0u64..60,
    ) {
        let mut bed = Bed::new(seed, exponent, n, nodes, 600);
        let dies = bed.now + Duration::from_millis(after_ms);
        bed.dies.insert(dead % nodes, dies);
        let options = bed.options();
        let (shown, end) = bed.run(options);
        // Partitions are dealt in turn, so n consecutive ones are on min(n, nodes) nodes, but where the ring closes.
        match end {
            Ok(()) => prop_assert_eq!(shown, whole(&bed)),
            Err(CoverageFailure::Uncovered { partitions, .. }) => {
                prop_assert!(!partitions.is_empty() && n <= 2, "with three copies one is left");
                prop_assert!(whole(&bed).starts_with(&shown));
            }
            Err(CoverageFailure::Deadline) => prop_assert!(false, "it does not take ten minutes"),
        }
    }

    #[test]
    fn a_list_goes_on_behind_a_key_and_ends_after_so_many_rows(
        seed: u64, n in 1usize..=4, nodes in 1usize..=5, names in 0usize..300, skip in 0usize..300, max in 0usize..200,
    ) {
        let mut bed = Bed::new(seed, 4, n, nodes, names);
        let all = whole(&bed);
        let after = all.get(skip).map(|name| name.key().to_vec());
        let from = if after.is_some() { skip + 1 } else { 0 };
        let options = CourseOptions { after, rows_max: Some(max), ..bed.options() };
        let (shown, end) = bed.run(options);
        prop_assert_eq!(end, Ok(()));
        prop_assert_eq!(shown, all.iter().skip(from).take(max).cloned().collect::<Vec<_>>());
    }

    /// Where keys may have fewer replicas than vnodes hold keys of: only those are counted on.
    #[test]
    fn a_list_of_keys_with_fewer_replicas_is_whole(
        seed: u64, n in 1usize..=3, more in 1usize..=3, nodes in 1usize..=5, names in 0usize..300,
    ) {
        let mut bed = Bed::new(seed, 4, n + more, nodes, names);
        bed.replicas = n;
        let options = CourseOptions { n, held: n + more, ..bed.options() };
        let (shown, end) = bed.run(options);
        prop_assert_eq!((shown, end), (whole(&bed), Ok(())));
    }
}

#[test]
fn what_waits_is_bounded_and_no_node_is_asked_for_everything_at_once() {
    let mut bed = Bed::new(1, 10, 3, 5, 20_000);
    let options = bed.options();
    let (shown, end) = bed.run(options);
    assert_eq!((shown.len(), end), (bed.names.len(), Ok(())));
    assert!(bed.most_waiting <= LISTING_BYTES_MAX, "{} bytes waited", bed.most_waiting);
    assert!(bed.most_busy <= LISTING_PAGES_PER_NODE_MAX, "{} pages at a time", bed.most_busy);
}

#[test]
fn a_reader_that_takes_no_rows_is_not_read_ahead_for() {
    let mut bed = Bed::new(1, 3, 1, 1, 0);
    let mut course: Course<Name> = Course::begin(bed.size, bed.options(), bed.now);
    let holders = || Holders::new(bed.size, vec![Some(id(0)); 8], BTreeSet::new());
    let mut asked = BTreeMap::new();
    let mut pages = 0;
    // The last part's answer never comes, so no row can leave.
    loop {
        match course.step(bed.now, &holders) {
            Step::Ask(request) if request.partition == Partition(7) => {}
            Step::Ask(request) => {
                asked.insert(request.ask, request);
            }
            Step::Wait(_) => {
                let Some((ask, request)) = asked.pop_first() else { break };
                pages += 1;
                let from = request
                    .bounds
                    .after
                    .map_or(0, |key| String::from_utf8(key).unwrap().split_off(4).parse::<usize>().unwrap());
                let rows: Vec<Name> = (from + 1..=from + 1000).map(|n| Name(format!("user{n:08}"))).collect();
                let through = Some(rows.last().unwrap().key().to_vec());
                let rows = rows.into_iter().take(request.bounds.rows_max as usize).collect();
                course.answered(bed.now, ask, Ok(Page { rows, through }));
            }
            other => panic!("{other:?}"),
        }
        assert!(pages < 100, "it reads on and on");
    }
    assert_eq!(pages, 7, "a page of each");
}

#[test]
fn what_nobody_has_is_said_at_once() {
    let bed = &mut Bed::new(1, 3, 1, 2, 50);
    bed.dies.insert(1, Duration::ZERO);
    let options = bed.options();
    let began = bed.now;
    let (shown, end) = bed.run(options);
    let partitions = [1, 3, 5, 7].map(Partition).to_vec();
    let failure = CoverageFailure::Uncovered { partitions, why: None };
    assert_eq!((shown, end.unwrap_err(), bed.now), (Vec::new(), failure.clone(), began));
    assert_eq!(failure.to_string(), "no complete replica of partition 1, 3, 5, 7 can be asked");
}

#[test]
fn a_replica_that_is_not_complete_yet_is_asked_again_until_it_is() {
    let bed = &mut Bed::new(1, 3, 1, 1, 0);
    let mut course: Course<Name> = Course::begin(bed.size, bed.options(), bed.now);
    let complete_at = bed.now + Duration::from_secs(3);
    let size = bed.size;
    let holders = || Holders::new(size, vec![Some(id(0)); 8], BTreeSet::new());
    loop {
        match course.step(bed.now, &holders) {
            Step::Ask(request) if bed.now < complete_at => {
                let why = PageFailure::Unavailable("not complete".to_owned());
                course.answered(bed.now, request.ask, Err(why));
            }
            Step::Ask(request) => {
                course.answered(bed.now, request.ask, Ok(Page { rows: Vec::new(), through: None }));
            }
            Step::Wait(until) => bed.now = until,
            Step::Done => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(bed.now < complete_at + Duration::from_secs(2));
    bed.now += Duration::from_secs(1);
    let mut course: Course<Name> = Course::begin(bed.size, bed.options(), bed.now);
    let failure = loop {
        match course.step(bed.now, &holders) {
            Step::Ask(request) => {
                let why = PageFailure::Unavailable("not complete".to_owned());
                course.answered(bed.now, request.ask, Err(why));
            }
            Step::Wait(until) => bed.now = until,
            Step::Failed(failure) => break failure,
            other => panic!("{other:?}"),
        }
    };
    let CoverageFailure::Uncovered { why, .. } = failure else { panic!("{failure:?}") };
    assert_eq!(why.as_deref(), Some("not complete"));
}

#[test]
fn an_answer_that_comes_too_late_changes_nothing() {
    let bed = &mut Bed::new(1, 3, 8, 1, 0);
    let options = CourseOptions { rotation: 0, ..bed.options() };
    let mut course: Course<Name> = Course::begin(bed.size, options, bed.now);
    let holders = || Holders::new(bed.size, vec![Some(id(0)); 8], BTreeSet::new());
    let Step::Ask(first) = course.step(bed.now, &holders) else { panic!() };
    bed.now = first.until;
    let Step::Ask(second) = course.step(bed.now, &holders) else { panic!() };
    assert_ne!(first.partition, second.partition, "another vnode has the keys, too");
    let page = |name: &str| Page { rows: vec![Name(name.to_owned())], through: None };
    course.answered(bed.now, first.ask, Ok(page("late")));
    course.answered(bed.now, second.ask, Ok(page("well")));
    assert_eq!(course.step(bed.now, &holders), Step::Rows(vec![Name("well".to_owned())]));
    assert_eq!(course.step(bed.now, &holders), Step::Done);
    assert_eq!(course.counts(), CourseCounts { parts: 2, replaced: 1, rows: 1 });
}

#[test]
fn a_page_that_is_none_costs_its_vnode_the_part() {
    let bounds = PageBounds { filter: None, after: Some(b"m".to_vec()), rows_max: 2, bytes_max: 1000 };
    let page = |rows: &[&str], through: Option<&str>| {
        let rows = rows.iter().map(|row| Name((*row).to_owned())).collect();
        Page { rows, through: through.map(|key| key.as_bytes().to_vec()) }.check(&bounds)
    };
    use crate::coverage::page::PageError;
    assert_eq!(page(&["n", "o"], Some("p")), Ok(()));
    assert_eq!(page(&[], None), Ok(()));
    assert_eq!(page(&["m"], None), Err(PageError::Order));
    assert_eq!(page(&["o", "n"], None), Err(PageError::Order));
    assert_eq!(page(&["o", "o"], None), Err(PageError::Order));
    assert_eq!(page(&["n", "o"], Some("n")), Err(PageError::Order));
    assert_eq!(page(&[], Some("m")), Err(PageError::NoProgress));
    assert_eq!(page(&["n", "o", "p"], None), Err(PageError::TooLarge));
}
