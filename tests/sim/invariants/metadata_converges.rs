//! When everything has healed, all members have the same metadata; nothing that was removed or replaced has come back,
//! and what nobody removed or replaced is there.

use super::{Invariant, Promise};
use crate::history::{METADATA_NAMESPACE, MetadataChange};
use crate::last_look::End;
use crate::world::World;
use ringwork_core::metadata::NamespaceName;
use std::collections::BTreeSet;
use std::time::Duration;

struct MetadataConverges;

inventory::submit!(Promise(|| Box::new(MetadataConverges)));

impl Invariant for MetadataConverges {
    fn name(&self) -> &'static str {
        "metadata converges, nothing removed comes back"
    }

    fn held(&mut self, world: &World, _: &End) -> Result<(), String> {
        let mut first = None;
        let mut members = BTreeSet::new();
        for number in world.serving() {
            let Some(core) = world.machine(number).core().filter(|core| !core.is_outside()) else { continue };
            if !core.ring.load().state().member(core.id).is_some_and(|member| member.is_member()) {
                continue;
            }
            members.insert(number);
            let metadata = core.metadata.current();
            let (of, before) = first.get_or_insert_with(|| (number, metadata.clone()));
            if before.stamp() != metadata.stamp() {
                return Err(format!("n{number} and n{of} have different metadata"));
            }
        }
        let Some((_, metadata)) = first else { return Ok(()) };
        let name = NamespaceName::try_from(METADATA_NAMESPACE).unwrap();
        let versions = metadata.namespace(&name).into_iter().flat_map(|namespace| namespace.versions());
        let stands: BTreeSet<String> =
            versions.map(|(_, _, version)| String::from_utf8_lossy(&version.value).into_owned()).collect();
        let history = world.history.borrow();
        // What was kept on a disk that is lost by now, or by a node that is no member any more, may be known to nobody,
        // unless somebody was seen to have it.
        let gone = |node: u8, at: Duration| {
            !members.contains(&node) || history.wipes.iter().any(|wipe| wipe.node == node && wipe.at >= at)
        };
        let lost = |change: &&MetadataChange| {
            gone(change.node, change.at) && change.known_by.iter().all(|(node, at)| gone(*node, *at))
        };
        let sure = history.metadata.iter().filter(|change| change.kept && !lost(change));
        if let Some(back) = sure.clone().flat_map(|change| &change.gone).find(|value| stands.contains(*value)) {
            return Err(format!("{back} was removed or replaced, and is back"));
        }
        let replaced: BTreeSet<&String> = history.metadata.iter().flat_map(|change| &change.gone).collect();
        let mut written = sure.filter_map(|change| change.value.as_ref());
        match written.find(|value| !replaced.contains(*value) && !stands.contains(*value)) {
            Some(missing) => Err(format!("{missing} was written, nobody removed it, and it is not there")),
            None => Ok(()),
        }
    }
}
