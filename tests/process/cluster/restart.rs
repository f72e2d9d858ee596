//! All nodes die at once: what was acknowledged is there when they are started again.

use super::harness::Cluster;
use super::load::{Load, check_all_there};
use std::time::Duration;

#[test]
fn all_killed_at_once_and_started_again_have_everything_that_was_acknowledged() {
    let mut cluster = Cluster::start(3, &["cluster.ring_size=16"]);
    let addresses: Vec<_> = (0..3).map(|number| cluster.address(number)).collect();
    let load = Load::run(&addresses, "before", |load| {
        load.go_on_for(Duration::from_secs(3));
        for number in 0..3 {
            cluster.kill(number);
        }
    });
    assert!(load.acknowledged().len() > 100);
    for number in 0..3 {
        cluster.spawn_again(number);
    }
    for number in 0..3 {
        let node = cluster.node_mut(number);
        assert_eq!(node.wait_until_answers("/health/ready"), None, "{}", node.log());
    }
    // At once, before anybody has heard from anybody.
    check_all_there(&addresses, &load.acknowledged());
    let after = Load::run(&addresses, "after", |load| {
        cluster.wait_settled();
        load.go_on_for(Duration::from_secs(2));
    });
    after.check("after");
    check_all_there(&addresses, &load.acknowledged());
}
