//! Clients' requests, and what nodes ask each other beside transfers: reads and writes by quorum over preference lists,
//! with stand-ins and relocation; "what do you hold for me"; "this was complete here"; "send me what I have lost". It
//! does as a coordinator, a vnode and a ring manager of the runtime do, as simply as that can be done.

use super::node::Node;
use super::step::Omission;
use super::{SERVICE, Token, World, hash_of_key, id, number};
use crate::gossip::detector::Availability;
use crate::ids::{NodeId, Partition};
use crate::limits::N_VAL_DEFAULT;
use crate::membership::{Possession, Section, StatePart};
use crate::preflist::{Judgement, Preflist, PreflistEntry, Role};
use crate::quorum::{Answer, ReadAnswer, ReadQuorum, ReadStep, Refusal, Rules, Verdict, WriteQuorum};
use crate::transfer::RepairAnswer;
use crate::transfer::repair::may_be_asked;
use crate::transfer::schedule::Repair;
use std::collections::BTreeSet;

/// How often a replica is asked elsewhere.
const RELOCATIONS_MAX: u8 = 3;
/// Reads that may be under way.
const READS_MAX: usize = 8;

/// Between two nodes, or from a node to itself.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) says: Says,
}

#[derive(Clone, Debug)]
pub(super) enum Says {
    Write {
        write: usize,
        replica: usize,
        partition: Partition,
        role: Role,
        possession: Possession,
    },
    Wrote {
        write: usize,
        replica: usize,
        moved: Option<Possession>,
    },
    Read {
        read: usize,
        replica: Option<usize>,
        partition: Partition,
        role: Role,
        possession: Possession,
    },
    Showed {
        read: usize,
        replica: Option<usize>,
        bits: u64,
        complete: bool,
    },
    ReadMoved {
        read: usize,
        replica: Option<usize>,
        possession: Possession,
    },
    AskStrays {
        round: u64,
        life: u64,
    },
    Strays {
        round: u64,
        part: StatePart,
    },
    Bequest {
        life: u64,
        partition: Partition,
        possession: Possession,
    },
    AskRepairs(Vec<Repair>),
    /// None: the source is lost, and nothing comes of it (a rule that is left out).
    RepairAnswers(Vec<(Repair, Option<RepairAnswer>)>),
}

/// A write, of one bit of a key's item.
pub(super) struct Write {
    pub(super) key: u8,
    pub(super) bit: u8,
    via: usize,
    quorum: WriteQuorum,
    partitions: Vec<Partition>,
    relocations: Vec<u8>,
    /// Who has confirmed it, whether or not the coordinator knows.
    pub(super) confirmed_at: BTreeSet<usize>,
    pub(super) ended: bool,
}

/// A read.
pub(super) struct Read {
    key: u8,
    pub(super) via: usize,
    quorum: ReadQuorum,
    entries: Preflist,
    relocations: Vec<u8>,
    /// What the replicas have shown.
    seen: u64,
    /// What was acknowledged before it began, where nobody was taken for down without knowing it.
    due: u64,
    pub(super) ended: bool,
    told: String,
}

fn rules(durable: bool) -> Rules {
    let dw = if durable { 2 } else { 0 };
    Rules { n: N_VAL_DEFAULT, r: 2, w: 2, dw, pr: 0, pw: 0, node_confirms: None, sloppy: true }
}

impl World {
    pub(super) fn send(&mut self, from: usize, to: usize, says: Says) {
        if from == to || self.reach(from, to) {
            self.messages.push(Message { from, to, says });
        }
    }

    fn coordinates(&self, n: usize) -> bool {
        let node = &self.nodes[n];
        node.up && node.is_member()
    }

    pub(super) fn write(&mut self, via: usize, key: u8) {
        let bit = self.next_bit[usize::from(key)];
        if !self.coordinates(via) || bit >= 64 {
            return;
        }
        let list = self.nodes[via].view().preflist(SERVICE, &hash_of_key(key), N_VAL_DEFAULT);
        let Ok(quorum) = WriteQuorum::new(rules(self.course.durable), &list) else { return };
        self.next_bit[usize::from(key)] += 1;
        let write = self.writes.len();
        let partitions = list.iter().map(|entry| entry.partition).collect();
        self.note(|| format!("n{via} writes {bit} of key {key} at {}", told(&list)));
        self.writes.push(Write {
            key,
            bit,
            via,
            quorum,
            partitions,
            relocations: vec![0; list.len()],
            confirmed_at: BTreeSet::new(),
            ended: false,
        });
        for (replica, entry) in list.into_iter().enumerate() {
            let PreflistEntry { partition, node, role, possession } = entry;
            self.send(via, number(node), Says::Write { write, replica, partition, role, possession });
        }
    }

    pub(super) fn read(&mut self, via: usize, key: u8) {
        self.reads.retain(|_, read| !read.ended);
        if !self.coordinates(via) || self.reads.len() >= READS_MAX {
            return;
        }
        let list = self.nodes[via].view().preflist(SERVICE, &hash_of_key(key), N_VAL_DEFAULT);
        let Ok(quorum) = ReadQuorum::new(rules(false), &list, id(via)) else { return };
        let due = if self.unaware.is_empty() { self.acknowledged[usize::from(key)] } else { 0 };
        let told = format!("n{via} reads key {key} at {}", told(&list));
        self.note(|| told.clone());
        let read = self.next_read;
        self.next_read += 1;
        let relocations = vec![0; list.len()];
        let begun = Read { key, via, quorum, entries: list, relocations, seen: 0, due, ended: false, told };
        self.reads.insert(read, begun);
        self.go_on(read);
    }

    /// A read does what is next.
    fn go_on(&mut self, at: usize) {
        while let Some(read) = self.reads.get_mut(&at).filter(|read| !read.ended) {
            let via = read.via;
            match read.quorum.step() {
                ReadStep::Ask(replica) => {
                    let PreflistEntry { partition, node, role, possession } = read.entries[replica];
                    let says = Says::Read { read: at, replica: Some(replica), partition, role, possession };
                    self.send(via, number(node), says);
                }
                ReadStep::AskStrays => {
                    let partitions: Vec<Partition> =
                        read.entries.iter().map(|entry| entry.partition).collect();
                    let strays = self.nodes[via].view().strays_of(SERVICE, &partitions);
                    read.quorum.strays_asked(strays.len());
                    for PreflistEntry { partition, node, role, possession } in strays {
                        let says = Says::Read { read: at, replica: None, partition, role, possession };
                        self.send(via, number(node), says);
                    }
                }
                ReadStep::Wait => return,
                ReadStep::Done { degraded } => {
                    read.ended = true;
                    let (key, seen, due) = (read.key, read.seen, read.due);
                    let told = std::mem::take(&mut read.told);
                    if degraded {
                        self.counts.degraded += 1;
                    } else {
                        self.counts.complete += 1;
                        self.look_at_read(key, due & !seen, &told);
                    }
                }
                ReadStep::Ended(_) => read.ended = true,
            }
        }
    }

    /// A read that waits asks one more, or makes do with what it has.
    pub(super) fn hurry(&mut self, chosen: usize) {
        let waiting: Vec<usize> =
            self.reads.iter().filter(|(_, read)| !read.ended).map(|(at, _)| *at).collect();
        let Some(at) = waiting.get(chosen % waiting.len().max(1)).copied() else { return };
        let Some(read) = self.reads.get_mut(&at) else { return };
        if let Some(replica) = read.quorum.hedge() {
            let via = read.via;
            let PreflistEntry { partition, node, role, possession } = read.entries[replica];
            let says = Says::Read { read: at, replica: Some(replica), partition, role, possession };
            self.send(via, number(node), says);
        } else if read.quorum.give_up_on_the_rest() {
            read.ended = true;
            self.counts.degraded += 1;
        }
        self.go_on(at);
    }

    /// A message arrives.
    pub(super) fn deliver(&mut self, chosen: usize) {
        if self.messages.is_empty() {
            return;
        }
        let at = chosen % self.messages.len();
        let Message { from, to, says } = self.messages.swap_remove(at);
        if !self.nodes[to].up || (from != to && !self.reach(from, to)) {
            return;
        }
        match says {
            Says::Write { write, replica, partition, role, possession } => {
                let frozen = self.nodes[to].frozen.contains(&partition);
                match self.nodes[to].view().judge(SERVICE, partition, role, possession) {
                    Judgement::Moved(possession) => {
                        self.send(to, from, Says::Wrote { write, replica, moved: Some(possession) });
                    }
                    Judgement::Serve { .. } if frozen => {
                        let says = Says::Write { write, replica, partition, role, possession };
                        self.messages.push(Message { from, to, says });
                    }
                    Judgement::Serve { .. } => self.take_in(to, write, replica, partition),
                }
            }
            Says::Wrote { write, replica, moved } => self.wrote(write, replica, moved),
            Says::Read { read, replica, partition, role, possession } => {
                let Some(key) = self.reads.get(&read).map(|read| read.key) else { return };
                let says = match self.nodes[to].view().judge(SERVICE, partition, role, possession) {
                    Judgement::Moved(possession) => Says::ReadMoved { read, replica, possession },
                    Judgement::Serve { complete } => {
                        let bits = self.nodes[to].disk.at(partition).served(key);
                        Says::Showed { read, replica, bits, complete }
                    }
                };
                self.send(to, from, says);
            }
            Says::Showed { read: at, replica, bits, complete } => {
                let Some(read) = self.reads.get_mut(&at).filter(|read| !read.ended) else { return };
                read.seen |= bits;
                let what = if complete { "complete" } else { "incomplete" };
                read.told.push_str(&format!("; n{from} as {replica:?}, {what}, shows {bits:b}"));
                match replica {
                    Some(replica) if complete => read.quorum.answer(replica, ReadAnswer::Complete),
                    Some(replica) => read.quorum.answer(replica, ReadAnswer::Incomplete),
                    None => read.quorum.stray_answered(),
                }
                self.go_on(at);
            }
            Says::ReadMoved { read: at, replica, possession } => self.read_moved(at, replica, possession),
            Says::AskStrays { round, life } => self.tell_strays(to, from, round, life),
            Says::Strays { round, part } => {
                let node = &mut self.nodes[to];
                node.state.merge_part(&part).unwrap();
                node.completeness.answered(id(from), round);
                self.settle(to);
            }
            Says::Bequest { life, partition, possession } => {
                let node = &mut self.nodes[to];
                let before = node.possession(partition);
                let known = before.holder == id(from) || before == possession;
                if life == node.life && possession.holder == node.id && known {
                    node.inherited.insert(partition, life);
                    self.settle(to);
                }
            }
            Says::AskRepairs(repairs) => {
                let refuses = self.without(Omission::LostSource);
                let node = &mut self.nodes[to];
                let answers =
                    repairs.into_iter().map(|repair| (repair, answer_repair(node, repair, refuses)));
                let answers = answers.collect();
                self.send(to, from, Says::RepairAnswers(answers));
            }
            Says::RepairAnswers(answers) => {
                for (repair, answer) in answers {
                    let (now_ms, repairs) = (self.now_ms, &mut self.nodes[to].repairs);
                    match answer {
                        Some(answer) => repairs.answered(now_ms, repair.partition, repair.source, answer),
                        None => repairs.received(repair.partition, repair.source),
                    }
                }
            }
        }
    }

    /// A vnode takes a write in.
    fn take_in(&mut self, n: usize, write: usize, replica: usize, partition: Partition) {
        let (key, bit) = (self.writes[write].key, self.writes[write].bit);
        let node = &mut self.nodes[n];
        node.merge(partition, key, 1 << bit);
        node.unsynced.insert(Token { partition, key, bit });
        // That it has something for another, a node knows before it writes.
        node.report();
        self.note(|| format!("n{n} takes in {bit} of key {key} for {partition:?}"));
        if self.course.durable {
            self.nodes[n].to_confirm.push((write, replica, partition));
        } else {
            self.confirm(n, write, replica, partition);
        }
    }

    fn confirm(&mut self, n: usize, at: usize, replica: usize, partition: Partition) {
        let write = &mut self.writes[at];
        write.confirmed_at.insert(n);
        let (via, key, bit) = (write.via, write.key, write.bit);
        self.confirmed.insert(Token { partition, key, bit });
        self.send(n, via, Says::Wrote { write: at, replica, moved: None });
    }

    /// What has been synced is confirmed.
    pub(super) fn confirm_synced(&mut self) {
        for n in 0..self.nodes.len() {
            for (write, replica, partition) in std::mem::take(&mut self.nodes[n].synced) {
                self.confirm(n, write, replica, partition);
            }
        }
    }

    fn wrote(&mut self, at: usize, replica: usize, moved: Option<Possession>) {
        let durable = self.course.durable;
        let write = &mut self.writes[at];
        if write.ended {
            return;
        }
        let (key, bit, via) = (write.key, write.bit, write.via);
        match moved {
            None => {
                if write.quorum.answer(replica, Answer::Done { durable }) == Some(Verdict::Done) {
                    write.ended = true;
                    self.acknowledged[usize::from(key)] |= 1 << bit;
                    self.note(|| format!("{bit} of key {key} is acknowledged"));
                }
            }
            Some(possession) if write.relocations[replica] < RELOCATIONS_MAX => {
                write.relocations[replica] += 1;
                write.quorum.relocate(replica, possession.holder, true);
                let partition = write.partitions[replica];
                let says = Says::Write { write: at, replica, partition, role: Role::Primary, possession };
                self.send(via, number(possession.holder), says);
            }
            Some(_) => {
                let refused = Answer::Refused(Refusal::Unavailable("it moves".to_owned()));
                write.ended |= write.quorum.answer(replica, refused).is_some();
            }
        }
    }

    fn read_moved(&mut self, at: usize, replica: Option<usize>, possession: Possession) {
        let Some(read) = self.reads.get_mut(&at).filter(|read| !read.ended) else { return };
        let Some(replica) = replica else { return };
        if read.relocations[replica] >= RELOCATIONS_MAX {
            read.quorum.answer(replica, ReadAnswer::Refused(Refusal::Unavailable("it moves".to_owned())));
            return self.go_on(at);
        }
        read.relocations[replica] += 1;
        read.quorum.relocate(replica, possession.holder, true);
        let (via, partition) = (read.via, read.entries[replica].partition);
        let says =
            Says::Read { read: at, replica: Some(replica), partition, role: Role::Primary, possession };
        self.send(via, number(possession.holder), says);
    }

    /// A member says what it has for others, if it stands in for the one who asks no more.
    fn tell_strays(&mut self, n: usize, asker: usize, round: u64, life: u64) {
        self.settle(n);
        let node = &self.nodes[n];
        let sees = node.seen.get(&id(asker));
        if !sees.is_some_and(|(known, seen)| *known >= life && *seen == Availability::Up) {
            return;
        }
        let reports = Section::all().filter(|section| matches!(section, Section::Reports(_)));
        let part = node.state.part(reports);
        self.send(n, asker, Says::Strays { round, part });
    }

    /// Asks for what this node has to know: strays of members, repairs of what it has lost.
    pub(super) fn ask(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        let up = node.up();
        let asks: Vec<NodeId> =
            node.completeness.to_ask(&node.state).into_iter().filter(|member| up.contains(member)).collect();
        let (round, life) = (node.completeness.round(), node.life);
        let lacking = node.lacking();
        node.repairs.observe(&node.state, node.id, &lacking, N_VAL_DEFAULT);
        if self.course.without == Some(Omission::AllSources) {
            node.ask_neighbours_only();
        }
        let (in_doubt, at_once) = (node.in_doubt(), self.course.without == Some(Omission::WordsFirst));
        let may = |repair| at_once || may_be_asked(&node.state, &in_doubt, repair);
        let wanted = node.repairs.to_ask(self.now_ms, &node.state, node.id, &up, may);
        for member in asks {
            let says = Says::AskStrays { round, life };
            let asked = |message: &Message| {
                message.from == n
                    && message.to == number(member)
                    && matches!(message.says, Says::AskStrays { round: r, .. } if r == round)
            };
            if !self.messages.iter().any(asked) {
                self.send(n, number(member), says);
            }
        }
        for (holder, repairs) in wanted {
            self.send(n, number(holder), Says::AskRepairs(repairs));
        }
    }

    /// A disk or what was not synced on it is gone: requests that this node has confirmed, and that are under way, have
    /// no answer by the time it is back.
    pub(super) fn give_up_requests_of(&mut self, n: usize) {
        for write in self.writes.iter_mut().filter(|write| write.confirmed_at.contains(&n)) {
            write.ended = true;
        }
    }
}

fn answer_repair(node: &mut Node, repair: Repair, refuses_lost: bool) -> Option<RepairAnswer> {
    if node.possession(repair.partition).holder != repair.to || !node.holds(repair.source) {
        return Some(RepairAnswer::NotHeld);
    }
    if refuses_lost && node.lacking().contains(&repair.source) {
        return None;
    }
    node.asked.insert(repair);
    Some(RepairAnswer::Taken)
}

fn told(list: &[PreflistEntry]) -> String {
    let each =
        list.iter().map(|entry| format!("{:?}@n{} {:?}", entry.partition, number(entry.node), entry.role));
    each.collect::<Vec<_>>().join(", ")
}
