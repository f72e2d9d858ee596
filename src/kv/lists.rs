//! Lists of keys and of buckets. It decides how many replicas a list may count on, and what a bucket does not show of
//! what its vnodes list. Which vnodes are asked, and what becomes of a list when some of them cannot be, the runtime
//! decides.

use super::{Conflicts, Kv, KvList, KvRow, KvStore, directory};
use futures_util::StreamExt;
use ringwork_core::coverage::course::CoverageFailure;
use ringwork_core::quorum::Refusal;
use ringwork_kv::name::last_of_bucket;
use ringwork_runtime::coordinator::Listing;
use ringwork_runtime::time::Moment;
use std::time::Duration;

/// Names of one bucket that a list of buckets passes over one by one; then it begins anew behind the bucket, which
/// costs as much as some hundred of them at every vnode.
pub(super) const PASSED_OVER_MAX: usize = 2000;

impl KvStore {
    /// The keys of a bucket under which there is something to be read, in ascending order.
    pub fn keys(&self, bucket_type: &str, bucket: &[u8], within: Duration) -> Result<Keys, Refusal> {
        let question = KvList::Keys { bucket_type: bucket_type.to_owned(), bucket: bucket.into() };
        let node = &self.calls.core().node;
        let (metadata, n_val) = (node.metadata.current(), node.quorum.n_val);
        let replicas = directory::least_n_val_of_bucket(&metadata, bucket_type, bucket, n_val);
        let listing = self.calls.coverage(question).replicas(replicas).within(within).list()?;
        Ok(Keys { listing, conflicts: self.conflicts(bucket_type, bucket) })
    }

    fn conflicts(&self, bucket_type: &str, bucket: &[u8]) -> Conflicts {
        // Of a type that is not in use nothing is listed, and nothing hidden.
        self.bucket_props(bucket_type, bucket).map_or(Conflicts::Siblings, |props| props.conflicts())
    }

    /// The buckets of a type in which there is something to be read, in ascending order.
    pub fn buckets(&self, bucket_type: &str, within: Duration) -> Buckets {
        let node = &self.calls.core().node;
        let (metadata, n_val) = (node.metadata.current(), node.quorum.n_val);
        Buckets {
            replicas: directory::least_n_val_of_type(&metadata, bucket_type, n_val),
            store: self.clone(),
            bucket_type: bucket_type.to_owned(),
            ends: self.ends(within),
            listing: None,
            place: Place::default(),
            passed_over: 0,
            passed_over_max: PASSED_OVER_MAX,
            ended: false,
        }
    }
}

/// See [`KvStore::keys`].
pub struct Keys {
    listing: Listing<Kv>,
    conflicts: Conflicts,
}

impl Keys {
    /// The next keys, each once; none when there are no more. A batch may be empty.
    pub async fn next(&mut self) -> Result<Option<Vec<Vec<u8>>>, CoverageFailure> {
        let Some(rows) = self.listing.next().await.transpose()? else { return Ok(None) };
        let shown = rows.iter().filter(|row| row.1.is_readable_in(self.conflicts));
        Ok(Some(shown.map(|row| row.0.to_vec()).collect()))
    }
}

/// Where a list of buckets is.
#[derive(Default)]
pub(super) struct Place {
    bucket: Option<Vec<u8>>,
    conflicts: Conflicts,
    /// Whether something to be read was found in it.
    shown: bool,
}

/// A list that could not be gone on with.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BucketsFailure {
    /// It could not be begun.
    #[error("{0}")]
    Refused(Refusal),
    /// Some of the vnodes could not be asked; what was shown is right, and not all.
    #[error("{0}")]
    Coverage(CoverageFailure),
}

/// See [`KvStore::buckets`].
pub struct Buckets {
    store: KvStore,
    replicas: usize,
    bucket_type: String,
    ends: Moment,
    listing: Option<Listing<Kv>>,
    place: Place,
    passed_over: usize,
    pub(super) passed_over_max: usize,
    ended: bool,
}

impl Buckets {
    /// The next buckets, each once; none when there are no more.
    pub async fn next(&mut self) -> Result<Option<Vec<Vec<u8>>>, BucketsFailure> {
        while !self.ended {
            let listing = match &mut self.listing {
                Some(listing) => listing,
                none => {
                    let last = self.place.bucket.as_ref();
                    let behind = last.map(|bucket| last_of_bucket(&self.bucket_type, bucket));
                    let question = KvList::Names { bucket_type: self.bucket_type.clone() };
                    let within = self.store.left(self.ends);
                    let covering = self
                        .store
                        .calls
                        .coverage(question)
                        .replicas(self.replicas)
                        .after(behind)
                        .within(within);
                    none.insert(covering.list().map_err(BucketsFailure::Refused)?)
                }
            };
            let Some(rows) = listing.next().await.transpose().map_err(BucketsFailure::Coverage)? else {
                self.ended = true;
                break;
            };
            let found = self.take(rows);
            if !found.is_empty() {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn take(&mut self, rows: Vec<KvRow>) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        for (bucket, standing) in rows.iter().filter_map(|row| Some((row.name()?.bucket(), row.1))) {
            if self.place.bucket.as_ref() != Some(&bucket) {
                let conflicts = self.store.conflicts(&self.bucket_type, &bucket);
                self.place = Place { bucket: Some(bucket), conflicts, shown: false };
                self.passed_over = 0;
            } else if self.place.shown {
                self.passed_over += 1;
            }
            if !self.place.shown && standing.is_readable_in(self.place.conflicts) {
                self.place.shown = true;
                found.extend(self.place.bucket.clone());
            }
        }
        // Only behind a bucket that was shown: elsewhere something to be read may yet come.
        if self.passed_over > self.passed_over_max {
            self.listing = None;
            self.passed_over = 0;
        }
        found
    }
}
