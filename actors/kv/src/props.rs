//! The properties of buckets and bucket types: what they are, what they are by default, and what follows from them
//! for a request. It decides which of Riak's properties mean something here. How they are written and what may be
//! changed is in [`change`], where they are kept in [`crate::directory`].
//!
//! Some of Riak's properties are kept and shown, because clients send back all that they have read, and change nothing:
//!
//! - `young_vclock`, `old_vclock`, `small_vclock`, `big_vclock` say when Riak prunes clocks. Here no clock is pruned:
//!   an actor is a vnode's store, so an object's history names few of them, and one that is forgotten makes false
//!   siblings.
//! - `dvv_enabled`: histories always have dots here.
//! - `chash_keyfun` and `linkfun` have the one value that Riak has by default; another one is refused.
//! - `repl` is about replication between clusters, which there is none of.

pub mod change;

use crate::object::Conflicts;
use change::Overrides;
use ringwork_core::quorum::{Count, QuorumDefaults};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Which nodes sync a write to their disks before it counts as acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SyncOnWrite {
    /// As the node's durability says.
    #[default]
    Backend,
    /// At least one.
    One,
    /// All that w waits for.
    All,
}

/// What the values of a bucket type's objects are, where that is no plain value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Datatype {
    /// A counter.
    Counter,
    /// A set.
    Set,
    /// A set that only grows.
    GrowOnlySet,
    /// A map.
    Map,
    /// An estimate of how many distinct values there were.
    HyperLogLog,
}

impl Datatype {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Counter, Self::Set, Self::GrowOnlySet, Self::Map, Self::HyperLogLog];

    /// Riak's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Set => "set",
            Self::GrowOnlySet => "gset",
            Self::Map => "map",
            Self::HyperLogLog => "hll",
        }
    }
}

/// Properties in force.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BucketProps {
    /// Replicas of a key that are asked; at most the service's.
    pub n_val: usize,
    /// Replicas that must answer a read.
    pub r: Count,
    /// Replicas that must acknowledge a write.
    pub w: Count,
    /// Replicas whose store must have taken a write in. Here none acknowledges before, so it counts like w.
    pub dw: Count,
    /// The default of r and w for a delete.
    pub rw: Count,
    /// Primaries that must answer a read.
    pub pr: Count,
    /// Primaries that must acknowledge a write.
    pub pw: Count,
    /// Distinct nodes that must confirm. 0: as many as w, as far as there are so many nodes.
    pub node_confirms: usize,
    /// Whether siblings are kept.
    pub allow_mult: bool,
    /// Whether a write replaces whatever is there.
    pub last_write_wins: bool,
    /// Whether "not found" counts as an answer.
    pub notfound_ok: bool,
    /// Whether, where "not found" does not count, a majority of it is believed all the same.
    pub basic_quorum: bool,
    /// Kept and shown.
    pub dvv_enabled: bool,
    /// Whether a key takes one value for good.
    pub write_once: bool,
    /// See [`SyncOnWrite`].
    pub sync_on_write: SyncOnWrite,
    /// Kept and shown: entries, entries, seconds, seconds.
    pub small_vclock: u64,
    /// See `small_vclock`.
    pub big_vclock: u64,
    /// See `small_vclock`.
    pub young_vclock: u64,
    /// See `small_vclock`.
    pub old_vclock: u64,
    /// Hooks before a write: none, or the one that feeds search.
    pub precommit: Vec<Value>,
    /// Hooks after a write: none.
    pub postcommit: Vec<Value>,
    /// What objects are; none: plain values.
    pub datatype: Option<Datatype>,
    /// Bits of the registers' number of a [`Datatype::HyperLogLog`].
    pub hll_precision: u64,
    /// Whether objects are indexed for Riak Search 1.
    pub search: bool,
    /// The index that objects are put into; none: no index.
    pub search_index: Option<String>,
    /// Kept and shown.
    pub repl: Value,
}

/// What a write needs to know of its bucket. It travels with the write, so a vnode knows no properties.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PutRules {
    /// What becomes of values that did not know of each other.
    pub conflicts: Conflicts,
}

impl BucketProps {
    /// Riak's defaults: of buckets without a type, or of the types that operators create, which keep siblings; but as
    /// many copies and confirmations as the service has. Whoever confirms has it as durable as the node's setting
    /// says, so dw is w. A delete reads before it writes, and waits for no fewer than either does.
    pub fn defaults(typed: bool, quorum: QuorumDefaults) -> Self {
        let of_any_bucket = |count| relative(count, quorum.n_val);
        let (r, w) = (of_any_bucket(quorum.r), of_any_bucket(quorum.w));
        let rw = if r.of(quorum.n_val) > w.of(quorum.n_val) { r } else { w };
        Self {
            n_val: quorum.n_val,
            r,
            w,
            dw: w,
            rw,
            pr: Count::Exactly(0),
            pw: Count::Exactly(0),
            node_confirms: 0,
            allow_mult: typed,
            last_write_wins: false,
            notfound_ok: true,
            basic_quorum: false,
            dvv_enabled: typed,
            write_once: false,
            sync_on_write: SyncOnWrite::Backend,
            small_vclock: 50,
            big_vclock: 50,
            young_vclock: 20,
            old_vclock: 86_400,
            precommit: Vec::new(),
            postcommit: Vec::new(),
            datatype: None,
            hll_precision: 14,
            search: false,
            search_index: None,
            repl: json!(true),
        }
    }

    /// What is in force where a type, and a bucket of it, were given these properties: the bucket's before the type's
    /// before the defaults. For buckets without a type the type's are none.
    pub fn in_force(typed: bool, quorum: QuorumDefaults, of_type: &Overrides, of_bucket: &Overrides) -> Self {
        let mut props = Self::defaults(typed, quorum);
        of_type.apply(&mut props);
        of_bucket.apply(&mut props);
        // A cluster that was set up anew may have fewer replicas than when this was written.
        props.n_val = props.n_val.clamp(1, quorum.n_val.max(1));
        // What nobody gave must be possible in a bucket with fewer replicas than the service.
        let n = props.n_val;
        let counts = [("r", &mut props.r), ("w", &mut props.w), ("dw", &mut props.dw), ("rw", &mut props.rw)];
        for (name, count) in counts {
            if count.of(n) > n && of_type.get(name).is_none() && of_bucket.get(name).is_none() {
                *count = Count::All;
            }
        }
        props
    }

    /// What the bucket does with values that did not know of each other. Data types are joined, so all are kept.
    pub fn conflicts(&self) -> Conflicts {
        if self.datatype.is_some() {
            Conflicts::Siblings
        } else if self.write_once {
            Conflicts::First
        } else if self.last_write_wins {
            Conflicts::Overwrite
        } else if self.allow_mult {
            Conflicts::Siblings
        } else {
            Conflicts::Latest
        }
    }

    /// See [`PutRules`].
    pub fn put_rules(&self) -> PutRules {
        PutRules { conflicts: self.conflicts() }
    }

    /// All properties as JSON, without the envelope and without the bucket's name.
    pub fn to_json(&self) -> Map<String, Value> {
        let modfun = |module: &str, function: &str| json!({"mod": module, "fun": function});
        let sync = match self.sync_on_write {
            SyncOnWrite::Backend => "backend",
            SyncOnWrite::One => "one",
            SyncOnWrite::All => "all",
        };
        let pairs = [
            ("allow_mult", json!(self.allow_mult)),
            ("basic_quorum", json!(self.basic_quorum)),
            ("big_vclock", json!(self.big_vclock)),
            ("chash_keyfun", modfun(change::KEYFUN.0, change::KEYFUN.1)),
            ("dvv_enabled", json!(self.dvv_enabled)),
            ("dw", of_count(self.dw)),
            ("last_write_wins", json!(self.last_write_wins)),
            ("linkfun", modfun(change::LINKFUN.0, change::LINKFUN.1)),
            ("n_val", json!(self.n_val)),
            ("node_confirms", json!(self.node_confirms)),
            ("notfound_ok", json!(self.notfound_ok)),
            ("old_vclock", json!(self.old_vclock)),
            ("postcommit", json!(self.postcommit)),
            ("pr", of_count(self.pr)),
            ("precommit", json!(self.precommit)),
            ("pw", of_count(self.pw)),
            ("r", of_count(self.r)),
            ("repl", self.repl.clone()),
            ("rw", of_count(self.rw)),
            ("small_vclock", json!(self.small_vclock)),
            ("sync_on_write", json!(sync)),
            ("w", of_count(self.w)),
            ("write_once", json!(self.write_once)),
            ("young_vclock", json!(self.young_vclock)),
        ];
        let mut all: Map<String, Value> =
            pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        if let Some(datatype) = self.datatype {
            all.insert("datatype".to_owned(), json!(datatype.word()));
            if datatype == Datatype::HyperLogLog {
                all.insert("hll_precision".to_owned(), json!(self.hll_precision));
            }
        }
        if self.search {
            all.insert("search".to_owned(), json!(true));
        }
        if let Some(index) = &self.search_index {
            all.insert("search_index".to_owned(), json!(index));
        }
        all
    }

    /// The document that a client is shown of a bucket.
    pub fn bucket_document(&self, bucket: &[u8]) -> Value {
        let mut props = self.to_json();
        props.insert("name".to_owned(), json!(String::from_utf8_lossy(bucket)));
        json!({ "props": props })
    }

    /// The document that a client is shown of a type: `claimant` is the name of the node that would change it.
    pub fn type_document(&self, active: bool, claimant: &str) -> Value {
        let mut props = self.to_json();
        props.insert("active".to_owned(), json!(active));
        props.insert("claimant".to_owned(), json!(claimant));
        json!({ "props": props })
    }
}

/// A service's count as one that also fits buckets with fewer replicas, where it says more than a number.
fn relative(count: Count, n: usize) -> Count {
    match count {
        Count::Exactly(number) if number >= n && n > 1 => Count::All,
        Count::Exactly(number) if number > 1 && number == Count::Quorum.of(n) => Count::Quorum,
        _ => count,
    }
}

fn of_count(count: Count) -> Value {
    match count {
        Count::Exactly(number) => json!(number),
        Count::One => json!("one"),
        Count::Quorum => json!("quorum"),
        Count::All => json!("all"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_gave_is_as_the_service_has_it() {
        let of = |r, w, n_val| BucketProps::defaults(false, QuorumDefaults { n_val, r, w });
        let props = of(Count::One, Count::All, 3);
        assert_eq!((props.r, props.w, props.dw, props.rw), (Count::One, Count::All, Count::All, Count::All));
        let props = of(Count::Exactly(2), Count::Exactly(3), 3);
        assert_eq!(
            (props.r, props.w),
            (Count::Quorum, Count::All),
            "so that it fits buckets with fewer replicas"
        );
        assert_eq!(of(Count::Exactly(1), Count::Exactly(1), 1).r, Count::Exactly(1));
        let props = of(Count::Quorum, Count::One, 3);
        assert_eq!((props.w, props.dw, props.rw), (Count::One, Count::One, Count::Quorum));

        let (none, quorum) =
            (Overrides::default(), QuorumDefaults { r: Count::Exactly(2), ..QuorumDefaults::of(5) });
        assert_eq!(BucketProps::in_force(false, quorum, &none, &none).r, Count::Exactly(2));
        let one = Overrides::from_bytes(br#"{"n_val": 1}"#);
        assert_eq!(BucketProps::in_force(false, quorum, &none, &one).r, Count::All);
    }

    #[test]
    fn the_defaults_are_riaks() {
        let document = BucketProps::defaults(false, QuorumDefaults::of(3)).bucket_document(b"b");
        let expected = json!({"props": {
            "name": "b", "allow_mult": false, "basic_quorum": false, "big_vclock": 50,
            "chash_keyfun": {"mod": "riak_core_util", "fun": "chash_std_keyfun"}, "dvv_enabled": false, "dw": "quorum",
            "last_write_wins": false, "linkfun": {"mod": "riak_kv_wm_link_walker", "fun": "mapreduce_linkfun"},
            "n_val": 3, "node_confirms": 0, "notfound_ok": true, "old_vclock": 86400, "postcommit": [], "pr": 0,
            "precommit": [], "pw": 0, "r": "quorum", "repl": true, "rw": "quorum", "small_vclock": 50,
            "sync_on_write": "backend", "w": "quorum", "write_once": false, "young_vclock": 20,
        }});
        assert_eq!(document, expected);
        let typed = BucketProps::defaults(true, QuorumDefaults::of(3)).type_document(true, "n1");
        let props = &typed["props"];
        assert_eq!([&props["allow_mult"], &props["dvv_enabled"], &props["active"]], [&json!(true); 3]);
        assert_eq!(props["claimant"], "n1");
    }

    #[test]
    fn what_becomes_of_conflicts_follows_from_the_properties() {
        let props = |change: fn(&mut BucketProps)| {
            let mut props = BucketProps::defaults(false, QuorumDefaults::of(3));
            change(&mut props);
            props.conflicts()
        };
        assert_eq!(props(|_| ()), Conflicts::Latest);
        assert_eq!(props(|p| p.allow_mult = true), Conflicts::Siblings);
        assert_eq!(props(|p| (p.allow_mult, p.last_write_wins) = (true, true)), Conflicts::Overwrite);
        assert_eq!(props(|p| (p.write_once, p.last_write_wins) = (true, true)), Conflicts::First);
        assert_eq!(
            props(|p| (p.datatype, p.last_write_wins) = (Some(Datatype::Set), true)),
            Conflicts::Siblings
        );
    }
}
