//! One layer of settings: values that are each fit for their key, and where each came from. What is not fit
//! does not get in. It does not know which layer it is, nor what the others hold.

use super::keys::Key;
use super::kind::Given;
use super::problem::{Origin, Problem, Problems, Stated};
use config::{ConfigError, Map, Source, Value, ValueKind};
use std::collections::BTreeMap;

/// Values of one layer, each fit for its key.
#[derive(Clone, Debug, Default)]
pub(super) struct Layer {
    values: BTreeMap<&'static str, (ValueKind, Origin)>,
}

impl Layer {
    /// Takes a value for a key if it is fit, and otherwise says why not.
    pub(super) fn offer(
        &mut self,
        key: &'static Key,
        given: &Given,
        origin: Origin,
        problems: &mut Problems,
    ) {
        match key.kind.accept(given) {
            Some(value) => {
                self.values.insert(key.name, (value, origin));
            }
            None => problems.add(|| Problem::WrongValue {
                stated: Stated { key: key.name.to_owned(), value: given.to_string(), origin },
                expected: key.kind.to_string(),
            }),
        }
    }

    /// What the layer holds and where each came from.
    pub(super) fn origins(&self) -> impl Iterator<Item = (&'static str, &Origin)> {
        self.values.iter().map(|(key, (_, origin))| (*key, origin))
    }
}

/// The `config` crate asks a layer for its values and lays them over those of the layers before it.
impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self
            .values
            .iter()
            .map(|(key, (value, origin))| {
                ((*key).to_owned(), Value::new(Some(&origin.to_string()), value.clone()))
            })
            .collect())
    }
}
