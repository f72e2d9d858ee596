//! A node's settings: which there are, where their values come from, whether they make sense together.
//! Decided once, before anything starts. It does not know the environment or the command line: both are
//! handed in.
//!
//! Reading order: `schema` (every setting), `keys`, `table` (made of it), `kind`, `values`, `endpoint` (what one may
//! be), `sources`, `file`, `layer` (where values come from), `problem` (what can be wrong), `reference`.

mod endpoint;
mod file;
mod keys;
mod kind;
mod layer;
mod problem;
mod reference;
mod schema;
mod sources;
mod table;
mod values;

pub use file::CONFIG_FILE_BYTES_MAX;
pub use keys::{ENVIRONMENT_PREFIX, ENVIRONMENT_SEPARATOR, Key, Section};
pub use kind::{
    Kind, LOCATION_CHARACTERS_MAX, LOG_FILTER_BYTES_MAX, NODE_NAME_CHARACTERS_MAX, PATH_BYTES_MAX,
};
pub use problem::{Origin, PROBLEMS_MAX, Problem, SettingsError, Stated};
pub use reference::{reference, toml_value};
pub use schema::{
    ChatSettings, ClusterSettings, HandoffSettings, HttpSettings, KvSettings, LogSettings, NodeSettings,
    QuorumSettings, RepairSettings, RetentionSettings, RuntimeSettings, StoreSettings,
};
pub use sources::{Override, Sources, environment};
pub use table::{keys, sections};
pub use values::{
    DeleteMode, Durability, Engine, LogFormat, QuorumSetting, Rate, RetentionAge, Size, Span, ValueError,
};

use problem::Problems;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything an operator may decide about a node. The fields' ranges and relations hold for settings that
/// [`Settings::load`] gave out; nothing checks those built by hand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The section `node`.
    pub node: NodeSettings,
    /// The section `http`.
    pub http: HttpSettings,
    /// The section `cluster`.
    pub cluster: ClusterSettings,
    /// The section `store`.
    pub store: StoreSettings,
    /// The section `quorum`.
    pub quorum: QuorumSettings,
    /// The section `handoff`.
    pub handoff: HandoffSettings,
    /// The section `repair`.
    pub repair: RepairSettings,
    /// The section `runtime`.
    pub runtime: RuntimeSettings,
    /// The section `chat`.
    pub chat: ChatSettings,
    /// The section `kv`.
    pub kv: KvSettings,
    /// The section `log`.
    pub log: LogSettings,
}

/// Settings in force, and where each value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// The origin of every key's value.
    pub origins: BTreeMap<String, Origin>,
}

impl Settings {
    /// Reads all layers, lays them over one another and checks the result. Either everything is right, or all
    /// that is wrong is told at once, including values that a stronger layer would have replaced.
    pub fn load(sources: &Sources) -> Result<Loaded, SettingsError> {
        let mut problems = Problems::default();
        let layers = sources::read(sources, &mut problems);
        let mut origins = BTreeMap::new();
        for layer in &layers {
            origins.extend(layer.origins().map(|(key, origin)| (key.to_owned(), origin.clone())));
        }
        let mut builder = config::Config::builder();
        for layer in layers {
            builder = builder.add_source(layer);
        }
        let settings = match builder.build().and_then(config::Config::try_deserialize) {
            Ok(settings) => settings,
            Err(error) => {
                problems.add(|| Problem::NotAssembled { reason: error.to_string() });
                Settings::default()
            }
        };
        let loaded = Loaded { settings, origins };
        loaded.contradictions(&mut problems);
        problems.into_result().map(|()| loaded)
    }

    /// The value of a key, as a number, a string or a list of strings; nothing if there is no such key.
    pub fn value(&self, key: &str) -> Option<serde_json::Value> {
        let tree = serde_json::to_value(self).ok()?;
        key.split('.').try_fold(&tree, |table, part| table.get(part)).cloned()
    }
}

impl Loaded {
    /// Every key in the order of the reference file, with its value and the value's origin.
    pub fn values(&self) -> impl Iterator<Item = (&'static Key, serde_json::Value, Origin)> {
        keys().map(|key| {
            let value = self.settings.value(key.name).unwrap_or_default();
            (key, value, self.origins.get(key.name).cloned().unwrap_or(Origin::Default))
        })
    }

    /// Adds what is wrong between values that are each right alone.
    fn contradictions(&self, problems: &mut Problems) {
        let Settings { http, cluster, quorum, chat, kv, .. } = &self.settings;
        let n_val = quorum.n_val;
        let rules = [
            (quorum.r.resolve(n_val) <= n_val, "quorum.r", "at most", "quorum.n_val"),
            (quorum.w.resolve(n_val) <= n_val, "quorum.w", "at most", "quorum.n_val"),
            (n_val as u64 <= u64::from(cluster.ring_size), "quorum.n_val", "at most", "cluster.ring_size"),
            (
                http.address.port() == 0 || http.address != cluster.address,
                "cluster.address",
                "another address or port than",
                "http.address",
            ),
            (
                chat.text_bytes_max < http.body_bytes_max,
                "chat.text_bytes_max",
                "less than",
                "http.body_bytes_max",
            ),
            (kv.siblings_warn < kv.siblings_max, "kv.siblings_warn", "less than", "kv.siblings_max"),
        ];
        for (holds, key, relation, other) in rules {
            // A value that was refused left the weaker layer's in its place, and that one contradicts nobody.
            if !holds && !problems.concern(key) && !problems.concern(other) {
                problems.add(|| Problem::Contradiction {
                    stated: self.stated(key),
                    relation,
                    other: self.stated(other),
                });
            }
        }
        let nowhere = cluster.address.ip().is_unspecified() && cluster.advertise.is_empty();
        if nowhere && !["cluster.address", "cluster.advertise"].iter().any(|key| problems.concern(key)) {
            problems.add(|| Problem::Impractical {
                stated: self.stated("cluster.address"),
                why: "listens on all addresses, and other nodes cannot be told which to use; name one in \
                      cluster.advertise, such as 10.0.0.1:8099",
            });
        }
    }

    fn stated(&self, key: &str) -> Stated {
        Stated {
            key: key.to_owned(),
            value: toml_value(&self.settings.value(key).unwrap_or_default()),
            origin: self.origins.get(key).cloned().unwrap_or(Origin::Default),
        }
    }
}
