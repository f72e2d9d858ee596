//! How many bytes of large answers may be under way. A page is built whole before its first byte leaves, and a
//! client that does not read keeps it in memory for as long as it stays; so large ones share a bound. It decides who
//! gets room; it does not know what is in an answer.

use actix_web::body::{BodySize, MessageBody};
use actix_web::web::Bytes;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

/// Smaller answers are not counted: as many as there may be connections fit into memory.
const COUNTED_BYTES_MIN: usize = 16 * 1024;
/// Bytes of large answers at once: some sixty of the largest pages, or thousands of usual ones.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Bytes of large answers under way, against their bound.
#[derive(Default)]
pub struct AnswerBudget(AtomicUsize);

impl AnswerBudget {
    /// Room for an answer until it is sent or given up; none when there is too much under way.
    pub(super) fn hold(self: &Arc<Self>, bytes: impl Into<Bytes>) -> Option<HeldAnswer> {
        let bytes = bytes.into();
        let room = self.reserve(bytes.len())?;
        Some(HeldAnswer { bytes: Some(bytes), _room: room })
    }

    /// Room for so many bytes until it is dropped: for a body that is yet to be read. None when there is too much under
    /// way.
    pub(super) fn reserve(self: &Arc<Self>, bytes: usize) -> Option<Reserved> {
        let counted = if bytes < COUNTED_BYTES_MIN { 0 } else { bytes };
        let room = Reserved { counted, budget: self.clone() };
        let before = self.0.fetch_add(counted, Ordering::Relaxed);
        (counted == 0 || before + counted <= ANSWER_BYTES_MAX).then_some(room)
    }

    /// Bytes under way.
    pub fn held(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Reserved {
    /// Room for so many bytes, where there was room for fewer; false when there is too much under way.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let wanted = if bytes < COUNTED_BYTES_MIN { 0 } else { bytes };
        let more = wanted.saturating_sub(self.counted);
        let before = self.budget.0.fetch_add(more, Ordering::Relaxed);
        self.counted += more;
        more == 0 || before + more <= ANSWER_BYTES_MAX
    }
}

/// An answer that has its room.
pub(super) struct HeldAnswer {
    bytes: Option<Bytes>,
    _room: Reserved,
}

/// Room that is taken.
pub(super) struct Reserved {
    counted: usize,
    budget: Arc<AnswerBudget>,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.budget.0.fetch_sub(self.counted, Ordering::Relaxed);
    }
}

/// Handed out in pieces, so that the body lives (and is counted) until nearly all of it has been sent.
const PIECE_BYTES: usize = 16 * 1024;

impl MessageBody for HeldAnswer {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        let Some(mut rest) = self.bytes.take().filter(|bytes| !bytes.is_empty()) else {
            return Poll::Ready(None);
        };
        let piece = rest.split_to(rest.len().min(PIECE_BYTES));
        self.bytes = Some(rest);
        Poll::Ready(Some(Ok(piece)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_answers_share_a_bound_and_small_ones_are_free() {
        let budget = Arc::new(AnswerBudget::default());
        let large = || vec![0u8; ANSWER_BYTES_MAX / 4 + 1];
        let held: Vec<_> = (0..3).map(|_| budget.hold(large())).collect();
        assert!(held.iter().all(Option::is_some));
        assert!(budget.hold(large()).is_none(), "a refused one takes no room");
        assert_eq!(budget.held(), 3 * large().len());
        assert!(budget.hold(vec![0; COUNTED_BYTES_MIN - 1]).is_some());
        drop(held);
        assert_eq!(budget.held(), 0);
        assert!(budget.hold(large()).is_some());
    }

    #[test]
    fn room_grows_with_what_comes_and_is_given_back_as_a_whole() {
        let budget = Arc::new(AnswerBudget::default());
        let mut room = budget.reserve(0).unwrap();
        assert!(room.grow(COUNTED_BYTES_MIN - 1));
        assert_eq!(budget.held(), 0);
        for bytes in [COUNTED_BYTES_MIN, 3 * COUNTED_BYTES_MIN, ANSWER_BYTES_MAX, 5] {
            assert!(room.grow(bytes));
            assert_eq!(budget.held(), if bytes == 5 { ANSWER_BYTES_MAX } else { bytes });
        }
        assert!(!budget.reserve(0).unwrap().grow(COUNTED_BYTES_MIN), "there is no more");
        drop(room);
        assert_eq!(budget.held(), 0);
    }
}
