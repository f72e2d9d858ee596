//! One node's process: a set of tasks that is polled, or stands still, or is gone at once with all that it held in
//! memory. It does not know what the tasks do.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::LocalSet;
use tokio::time::{Sleep, sleep};

/// How a process is scheduled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// As it wants.
    Running,
    /// Not at all.
    Stopped,
    /// A tenth of the time.
    Starved,
}

/// Cheap to clone. The process lives until [`Host::kill`].
#[derive(Clone)]
pub struct Host(Rc<Shared>);

struct Shared {
    tasks: RefCell<Option<Rc<LocalSet>>>,
    pace: Cell<Pace>,
    waker: RefCell<Option<Waker>>,
    gone: RefCell<Option<oneshot::Receiver<()>>>,
}

const STARVED_FOR: Duration = Duration::from_millis(90);
const FED_FOR: Duration = Duration::from_millis(10);

impl Host {
    /// A process whose first task is `main`.
    pub fn start(main: impl Future<Output = ()> + 'static) -> Self {
        let tasks = Rc::new(LocalSet::new());
        tasks.spawn_local(main);
        let (ended, gone) = oneshot::channel();
        let shared = Rc::new(Shared {
            tasks: RefCell::new(Some(tasks.clone())),
            pace: Cell::new(Pace::Running),
            waker: RefCell::default(),
            gone: RefCell::new(Some(gone)),
        });
        let process = Process {
            shared: shared.clone(),
            polled: Some(Box::pin(async move { tasks.run_until(std::future::pending::<()>()).await })),
            alarm: None,
            fed: false,
        };
        tokio::task::spawn_local(async move {
            process.await;
            let _ = ended.send(());
        });
        Self(shared)
    }

    /// Runs a task in the process; none of it is left when the process ends.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        if let Some(tasks) = &*self.0.tasks.borrow() {
            tasks.spawn_local(task);
        }
    }

    /// Changes how it is scheduled.
    pub fn set_pace(&self, pace: Pace) {
        self.0.pace.set(pace);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.0.waker.take() {
            waker.wake();
        }
    }

    /// Ends it between two instructions: nothing of it runs any more, and its memory is gone.
    pub async fn kill(&self) {
        let Some(tasks) = self.0.tasks.take() else { return };
        self.wake();
        let gone = self.0.gone.take();
        if let Some(gone) = gone {
            let _ = gone.await;
        }
        drop(tasks);
    }
}

struct Process {
    shared: Rc<Shared>,
    polled: Option<Pin<Box<dyn Future<Output = ()>>>>,
    alarm: Option<Pin<Box<Sleep>>>,
    fed: bool,
}

impl Future for Process {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.shared.tasks.borrow().is_none() {
            this.polled = None;
            return Poll::Ready(());
        }
        *this.shared.waker.borrow_mut() = Some(cx.waker().clone());
        match this.shared.pace.get() {
            Pace::Stopped => return Poll::Pending,
            Pace::Running => this.alarm = None,
            Pace::Starved => loop {
                let alarm = this.alarm.get_or_insert_with(|| Box::pin(sleep(FED_FOR)));
                if alarm.as_mut().poll(cx).is_pending() {
                    break;
                }
                this.fed = !this.fed;
                this.alarm = Some(Box::pin(sleep(if this.fed { FED_FOR } else { STARVED_FOR })));
            },
        }
        if (this.fed || this.alarm.is_none())
            && let Some(polled) = &mut this.polled
        {
            let _ = polled.as_mut().poll(cx);
        }
        Poll::Pending
    }
}
