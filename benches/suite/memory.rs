//! How long this machine takes to read from anywhere in memory, again and again while the suite runs: a figure of the
//! machine and not of the nodes, for whoever puts two tables side by side. It decides nothing, and explains no ratio:
//! of one node's sends, round by round, it was found to tell nothing (docs/performance.md).

use crate::node::now;
use crate::table::median;
use std::cell::RefCell;
use std::hint::black_box;

/// 64 MiB: more than a cache has for itself.
const PLACES: usize = 1 << 24;
const STEPS: u32 = 200_000;

/// See the module's head.
pub struct Memory {
    /// Each place names the next one, all in one circle.
    circle: Vec<u32>,
    looks: RefCell<Vec<(&'static str, f64)>>,
    part: RefCell<&'static str>,
}

impl Memory {
    /// One circle through all places, in an order that nobody can guess ahead (Sattolo 1986).
    pub fn new() -> Self {
        let mut circle: Vec<u32> = (0..PLACES as u32).collect();
        let mut drawn = 0x9e37_79b9_7f4a_7c15_u64;
        for place in (1..PLACES).rev() {
            drawn = drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            circle.swap(place, (drawn >> 33) as usize % place);
        }
        Self { circle, looks: RefCell::default(), part: RefCell::new("") }
    }

    /// What the suite does from now on.
    pub fn begin(&self, part: &'static str) {
        self.part.replace(part);
    }

    /// Reads for some milliseconds, each time where the last read says.
    pub fn look(&self) {
        let begun = now();
        let mut place = 0;
        for _ in 0..STEPS {
            place = self.circle.get(place as usize).copied().unwrap_or_default();
        }
        black_box(place);
        let took_ns = (now() - begun).as_secs_f64() * 1e9 / f64::from(STEPS);
        self.looks.borrow_mut().push((*self.part.borrow(), took_ns));
    }

    /// Nanoseconds of one read: the middle of all looks, and of each part's, in words.
    pub fn found(&self) -> Option<(f64, String)> {
        let looks = self.looks.borrow();
        let mut parts: Vec<&str> = looks.iter().map(|(part, _)| *part).collect();
        parts.dedup();
        let of = |wanted: &str| {
            let ns = looks.iter().filter(|(part, _)| *part == wanted).map(|(_, ns)| *ns).collect();
            median(ns).map(|ns| format!("{wanted} {ns:.0}"))
        };
        let words: Vec<String> = parts.into_iter().filter_map(of).collect();
        Some((median(looks.iter().map(|(_, ns)| *ns).collect())?, words.join(", ")))
    }
}
