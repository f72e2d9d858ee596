//! The laws of what a module lists. It decides what a lawful question is: one whose answers do not depend on how they
//! are cut, in pages or over vnodes.

use super::{Case, Checked, Draw, Violation, report};
use crate::coverage::page::{PageBounds, read_page};
use crate::coverage::plan::KeyPartitions;
use crate::coverage::question::{Question, Row, Seen};
use crate::ids::Partition;
use crate::keyspace::Snapshot;
use crate::limits::STORE_KEY_BYTES_MAX;
use crate::ring::{KeyHash, RingSize};
use crate::store::Flow;
use crate::vnode::{Item, Vnode};
use crate::wire::codec;

type RowOf<V> = <<V as Vnode>::Question as Question<V>>::Row;

/// Checks over 300 generated cases that the module's lists are the same however they are cut. Panics with the law, the
/// seed and what was seen.
pub fn check_listing_laws<V: Vnode>(
    config: &V::Config,
    item: impl Fn(&mut Draw) -> V::Item,
    question: impl Fn(&mut Draw) -> V::Question,
) {
    if let Some(violation) = find_listing_violation::<V>(config, 300, item, question) {
        report(&violation);
    }
}

/// What [`check_listing_laws`] would panic with, over `cases` cases.
pub fn find_listing_violation<V: Vnode>(
    config: &V::Config,
    cases: u64,
    item: impl Fn(&mut Draw) -> V::Item,
    question: impl Fn(&mut Draw) -> V::Question,
) -> Option<Violation> {
    (0..cases).find_map(|seed| {
        let mut draw = Draw::from_seed(seed);
        let count = 1 + draw.below(24);
        let items: Vec<V::Item> = (0..count).map(|_| item(&mut draw)).collect();
        let case = Case::<V> { config, items, seed };
        case.check_listing(&question(&mut draw), &mut draw).err()
    })
}

impl<V: Vnode> Case<'_, V> {
    fn check_listing(&self, question: &V::Question, draw: &mut Draw) -> Checked {
        let bytes = self.ok(codec::encode(question), "a question can be encoded")?;
        let back: V::Question = self.ok(codec::decode(&bytes), "an encoded question decodes")?;
        self.require(back == *question, "a question decodes to what was encoded", (question, &back))?;
        let bed = self.merged(&self.items)?;
        let snapshot = bed.snapshot();
        let whole = self.listed(question, &snapshot, None)?;
        let keys: Vec<&[u8]> = whole.iter().map(Row::key).collect();
        self.require(
            keys.windows(2).all(|pair| pair.first() < pair.last()),
            "rows ascend, each key once",
            &keys,
        )?;
        self.require(keys.iter().all(|key| key.len() <= STORE_KEY_BYTES_MAX), "row keys are bounded", &keys)?;
        for (at, row) in whole.iter().enumerate() {
            let rest = self.listed(question, &snapshot, Some(row.key()))?;
            self.require(
                whole.get(at + 1..) == Some(rest.as_slice()),
                "a list that goes on behind a key is the rest of the list",
                (row, &rest),
            )?;
        }
        let paged = self.paged(question, &snapshot, None, 1 + draw.below(4) as u32)?;
        self.require(paged == whole, "pages of any size are together the list", (&whole, &paged))?;
        self.keys_are_listed_apart(question, &snapshot, &whole)?;
        self.vnodes_are_listed_apart(question, draw, &whole)
    }

    /// Asked for the keys of one partition after the other.
    fn keys_are_listed_apart(
        &self,
        question: &V::Question,
        snapshot: &Snapshot,
        whole: &[RowOf<V>],
    ) -> Checked {
        let mut apart = Vec::new();
        for steps in 0..8 {
            let filter = KeyPartitions::one(steps);
            apart.extend(self.paged(question, snapshot, Some(filter), 3)?);
        }
        apart.sort_by(|one, other| one.key().cmp(other.key()));
        self.require(
            apart == whole,
            "the lists of all partitions' keys are together the list",
            (whole, &apart),
        )
    }

    /// Of two vnodes of which each has some routing keys.
    fn vnodes_are_listed_apart(
        &self,
        question: &V::Question,
        draw: &mut Draw,
        whole: &[RowOf<V>],
    ) -> Checked {
        let side = draw.below(20) as usize;
        let here = |item: &&V::Item| {
            KeyHash::of(V::SERVICE, item.routing_key()).0.get(side).is_some_and(|byte| byte % 2 == 0)
        };
        let left: Vec<V::Item> = self.items.iter().filter(here).cloned().collect();
        let right: Vec<V::Item> = self.items.iter().filter(|item| !here(item)).cloned().collect();
        let mut joined = self.listed(question, &self.merged(&left)?.snapshot(), None)?;
        joined.extend(self.listed(question, &self.merged(&right)?.snapshot(), None)?);
        joined.sort_by(|one, other| one.key().cmp(other.key()));
        self.require(
            joined == whole,
            "the lists of vnodes that share the keys are together the list",
            (whole, &joined),
        )
    }

    fn listed(
        &self,
        question: &V::Question,
        snapshot: &Snapshot,
        after: Option<&[u8]>,
    ) -> Result<Vec<RowOf<V>>, Violation> {
        let mut rows = Vec::new();
        let result = question.cover(snapshot, after, &mut |seen| {
            if let Seen::Row { row, .. } = seen {
                rows.push(row);
            }
            Flow::Continue(())
        });
        self.ok(result, "listing works")?;
        Ok(rows)
    }

    fn paged(
        &self,
        question: &V::Question,
        snapshot: &Snapshot,
        filter: Option<KeyPartitions>,
        rows_max: u32,
    ) -> Result<Vec<RowOf<V>>, Violation> {
        let size = self.ok(RingSize::try_from(8), "eight is a ring size")?;
        let mut rows = Vec::new();
        let mut bounds = PageBounds { filter, after: None, rows_max, bytes_max: 4096 };
        loop {
            let page = read_page::<V>(snapshot, question, &bounds, Partition(7), size);
            let page = self.ok(page, "listing works")?;
            self.ok(page.check(&bounds), "a page is lawful")?;
            rows.extend(page.rows);
            match page.through {
                None => return Ok(rows),
                through => bounds.after = through,
            }
        }
    }
}
