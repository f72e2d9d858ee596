//! Expiry, and removing what lies below marks. It decides when the vnode looks, how far in one run, and which
//! marks follow from the retention settings; what a mark does is decided in `merge`. It does not know which
//! node it is on: one partition acts for each user, so that replicas never differ about what has expired.
//!
//! A sweep recurs for as long as the vnode lives and starts at most two chains of turns: one that removes
//! listed rows, one that scans a part of the partition on the worker pool and sets the marks it found.

use crate::chat::{Chat, ChatCommand, ChatConfig, ChatError};
use crate::id::MessageId;
use crate::item::ChatItem;
use crate::layout::{self, Row};
use crate::limits::{REMOVED_ROWS_MAX, SCAN_MARKS_MAX, SCAN_ROWS_MAX};
use bytes::Bytes;
use ringwork_core::keyspace::Read;
use ringwork_core::store::{Direction, Flow, KeyRange, StoreError};
use ringwork_core::vnode::{After, Outcome, Turn, TurnPlace, Vnode};
use serde::{Deserialize, Serialize};
use std::ops::Bound;
use std::time::Duration;

/// Between two turns of a chain: long enough that a big clean-up leaves a vnode's thread to others.
const PAUSE: Duration = Duration::from_millis(20);
/// A chain that was not heard of for so many sweeps is taken for lost.
const LOST_AFTER_SWEEPS: u32 = 10;
/// What visiting a user costs in rows: two look-ups and two places to seek.
const ROWS_PER_USER: u64 = 4;

/// Where a scan goes on.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ScanPosition {
    /// At this key.
    from: Vec<u8>,
    /// So many of the user's newest messages are counted already,
    counted: u64,
    /// which are those from this id on.
    below: Option<MessageId>,
}

/// What a scan found, and where the next one goes on unless it was the last.
pub(crate) type Scanned = (Vec<(String, MessageId)>, Option<ScanPosition>);

impl Chat {
    /// Never zero, which would be a turn without end.
    pub(crate) fn sweep_interval(&self) -> Duration {
        self.config.sweep_interval.max(PAUSE)
    }

    fn lost_at(&self, now_ms: u64) -> u64 {
        let patience = (self.sweep_interval() * LOST_AFTER_SWEEPS).as_millis();
        now_ms.saturating_add(u64::try_from(patience).unwrap_or(u64::MAX))
    }

    pub(crate) fn sweep(&mut self, turn: &mut Turn<'_, Self>) -> Result<Outcome<Self>, ChatError> {
        let now_ms = turn.now_ms();
        turn.later(self.sweep_interval(), ChatCommand::Sweep);
        if now_ms >= self.clearing_until_ms {
            self.clearing_until_ms = self.lost_at(now_ms);
            turn.later(Duration::ZERO, ChatCommand::ClearLeftovers);
        }
        let expires = self.config.retention_age.is_some() || self.config.retention_count.is_some();
        if expires && now_ms >= self.scanning_until_ms {
            self.scanning_until_ms = self.lost_at(now_ms);
            turn.later(Duration::ZERO, ChatCommand::Scan(None));
        }
        Ok(Outcome::Nothing)
    }

    /// Removes rows below marks, of the users that are listed.
    pub(crate) fn clear_leftovers(&mut self, turn: &mut Turn<'_, Self>) -> Result<Outcome<Self>, ChatError> {
        let mut listed = Vec::new();
        self.store.scan(&layout::leftovers(), Direction::Ascending, &mut |key, value| {
            listed.push((key.to_vec(), value.to_vec()));
            if listed.len() > REMOVED_ROWS_MAX { Flow::Break(()) } else { Flow::Continue(()) }
        })?;
        let mut budget = REMOVED_ROWS_MAX;
        let mut left = listed.len() > REMOVED_ROWS_MAX;
        for (key, value) in listed {
            let mark = match layout::leftover_user(&key) {
                Some(user) => self.mark(&user)?.map(|mark| (user, mark)),
                None => None,
            };
            let remaining = match mark {
                Some((user, mark)) => {
                    let after = <[u8; 20]>::try_from(value.as_slice()).ok().map(MessageId);
                    self.remove_messages(&user, after, mark, &mut budget)?
                }
                None => None,
            };
            match remaining {
                Some(removed_through) => {
                    self.store.put(key, removed_through.0.to_vec());
                    left = true;
                    break;
                }
                None => self.store.remove(key),
            }
        }
        if left {
            self.clearing_until_ms = self.lost_at(turn.now_ms());
            turn.later(PAUSE, ChatCommand::ClearLeftovers);
        } else {
            self.clearing_until_ms = 0;
        }
        Ok(Outcome::Nothing)
    }

    pub(crate) fn scan(&self, position: Option<ScanPosition>, place: TurnPlace) -> Outcome<Self> {
        let config = self.config.clone();
        Outcome::Offload(Box::new(move |snapshot| {
            let from = position.unwrap_or_default();
            let (marks, next) = find_expired(snapshot, &config, place, from, SCAN_ROWS_MAX)?;
            Ok(After::Command(ChatCommand::Expire { marks, next }))
        }))
    }

    pub(crate) fn expire(
        &mut self,
        marks: Vec<(String, MessageId)>,
        next: Option<ScanPosition>,
        turn: &mut Turn<'_, Self>,
    ) -> Result<Outcome<Self>, ChatError> {
        let mut budget = REMOVED_ROWS_MAX;
        for (user, through) in marks {
            let mark = ChatItem::Mark { user, through };
            self.merge_item(mark.clone(), &mut budget)?;
            // A scan returns fewer marks than a turn may touch, so this does not happen. If it did, stopping
            // here would leave the rest for the next scan to find.
            if !turn.touched(mark) {
                break;
            }
        }
        let now_ms = turn.now_ms();
        if budget == 0 && now_ms >= self.clearing_until_ms {
            self.clearing_until_ms = self.lost_at(now_ms);
            turn.later(PAUSE, ChatCommand::ClearLeftovers);
        }
        if next.is_some() {
            self.scanning_until_ms = self.lost_at(now_ms);
            turn.later(PAUSE, ChatCommand::Scan(next));
        } else {
            self.scanning_until_ms = 0;
        }
        Ok(Outcome::Nothing)
    }
}

/// Looks for logs that have more than the settings allow, from a position on, reading about `rows` rows.
pub(crate) fn find_expired(
    read: &dyn Read,
    config: &ChatConfig,
    place: TurnPlace,
    mut position: ScanPosition,
    rows: u64,
) -> Result<Scanned, StoreError> {
    let mut marks = Vec::new();
    let mut left = rows;
    while left > 0 && marks.len() < SCAN_MARKS_MAX {
        let Some(key) = first_key_from(read, &position.from)? else { return Ok((marks, None)) };
        left = left.saturating_sub(ROWS_PER_USER);
        let Some((user, end)) = layout::split_user(&key) else {
            let leftover = layout::is_leftover(&key);
            // The keys that are no rows are visited one by one; folds count them.
            let from = if leftover { layout::AFTER_LEFTOVERS.to_vec() } else { [&key, &[0][..]].concat() };
            position = ScanPosition { from, ..ScanPosition::default() };
            continue;
        };
        let prefix = key.get(..end).unwrap_or_default();
        if !position.from.starts_with(prefix) {
            // The user whose messages were being counted is gone.
            position = ScanPosition::default();
        }
        if place.is_first_for(Chat::SERVICE, user.as_bytes()) {
            let mark = layout::read_mark(read, &user)?;
            let by_age = match config.retention_age {
                Some(age) => older_than(read, &user, mark, cutoff_ms(place, age))?,
                None => None,
            };
            let by_count = match config.retention_count {
                Some(count) => {
                    let mut counting = Counting { keep: count, left: &mut left, position: &mut position };
                    counting.run(read, &user, mark.max(by_age))?
                }
                None => Counted::Through(None),
            };
            let through = match by_count {
                Counted::Through(through) => through.max(by_age),
                Counted::Cut => by_age,
            };
            let cut = matches!(by_count, Counted::Cut);
            marks.extend(through.map(|through| (user, through)));
            if cut {
                position.from = prefix.to_vec();
                break;
            }
        }
        position = ScanPosition { from: layout::after_user(prefix), ..ScanPosition::default() };
    }
    Ok((marks, Some(position)))
}

fn cutoff_ms(place: TurnPlace, age: Duration) -> u64 {
    place.now_ms.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
}

fn first_key_from(read: &dyn Read, from: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
    let range = KeyRange { start: Bound::Included(Bytes::copy_from_slice(from)), end: Bound::Unbounded };
    let mut first = None;
    read.scan(&range, Direction::Ascending, &mut |key, _| {
        first = Some(key.to_vec());
        Flow::Break(())
    })?;
    Ok(first)
}

/// The largest id above `mark` whose time lies before `cutoff_ms`.
fn older_than(
    read: &dyn Read,
    user: &str,
    mark: Option<MessageId>,
    cutoff_ms: u64,
) -> Result<Option<MessageId>, StoreError> {
    let Some(last) = MessageId::at_ms(cutoff_ms).previous() else { return Ok(None) };
    let mut found = None;
    newest_first(read, user, mark, last, &mut |id| {
        found = Some(id);
        Flow::Break(())
    })?;
    Ok(found)
}

fn newest_first(
    read: &dyn Read,
    user: &str,
    after: Option<MessageId>,
    through: MessageId,
    visit: &mut dyn FnMut(MessageId) -> Flow,
) -> Result<(), StoreError> {
    let prefix = layout::user_prefix(user).len();
    let range = layout::message_range(user, after, through);
    read.scan(
        &range,
        Direction::Descending,
        &mut |key, _| match key.get(prefix..).and_then(layout::parse_row) {
            Some(Row::Message { id, .. }) => visit(id),
            _ => Flow::Continue(()),
        },
    )
}

/// Counting a log's messages from the newest, over several runs where it is long.
struct Counting<'a> {
    keep: u64,
    left: &'a mut u64,
    position: &'a mut ScanPosition,
}

enum Counted {
    /// Done: what lies beyond the count, if anything.
    Through(Option<MessageId>),
    /// The rows of this run are used up; the position says where to go on.
    Cut,
}

impl Counting<'_> {
    fn run(&mut self, read: &dyn Read, user: &str, after: Option<MessageId>) -> Result<Counted, StoreError> {
        let last = match self.position.below {
            None => MessageId::LARGEST,
            Some(below) => match below.previous() {
                Some(last) => last,
                None => return Ok(Counted::Through(None)),
            },
        };
        let mut counted = Counted::Through(None);
        // One row at least, so that every run gets on.
        let mut visited = 0;
        newest_first(read, user, after, last, &mut |id| {
            if self.position.counted >= self.keep {
                counted = Counted::Through(Some(id));
                return Flow::Break(());
            }
            if *self.left == 0 && visited > 0 {
                counted = Counted::Cut;
                return Flow::Break(());
            }
            visited += 1;
            *self.left = self.left.saturating_sub(1);
            self.position.counted += 1;
            self.position.below = Some(id);
            Flow::Continue(())
        })?;
        Ok(counted)
    }
}
