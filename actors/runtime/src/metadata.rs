//! The metadata as the rest of the node sees it: what is kept here, which features all members have, and the settings
//! that are made of it. Read from any thread, without waiting for anybody. It decides nothing; the metadata manager
//! writes it.

use crate::administration::AdministrationRefusal;
use crate::metadata_manager::MetadataMessage;
use crate::node_core::NodeCore;
use crate::run_time_settings::RunTimeSettings;
use arc_swap::ArcSwap;
use ringwork_core::metadata::{At, Metadata};
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// See the module's head.
pub struct MetadataBoard {
    published: watch::Sender<Arc<Metadata>>,
    active: ArcSwap<BTreeSet<String>>,
    own: BTreeSet<String>,
    settings: OnceLock<RunTimeSettings>,
}

impl MetadataBoard {
    /// A board that shows `metadata`, of a node that has the features `own`.
    pub(crate) fn new(metadata: Metadata, own: BTreeSet<String>) -> Self {
        Self {
            published: watch::Sender::new(Arc::new(metadata)),
            active: ArcSwap::default(),
            own,
            settings: OnceLock::new(),
        }
    }

    /// What is kept here now.
    pub fn current(&self) -> Arc<Metadata> {
        self.published.borrow().clone()
    }

    /// Hears of every change, after it is on the disk; of several in a row perhaps only of the last.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Metadata>> {
        self.published.subscribe()
    }

    /// Whether every member that is waited for has this feature, so that it may be used. It may end again, when a node
    /// without it becomes a member or was not heard of since this one's start.
    pub fn is_active(&self, feature: &str) -> bool {
        self.active.load().contains(feature)
    }

    /// The features that all members have.
    pub fn active(&self) -> Arc<BTreeSet<String>> {
        self.active.load_full()
    }

    /// The features that this node has.
    pub fn own(&self) -> &BTreeSet<String> {
        &self.own
    }

    /// The settings that can be changed at run time.
    pub(crate) fn settings(&self) -> Option<&RunTimeSettings> {
        self.settings.get()
    }

    pub(crate) fn register(&self, settings: RunTimeSettings) {
        // There is one start, and it registers once.
        let _ = self.settings.set(settings);
    }

    pub(crate) fn publish(&self, metadata: Arc<Metadata>, active: BTreeSet<String>) {
        if **self.active.load() != active {
            tracing::info!(features = ?active, "the features that all members have are others now");
            self.active.store(Arc::new(active));
        }
        self.published.send_if_modified(|shown| {
            let differs = shown.stamp() != metadata.stamp();
            *shown = metadata;
            differs
        });
    }
}

/// How long a change may wait for the disk.
const KEPT_WITHIN: Duration = Duration::from_secs(10);

/// Changes the metadata by a function that does all of it or refuses. What is answered is kept on this node's disk,
/// seen by its subscribers and in force, and on its way to the other members. After a refusal with the code `deadline`
/// it may come to be.
pub async fn change(
    node: &NodeCore,
    change: impl FnOnce(&mut Metadata, At) -> Result<(), AdministrationRefusal> + Send + 'static,
) -> Result<Arc<Metadata>, AdministrationRefusal> {
    let stopping = || AdministrationRefusal::new("stopping", "the node is stopping; ask another one");
    if node.is_stopping() {
        return Err(stopping());
    }
    let manager =
        node.started.load().as_ref().map(|started| started.metadata.clone()).ok_or_else(stopping)?;
    let (done, changed) = oneshot::channel();
    if manager.post(MetadataMessage::Change(Box::new(change), done)).is_err() {
        return Err(AdministrationRefusal::new("overloaded", "too many changes wait already; try again"));
    }
    match tokio::time::timeout(KEPT_WITHIN, changed).await {
        Ok(Ok(changed)) => changed,
        Ok(Err(_)) => Err(stopping()),
        Err(_) => {
            let detail = "the disk did not keep the change in time; it may come to be";
            Err(AdministrationRefusal::new("deadline", detail))
        }
    }
}
