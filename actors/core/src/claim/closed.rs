//! Which sequences close round the ring: a tighter lower bound of the repeating windows of locations, for windows
//! of k when all shorter ones are distinct. Exact about what closes and about node windows that are too crowded; it
//! counts the places of the most frequent locations together and leaves the others free, and it does not know which
//! node of a location gets what. So it can be below what is possible, never above.
//!
//! Take locations X that occur m times, each too often for gaps of k: of its gaps, which sum to Q, those of k − 1 are
//! the repeating windows that X begins and ends. Their number is m·k − Q and one more for every place by which
//! another gap is longer than k. So with p places of s such locations k·p − s·Q + w windows repeat, where the waste w
//! counts those places, and the repeating windows of all other locations. Both are seen at one place when the last
//! k − 1 members are remembered: X is absent from them and does not come now; or another comes that is k − 1 back.
//! All pairs of p and w that close round the ring, from any beginning, are found by dynamic programming.

use std::collections::BTreeSet;

/// Most waste that is looked for.
const WASTE_MAX: usize = 8;
/// Most steps of the programme.
const WORK_MAX: usize = 150_000_000;
/// Most windows to be told apart.
const WINDOWS_MAX: usize = 4096;

/// Locations, windows and quotas.
pub(super) struct Closing<'a> {
    /// Q.
    pub partitions: usize,
    /// ⌊Q/S⌋.
    pub floor: usize,
    /// Q mod S.
    pub extra: usize,
    /// Nodes of every location.
    pub sizes: &'a [usize],
    /// Windows of nodes, which all must be distinct.
    pub node_window: usize,
    /// Windows of locations; all shorter ones must be distinct.
    pub k: usize,
}

/// From, to, whether the member is one of the most frequent, waste.
type Step = (usize, usize, bool, usize);

impl Closing<'_> {
    /// A lower bound of the windows of k that repeat a location; None if that would take too long to find.
    pub(super) fn fewest(&self) -> Option<usize> {
        let (q, k) = (self.partitions, self.k);
        let count: usize = self.sizes.iter().sum();
        let fewest_of = |size: usize| size * self.floor + (self.extra + size).saturating_sub(count);
        // Whichever are called frequent, the bound holds; those that always are, or those that are on average.
        let always: Vec<bool> = self.sizes.iter().map(|size| fewest_of(*size) * k > q).collect();
        let on_average: Vec<bool> = self.sizes.iter().map(|size| size * k > count).collect();
        let second = if on_average == always { None } else { self.fewest_with(&on_average) };
        self.fewest_with(&always).max(second)
    }

    fn fewest_with(&self, frequent: &[bool]) -> Option<usize> {
        let (q, k) = (self.partitions, self.k);
        let of_frequent = |wanted: bool| {
            let sizes = self.sizes.iter().zip(frequent).filter(|(_, frequent)| **frequent == wanted);
            sizes.map(|(size, _)| *size).sum::<usize>()
        };
        let (nodes, others) = (of_frequent(true), of_frequent(false));
        let least = nodes * self.floor + self.extra.saturating_sub(others);
        let most = nodes * self.floor + self.extra.min(nodes);
        let s = frequent.iter().filter(|frequent| **frequent).count();
        let (memories, steps) = self.steps(frequent)?;
        let words = most / 64 + 1;
        let starts = self.starts(&memories, frequent);
        if starts.len() * steps.len() * q * words * (WASTE_MAX + 1) > WORK_MAX {
            return None;
        }
        // With no waste no gap is longer than k; then two nodes of a location must take turns if k is within their
        // own window.
        let turns = s == 1
            && k < self.node_window
            && frequent.iter().zip(self.sizes).any(|(f, size)| *f && *size == 2);
        let mut fewest = k * least + WASTE_MAX + 1;
        for start in starts {
            let closed = closings(start, memories.len(), &steps, q, words);
            for (waste, places) in closed.iter().enumerate() {
                let found = (least..=most)
                    .filter(|p| places[p / 64] >> (p % 64) & 1 == 1)
                    .find(|p| !(turns && waste == 0 && p % 2 == 1));
                if let Some(p) = found {
                    fewest = fewest.min(k * p + waste);
                }
            }
        }
        Some(fewest.saturating_sub(s * q))
    }

    /// The memories that are allowed, and all steps between them.
    fn steps(&self, frequent: &[bool]) -> Option<(Vec<Vec<usize>>, Vec<Step>)> {
        let count = self.sizes.len();
        let remembered = self.k.max(self.node_window) - 1;
        let states = count.checked_pow(remembered as u32).filter(|states| states * count <= WINDOWS_MAX)?;
        let spelt = |mut number: usize| {
            let mut names = vec![0; remembered];
            for name in names.iter_mut().rev() {
                *name = number % count;
                number /= count;
            }
            names
        };
        let allowed = |names: &[usize]| {
            let distinct =
                names.windows(self.k - 1).all(|w| w.iter().collect::<BTreeSet<_>>().len() == w.len());
            let fits = |w: &[usize]| w.iter().all(|n| w.iter().filter(|m| *m == n).count() <= self.sizes[*n]);
            distinct && names.windows(self.node_window.min(names.len())).all(fits)
        };
        let memories: Vec<Vec<usize>> = (0..states).map(spelt).filter(|names| allowed(names)).collect();
        let mut steps = Vec::new();
        for (from, memory) in memories.iter().enumerate() {
            let latest = &memory[remembered + 1 - self.k..];
            for next in 0..count {
                let mut window = memory.clone();
                window.push(next);
                if !allowed(&window) {
                    continue;
                }
                let Ok(to) = memories.binary_search_by(|other| other[..].cmp(&window[1..])) else { continue };
                let absent = |location: usize| location != next && !latest.contains(&location);
                let waste = (0..count).filter(|location| frequent[*location] && absent(*location)).count()
                    + usize::from(!frequent[next] && latest[0] == next);
                if waste <= WASTE_MAX {
                    steps.push((from, to, frequent[next], waste));
                }
            }
        }
        Some((memories, steps))
    }

    /// Memories of which every other is a renaming of locations that are alike.
    fn starts(&self, memories: &[Vec<usize>], frequent: &[bool]) -> Vec<usize> {
        let alike = |a: usize, b: usize| {
            let enough = self.sizes[a].min(self.node_window) == self.sizes[b].min(self.node_window);
            frequent[a] == frequent[b] && enough
        };
        let is_first_name = |memory: &[usize]| {
            memory.iter().enumerate().all(|(at, name)| {
                (0..*name).all(|before| !alike(before, *name) || memory[..at].contains(&before))
            })
        };
        (0..memories.len()).filter(|number| is_first_name(&memories[*number])).collect()
    }
}

/// By waste, for which numbers of places of frequent locations there is a way round the ring back to `start`.
fn closings(start: usize, states: usize, steps: &[Step], partitions: usize, words: usize) -> Vec<Vec<u64>> {
    let width = words * (WASTE_MAX + 1);
    let mut now = vec![0u64; states * width];
    now[start * width] = 1;
    let mut next = vec![0u64; states * width];
    for _ in 0..partitions {
        next.fill(0);
        for (from, to, frequent, waste) in steps {
            let from = &now[from * width..][..width - waste * words];
            let to = &mut next[to * width + waste * words..][..width - waste * words];
            for (to, from) in to.chunks_exact_mut(words).zip(from.chunks_exact(words)) {
                if *frequent {
                    let mut carried = 0;
                    for (to, from) in to.iter_mut().zip(from) {
                        *to |= from << 1 | carried;
                        carried = from >> 63;
                    }
                } else {
                    for (to, from) in to.iter_mut().zip(from) {
                        *to |= from;
                    }
                }
            }
        }
        std::mem::swap(&mut now, &mut next);
    }
    now[start * width..][..width].chunks_exact(words).map(<[u64]>::to_vec).collect()
}
