//! The best sequence with shares that fit exactly, by dynamic programming (Bellman 1957). What a member costs depends
//! only on the last few members, so the cheapest sequence to every memory of those is all that must be kept; and for
//! shares that must fit, the cheapest for every count so far. All counts would be too many. So only those within a
//! corridor about the counts of a sequence that is nearly right are kept, and what is found is followed in turn:
//! it is the best of all whose counts stay near it. What members are, and what they cost, it does not know.

/// What one pass may remember.
const MEMORY_MAX: usize = 32_000_000;
/// How far a count may be from that of the sequence that is followed.
const RADIUS_MAX: usize = 5;
/// Passes, each from the sequence that the last one found.
const PASSES: usize = 12;
/// Passes without anything better after which there are no more.
const IDLE_PASSES: usize = 2;
/// Transitions that take as long as one exchange of the search.
const TRANSITIONS_PER_STEP: u64 = 64;
/// No way leads there.
const NEVER: u64 = u64::MAX >> 1;

/// A way into a memory: out of which, what fell out of it, and the cost.
struct Way {
    from: usize,
    first: u8,
    cost: u64,
}

/// What the sequences are made of. Places are in a circle.
pub(super) struct Form {
    /// How many members there are to choose from.
    pub members: usize,
    /// How many of the last ones the cost depends on.
    pub remembered: usize,
    /// Whom each place has now; another costs one.
    pub home: Vec<Option<u16>>,
    /// Fewest and most places of each member.
    pub ranges: Vec<(usize, usize)>,
    /// Counts from which on a member should have an even number of places.
    pub even_from: Vec<usize>,
    /// Which of the costs holds at every place.
    pub kind: Vec<u8>,
}

/// The sequences of a form that are allowed.
pub(super) struct Corridor {
    form: Form,
    /// Number of every memory, if it is allowed.
    numbers: Vec<Option<usize>>,
    memories: Vec<usize>,
    /// By kind and memory.
    ways: Vec<Vec<Vec<Way>>>,
    way_count: usize,
}

/// How a sequence is looked for.
#[derive(Clone, Copy)]
pub(super) struct Manner {
    /// It need not begin as the one does that is followed.
    pub anywhere: bool,
    /// Transitions of one pass at most.
    pub work_max: usize,
    /// The same where the corridor is as narrow as can be: without it there is no sequence that fits.
    pub narrowest_work_max: usize,
    /// Members that should have an even number of places have one, if any sequence allows it.
    pub even: bool,
}

/// A sequence and what it costs.
pub(super) type Priced = (u64, Vec<u16>);

impl Corridor {
    /// `cost` says what a window costs, by its kind and its members, the last one first; None if it is not allowed.
    pub(super) fn new(form: Form, cost: &dyn Fn(usize, &[usize]) -> Option<u64>) -> Self {
        let count = form.members;
        let states = count.pow(form.remembered as u32);
        let kinds = form.kind.iter().copied().max().map_or(1, |kind| usize::from(kind) + 1);
        let mut corridor =
            Self { numbers: vec![None; states], memories: Vec::new(), ways: Vec::new(), way_count: 0, form };
        let mut costs = vec![vec![None; states * count]; kinds];
        let mut latest = vec![0; corridor.form.remembered + 1];
        for window in 0..states * count {
            let mut rest = window;
            for name in &mut latest {
                *name = rest % count;
                rest /= count;
            }
            for (kind, costs) in costs.iter_mut().enumerate() {
                costs[window] = cost(kind, &latest);
                if costs[window].is_some() && corridor.numbers[window % states].is_none() {
                    corridor.numbers[window % states] = Some(corridor.memories.len());
                    corridor.memories.push(window % states);
                }
            }
        }
        for costs in &costs {
            let mut of_kind = Vec::with_capacity(corridor.memories.len());
            for memory in &corridor.memories {
                let ways: Vec<Way> = (0..count)
                    .filter_map(|first| {
                        let window = first * states + memory;
                        let (from, cost) = (corridor.numbers[window / count]?, costs[window]?);
                        Some(Way { from, first: first as u8, cost })
                    })
                    .collect();
                of_kind.push(ways);
            }
            corridor.way_count = corridor.way_count.max(of_kind.iter().map(Vec::len).sum());
            corridor.ways.push(of_kind);
        }
        corridor
    }

    /// The best sequence found about `followed`, if there is one whose shares fit.
    pub(super) fn refined(
        &self,
        followed: &[u16],
        manner: Manner,
        steps_max: u64,
        spent: &mut u64,
    ) -> Option<Priced> {
        let places = followed.len();
        let dimensions = self.form.members as u32 - 1;
        let cells = |radius: usize| (2 * radius + 1).saturating_pow(dimensions);
        let radius = (1..=RADIUS_MAX).rev().find(|radius| {
            let work_max = if *radius == 1 { manner.narrowest_work_max } else { manner.work_max };
            cells(*radius).saturating_mul(places * self.way_count) <= work_max
                && cells(*radius).saturating_mul(places * self.memories.len()) <= MEMORY_MAX
        })?;
        let work = (cells(radius) * places * self.way_count) as u64 / TRANSITIONS_PER_STEP;
        let mut best: Option<Priced> = None;
        let mut take = |found: Option<Priced>| match found {
            Some(found) if best.as_ref().is_none_or(|best| found.0 < best.0) => best.insert(found).1.clone(),
            _ => Vec::new(),
        };
        let mut followed = followed.to_vec();
        if manner.anywhere {
            for beginning in 0..self.memories.len() {
                *spent += work;
                let found = take(self.pass(&followed, 0, beginning, radius, manner.even));
                if !found.is_empty() && beginning + 1 == self.memories.len() {
                    followed = found;
                }
            }
        }
        let mut idle = 0;
        for pass in 0..PASSES {
            if *spent >= steps_max || idle >= IDLE_PASSES {
                break;
            }
            *spent += work;
            idle += 1;
            let origin = pass * places * 3 / 8 % places;
            let Some(beginning) = self.numbers[self.memory_before(&followed, origin)] else { continue };
            let found = take(self.pass(&followed, origin, beginning, radius, manner.even));
            if !found.is_empty() {
                followed = found;
                idle = 0;
            }
        }
        best
    }

    fn memory_before(&self, sequence: &[u16], place: usize) -> usize {
        let (places, remembered) = (sequence.len(), self.form.remembered);
        (0..remembered).fold(0, |memory, step| {
            let at = (place + places * remembered - remembered + step) % places;
            memory * self.form.members + usize::from(sequence[at])
        })
    }

    fn nearest(&self, member: usize, share: usize) -> usize {
        let (least, most) = self.form.ranges[member];
        share.clamp(least, most)
    }

    /// The cheapest sequence with fitting shares that comes to `origin` with the memory `beginning` and whose counts
    /// stay within `radius` of those of `followed`.
    fn pass(
        &self,
        followed: &[u16],
        origin: usize,
        beginning: usize,
        radius: usize,
        even: bool,
    ) -> Option<Priced> {
        let (places, count) = (followed.len(), self.form.members);
        let cells = (2 * radius + 1).pow(count as u32 - 1);
        let schedule = self.schedule(followed, origin);
        let states = self.memories.len();
        let width = cells + 1; // the last cell is where no way leads
        let mut costs = vec![NEVER; states * width];
        costs[beginning * width + cells / 2] = 0;
        let mut next = vec![NEVER; states * width];
        let mut back = vec![0u8; places * states * cells];
        let mut sources = vec![vec![cells; cells]; count];
        let at = |step: usize| (origin + step) % places;
        for step in 0..places {
            sources_of(&schedule, step, radius, &mut sources);
            let ways = &self.ways[usize::from(self.form.kind[at(step)])];
            let home = self.form.home[at(step)].map(usize::from);
            for state in 0..states {
                let member = self.memories[state] % count;
                let moves = u64::from(home.is_some_and(|home| home != member));
                let target = &mut next[state * width..][..cells];
                target.fill(NEVER);
                let firsts = &mut back[(step * states + state) * cells..][..cells];
                for way in &ways[state] {
                    let from = &costs[way.from * width..][..width];
                    let price = way.cost + moves;
                    for ((cost, first), source) in
                        target.iter_mut().zip(firsts.iter_mut()).zip(&sources[member])
                    {
                        let candidate = from[*source] + price;
                        if candidate < *cost {
                            *cost = candidate;
                            *first = way.first;
                        }
                    }
                }
            }
            std::mem::swap(&mut costs, &mut next);
        }
        let (_, cost, mut cell) = (0..cells)
            .filter(|cell| costs[beginning * width + cell] < NEVER)
            .filter_map(|cell| {
                let shares = self.shares(&schedule, cell, radius)?;
                Some((if even { self.odd(&shares) } else { 0 }, costs[beginning * width + cell], cell))
            })
            .min()?;
        let mut sequence = vec![0u16; places];
        let mut state = beginning;
        let leading = self.numbers.len() / count;
        for step in (0..places).rev() {
            let member = self.memories[state] % count;
            sequence[at(step)] = member as u16;
            let first = usize::from(back[(step * states + state) * cells + cell]);
            sources_of(&schedule, step, radius, &mut sources);
            cell = sources[member][cell];
            state = self.numbers[first * leading + self.memories[state] / count]?;
        }
        Some((cost, sequence))
    }

    /// The count that every member but the last should have before every step, and after the last: those of
    /// `followed`, tilted so that they end where they fit.
    fn schedule(&self, followed: &[u16], origin: usize) -> Vec<Vec<i64>> {
        let places = followed.len();
        (0..self.form.members - 1)
            .map(|member| {
                let share = followed.iter().filter(|other| usize::from(**other) == member).count();
                let tilt = self.nearest(member, share) as i64 - share as i64;
                let mut so_far = 0;
                (0..=places)
                    .map(|step| {
                        let due = so_far + (tilt * step as i64).div_euclid(places as i64);
                        if step < places && usize::from(followed[(origin + step) % places]) == member {
                            so_far += 1;
                        }
                        due
                    })
                    .collect()
            })
            .collect()
    }

    /// The shares at the end, if they fit.
    fn shares(&self, schedule: &[Vec<i64>], cell: usize, radius: usize) -> Option<Vec<usize>> {
        let side = 2 * radius + 1;
        let mut rest = cell;
        let mut left = self.form.home.len();
        let mut shares = Vec::with_capacity(self.form.members);
        for due in schedule {
            let due = due.last().copied().unwrap_or(0) + (rest % side) as i64 - radius as i64;
            rest /= side;
            let share = usize::try_from(due).ok()?;
            left = left.checked_sub(share)?;
            shares.push(share);
        }
        shares.push(left);
        shares
            .iter()
            .enumerate()
            .all(|(member, share)| self.nearest(member, *share) == *share)
            .then_some(shares)
    }

    /// Whether any member could have to have an even number of places.
    pub(super) fn may_be_odd(&self) -> bool {
        self.form.even_from.iter().zip(&self.form.ranges).any(|(from, range)| range.1 >= *from)
    }

    fn odd(&self, shares: &[usize]) -> usize {
        shares
            .iter()
            .zip(&self.form.even_from)
            .filter(|(share, from)| share >= from && *share % 2 == 1)
            .count()
    }
}

/// For every member, from which cell it leads to each.
fn sources_of(schedule: &[Vec<i64>], step: usize, radius: usize, sources: &mut [Vec<usize>]) {
    let side = 2 * radius as i64 + 1;
    let cells = side.pow(schedule.len() as u32);
    for (member, sources) in sources.iter_mut().enumerate() {
        for (cell, source) in sources.iter_mut().enumerate() {
            let mut rest = cell as i64;
            let (mut from, mut place) = (0, 1);
            for (other, due) in schedule.iter().enumerate() {
                let before = rest % side - i64::from(other == member) + due[step + 1] - due[step];
                if !(0..side).contains(&before) {
                    from = cells;
                    break;
                }
                from += before * place;
                place *= side;
                rest /= side;
            }
            *source = from as usize;
        }
    }
}
