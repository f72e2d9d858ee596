//! For which partitions this node has data without holding them: marked before such data is written, read by
//! whoever is asked "do you hold anything of mine?". A bit for each partition, shared by all threads. That a mark
//! stands without data (a write that failed) does no harm; that data is there without a mark would.

use ringwork_core::ids::Partition;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

/// See the module's head.
pub struct StrayTable(Vec<AtomicU64>);

impl StrayTable {
    /// A table for that many partitions, none marked.
    pub fn new(partitions: usize) -> Self {
        Self((0..partitions.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    /// Marks a partition; says whether that is news.
    pub fn mark(&self, partition: Partition) -> bool {
        let (word, bit) = place(partition);
        self.0.get(word).is_some_and(|word| word.fetch_or(bit, Ordering::SeqCst) & bit == 0)
    }

    /// Takes the mark away: the partition is held here now, or its data has gone.
    pub fn clear(&self, partition: Partition) {
        let (word, bit) = place(partition);
        if let Some(word) = self.0.get(word) {
            word.fetch_and(!bit, Ordering::SeqCst);
        }
    }

    /// The partitions that are marked.
    pub fn marked(&self) -> BTreeSet<Partition> {
        let mut marked = BTreeSet::new();
        for (number, word) in self.0.iter().enumerate() {
            let mut bits = word.load(Ordering::SeqCst);
            while bits != 0 {
                let bit = bits.trailing_zeros() as usize;
                // There are at most 65 536 partitions.
                marked.insert(Partition((number * 64 + bit) as u16));
                bits &= bits - 1;
            }
        }
        marked
    }
}

fn place(partition: Partition) -> (usize, u64) {
    let number = usize::from(partition.0);
    (number / 64, 1 << (number % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_news_once_and_can_be_taken_away() {
        let table = StrayTable::new(100);
        assert!(table.mark(Partition(99)) && table.mark(Partition(64)) && table.mark(Partition(0)));
        assert!(!table.mark(Partition(64)));
        assert_eq!(table.marked(), BTreeSet::from([Partition(0), Partition(64), Partition(99)]));
        table.clear(Partition(64));
        assert_eq!(table.marked().len(), 2);
        assert!(!table.mark(Partition(500)), "no such partition");
    }
}
