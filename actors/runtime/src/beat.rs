//! When those actors of a node look around that do so regularly: all of them at the same moments, the multiples of
//! their period since the node began. What wakes an idle processor costs more than most looks do, and actors of one
//! thread whose timers end together are woken once. It does not know what they look for.

use crate::time::{Clock, Moment};
use actix::prelude::*;
use std::time::Duration;

/// The moments of one node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Beat {
    clock: Clock,
    began: Moment,
}

impl Beat {
    /// One that begins now.
    pub(crate) fn new(clock: Clock) -> Self {
        let began = clock.moment();
        Self { clock, began }
    }

    /// How long until the next multiple of `period`: more than nothing, and a period at the most. Who was kept for
    /// longer than that has missed some, and does not make up for them.
    pub(crate) fn until_next(&self, period: Duration) -> Duration {
        let since = self.clock.moment().saturating_sub(self.began).as_nanos();
        let past = since.checked_rem(period.as_nanos()).unwrap_or(0);
        // Less than a period, so it fits.
        period - Duration::from_nanos(u64::try_from(past).unwrap_or(0))
    }

    /// Has the actor look at each multiple of `period`, as long as it lives.
    pub(crate) fn each<A: Actor<Context = Context<A>>>(
        self,
        period: Duration,
        ctx: &mut Context<A>,
        mut look: impl FnMut(&mut A, &mut Context<A>) + 'static,
    ) {
        ctx.run_later(self.until_next(period), move |actor, ctx| {
            look(actor, ctx);
            self.each(period, ctx, look);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::TimeSource;
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Milliseconds(AtomicU64);

    impl TimeSource for Milliseconds {
        fn wall_ms(&self) -> u64 {
            self.0.load(Ordering::SeqCst)
        }
        fn moment(&self) -> Moment {
            Duration::from_millis(self.wall_ms())
        }
    }

    #[test]
    fn a_pause_ends_at_the_next_multiple_since_the_node_began() {
        let time = Arc::new(Milliseconds(AtomicU64::new(12_345)));
        let beat = Beat::new(Clock::of(time.clone()));
        let period = Duration::from_millis(100);
        for (passed_ms, pause_ms) in [(0, 100), (1, 99), (99, 1), (100, 100), (1030, 70)] {
            time.0.store(12_345 + passed_ms, Ordering::SeqCst);
            assert_eq!(beat.until_next(period), Duration::from_millis(pause_ms), "{passed_ms}");
        }
        time.0.store(0, Ordering::SeqCst);
        assert_eq!(beat.until_next(period), period, "a clock that went back asks for no long pause");
    }

    struct Looker {
        beat: Beat,
        looks: Rc<RefCell<Vec<u128>>>,
    }

    const PERIOD: Duration = Duration::from_millis(7);

    impl Actor for Looker {
        type Context = Context<Self>;

        fn started(&mut self, ctx: &mut Self::Context) {
            self.beat.clone().each(PERIOD, ctx, |looker, ctx| {
                let since = looker.beat.clock.moment() - looker.beat.began;
                looker.looks.borrow_mut().push(since.as_nanos() / PERIOD.as_nanos());
                if looker.looks.borrow().len() == 5 {
                    ctx.stop();
                }
            });
        }
    }

    #[test]
    fn an_actor_looks_once_in_each_period_at_the_most_until_it_ends() {
        actix_rt::System::new().block_on(async {
            let looks = Rc::default();
            let beat = Beat::new(Clock::system());
            let looker = Looker { beat, looks: Rc::clone(&looks) }.start();
            while looker.connected() {
                tokio::time::sleep(PERIOD).await;
            }
            tokio::time::sleep(2 * PERIOD).await;
            let looks = looks.borrow();
            assert_eq!(looks.len(), 5, "{looks:?}");
            assert!(looks[0] > 0 && looks.is_sorted_by(|one, next| one < next), "{looks:?}");
        });
    }
}
