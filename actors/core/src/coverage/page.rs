//! One page of a listing: what a vnode is asked at a time, and what it answers. It decides which rows a page has, where
//! it ends, and which pages are none. It does not know who joins them.

use super::plan::KeyPartitions;
use super::question::{Question, Row, Seen};
use crate::ids::Partition;
use crate::keyspace::Snapshot;
use crate::limits::{
    LISTING_PAGE_BYTES_MAX, LISTING_PAGE_LOOKS_MAX, LISTING_PAGE_ROWS_MAX, STORE_KEY_BYTES_MAX,
};
use crate::ring::{KeyHash, RingSize};
use crate::store::Flow;
use crate::vnode::Vnode;
use serde::{Deserialize, Serialize};

/// Which part of its rows a vnode is to show.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PageBounds {
    /// Only the keys of these partitions; none for all that it has.
    pub filter: Option<KeyPartitions>,
    /// Rows behind this key.
    pub after: Option<Vec<u8>>,
    /// Rows at most; one at least is shown where there is one.
    pub rows_max: u32,
    /// Bytes of rows, passed by one row at most.
    pub bytes_max: u32,
}

/// A page.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Page<R> {
    /// In ascending order of their keys.
    pub rows: Vec<R>,
    /// The vnode was gone through up to and with this key, and there may be more; none when it was gone through to the
    /// end.
    pub through: Option<Vec<u8>>,
}

/// The bytes ask for something that no listing asks for, or answer what was not asked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PageError {
    /// The key to begin behind is longer than any.
    #[error("the key to begin behind has {0} bytes, at most {STORE_KEY_BYTES_MAX} are allowed")]
    After(usize),
    /// More, or fewer, rows or bytes than a page may be asked for.
    #[error(
        "a page of {rows} rows and {bytes} bytes was asked for; 1 to {LISTING_PAGE_ROWS_MAX} rows and 1 to \
         {LISTING_PAGE_BYTES_MAX} bytes are allowed"
    )]
    Size {
        /// Asked for.
        rows: u32,
        /// Asked for.
        bytes: u32,
    },
    /// The rows do not ascend from where the page was to begin to where it says that it ends.
    #[error("the rows of a page do not ascend within its ends")]
    Order,
    /// More rows or bytes than were asked for.
    #[error("a page is larger than it was asked to be")]
    TooLarge,
    /// It has no rows, and ends where it was to begin.
    #[error("a page says that there is more and does not come nearer to it")]
    NoProgress,
}

impl PageBounds {
    /// Refuses what no listing asks for.
    pub fn check(&self) -> Result<(), PageError> {
        let after = self.after.as_ref().map_or(0, Vec::len);
        if after > STORE_KEY_BYTES_MAX {
            return Err(PageError::After(after));
        }
        let (rows, bytes) = (self.rows_max, self.bytes_max);
        let lawful =
            (1..=LISTING_PAGE_ROWS_MAX).contains(&rows) && (1..=LISTING_PAGE_BYTES_MAX).contains(&bytes);
        if lawful { Ok(()) } else { Err(PageError::Size { rows, bytes }) }
    }
}

impl<R: Row> Page<R> {
    /// Refuses what is no answer to these bounds.
    pub fn check(&self, bounds: &PageBounds) -> Result<(), PageError> {
        let mut before = bounds.after.as_deref();
        for row in &self.rows {
            if before.is_some_and(|before| row.key() <= before) || row.key().len() > STORE_KEY_BYTES_MAX {
                return Err(PageError::Order);
            }
            before = Some(row.key());
        }
        if let Some(through) = &self.through {
            if before.is_some_and(|before| through.as_slice() < before) || through.len() > STORE_KEY_BYTES_MAX
            {
                return Err(PageError::Order);
            }
            if self.rows.is_empty() && before.is_some_and(|before| through.as_slice() <= before) {
                return Err(PageError::NoProgress);
            }
        }
        let but_the_last = self.rows.len().saturating_sub(1);
        let bytes: usize = self.rows.iter().take(but_the_last).map(Row::bytes).sum();
        if self.rows.len() > bounds.rows_max as usize || bytes > bounds.bytes_max as usize {
            return Err(PageError::TooLarge);
        }
        Ok(())
    }
}

/// The page that the vnode of `partition` gives, as the snapshot has it. Ends early after so many looks, too.
pub fn read_page<V: Vnode>(
    snapshot: &Snapshot,
    question: &V::Question,
    bounds: &PageBounds,
    partition: Partition,
    size: RingSize,
) -> Result<Page<<V::Question as Question<V>>::Row>, V::Error> {
    let mut page = Page { rows: Vec::new(), through: None };
    let (mut bytes, mut looks, mut more) = (0, 0, false);
    let shown = |routing_key: &[u8]| {
        bounds.filter.is_none_or(|filter| {
            filter.contains(size, partition, size.partition_of(&KeyHash::of(V::SERVICE, routing_key)))
        })
    };
    question.cover(snapshot, bounds.after.as_deref(), &mut |seen| {
        // Only now, so that a page that ends with the last row can say that it is the last page.
        let full = page.rows.len() >= bounds.rows_max as usize || bytes >= bounds.bytes_max as usize;
        if full || looks >= LISTING_PAGE_LOOKS_MAX {
            more = true;
            return Flow::Break(());
        }
        looks += 1;
        match seen {
            Seen::Row { routing_key, row } => {
                page.through = Some(row.key().to_vec());
                if shown(routing_key) {
                    bytes += row.bytes();
                    page.rows.push(row);
                }
            }
            Seen::Nothing { key } => page.through = Some(key.to_vec()),
            Seen::Enough if page.through.is_none() => {}
            Seen::Enough => {
                more = true;
                return Flow::Break(());
            }
        }
        Flow::Continue(())
    })?;
    page.through.take_if(|_| !more);
    Ok(page)
}
