//! When everything has healed and every key was read, the holders of a key have the same items of it, byte for byte.
//! (Without the reads: once there is anti-entropy.)

use super::{Invariant, Promise};
use crate::last_look::End;
use crate::world::World;
use std::collections::BTreeSet;

#[derive(Default)]
struct ReplicasEqual;

inventory::submit!(Promise(|| Box::new(ReplicasEqual)));

impl Invariant for ReplicasEqual {
    fn name(&self) -> &'static str {
        "replicas are identical"
    }

    fn held(&mut self, world: &World, end: &End) -> Result<(), String> {
        let mends = |text: Option<&String>| text.is_none_or(|text| world.around.service.is_mended_by_reads(text));
        for (key, replicas) in &end.replicas {
            for pair in replicas.windows(2) {
                let ((one, ours), (other, theirs)) = (&pair[0], &pair[1]);
                let differing: BTreeSet<&Vec<u8>> = ours
                    .keys()
                    .chain(theirs.keys())
                    .filter(|item| ours.get(*item) != theirs.get(*item))
                    // Until there is anti-entropy.
                    .filter(|item| replicas.iter().all(|(_, items)| mends(items.get(*item))))
                    .collect();
                if !differing.is_empty() {
                    let both = |item: &&Vec<u8>| format!("{:?} and {:?}", ours.get(*item), theirs.get(*item));
                    let shown: Vec<String> = differing.iter().take(5).map(both).collect();
                    return Err(format!(
                        "of {key} n{one} and n{other} differ in {} items: {}",
                        differing.len(),
                        shown.join("; ")
                    ));
                }
            }
        }
        Ok(())
    }
}
