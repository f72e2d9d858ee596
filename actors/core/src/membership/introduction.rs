//! Members that do not know each other: while one was cut off, or down, the other was admitted, and all who knew both
//! have left since. The one that was away takes the newcomer for a stranger and lets it tell nothing. So whoever is
//! refused as unknown by a node that it knows for a member brings its whole state, and that node takes it over where it
//! can only be a later state of its own cluster. It decides when that is; it does not know how the state comes.

use super::change::ChangeRefusal;
use super::member::{Member, Status};
use super::state::ClusterState;
use crate::ids::NodeId;

impl ClusterState {
    /// Merges what `by`, which this node (`me`) does not know, brings: in that state of the same cluster both are to be
    /// members, `by` one that has been admitted. Refused, nothing is changed:
    ///
    /// - `other-cluster`: it is a state of another cluster, or of a ring of another size;
    /// - `removed`: `by` was removed from this cluster, which is final;
    /// - `not-a-member`: `by` has not been admitted as it says itself, or it does not know this node.
    ///
    /// One that is known here already is taken, too: its introduction may come twice.
    pub fn take_introduction(&mut self, me: NodeId, by: NodeId, theirs: &Self) -> Result<(), ChangeRefusal> {
        let name = theirs.name_of(by);
        if by == me {
            return Err(ChangeRefusal::new("not-a-member", "this node does not introduce itself to itself"));
        }
        if self.status(by) == Some(Status::Removed) {
            return Err(ChangeRefusal::new("removed", format!("{name} was removed from this cluster")));
        }
        let admitted =
            theirs.status(by).is_some_and(|status| status != Status::Joining && status != Status::Removed);
        if theirs.cluster() == self.cluster()
            && !(admitted && theirs.member(me).is_some_and(Member::is_member))
        {
            let detail = format!("by what it brings, {name} is no member, or does not know this node");
            return Err(ChangeRefusal::new("not-a-member", detail));
        }
        let elsewhere =
            |error| ChangeRefusal::new("other-cluster", format!("what {name} brings is refused: {error}"));
        self.merge(theirs).map(drop).map_err(elsewhere)
    }
}
