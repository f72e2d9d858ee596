//! A constant load of sends and gets, begun by the clock and not by the answers, with a record of what was promised.

use super::harness::{send, texts};
use crate::node::{PATIENCE, text, wait_until};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const RATE_PER_S: u32 = 100;
const SENDERS: usize = 24;

/// A message that a node has confirmed.
#[derive(Clone, Debug)]
pub(super) struct Acknowledged {
    pub(super) user: String,
    pub(super) text: String,
}

/// How one request went.
#[derive(Clone, Debug)]
struct Request {
    due: Duration,
    took: Duration,
    failure: Option<String>,
}

/// What is known of a load, while it runs and after.
#[derive(Default)]
pub(super) struct Load {
    requests: Mutex<Vec<Request>>,
    acknowledged: Mutex<Vec<Acknowledged>>,
    /// Gets that did not show what was acknowledged before they were sent.
    missed: Mutex<Vec<String>>,
    /// Acknowledgements of fewer copies than asked for.
    thin: Mutex<Vec<String>>,
    slots: AtomicUsize,
    ended: AtomicBool,
}

impl Load {
    /// Keeps the load up on all of `targets` for as long as `during` runs.
    pub(super) fn run(targets: &[SocketAddr], prefix: &str, during: impl FnOnce(&Self)) -> Self {
        let load = Self::default();
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..SENDERS {
                scope.spawn(|| load.work(targets, prefix, begun));
            }
            // The senders end even where the rest of the test fails.
            let _end = SetOnDrop(&load.ended);
            during(&load);
        });
        load
    }

    fn work(&self, targets: &[SocketAddr], prefix: &str, begun: Instant) {
        loop {
            let slot = self.slots.fetch_add(1, Ordering::Relaxed);
            let due = Duration::from_secs(1) * u32::try_from(slot).unwrap() / RATE_PER_S;
            std::thread::sleep(due.saturating_sub(begun.elapsed())); // the rate itself, not a wait for anything
            if self.ended.load(Ordering::Relaxed) {
                return;
            }
            let (here, there) = (targets[slot % targets.len()], targets[(slot + 1) % targets.len()]);
            if slot.is_multiple_of(2) {
                let (user, words) = (format!("{prefix}-{slot}"), format!("text-{prefix}-{slot}"));
                if let Some(sent) = self.send(here, user, words, begun, due) {
                    self.get(there, &sent, begun, begun.elapsed());
                }
            } else if let Some(sent) = self.any_acknowledged(slot) {
                self.get(here, &sent, begun, due);
            }
        }
    }

    fn any_acknowledged(&self, slot: usize) -> Option<Acknowledged> {
        let all = self.acknowledged.lock().unwrap();
        all.get(slot.wrapping_mul(7919).checked_rem(all.len())?).cloned()
    }

    fn send(
        &self,
        node: SocketAddr,
        user: String,
        words: String,
        begun: Instant,
        due: Duration,
    ) -> Option<Acknowledged> {
        let answer = send(node, &user, &words, "");
        let failure = match &answer {
            Some(answer) if answer.status == 201 => None,
            Some(answer) => Some(format!("send at {node}: {} {}", answer.status, answer.body)),
            None => Some(format!("send at {node}: no answer")),
        };
        self.note(begun, due, failure);
        let sent = answer.filter(|answer| answer.status == 201)?.json();
        if sent["acks"].as_u64() < Some(2)
            || sent["nodes"].as_array().unwrap().len() < 2
            || sent["alone"] == true
        {
            self.thin.lock().unwrap().push(sent.to_string());
        }
        assert!(!text(&sent["id"]).is_empty());
        let sent = Acknowledged { user, text: words };
        self.acknowledged.lock().unwrap().push(sent.clone());
        Some(sent)
    }

    fn get(&self, node: SocketAddr, sent: &Acknowledged, begun: Instant, due: Duration) {
        let found = texts(node, &sent.user, "&r=2");
        let failure = found.is_none().then(|| format!("get at {node} failed"));
        self.note(begun, due, failure);
        if found.is_some_and(|found| !found.contains(&sent.text)) {
            self.missed.lock().unwrap().push(format!("{} at {node}, {:?}", sent.text, begun.elapsed()));
        }
    }

    fn note(&self, begun: Instant, due: Duration, failure: Option<String>) {
        let took = begun.elapsed().saturating_sub(due);
        self.requests.lock().unwrap().push(Request { due, took, failure });
    }

    /// Waits until so much of the timetable is worked off.
    pub(super) fn go_on_for(&self, time: Duration) {
        let slots = usize::try_from(time.as_millis() * u128::from(RATE_PER_S) / 1000).unwrap();
        let until = self.slots.load(Ordering::Relaxed) + slots;
        assert!(time < PATIENCE);
        wait_until("the load goes on", || self.slots.load(Ordering::Relaxed) >= until);
    }

    /// Everything that was confirmed.
    pub(super) fn acknowledged(&self) -> Vec<Acknowledged> {
        self.acknowledged.lock().unwrap().clone()
    }

    /// The 99th percentile of what requests took, from when they were due.
    pub(super) fn p99(&self) -> Duration {
        let mut times: Vec<Duration> =
            self.requests.lock().unwrap().iter().map(|request| request.took).collect();
        times.sort_unstable();
        times[(times.len() - 1) * 99 / 100]
    }

    /// At least 99.9 % of the requests succeeded, every send has two copies on two nodes, and no get missed anything.
    pub(super) fn check(&self, what: &str) {
        let requests = self.requests.lock().unwrap();
        let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
        for failure in requests.iter().filter_map(|request| request.failure.clone()) {
            *kinds.entry(failure).or_default() += 1;
        }
        let failed: usize = kinds.values().sum();
        let mut times: Vec<Duration> = requests.iter().map(|request| request.took).collect();
        times.sort_unstable();
        let at = |per_mille: usize| times[(times.len() - 1) * per_mille / 1000];
        let last = requests.iter().map(|request| request.due).max().unwrap_or_default();
        println!(
            "{what}: {} requests in {last:.1?}, {failed} failed, p50 {:.1?} p99 {:.1?} p99.9 {:.1?} max {:.1?}",
            requests.len(),
            at(500),
            at(990),
            at(999),
            at(1000)
        );
        let mut slowest: Vec<&Request> = requests.iter().collect();
        slowest.sort_by_key(|request| std::cmp::Reverse(request.took));
        slowest.truncate(requests.len() / 100);
        slowest.sort_by_key(|request| request.due);
        let slowest: Vec<String> =
            slowest.iter().map(|request| format!("{:.1?} at {:.1?}", request.took, request.due)).collect();
        println!("  the slowest hundredth: {}", slowest.join(", "));
        let missed = self.missed.lock().unwrap();
        assert!(missed.is_empty(), "{what}: {} gets missed what was acknowledged: {missed:?}", missed.len());
        let thin = self.thin.lock().unwrap();
        assert!(thin.is_empty(), "{what}: sends with fewer than two copies on two nodes: {thin:?}");
        assert!(failed * 1000 <= requests.len(), "{what}: {failed} of {} failed: {kinds:#?}", requests.len());
        assert!(requests.len() > 100, "{what}: there was a load");
    }
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Every acknowledged message is there, whichever of `nodes` is asked.
pub(super) fn check_all_there(nodes: &[SocketAddr], acknowledged: &[Acknowledged]) {
    assert!(!acknowledged.is_empty());
    std::thread::scope(|scope| {
        for node in nodes {
            scope.spawn(move || {
                let shows = |sent: &&Acknowledged| {
                    texts(*node, &sent.user, "&r=2").is_some_and(|found| found.contains(&sent.text))
                };
                let missing: Vec<_> = acknowledged.iter().filter(|sent| !shows(sent)).collect();
                let (missed, all) = (missing.len(), acknowledged.len());
                assert!(missing.is_empty(), "{node} does not show {missed} of {all}: {missing:?}");
            });
        }
    });
}
