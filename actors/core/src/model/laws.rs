//! What must hold in the model, and what a loss is allowed to take: nothing confirmed disappears but with a machine's
//! unsynced writes or a disk; a read by two complete replicas shows what was acknowledged before it began; and when all
//! is healed, everything is where it belongs and nowhere else.

use super::disk::Vault;
use super::step::Omission;
use super::{FIRST, Token, World, hash_of_key, id, number};
use crate::ids::Partition;
use crate::limits::N_VAL_DEFAULT;
use crate::membership::Status;
use crate::transfer::{Inbound, Kind};
use std::collections::BTreeSet;

impl World {
    /// Whether a copy is in a vault that lasts: where replicas confirm only what is synced, only what is synced counts.
    fn lasting(&self, n: usize, partition: Partition) -> &Vault {
        let disk = &self.nodes[n].disk;
        if self.course.durable { disk.certain(partition) } else { disk.at(partition) }
    }

    fn lasts(&self, n: usize, token: Token) -> bool {
        self.lasting(n, token.partition).anywhere(token.key) >> token.bit & 1 == 1
    }

    fn is_somewhere(&self, token: Token) -> bool {
        (0..self.nodes.len()).any(|n| self.lasts(n, token))
    }

    /// What is served of a key by any partition on any node.
    fn served(&self, key: u8) -> u64 {
        let vaults = self.nodes.iter().flat_map(|node| node.disk.vaults());
        vaults.fold(0, |all, (_, vault)| all | vault.served(key))
    }

    /// Nothing confirmed has disappeared.
    pub(super) fn check(&mut self) {
        let missing =
            self.confirmed.iter().find(|token| !self.gone.contains(token) && !self.is_somewhere(**token));
        if let Some(Token { partition, key, bit }) = missing.copied() {
            self.complain(format!("the copy in {partition:?} of {bit} of key {key} is nowhere for certain"));
        }
    }

    /// A complete read has not shown some of what was acknowledged before it began.
    pub(super) fn look_at_read(&mut self, key: u8, missing: u64, told: &str) {
        let missing = missing & !self.hurt[usize::from(key)];
        if missing != 0 {
            self.complain(format!("a complete read of key {key} does not show {missing:b}: {told}"));
        }
    }

    /// The one who holds a partition, as those know who know most.
    fn holder(&self, partition: Partition) -> usize {
        let known = self.nodes.iter().filter(|node| !node.outside).map(|node| node.possession(partition));
        number(known.max().unwrap().holder)
    }

    /// A loss has happened at node `n`: of the confirmed copies that are nowhere now, those are gone that it may have
    /// had alone.
    fn account(&mut self, n: usize, before: &[Vault], might: impl Fn(Token) -> bool) {
        let had = |token: &Token| {
            let vault = &before[usize::from(token.partition.0)];
            vault.anywhere(token.key) >> token.bit & 1 == 1
        };
        let lost: Vec<Token> = self
            .confirmed
            .iter()
            .copied()
            .filter(|token| {
                had(token) && !self.lasts(n, *token) && !self.lasts(self.holder(token.partition), *token)
            })
            .collect();
        for token in lost {
            if !self.nodes[n].holds(token.partition) {
                self.hurt[usize::from(token.key)] |= 1 << token.bit;
            }
            // One who is about to drop its own may still have it.
            if might(token) {
                self.gone.insert(token);
            }
        }
        // What nobody serves any more is gone, though an heir may have some of what it was being sent.
        for key in 0..FIRST.len() as u8 {
            self.hurt[usize::from(key)] |= self.acknowledged[usize::from(key)] & !self.served(key);
        }
        self.give_up_requests_of(n);
    }

    fn has(&self, n: usize, token: Token) -> bool {
        self.nodes[n].disk.at(token.partition).anywhere(token.key) >> token.bit & 1 == 1
    }

    /// A machine stops, and what was not synced may be gone.
    pub(super) fn stop(&mut self, n: usize, choice: usize) {
        if !self.nodes[n].up {
            return;
        }
        self.note(|| format!("n{n} loses what it has not synced"));
        let before: Vec<Vault> = self.nodes[n].disk.vaults().map(|(_, vault)| vault.clone()).collect();
        self.end(n);
        self.nodes[n].disk.lose_unsynced(choice);
        let unsynced = std::mem::take(&mut self.nodes[n].unsynced);
        self.account(n, &before, |token| unsynced.contains(&token));
        if !self.course.durable && !self.without(Omission::UncleanIsLost) {
            self.lose_held(n);
        }
    }

    /// Where confirmed writes may be gone with a machine, what it holds counts as lost.
    fn lose_held(&mut self, n: usize) {
        let held: Vec<Partition> = self.nodes[n].state.held_by(id(n)).collect();
        for partition in held {
            self.nodes[n].disk.write(partition, |vault| vault.lost = true);
            if !self.without(Omission::RepairAnew) {
                let is_repair = |record: &Inbound| matches!(record.kind, Kind::Repair { .. });
                self.nodes[n]
                    .disk
                    .write(partition, |vault| vault.records.retain(|_, record| !is_repair(record)));
            }
        }
        self.nodes[n].disk.sync();
    }

    /// A disk is lost, where a copy of every acknowledged write is left.
    pub(super) fn wipe(&mut self, n: usize, ring_too: bool) {
        let partitions: Vec<Partition> = self.nodes[n].state.size().partitions().collect();
        // Of what this node holds, another may be about to drop the last it has, on this node's word.
        let others: Vec<Partition> =
            partitions.into_iter().filter(|partition| self.holder(*partition) != n).collect();
        let certain = |key: u8| {
            let nodes = self.nodes.iter().filter(|node| node.id != id(n));
            let vaults = nodes.flat_map(|node| others.iter().map(|partition| node.disk.certain(*partition)));
            vaults.fold(0, |all, vault| all | vault.served(key))
        };
        let all_is_elsewhere = (0..FIRST.len() as u8).all(|key| {
            self.acknowledged[usize::from(key)] & !self.hurt[usize::from(key)] & !certain(key) == 0
        });
        if !self.nodes[n].up || !all_is_elsewhere {
            return;
        }
        self.note(|| format!("n{n} loses its disk, the ring too: {ring_too}"));
        let before: Vec<Vault> = self.nodes[n].disk.vaults().map(|(_, vault)| vault.clone()).collect();
        self.end(n);
        self.nodes[n].disk.wipe();
        self.nodes[n].unsynced.clear();
        // Somebody has to know it still.
        let known = self.nodes.iter().any(|node| node.id != id(n) && !node.outside && !node.ring_lost);
        self.nodes[n].ring_lost |= ring_too && known;
        self.counts.wiped += 1;
        self.account(n, &before, |_| true);
    }

    /// What is not as it is to be when everything has come to rest.
    pub(super) fn unrest(&self) -> Option<String> {
        let members = || {
            let inside = self.nodes.iter().filter(|node| !node.outside && node.is_member());
            inside.map(|node| (number(node.id), node))
        };
        let (_, first) = members().next()?;
        for (n, node) in members() {
            if node.state.possession() != first.state.possession()
                || node.state.stamp() != first.state.stamp()
            {
                return Some(format!("n{n} knows another state"));
            }
            if let Some(status @ (Status::Leaving | Status::Exiting | Status::Down(_))) =
                node.state.status(node.id)
            {
                return Some(format!("n{n} is still {}", status.word()));
            }
            if let Some((other, _)) =
                members().find(|(_, other)| other.id != node.id && !node.up().contains(&other.id))
            {
                return Some(format!("n{n} has not met n{other}"));
            }
            // One who is to have something, and was marked down while it waited to join, waits for another commit.
            let can = |partition: &Partition| {
                let owner = node.state.target().owners()[usize::from(partition.0)];
                node.state.status(owner).is_some_and(Status::claims)
            };
            if let Some(partition) = node.state.pending().find(can) {
                return Some(format!("{partition:?} is not where it is to be"));
            }
            if !node.sending.is_empty() || !node.receiving.is_empty() || !node.frozen.is_empty() {
                return Some(format!("n{n} has transfers that run"));
            }
            if !node.lacking().is_empty() || !node.incomplete().is_empty() {
                return Some(format!("n{n} is incomplete: {:?}", node.incomplete()));
            }
        }
        let strays =
            self.nodes.iter().flat_map(|node| node.disk.vaults().map(move |at| (number(node.id), at)));
        for (n, (partition, vault)) in strays {
            let holds = self.holder(partition) == n;
            if vault.generations.len() > 1 || (!holds && vault.is_filled(vault.live)) {
                return Some(format!("n{n} has something of {partition:?} that belongs elsewhere"));
            }
            if vault.outbound.is_some() || !vault.marks.is_empty() {
                return Some(format!("n{n} has marks of a transfer of {partition:?}"));
            }
        }
        None
    }

    /// All has come to rest: every confirmed copy is where it belongs, whatever was lost meanwhile, as long as any copy
    /// of that write was left; and everybody who reads sees everything.
    pub(super) fn read_everything(&mut self) {
        if self.broken.is_some() {
            return;
        }
        for token in self.confirmed.clone() {
            let Token { partition, key, bit } = token;
            let left = self.acknowledged[usize::from(key)] & !self.hurt[usize::from(key)];
            let left = left >> bit & 1 == 1;
            if left && !self.has(self.holder(partition), token) {
                self.complain(format!("in the end {partition:?} lacks {bit} of key {key}"));
            }
        }
        let nodes: BTreeSet<usize> = (0..self.nodes.len()).filter(|n| self.nodes[*n].up).collect();
        for (n, key) in nodes.iter().flat_map(|n| (0..FIRST.len() as u8).map(|key| (*n, key))) {
            let list = self.nodes[n].view().primary_preflist(&hash_of_key(key), N_VAL_DEFAULT);
            let holders: Vec<usize> = list.iter().map(|entry| number(entry.node)).collect();
            let due = self.acknowledged[usize::from(key)];
            for (skipped, entry) in list.iter().enumerate() {
                let two = list.iter().enumerate().filter(|(at, _)| *at != skipped);
                let seen = two.fold(0, |seen, (_, other)| {
                    seen | self.nodes[number(other.node)].disk.at(other.partition).served(key)
                });
                let without = entry.partition;
                let told = format!("in the end, by n{n}, of {holders:?} without {without:?}");
                self.look_at_read(key, due & !seen, &told);
            }
        }
    }
}
