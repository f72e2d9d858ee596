//! What a request asks of the replicas: Riak's parameters, with the bucket's properties behind them, as the quorums of
//! core. It decides what each of Riak's words means here. It does not send anything.
//!
//! - `dw` counts replicas whose store has taken a write in, and is no sync. Here a replica acknowledges only then, so
//!   the larger of w and dw is waited for. A sync is what `sync_on_write` asks for, or the node's durability.
//! - `node_confirms` 0, Riak's default, leaves it to core: as many distinct nodes as w, as far as there are so many.
//!   With reads, which core counts by replica, it is checked and changes nothing.
//! - `n_val` below the bucket's is for reads alone. Riak takes it with writes, too; then a list does not find what was
//!   written so.
//! - `notfound_ok` false: that there is nothing is believed when all replicas say so, or, with `basic_quorum`, most.

use crate::props::{BucketProps, SyncOnWrite};
use ringwork_core::quorum::{Count, ImpossibleQuorum, QuorumOptions};

/// What a request says itself; for everything else the bucket's properties count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Quorums {
    /// See [`BucketProps::n_val`].
    pub n_val: Option<usize>,
    /// See [`BucketProps::r`].
    pub r: Option<Count>,
    /// See [`BucketProps::w`].
    pub w: Option<Count>,
    /// See [`BucketProps::dw`].
    pub dw: Option<Count>,
    /// See [`BucketProps::rw`].
    pub rw: Option<Count>,
    /// See [`BucketProps::pr`].
    pub pr: Option<Count>,
    /// See [`BucketProps::pw`].
    pub pw: Option<Count>,
    /// See [`BucketProps::node_confirms`].
    pub node_confirms: Option<usize>,
    /// See [`BucketProps::notfound_ok`].
    pub notfound_ok: Option<bool>,
    /// See [`BucketProps::basic_quorum`].
    pub basic_quorum: Option<bool>,
    /// See [`BucketProps::sync_on_write`].
    pub sync_on_write: Option<SyncOnWrite>,
    /// Whether stand-ins count; true by default.
    pub sloppy: Option<bool>,
}

/// How a read is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadQuorums {
    /// As which it is asked.
    pub first: QuorumOptions,
    /// As which it is asked again where the first time nobody had anything; none: that is the answer then.
    pub before_not_found: Option<QuorumOptions>,
}

/// A count of n, or what is impossible about it.
fn of(name: &'static str, count: Count, n: usize) -> Result<usize, ImpossibleQuorum> {
    let given = count.of(n);
    if given > n {
        return Err(ImpossibleQuorum {
            name,
            given,
            expected: format!("it must be at most {n}, the number of replicas"),
        });
    }
    Ok(given)
}

impl Quorums {
    fn n(&self, props: &BucketProps) -> Result<usize, ImpossibleQuorum> {
        let n = self.n_val.unwrap_or(props.n_val);
        if n == 0 || n > props.n_val {
            let expected = format!("it must be from 1 to {}, the bucket's", props.n_val);
            return Err(ImpossibleQuorum { name: "n_val", given: n, expected });
        }
        Ok(n)
    }

    /// A write goes to all replicas of the bucket: lists count on these.
    fn n_of_write(&self, props: &BucketProps) -> Result<usize, ImpossibleQuorum> {
        let n = self.n(props)?;
        if n != props.n_val {
            let expected = format!(
                "a write goes to all {} replicas of the bucket, and only a read to fewer",
                props.n_val
            );
            return Err(ImpossibleQuorum { name: "n_val", given: n, expected });
        }
        Ok(n)
    }

    fn confirms(&self, props: &BucketProps) -> Option<usize> {
        Some(self.node_confirms.unwrap_or(props.node_confirms)).filter(|nodes| *nodes > 0)
    }

    /// As what a read is asked.
    pub fn read(&self, props: &BucketProps) -> Result<ReadQuorums, ImpossibleQuorum> {
        let n = self.n(props)?;
        let first = QuorumOptions {
            n_val: Some(n),
            r: Some(Count::Exactly(of("r", self.r.unwrap_or(props.r), n)?)),
            pr: Some(Count::Exactly(of("pr", self.pr.unwrap_or(props.pr), n)?)),
            node_confirms: self.confirms(props),
            sloppy: self.sloppy,
            ..QuorumOptions::default()
        };
        let believes = self.notfound_ok.unwrap_or(props.notfound_ok);
        let basic = self.basic_quorum.unwrap_or(props.basic_quorum);
        let r = first.r.map_or(1, |r| r.of(n));
        let enough = if basic { Count::Quorum.of(n) } else { n };
        let again = QuorumOptions { r: Some(Count::Exactly(enough)), ..first };
        Ok(ReadQuorums { first, before_not_found: (!believes && enough > r).then_some(again) })
    }

    /// As what a write is asked.
    pub fn write(&self, props: &BucketProps) -> Result<QuorumOptions, ImpossibleQuorum> {
        self.written(props, self.w.unwrap_or(props.w), self.dw.unwrap_or(props.dw))
    }

    /// As what a delete is asked: first a read, then a write. `rw` counts for whichever of r and w is not given.
    pub fn delete(&self, props: &BucketProps) -> Result<(ReadQuorums, QuorumOptions), ImpossibleQuorum> {
        let rw = self.rw.unwrap_or(props.rw);
        of("rw", rw, self.n_of_write(props)?)?;
        let read = Self { r: self.r.or(Some(rw)), ..*self }.read(props)?;
        Ok((read, self.written(props, self.w.unwrap_or(rw), self.dw.unwrap_or(Count::Exactly(0)))?))
    }

    fn written(&self, props: &BucketProps, w: Count, dw: Count) -> Result<QuorumOptions, ImpossibleQuorum> {
        let n = self.n_of_write(props)?;
        let w = of("w", w, n)?.max(of("dw", dw, n)?);
        let synced = match self.sync_on_write.unwrap_or(props.sync_on_write) {
            SyncOnWrite::Backend => 0,
            SyncOnWrite::One => 1,
            SyncOnWrite::All => w,
        };
        Ok(QuorumOptions {
            n_val: Some(n),
            w: Some(Count::Exactly(w)),
            dw: Some(Count::Exactly(synced)),
            pw: Some(Count::Exactly(of("pw", self.pw.unwrap_or(props.pw), n)?)),
            node_confirms: self.confirms(props),
            sloppy: self.sloppy,
            ..QuorumOptions::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringwork_core::quorum::QuorumDefaults;

    const SERVICE: QuorumDefaults = QuorumDefaults { n_val: 3, r: Count::Quorum, w: Count::Quorum };

    fn props() -> BucketProps {
        BucketProps::defaults(false, QuorumDefaults::of(3))
    }

    #[test]
    fn without_a_word_the_buckets_properties_count() {
        let rules = Quorums::default().write(&props()).unwrap().resolve(&SERVICE).unwrap();
        assert_eq!((rules.n, rules.w, rules.dw, rules.pw, rules.node_confirms), (3, 2, 0, 0, None));
        let read = Quorums::default().read(&props()).unwrap();
        let rules = read.first.resolve(&SERVICE).unwrap();
        assert_eq!((rules.r, rules.pr, rules.sloppy, read.before_not_found), (2, 0, true, None));
        let own = BucketProps {
            n_val: 2,
            r: Count::One,
            w: Count::All,
            pw: Count::One,
            node_confirms: 2,
            ..props()
        };
        let rules = Quorums::default().write(&own).unwrap().resolve(&SERVICE).unwrap();
        assert_eq!((rules.n, rules.w, rules.pw, rules.node_confirms), (2, 2, 1, Some(2)));
        assert_eq!(Quorums::default().read(&own).unwrap().first.resolve(&SERVICE).unwrap().r, 1);
    }

    #[test]
    fn dw_is_waited_for_and_only_sync_on_write_syncs() {
        let write = |quorums: Quorums| {
            let rules = quorums.write(&props()).unwrap().resolve(&SERVICE).unwrap();
            (rules.w, rules.dw)
        };
        let one = Some(Count::One);
        assert_eq!(write(Quorums { w: one, dw: Some(Count::Exactly(0)), ..Quorums::default() }), (1, 0));
        assert_eq!(write(Quorums { w: one, dw: Some(Count::All), ..Quorums::default() }), (3, 0));
        assert_eq!(write(Quorums { w: one, ..Quorums::default() }), (2, 0), "dw is a quorum by default");
        assert_eq!(write(Quorums { sync_on_write: Some(SyncOnWrite::One), ..Quorums::default() }), (2, 1));
        assert_eq!(write(Quorums { sync_on_write: Some(SyncOnWrite::All), ..Quorums::default() }), (2, 2));
    }

    #[test]
    fn where_not_found_does_not_count_more_are_asked_before_it_is_told() {
        let again = |notfound_ok, basic, r| {
            let quorums = Quorums {
                notfound_ok: Some(notfound_ok),
                basic_quorum: Some(basic),
                r: Some(r),
                ..Quorums::default()
            };
            let read = quorums.read(&props()).unwrap();
            read.before_not_found.map(|options| options.resolve(&SERVICE).unwrap().r)
        };
        assert_eq!(again(true, false, Count::One), None);
        assert_eq!(again(false, false, Count::One), Some(3));
        assert_eq!(again(false, true, Count::One), Some(2));
        assert_eq!(again(false, true, Count::Quorum), None);
        assert_eq!(again(false, false, Count::All), None);
    }

    #[test]
    fn rw_counts_for_a_delete_where_nothing_else_is_said() {
        let delete = |quorums: Quorums| {
            let (read, write) = quorums.delete(&props()).unwrap();
            (read.first.resolve(&SERVICE).unwrap().r, write.resolve(&SERVICE).unwrap().w)
        };
        assert_eq!(delete(Quorums::default()), (2, 2));
        assert_eq!(delete(Quorums { rw: Some(Count::All), ..Quorums::default() }), (3, 3));
        assert_eq!(
            delete(Quorums { rw: Some(Count::All), r: Some(Count::One), ..Quorums::default() }),
            (1, 3)
        );
        assert_eq!(delete(Quorums { w: Some(Count::One), ..Quorums::default() }), (2, 1));
    }

    #[test]
    fn a_read_may_ask_fewer_replicas_and_a_write_goes_to_all() {
        let two = Quorums { n_val: Some(2), ..Quorums::default() };
        assert_eq!(two.read(&props()).unwrap().first.resolve(&SERVICE).unwrap().n, 2);
        for refused in [two.write(&props()).unwrap_err(), two.delete(&props()).unwrap_err()] {
            assert_eq!((refused.name, refused.given), ("n_val", 2));
            assert!(refused.expected.contains("all 3 replicas"), "{refused}");
        }
        assert!(Quorums { n_val: Some(3), ..Quorums::default() }.write(&props()).is_ok());
    }

    #[test]
    fn what_cannot_be_is_named() {
        let four = Some(Count::Exactly(4));
        let name = |result: Result<QuorumOptions, ImpossibleQuorum>| result.unwrap_err().name;
        assert_eq!(name(Quorums { w: four, ..Quorums::default() }.write(&props())), "w");
        assert_eq!(name(Quorums { dw: four, ..Quorums::default() }.write(&props())), "dw");
        assert_eq!(name(Quorums { pw: four, ..Quorums::default() }.write(&props())), "pw");
        assert_eq!(name(Quorums { n_val: Some(4), ..Quorums::default() }.write(&props())), "n_val");
        assert_eq!(Quorums { r: four, ..Quorums::default() }.read(&props()).unwrap_err().name, "r");
        assert_eq!(Quorums { rw: four, ..Quorums::default() }.delete(&props()).unwrap_err().name, "rw");
        let none = Quorums { w: Some(Count::Exactly(0)), dw: Some(Count::Exactly(0)), ..Quorums::default() };
        assert_eq!(none.write(&props()).unwrap().resolve(&SERVICE).unwrap_err().name, "w");
    }
}
