//! How a value that everybody shares becomes the same everywhere. It decides to whom to tell what, and when:
//! a change is *pushed* to a few random peers for a few rounds, each of whom pushes on what it did not have; and
//! every second one random peer is compared with (*anti-entropy*), for those whom no push reached (Demers et
//! al.: "Epidemic Algorithms for Replicated Database Maintenance", 1987, §1.3 and §1.4). It does not know what
//! is shared: only that it has sections, each with a version, and that merging is commutative, associative and
//! idempotent, so that lost, doubled and reordered messages do no harm.
//!
//! Versions travel first, and only sections that differ after them:
//!
//! ```text
//! anti-entropy   A: Digest(a)      B, if it differs: Part(its sections, b)      A: Part(what b lacks)
//! push           A: News(a)        B, if it differs: Ask(b)   A: Part(its sections, a)   B: Part(what a lacks)
//! ```
//!
//! A push is answered by a question because its sender is nearly always ahead: the old sections of the one
//! behind need not travel. Nothing is answered when nothing differs.

use crate::ids::NodeId;
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::IteratorRandom;
use serde::{Deserialize, Serialize};

/// A value that all nodes share, as far as spreading it goes. A join-semilattice; merging is the caller's, who
/// may have to sync it to disk first.
pub trait Shared {
    /// One small version for each section, for instance a hash of it. Equal digests mean equal values.
    type Digest: Clone + Eq;
    /// The name of a section. There is a small, fixed number of them.
    type Section;
    /// Some sections' contents.
    type Part;

    /// The versions of all sections.
    fn digest(&self) -> Self::Digest;
    /// The sections whose versions are not those of `theirs`, which may come from anywhere.
    fn sections_differing(&self, theirs: &Self::Digest) -> Vec<Self::Section>;
    /// The contents of `sections`.
    fn extract(&self, sections: &[Self::Section]) -> Self::Part;
}

/// What one node says to another. Its encoding is the caller's, who knows digest and part.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum GossipMessage<D, P> {
    /// "These are my versions. What have you that differs?"
    Digest(D),
    /// "Something changed here; these are my versions now."
    News(D),
    /// "These are mine. Send me what differs."
    Ask(D),
    /// Sections to merge.
    Part {
        /// Their contents.
        part: P,
        /// The sender's versions, when it wants to be sent what it lacks.
        versions: Option<D>,
    },
}

/// What the caller has to do, in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SpreadEffect<D, P> {
    /// Carry `message` to `to`, if there is a connection; else drop it.
    Send {
        /// To whom.
        to: NodeId,
        /// What to hand to the other side's [`Spread::message`].
        message: GossipMessage<D, P>,
    },
    /// Merge `part`; when the value has it (and the disk, if it must), call [`Spread::merged`].
    Merge {
        /// Who sent it.
        from: NodeId,
        /// What to merge.
        part: P,
        /// To be handed to [`Spread::merged`].
        versions: Option<D>,
    },
}

/// The effects of spreading an `S`.
pub type Effects<S> = Vec<SpreadEffect<<S as Shared>::Digest, <S as Shared>::Part>>;

/// Times and counts of spreading.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpreadConfig {
    /// Peers told in one round of pushing.
    pub push_fanout: usize,
    /// Rounds of pushing after a change. With fanout 3, two rounds reach 99.7 % of a large cluster; the
    /// exchanges find the rest.
    pub push_rounds: u32,
    /// Between two rounds of pushing.
    pub push_interval_ms: u64,
    /// Between two exchanges of anti-entropy.
    pub exchange_interval_ms: u64,
    /// Every so many exchanges one goes to a peer that is taken for down, in case it is not. 0: never.
    pub exchanges_per_down_peer: u32,
}

impl Default for SpreadConfig {
    fn default() -> Self {
        Self {
            push_fanout: 3,
            push_rounds: 2,
            push_interval_ms: 200,
            exchange_interval_ms: 1000,
            exchanges_per_down_peer: 10,
        }
    }
}

/// The other nodes, as the caller sees them now.
#[derive(Clone, Copy, Debug)]
pub struct Peers<'a> {
    /// Those that can be reckoned with.
    pub available: &'a [NodeId],
    /// The other members.
    pub down: &'a [NodeId],
}

/// One node's part in spreading an `S`. Holds a few digests and times, whatever the size of the cluster.
pub struct Spread<S: Shared> {
    config: SpreadConfig,
    random: Xoshiro256PlusPlus,
    /// What we last pushed, or were born with.
    told: S::Digest,
    rounds_left: u32,
    push_at_ms: u64,
    exchange_at_ms: u64,
    exchanges: u32,
    /// The last digest we asked about, and until when we do not ask about it again.
    asked: Option<(S::Digest, u64)>,
}

impl<S: Shared> Spread<S> {
    /// Spreads `state` from `now_ms` on. What it holds at birth is not news: exchanges carry it.
    /// `seed_random` decides with whom; the first exchange falls at a random point of the interval, so that
    /// nodes which start together do not speak together.
    pub fn new(now_ms: u64, seed_random: u64, config: SpreadConfig, state: &S) -> Self {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed_random);
        let first_ms = (0..config.exchange_interval_ms.max(1)).choose(&mut random).unwrap_or_default();
        Self {
            config,
            random,
            told: state.digest(),
            rounds_left: 0,
            push_at_ms: now_ms,
            exchange_at_ms: now_ms + first_ms,
            exchanges: 0,
            asked: None,
        }
    }

    /// The value may have changed here: if it did, it will be pushed from the next tick on. Changes of one
    /// interval go together.
    pub fn changed(&mut self, now_ms: u64, state: &S) {
        let digest = state.digest();
        if digest != self.told {
            self.told = digest;
            if self.rounds_left == 0 {
                self.push_at_ms = self.push_at_ms.max(now_ms);
            }
            self.rounds_left = self.config.push_rounds;
        }
    }

    /// Takes in what `from` said. A part comes out as `Merge`; everything else changes no value.
    pub fn message(
        &mut self,
        now_ms: u64,
        from: NodeId,
        message: GossipMessage<S::Digest, S::Part>,
        state: &S,
    ) -> Effects<S> {
        let send = |message| vec![SpreadEffect::Send { to: from, message }];
        match message {
            GossipMessage::Part { part, versions } => vec![SpreadEffect::Merge { from, part, versions }],
            GossipMessage::Digest(theirs) | GossipMessage::Ask(theirs) => match differing(state, &theirs) {
                Some(part) => {
                    let versions = Some(state.digest());
                    send(GossipMessage::Part { part, versions })
                }
                None => Vec::new(),
            },
            GossipMessage::News(theirs) => {
                let mine = state.digest();
                // Several may bring the same news before the answer of the first is here.
                let asking = self
                    .asked
                    .as_ref()
                    .is_some_and(|(digest, until_ms)| *digest == theirs && now_ms < *until_ms);
                if asking || mine == theirs {
                    return Vec::new();
                }
                self.asked = Some((theirs, now_ms + self.config.push_interval_ms));
                send(GossipMessage::Ask(mine))
            }
        }
    }

    /// `state` has what `from` sent, and `versions` came with it: sends back what `from` lacks, and pushes on
    /// what was new here.
    pub fn merged(
        &mut self,
        now_ms: u64,
        from: NodeId,
        versions: Option<S::Digest>,
        state: &S,
    ) -> Effects<S> {
        self.changed(now_ms, state);
        let lacking = versions.and_then(|theirs| differing(state, &theirs));
        let message = lacking.map(|part| GossipMessage::Part { part, versions: None });
        message.map(|message| SpreadEffect::Send { to: from, message }).into_iter().collect()
    }

    /// Does what is due at `now_ms`: at most one round of pushing and one exchange, however late it is.
    pub fn tick(&mut self, now_ms: u64, state: &S, peers: Peers<'_>) -> Effects<S> {
        let mut effects = Vec::new();
        self.changed(now_ms, state);
        if self.rounds_left > 0 && self.push_at_ms <= now_ms {
            self.rounds_left -= 1;
            self.push_at_ms = now_ms + self.config.push_interval_ms.max(1);
            let some = peers.available.iter().copied().sample(&mut self.random, self.config.push_fanout);
            effects.extend(some.into_iter().map(|to| {
                let message = GossipMessage::News(self.told.clone());
                SpreadEffect::Send { to, message }
            }));
        }
        if self.exchange_at_ms <= now_ms {
            let interval_ms = self.config.exchange_interval_ms.max(1);
            // The phase stays, unless we are late by a whole interval: nothing is made up for.
            let next_ms = self.exchange_at_ms + interval_ms;
            self.exchange_at_ms = if next_ms > now_ms { next_ms } else { now_ms + interval_ms };
            self.exchanges = self.exchanges.wrapping_add(1);
            let turn_of_down = self.config.exchanges_per_down_peer > 0
                && self.exchanges.is_multiple_of(self.config.exchanges_per_down_peer)
                || peers.available.is_empty();
            let from = if turn_of_down && !peers.down.is_empty() { peers.down } else { peers.available };
            if let Some(to) = from.iter().copied().choose(&mut self.random) {
                effects.push(SpreadEffect::Send { to, message: GossipMessage::Digest(state.digest()) });
            }
        }
        effects
    }

    /// When the next tick is due.
    pub fn next_wakeup_ms(&self) -> u64 {
        if self.rounds_left > 0 { self.exchange_at_ms.min(self.push_at_ms) } else { self.exchange_at_ms }
    }
}

fn differing<S: Shared>(state: &S, theirs: &S::Digest) -> Option<S::Part> {
    let sections = state.sections_differing(theirs);
    if sections.is_empty() { None } else { Some(state.extract(&sections)) }
}

#[cfg(test)]
mod tests;
