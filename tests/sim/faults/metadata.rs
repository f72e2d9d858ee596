//! No fault, but what others are to do no harm to: somebody writes and removes metadata at any node that serves.

use super::{Evidence, Fault, Happening, Kind, between};
use crate::history::{METADATA_NAMESPACE, MetadataChange};
use crate::world::World;
use ringwork_core::metadata::NamespaceName;
use ringwork_core::testing::Draw;
use ringwork_runtime::administration::AdministrationRefusal;
use ringwork_runtime::metadata::change;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

/// Keys that are written and removed.
const KEYS: u64 = 4;

struct Metadata;

inventory::submit!(Kind(&Metadata));

impl Fault for Metadata {
    fn name(&self) -> &'static str {
        "metadata"
    }

    fn is_seen_in(&self, evidence: &Evidence) -> bool {
        evidence.get("metadata changes").is_some_and(|count| *count > 0)
    }

    fn happen<'a>(&'a self, world: &'a Rc<World>, draw: &'a mut Draw) -> Happening<'a> {
        Box::pin(async move {
            let mut any = false;
            for _ in 0..3 + draw.below(5) {
                any |= one_change(world, draw).await;
                world.while_faults(between(draw, 50, 3000)).await;
            }
            any
        })
    }
}

async fn one_change(world: &Rc<World>, draw: &mut Draw) -> bool {
    let Some(node) = draw.pick(&world.healthy()).copied() else { return false };
    let key = format!("key{}", draw.below(KEYS));
    let puts = draw.one_in(2);
    change_at(world, node, key, puts).await
}

/// Writes a new value, or removes what is there. Says whether the node said that this is kept.
pub(super) async fn change_at(world: &Rc<World>, node: u8, key: String, puts: bool) -> bool {
    let machine = world.machine(node);
    let Some(core) = machine.core().filter(|core| !core.is_outside()) else { return false };
    let number = world.history.borrow().metadata.len();
    let value = puts.then(|| format!("value-{number}"));
    // What is replaced or removed is what the node knows at the very moment.
    let gone: Arc<Mutex<Vec<String>>> = Arc::default();
    let (told, written) = (gone.clone(), value.clone());
    let at = world.now();
    let entry = MetadataChange {
        node,
        at,
        value: value.clone(),
        gone: Vec::new(),
        kept: false,
        known_by: BTreeMap::new(),
    };
    world.history.borrow_mut().metadata.push(entry);
    world.note(&format!("at n{node} metadata {key} becomes {value:?}"));
    let done = machine.inside(async move {
        change(&core, move |metadata, at| {
            let name = NamespaceName::try_from(METADATA_NAMESPACE).unwrap();
            if let Some(namespace) = metadata.namespace(&name) {
                let known = namespace.siblings(&key).map(|version| String::from_utf8_lossy(&version.value).into());
                told.lock().unwrap().extend(known);
            }
            match written {
                Some(value) => metadata
                    .put(&name, &key, value.into_bytes(), at)
                    .map_err(|refusal| AdministrationRefusal::new("refused", refusal.to_string())),
                None => {
                    metadata.remove(&name, &key);
                    Ok(())
                }
            }
        })
        .await
    });
    let kept = matches!(done.await, Some(Ok(_)));
    let gone = std::mem::take(&mut *gone.lock().unwrap());
    world.note(&format!("which is kept: {kept}; gone by it: {gone:?}"));
    let entry = &mut world.history.borrow_mut().metadata[number];
    (entry.kept, entry.gone) = (kept, gone);
    if kept {
        world.count("metadata changes");
    }
    kept
}
