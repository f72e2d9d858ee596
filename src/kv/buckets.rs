//! Changing buckets and bucket types, from whichever node. It decides nothing: what may be changed the module says
//! ([`ringwork_kv::directory`]), and the metadata carries it to every member.

use super::KvStore;
use ringwork_core::ids::NodeId;
use ringwork_core::metadata::{At, Metadata, Stage};
use ringwork_kv::{BucketProps, DirectoryError, directory};
use ringwork_runtime::administration::AdministrationRefusal;
use ringwork_runtime::metadata;
use serde_json::{Map, Value};
use std::sync::{Arc, Mutex, PoisonError};

/// Properties as a client's document gives them: [`ringwork_kv::props::change::read_document`].
pub type AskedProps = Map<String, Value>;

/// Why a change was not made.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeFailure {
    /// It cannot be. Nothing was changed.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The node could not. Nothing was changed, unless the code is `deadline`: then it may come to be.
    #[error("{}", .0.detail)]
    Node(AdministrationRefusal),
}

impl KvStore {
    /// The types that were created, with how far each is.
    pub fn types(&self) -> Vec<(String, Stage)> {
        directory::types(&self.calls.core().node.metadata.current())
    }

    /// The properties of a type that is in use.
    pub fn type_props(&self, bucket_type: &str) -> Result<BucketProps, DirectoryError> {
        let node = &self.calls.core().node;
        directory::type_props(&node.metadata.current(), bucket_type, self.calls.quorum_defaults())
    }

    async fn change(
        &self,
        change: impl FnOnce(&mut Metadata, At) -> Result<(), DirectoryError> + Send + 'static,
    ) -> Result<(), ChangeFailure> {
        let wrong = Arc::new(Mutex::new(None));
        let told = wrong.clone();
        let changed = metadata::change(&self.calls.core().node, move |metadata, at| {
            change(metadata, at).map_err(|error| {
                let refusal = AdministrationRefusal::new("bad-properties", error.to_string());
                *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                refusal
            })
        })
        .await;
        match (changed, wrong.lock().unwrap_or_else(PoisonError::into_inner).take()) {
            (Ok(_), _) => Ok(()),
            (Err(_), Some(wrong)) => Err(ChangeFailure::Directory(wrong)),
            (Err(refusal), None) => Err(ChangeFailure::Node(refusal)),
        }
    }

    /// Creates a type, or one that is not active yet anew. It is ready when every member has it.
    pub async fn create_type(&self, bucket_type: &str, asked: AskedProps) -> Result<(), ChangeFailure> {
        let (name, quorum) = (bucket_type.to_owned(), self.calls.quorum_defaults());
        self.change(move |metadata, at| directory::create_type(metadata, &name, &asked, quorum, at)).await
    }

    /// Brings a type into use that every member has.
    pub async fn activate_type(&self, bucket_type: &str) -> Result<(), ChangeFailure> {
        let name = bucket_type.to_owned();
        let ring = self.calls.core().node.ring.load();
        let members: Vec<NodeId> = ring.state().members().map(|(node, _)| node).collect();
        self.change(move |metadata, _| directory::activate_type(metadata, &name, &members)).await
    }

    /// Changes properties of a type that is in use.
    pub async fn update_type(&self, bucket_type: &str, asked: AskedProps) -> Result<(), ChangeFailure> {
        let (name, quorum) = (bucket_type.to_owned(), self.calls.quorum_defaults());
        self.change(move |metadata, at| directory::update_type(metadata, &name, &asked, quorum, at)).await
    }

    /// Changes a bucket's own properties.
    pub async fn set_bucket_props(
        &self,
        bucket_type: &str,
        bucket: &[u8],
        asked: AskedProps,
    ) -> Result<(), ChangeFailure> {
        let quorum = self.calls.quorum_defaults();
        let (name, bucket) = (bucket_type.to_owned(), bucket.to_vec());
        self.change(move |metadata, at| directory::set_bucket(metadata, (&name, &bucket), &asked, quorum, at))
            .await
    }

    /// Takes a bucket's own properties away: it has its type's again.
    pub async fn reset_bucket_props(&self, bucket_type: &str, bucket: &[u8]) -> Result<(), ChangeFailure> {
        let n_val = self.calls.core().node.quorum.n_val;
        let (name, bucket) = (bucket_type.to_owned(), bucket.to_vec());
        self.change(move |metadata, at| {
            directory::reset_bucket(metadata, &name, &bucket, n_val, at).map(|_| ())
        })
        .await
    }
}
