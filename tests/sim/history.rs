//! What clients asked, what they were told, and when: the oracle that all invariants about data go by. It knows no
//! service; a write is a serial number under a key, whatever a service makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What a client asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Put that serial under that key. `name`: what makes a retry the same write.
    Write {
        /// Where.
        key: String,
        /// What; unique in a run.
        serial: u64,
        /// What makes retries one write, if anything.
        name: Option<String>,
        /// Confirmations wanted.
        w: u8,
    },
    /// What is there, as r replicas see it.
    Read {
        /// Where.
        key: String,
        /// Replicas wanted.
        r: u8,
        /// All of it, not only the latest.
        whole: bool,
    },
    /// Everything under a key up to the write with that id is to go.
    Forget {
        /// Where.
        key: String,
        /// The id of the last that goes.
        through: String,
    },
    /// Under which keys there is something.
    List,
}

impl Operation {
    /// The key it is about; nothing for all of them.
    pub fn key(&self) -> &str {
        match self {
            Self::List => "",
            Self::Write { key, .. } | Self::Read { key, .. } | Self::Forget { key, .. } => key,
        }
    }

    /// The same write again after that outcome, where that is possible without writing it twice.
    pub fn retry_of(&self, outcome: &Outcome) -> Option<Self> {
        let Self::Write { key, serial, name, w } = self else { return None };
        let again = |name: Option<String>| Self::Write { key: key.clone(), serial: *serial, name, w: *w };
        match outcome {
            Outcome::Refused(_) => Some(again(name.clone())),
            Outcome::Unknown { name: Some(told), .. } => Some(again(Some(told.clone()))),
            Outcome::Unknown { name: None, .. } if name.is_some() => Some(again(name.clone())),
            _ => None,
        }
    }
}

/// What a read showed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    /// These writes with their ids, in the service's order; everything later than the first of them, or everything.
    Writes {
        /// Serial and id.
        writes: Vec<(u64, String)>,
        /// Whether the beginning was left out.
        cut: bool,
    },
    /// So many writes.
    Count(u64),
}

/// What a client was told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The write stands.
    Acknowledged {
        /// The write's id, where the service gives ids. Ids sort as the service orders writes.
        id: Option<String>,
        /// Names of the nodes that confirmed.
        nodes: Vec<String>,
    },
    /// A `Forget` stands.
    Forgotten,
    /// What was read.
    Read {
        /// What.
        seen: Seen,
        /// Whether the service said that something may be missing.
        degraded: bool,
    },
    /// These keys, as a list that says that it is whole.
    Listed(Vec<String>),
    /// Nothing was done, nothing will be.
    Refused(String),
    /// The write came too late: what it says has been deleted.
    Deleted,
    /// It may have been done, or may be.
    Unknown {
        /// What makes a retry the same write, where the answer said so.
        name: Option<String>,
        /// How it ended.
        why: String,
    },
    /// An answer that no client should get.
    Wrong(String),
}

/// One request and its end.
#[derive(Clone, Debug)]
pub struct Record {
    /// What was asked.
    pub operation: Operation,
    /// At which node.
    pub node: u8,
    /// Who held the key's replicas then, as that node saw it.
    pub primaries: Vec<String>,
    /// Whom it would ask: for which partition, and who.
    pub places: Vec<(u16, String)>,
    /// When, since the run began.
    pub begun: Duration,
    /// When it has to have ended.
    pub deadline: Duration,
    /// When it did.
    pub ended: Option<Duration>,
    /// What the client was told.
    pub outcome: Option<Outcome>,
}

impl Record {
    /// Whom it was sent to is not known where that has changed until its end in anybody's view, nor for which
    /// partition, where a node has two: what one of them answers as moved goes to the other's holder.
    pub fn keep_sure_places(&mut self, views: &[Vec<(u16, String)>]) {
        let has = |places: &[(u16, String)], name: &String| {
            places.iter().filter(|(_, other)| other == name).count()
        };
        let before = std::mem::take(&mut self.places);
        let sure = |place: &&(u16, String)| {
            let in_view = |view: &Vec<(u16, String)>| view.contains(place) && has(view, &place.1) == 1;
            has(&before, &place.1) == 1 && views.iter().all(in_view)
        };
        self.places = before.iter().filter(sure).cloned().collect();
    }

    /// The id that a write was given.
    pub fn id(&self) -> Option<&String> {
        match &self.outcome {
            Some(Outcome::Acknowledged { id, .. }) => id.as_ref(),
            _ => None,
        }
    }
}

/// Something that happened to a machine; a loss of power takes with it what was not synced.
#[derive(Clone, Copy, Debug)]
pub struct MachineEvent {
    /// Which.
    pub node: u8,
    /// When.
    pub at: Duration,
}

/// All of it, in the order of the beginnings.
#[derive(Default)]
pub struct History {
    /// Requests.
    pub records: Vec<Record>,
    /// Losses of power.
    pub power_losses: Vec<MachineEvent>,
    /// Whether partitions may change hands.
    pub members_change: bool,
    /// Disks that were lost.
    pub wipes: Vec<MachineEvent>,
    /// Ends of processes, whatever ended them, and their starts.
    pub ends: Vec<MachineEvent>,
    /// See `ends`.
    pub starts: Vec<MachineEvent>,
    /// How long what was acknowledged may stay unsynced; none: until somebody asks.
    pub unsynced_at_most: Option<Duration>,
    /// What was changed in the metadata, or was to be.
    pub metadata: Vec<MetadataChange>,
}

/// Where metadata is written.
pub const METADATA_NAMESPACE: &str = "sim";

/// One change of metadata.
pub struct MetadataChange {
    /// Which machine was asked.
    pub node: u8,
    /// When.
    pub at: Duration,
    /// What was written; none where an entry was removed.
    pub value: Option<String>,
    /// What stood there as far as the node knew, and went.
    pub gone: Vec<String>,
    /// Whether the node said that it is kept.
    pub kept: bool,
    /// Who else was seen to have the value, and when last.
    pub known_by: BTreeMap<u8, Duration>,
}

/// Which requests have ended since they were looked at last; each is named once.
#[derive(Default)]
pub struct NewlyEnded {
    looked_at: usize,
    under_way: Vec<usize>,
}

impl NewlyEnded {
    /// Those, in the order of their beginnings.
    pub fn of<'a>(&mut self, history: &'a History) -> Vec<&'a Record> {
        let records = &history.records;
        self.under_way.extend(self.looked_at..records.len());
        self.looked_at = records.len();
        let all = std::mem::take(&mut self.under_way).into_iter();
        let (ended, under_way): (Vec<usize>, Vec<usize>) = all.partition(|at| records[*at].ended.is_some());
        self.under_way = under_way;
        ended.into_iter().map(|at| &records[at]).collect()
    }
}

/// All that is known about one write.
#[derive(Clone, Debug, Default)]
pub struct WriteFacts {
    /// Under which key.
    pub key: String,
    /// Its id, once anybody was told: the largest of them.
    pub id: Option<String>,
    /// Every id that anybody was told, or shown it under.
    pub ids: BTreeSet<String>,
    /// When it was acknowledged first.
    pub acknowledged: Option<Duration>,
    /// With how many confirmations.
    pub w: u8,
    /// Whether an attempt had a name: two of them may have made two ids, of which the larger wins in the end.
    pub named: bool,
    /// Attempts that were not refused.
    pub attempts: usize,
    /// Who confirmed.
    pub nodes: Vec<String>,
    /// How many of them held a replica and were no stand-ins.
    pub primaries: usize,
    /// Those that were.
    pub stand_ins: Vec<String>,
    /// Who was to confirm, and did, with the partition of each.
    pub confirmed: Vec<(u16, String)>,
    /// When it was first asked for.
    pub begun: Duration,
    /// Whether an attempt may yet be done, or was.
    pub possible: bool,
    /// Whether an attempt was told that it is deleted.
    pub deleted: bool,
}

/// A deletion: key, id of the last that goes, when it was asked for, when it was acknowledged.
pub type Forget<'a> = (&'a str, &'a str, Duration, Option<Duration>);

impl History {
    /// What is known about every write, by serial.
    pub fn writes(&self) -> BTreeMap<u64, WriteFacts> {
        self.writes_where(|_| true)
    }

    /// The same of some keys, which is all that who looks often can afford.
    pub fn writes_where(&self, wanted: impl Fn(&str) -> bool) -> BTreeMap<u64, WriteFacts> {
        let mut writes: BTreeMap<u64, WriteFacts> = BTreeMap::new();
        let mut shown: BTreeSet<&(u64, String)> = BTreeSet::new();
        for record in self.records.iter().filter(|record| wanted(record.operation.key())) {
            if let Some(Outcome::Read { seen: Seen::Writes { writes, .. }, .. }) = &record.outcome {
                shown.extend(writes);
            }
            let Operation::Write { key, serial, w, .. } = &record.operation else { continue };
            let fresh = || WriteFacts { key: key.clone(), begun: record.begun, ..WriteFacts::default() };
            let facts = writes.entry(*serial).or_insert_with(fresh);
            facts.attempts += usize::from(!matches!(record.outcome, Some(Outcome::Refused(_))));
            facts.named |= matches!(&record.operation, Operation::Write { name: Some(_), .. });
            match &record.outcome {
                Some(Outcome::Acknowledged { id, nodes }) => {
                    facts.possible = true;
                    facts.id = facts.id.take().max(id.clone());
                    facts.ids.extend(id.clone());
                    if facts.acknowledged.is_none() {
                        facts.acknowledged = record.ended;
                        facts.nodes.clone_from(nodes);
                        let holds = |node: &&String| record.primaries.contains(node);
                        facts.primaries = nodes.iter().filter(holds).count();
                        facts.stand_ins = nodes.iter().filter(|node| !holds(node)).cloned().collect();
                        let places = record.places.iter().filter(|(_, name)| nodes.contains(name));
                        facts.confirmed = places.cloned().collect();
                        facts.w = *w;
                    }
                }
                Some(Outcome::Deleted) => facts.deleted = true,
                Some(Outcome::Refused(_)) => {}
                _ => facts.possible = true,
            }
        }
        for (serial, id) in shown {
            if let Some(facts) = writes.get_mut(serial) {
                facts.ids.insert(id.clone());
            }
        }
        writes
    }

    /// Requests that deleted, or may have: key, id, when asked, when acknowledged for good.
    pub fn forgets(&self) -> Vec<Forget<'_>> {
        self.records
            .iter()
            .filter_map(|record| match (&record.operation, &record.outcome) {
                (Operation::Forget { .. }, Some(Outcome::Refused(_))) => None,
                (Operation::Forget { key, through }, outcome) => {
                    let done = matches!(outcome, Some(Outcome::Forgotten)).then_some(record.ended).flatten();
                    let done = done.filter(|_| !self.may_be_undone(record));
                    Some((key.as_str(), through.as_str(), record.begun, done))
                }
                _ => None,
            })
            .collect()
    }

    /// Whether both confirmations of a deletion may have been by machines that lost their disks since, one of them as a
    /// stand-in, or twice: unless two of the three that were asked are known and lost nothing.
    fn may_be_undone(&self, record: &Record) -> bool {
        let wiped = |name: &str| {
            let number: u8 = name.trim_start_matches('n').parse().unwrap_or(0);
            self.wipes.iter().any(|wipe| wipe.node == number && wipe.at >= record.begun)
        };
        let any = self.wipes.iter().any(|wipe| wipe.at >= record.begun);
        any && record.places.iter().filter(|(_, name)| !wiped(name)).count() < 2
    }

    /// Whether something that was asked to be deleted may have taken this write with it: everything up to an id that
    /// is not below the write's, or the write itself by any of its ids. A write that was sent twice under a name has
    /// the larger of two ids in the end, so a deletion below the one that was told does not take it.
    pub fn may_be_forgotten(facts: &WriteFacts, forgets: &[Forget<'_>]) -> bool {
        let below = |through: &str| facts.id.as_deref().is_none_or(|id| id <= through);
        let takes = |(key, through, ..): &Forget<'_>| {
            *key == facts.key && (below(through) || facts.ids.contains(*through))
        };
        forgets.iter().any(takes)
    }

    /// Confirmations by holders that cannot have been lost.
    pub fn sure_primaries(&self, facts: &WriteFacts) -> usize {
        let number = |name: &str| name.trim_start_matches('n').parse().unwrap_or(0);
        let lost = facts.nodes.iter().filter(|name| self.may_be_lost_at(number(name), facts)).count();
        facts.primaries.saturating_sub(lost)
    }

    /// Whether a machine that confirmed a write may have lost it since.
    pub fn may_be_lost_at(&self, node: u8, facts: &WriteFacts) -> bool {
        self.was_wiped(node, facts) || self.may_be_unsynced_at(node, facts)
    }

    /// Whether a machine that confirmed a write lost its disk afterwards.
    pub fn was_wiped(&self, node: u8, facts: &WriteFacts) -> bool {
        self.wipes.iter().any(|wipe| wipe.node == node && wipe.at >= facts.begun)
    }

    /// Whether a machine that confirmed a write lost power before it had synced.
    fn may_be_unsynced_at(&self, node: u8, facts: &WriteFacts) -> bool {
        let Some(acknowledged) = facts.acknowledged.filter(|_| !self.power_losses.is_empty()) else {
            return false;
        };
        let Some(most) = self.unsynced_at_most else { return !self.power_losses.is_empty() };
        let of_node = |event: &&MachineEvent| event.node == node;
        let usual = acknowledged + most;
        let mut synced_by = usual;
        // A process that ends before it has synced leaves that to its next life.
        let unsynced_end =
            |end: &&MachineEvent| end.node == node && end.at + most >= facts.begun && end.at <= usual;
        if let Some(end) = self.ends.iter().rfind(unsynced_end) {
            match self.starts.iter().filter(of_node).find(|start| start.at >= end.at) {
                Some(start) => synced_by = synced_by.max(start.at + most),
                None => return self.power_losses.iter().any(|loss| loss.node == node),
            }
        }
        self.power_losses
            .iter()
            .filter(of_node)
            .any(|loss| loss.at <= synced_by && loss.at + Duration::from_secs(5) >= facts.begun)
    }

    /// Whether what was lost of a write's copies is missed by reads until there is anti-entropy: a copy that was not
    /// synced, and one that a stand-in held on a disk that is gone. A holder that lost its disk fetches what the
    /// others have.
    pub fn is_hurt(&self, facts: &WriteFacts) -> bool {
        let number = |name: &String| name.trim_start_matches('n').parse().unwrap_or(0);
        facts.nodes.iter().any(|name| {
            let wiped_stand_in = self.was_wiped(number(name), facts) && facts.stand_ins.contains(name);
            wiped_stand_in || self.may_be_unsynced_at(number(name), facts)
        })
    }

    /// Partitions in which a write has to be, wherever: those of the holders that confirmed it and cannot have lost
    /// it. A node that was asked for several partitions may have confirmed for one of them.
    pub fn places_due<'a>(&'a self, facts: &'a WriteFacts) -> impl Iterator<Item = u16> + 'a {
        let number = |name: &str| name.trim_start_matches('n').parse().unwrap_or(0);
        let once = |name: &String| facts.confirmed.iter().filter(|(_, other)| other == name).count() == 1;
        let due = facts
            .confirmed
            .iter()
            .filter(move |(_, name)| once(name) && !self.may_be_unsynced_at(number(name), facts));
        due.map(|(partition, _)| *partition)
    }

    /// Whether any disk was lost since a write was begun: a copy may have moved there.
    pub fn wiped_since(&self, facts: &WriteFacts) -> bool {
        self.wipes.iter().any(|wipe| wipe.at >= facts.begun)
    }

    /// In how many partitions a write has to be, wherever: as many as were asked to confirm it, but for those that may
    /// have lost it.
    pub fn copies_due(&self, facts: &WriteFacts) -> usize {
        let number = |name: &String| name.trim_start_matches('n').parse().unwrap_or(0);
        let lost = facts.nodes.iter().filter(|name| self.may_be_lost_at(number(name), facts)).count();
        usize::from(facts.w).min(facts.nodes.len()).saturating_sub(lost)
    }

    /// Whether every copy that a write was acknowledged with may have been on a machine that lost power before it had
    /// synced.
    pub fn copies_lost(&self, facts: &WriteFacts) -> bool {
        let number = |name: &String| name.trim_start_matches('n').parse().unwrap_or(0);
        let lost = |name: &&String| self.may_be_lost_at(number(name), facts);
        let left = facts.nodes.iter().filter(|name| !lost(name)).count();
        // Where a copy has moved a disk may have been lost, too; to one that confirmed, too, where members change.
        let elsewhere = self.wipes.iter().filter(|wipe| {
            let confirmed = facts.nodes.iter().any(|name| number(name) == wipe.node);
            wipe.at >= facts.begun && (self.members_change || !confirmed)
        });
        !facts.nodes.is_empty() && left <= elsewhere.count()
    }

    /// Requests that ended with anything but a refusal.
    pub fn completed(&self) -> usize {
        let done = |record: &&Record| {
            matches!(
                record.outcome,
                Some(
                    Outcome::Acknowledged { .. }
                        | Outcome::Read { .. }
                        | Outcome::Listed(_)
                        | Outcome::Forgotten
                        | Outcome::Deleted
                )
            )
        };
        self.records.iter().filter(done).count()
    }
}
