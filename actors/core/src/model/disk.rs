//! What a simulated node has on its disk: for each partition a *vault* with its generations and the records of its
//! transfers. Every write is atomic and can be undone until the next sync; a machine that stops keeps any number of the
//! writes since, in their order. It does not know what a partition is for.

use crate::ids::{Generation, NodeId, Partition};
use crate::membership::Possession;
use crate::transfer::{GenerationId, Inbound, Outbound};
use std::collections::{BTreeMap, BTreeSet};

/// For each key the writes that are known of it, a bit each; joined by union.
pub(super) type Items = BTreeMap<u8, u64>;

/// One partition on one node.
#[derive(Clone, Debug)]
pub(super) struct Vault {
    pub(super) generations: BTreeMap<GenerationId, Items>,
    /// Where merges go, as a holder or as a stand-in.
    pub(super) live: GenerationId,
    /// Hints that nothing is merged into any more.
    pub(super) sealed: BTreeSet<GenerationId>,
    pub(super) inbound: Option<(Possession, GenerationId)>,
    pub(super) outbound: Option<Outbound>,
    pub(super) marks: BTreeSet<u8>,
    pub(super) records: BTreeMap<NodeId, Inbound>,
    /// What is about to be passed on, or was.
    pub(super) intent: Option<Outbound>,
    /// What was here is gone, and has not been fetched from the other replicas.
    pub(super) lost: bool,
    next: u32,
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Disk {
    vaults: Vec<Vault>,
    /// What was there before each write since the last sync.
    undo: Vec<(usize, Vault)>,
    mark: u64,
}

impl Vault {
    fn new(mark: u64) -> Self {
        let live = GenerationId { number: Generation(0), mark };
        Self {
            generations: BTreeMap::from([(live, Items::new())]),
            live,
            sealed: BTreeSet::new(),
            inbound: None,
            outbound: None,
            marks: BTreeSet::new(),
            records: BTreeMap::new(),
            intent: None,
            lost: false,
            next: 1,
        }
    }

    /// Whether there is something in a generation.
    pub(super) fn is_filled(&self, generation: GenerationId) -> bool {
        self.generations.get(&generation).is_some_and(|items| !items.is_empty())
    }

    /// What is known of a key, in whichever generation.
    pub(super) fn anywhere(&self, key: u8) -> u64 {
        self.generations.values().filter_map(|items| items.get(&key)).fold(0, |all, bits| all | bits)
    }

    /// What a read sees: what was collected for an inheritance is not served.
    pub(super) fn served(&self, key: u8) -> u64 {
        let inbound = self.inbound.map(|(_, generation)| generation);
        let served = self.generations.iter().filter(|(generation, _)| Some(**generation) != inbound);
        served.filter_map(|(_, items)| items.get(&key)).fold(0, |all, bits| all | bits)
    }
}

impl Disk {
    pub(super) fn new(partitions: usize, mark: u64) -> Self {
        let vaults = (0..partitions as u64).map(|n| Vault::new(mark ^ n)).collect();
        Self { vaults, undo: Vec::new(), mark }
    }

    pub(super) fn at(&self, partition: Partition) -> &Vault {
        &self.vaults[usize::from(partition.0)]
    }

    pub(super) fn vaults(&self) -> impl Iterator<Item = (Partition, &Vault)> {
        (0u16..).map(Partition).zip(&self.vaults)
    }

    /// One atomic batch of writes.
    pub(super) fn write(&mut self, partition: Partition, with: impl FnOnce(&mut Vault)) {
        let vault = &mut self.vaults[usize::from(partition.0)];
        self.undo.push((usize::from(partition.0), vault.clone()));
        with(vault);
    }

    pub(super) fn sync(&mut self) {
        self.undo.clear();
    }

    /// What no machine that stops can take away.
    pub(super) fn certain(&self, partition: Partition) -> &Vault {
        let before = self.undo.iter().find(|(n, _)| *n == usize::from(partition.0));
        before.map_or(self.at(partition), |(_, vault)| vault)
    }

    /// The machine stops: of the writes since the last sync some are kept, by choice.
    pub(super) fn lose_unsynced(&mut self, choice: usize) {
        let kept = choice % (self.undo.len() + 1);
        while self.undo.len() > kept
            && let Some((n, vault)) = self.undo.pop()
        {
            self.vaults[n] = vault;
        }
        self.undo.clear();
    }

    /// An empty disk in place of the one that is gone: generations are counted from 0 again.
    pub(super) fn wipe(&mut self) {
        self.undo.clear();
        for n in 0..self.vaults.len() {
            let mark = self.next_mark();
            self.vaults[n] = Vault { lost: true, ..Vault::new(mark) };
        }
    }

    fn next_mark(&mut self) -> u64 {
        self.mark = self.mark.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.mark
    }

    /// A generation that could be begun.
    pub(super) fn fresh(&mut self, partition: Partition) -> GenerationId {
        GenerationId { number: Generation(self.at(partition).next), mark: self.next_mark() }
    }

    /// Nothing is merged any more into what was live; says which that was.
    pub(super) fn seal_live(&mut self, partition: Partition) -> GenerationId {
        let (old, fresh) = (self.at(partition).live, self.fresh(partition));
        self.write(partition, |vault| {
            vault.sealed.insert(old);
            vault.generations.insert(fresh, Items::new());
            vault.live = fresh;
            vault.next += 1;
        });
        old
    }

    pub(super) fn begin_inbound(
        &mut self,
        partition: Partition,
        possession: Possession,
        fresh: GenerationId,
    ) {
        self.write(partition, |vault| {
            if let Some((_, old)) = vault.inbound.replace((possession, fresh)) {
                vault.sealed.insert(old);
            }
            vault.generations.insert(fresh, Items::new());
            vault.next += 1;
        });
    }

    pub(super) fn drop_generation(&mut self, partition: Partition, generation: GenerationId) {
        self.write(partition, |vault| {
            vault.generations.remove(&generation);
            vault.sealed.remove(&generation);
            if vault.intent.as_ref().is_some_and(|intent| intent.source == generation) {
                vault.intent = None;
            }
        });
    }
}
