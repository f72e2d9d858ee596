//! A module's health over sequences of results.

use super::*;
use CheckResult::{Crashed, Failed, Passed};
use proptest::prelude::*;

const CONFIG: HealthConfig = HealthConfig { check_interval_ms: 1000, failures_max: 1, crashes_max: 3 };

#[test]
fn the_first_good_check_brings_it_up_and_the_first_bad_one_down() {
    let mut health = Health::new(CONFIG);
    assert!(!health.is_up());
    assert_eq!(
        health.checked(10, Passed),
        HealthStep { change: Some(HealthChange::Up), next_check_at_ms: Some(1010) }
    );
    assert_eq!(health.checked(1010, Passed).change, None);
    assert_eq!(health.checked(2010, Failed).change, Some(HealthChange::Down));
    assert_eq!(health.checked(3010, Failed).change, None);
    assert_eq!(health.checked(4010, Passed).change, Some(HealthChange::Up));
}

#[test]
fn with_more_failures_allowed_one_good_check_begins_the_count_anew() {
    let mut health = Health::new(HealthConfig { failures_max: 3, ..CONFIG });
    health.checked(0, Passed);
    let results = [Failed, Failed, Passed, Failed, Failed, Failed];
    let changes: Vec<_> = results.into_iter().map(|result| health.checked(0, result).change).collect();
    assert_eq!(changes, [None, None, None, None, None, Some(HealthChange::Down)]);
}

#[test]
fn the_longer_it_fails_the_rarer_it_is_asked() {
    let mut health = Health::new(CONFIG);
    let delays: Vec<_> = (0..12).map(|_| health.checked(0, Failed).next_check_at_ms.unwrap()).collect();
    assert_eq!(
        delays,
        [1000, 1000, 1000, 6060, 8100, 10_270, 12_550, 14_930, 17_400, 19_950, 20_000, 20_000]
    );
    for (failures, percent) in (4u32..).zip(GROWTH_PERCENT) {
        let exact = f64::from(failures).powf(1.3) * 100.0;
        assert!((percent as f64 - exact).abs() <= 1.0, "{failures}: {percent}, {exact}");
    }
    assert_eq!(health.checked(0, Passed).next_check_at_ms, Some(1000));
}

#[test]
fn a_check_that_keeps_crashing_is_no_longer_run() {
    let mut health = Health::new(CONFIG);
    health.checked(0, Passed);
    assert_eq!(health.checked(0, Crashed).change, None);
    assert_eq!(health.checked(0, Crashed).change, None);
    let third = health.checked(0, Crashed);
    assert_eq!(third, HealthStep { change: Some(HealthChange::Down), next_check_at_ms: None });
    assert_eq!(health.checked(0, Passed), HealthStep { change: None, next_check_at_ms: None });
    assert_eq!(health.resume(7).next_check_at_ms, Some(7));
    assert_eq!(health.checked(7, Passed).change, Some(HealthChange::Up));
    assert_eq!(health.suspend().change, Some(HealthChange::Down));
}

proptest! {
    #[test]
    fn changes_alternate_and_tell_the_whole_story(
        results in prop::collection::vec(0u8..3, 0..60), failures_max in 0u32..4
    ) {
        let mut health = Health::new(HealthConfig { failures_max, ..CONFIG });
        let mut up = false;
        for (now_ms, which) in (0u64..).zip(results) {
            let step = health.checked(now_ms, [Passed, Failed, Crashed][usize::from(which)]);
            match step.change {
                Some(HealthChange::Up) => { prop_assert!(!up); up = true; }
                Some(HealthChange::Down) => { prop_assert!(up); up = false; }
                None => {}
            }
            prop_assert_eq!(up, health.is_up());
            prop_assert!(step.next_check_at_ms.is_none_or(|at_ms| at_ms > now_ms));
        }
    }
}
