//! When everything has healed and every key was read, the holders of a key have the same items of it, byte for byte.
//! (Without the reads: once there is anti-entropy.)

use super::{Invariant, Promise};
use crate::world::{End, World};

#[derive(Default)]
struct ReplicasEqual;

inventory::submit!(Promise(|| Box::new(ReplicasEqual)));

impl Invariant for ReplicasEqual {
    fn name(&self) -> &'static str {
        "replicas are identical"
    }

    fn held(&mut self, world: &World, end: &End) -> Result<(), String> {
        let _ = world;
        for (key, replicas) in &end.replicas {
            for pair in replicas.windows(2) {
                let ((one, ours), (other, theirs)) = (&pair[0], &pair[1]);
                let differing = ours
                    .keys()
                    .chain(theirs.keys())
                    .find(|item| ours.get(*item) != theirs.get(*item));
                if let Some(item) = differing {
                    return Err(format!(
                        "of {key} n{one} has {:?} where n{other} has {:?}",
                        ours.get(item),
                        theirs.get(item)
                    ));
                }
            }
        }
        Ok(())
    }
}
