//! Settings that operators change while nodes run. It decides which there are, what each takes, and what counts: a
//! value for this node before one for the whole cluster before the node's configuration. What a value does, whoever
//! registers the setting knows. Where values are kept, and how they reach other nodes, is the metadata's matter.
//!
//! A further setting of the node is one entry in `of_node`.

use crate::handoff::board::HandoffBoard;
use crate::node_core::NodeCore;
use ringwork_core::ids::NodeId;
use ringwork_core::limits::{HANDOFF_BYTES_PER_SECOND_MAX, HANDOFF_BYTES_PER_SECOND_MIN, HANDOFF_LIMIT_MAX};
use ringwork_core::metadata::{Family, Metadata, SetFor};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A word for "no limit", in settings that have one.
const NONE: &str = "none";

/// A function of a value's text that does something with it, or says what would be right.
pub type OfText = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// One setting.
pub struct RunTimeSetting {
    /// Its name, as in the configuration where it is there, too.
    pub key: String,
    /// Whether it may differ from node to node.
    pub family: Family,
    /// What it takes, for people.
    pub takes: String,
    /// The value that the node's configuration gives it.
    pub configured: String,
    /// Whether a text can be its value. Changes nothing.
    pub check: OfText,
    /// Puts a value in force, which `check` has let pass.
    pub apply: OfText,
}

/// What counts of one setting on this node, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct InForce {
    pub(crate) value: String,
    /// None: the configuration's.
    pub(crate) set_for: Option<SetFor>,
}

/// See the module's head.
pub(crate) struct RunTimeSettings {
    known: Vec<RunTimeSetting>,
    in_force: Mutex<BTreeMap<String, InForce>>,
    /// What was set and cannot be used, by key: said once.
    unusable: Mutex<BTreeMap<String, String>>,
}

impl RunTimeSettings {
    pub(crate) fn new(mut known: Vec<RunTimeSetting>) -> Self {
        known.sort_by(|one, other| one.key.cmp(&other.key));
        Self { known, in_force: Mutex::default(), unusable: Mutex::default() }
    }

    pub(crate) fn known(&self) -> &[RunTimeSetting] {
        &self.known
    }

    pub(crate) fn find(&self, key: &str) -> Option<&RunTimeSetting> {
        self.known.iter().find(|setting| setting.key == key)
    }

    /// What counts of a setting now.
    pub(crate) fn in_force(&self, setting: &RunTimeSetting) -> InForce {
        let in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        let configured = || InForce { value: setting.configured.clone(), set_for: None };
        in_force.get(&setting.key).cloned().unwrap_or_else(configured)
    }

    fn is_usable(&self, setting: &RunTimeSetting, text: &str) -> bool {
        let mut unusable = self.unusable.lock().unwrap_or_else(PoisonError::into_inner);
        let Err(error) = (setting.check)(text) else {
            unusable.remove(&setting.key);
            return true;
        };
        if unusable.insert(setting.key.clone(), text.to_owned()).as_deref() != Some(text) {
            let key = &setting.key;
            tracing::warn!(key, value = text, error, "a setting cannot be used; the configuration's is");
        }
        false
    }

    /// Puts in force what `metadata` says for `node`, as far as it differs from what is. A value that this release
    /// cannot use leaves the configuration's in force, with a word in the log.
    pub(crate) fn apply(&self, metadata: &Metadata, node: NodeId) {
        for setting in &self.known {
            let (key, configured) = (&setting.key, &setting.configured);
            let set = metadata.setting_for(setting.family, key, node);
            let before = self.in_force(setting);
            let usable = set.filter(|(text, _)| self.is_usable(setting, text));
            let after = match usable {
                Some((text, set_for)) => InForce { value: text.to_owned(), set_for: Some(set_for) },
                None => InForce { value: configured.clone(), set_for: None },
            };
            if after == before {
                continue;
            }
            if after.value != before.value {
                match (setting.apply)(&after.value) {
                    Ok(()) => tracing::info!(key, value = after.value, "a setting was changed"),
                    Err(error) => {
                        tracing::warn!(key, value = after.value, error, "a setting was not changed");
                        continue;
                    }
                }
            }
            let mut in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
            in_force.insert(key.clone(), after);
        }
    }
}

fn limit(text: &str) -> Result<u32, String> {
    let limit = text.parse::<u32>().ok().filter(|limit| (1..=HANDOFF_LIMIT_MAX).contains(limit));
    limit.ok_or_else(|| format!("it takes a whole number from 1 to {HANDOFF_LIMIT_MAX}"))
}

/// A number of bytes, as in the configuration: alone or with one of the usual units.
fn bytes(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    let exponent = ["", "KiB", "MiB", "GiB", "TiB"].iter().position(|known| *known == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(1 << (10 * exponent))
}

fn rate(text: &str) -> Result<Option<u64>, String> {
    if text == NONE {
        return Ok(None);
    }
    let range = HANDOFF_BYTES_PER_SECOND_MIN..=HANDOFF_BYTES_PER_SECOND_MAX;
    let rate = bytes(text).filter(|rate| range.contains(rate));
    let (low, high) = (range.start(), range.end());
    let wrong = || format!("it takes none, or bytes a second from {low} to {high}, such as 64MiB");
    rate.map(Some).ok_or_else(wrong)
}

/// A setting of transfers: how it is read, and what is done with it.
fn of_transfers<T: 'static>(
    node: &NodeCore,
    (key, takes, configured): (&str, String, String),
    read: fn(&str) -> Result<T, String>,
    set: fn(&HandoffBoard, T) -> Result<(), String>,
) -> RunTimeSetting {
    let board = node.handoff.clone();
    RunTimeSetting {
        key: key.to_owned(),
        family: Family::Settings,
        takes,
        configured,
        check: Box::new(move |text| read(text).map(|_| ())),
        apply: Box::new(move |text| set(&board, read(text)?)),
    }
}

/// The node's own settings.
pub(crate) fn of_node(node: &Arc<NodeCore>) -> Vec<RunTimeSetting> {
    let board = &node.handoff;
    let configured_rate = board.bytes_per_second().map_or(NONE.to_owned(), |rate| rate.to_string());
    vec![
        of_transfers(
            node,
            (
                "handoff.limit",
                format!("1 to {HANDOFF_LIMIT_MAX} transfers at a time"),
                board.limit().to_string(),
            ),
            limit,
            |board, limit| board.set(Some(limit), None).map_err(|refusal| refusal.to_string()),
        ),
        of_transfers(
            node,
            (
                "handoff.bytes_per_second",
                "bytes a second for each transfer, such as 64MiB, or none".to_owned(),
                configured_rate,
            ),
            rate,
            |board, rate| board.set(None, Some(rate)).map_err(|refusal| refusal.to_string()),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringwork_core::clock::hybrid::HybridTime;
    use ringwork_core::ids::ClusterId;
    use ringwork_core::metadata::At;

    fn number(text: &str) -> Result<(), String> {
        text.parse::<u8>().map(|_| ()).map_err(|_| "it takes a number".to_owned())
    }

    #[test]
    fn the_nodes_value_counts_before_the_clusters_before_the_configurations_and_each_change_is_applied_once()
    {
        let applied = Arc::new(Mutex::new(Vec::new()));
        let heard = applied.clone();
        let settings = RunTimeSettings::new(vec![RunTimeSetting {
            key: "a".to_owned(),
            family: Family::Settings,
            takes: "a number".to_owned(),
            configured: "4".to_owned(),
            check: Box::new(number),
            apply: Box::new(move |text| {
                heard.lock().unwrap().push(text.to_owned());
                Ok(())
            }),
        }]);
        let me = NodeId([1; 16]);
        let mut metadata = Metadata::new(ClusterId([7; 16]));
        let now = HybridTime::at_ms(1);
        let at = At { life: metadata.begin_life(me, now), now };
        let shown = |settings: &RunTimeSettings| {
            let InForce { value, set_for } = settings.in_force(settings.find("a").unwrap());
            (value, set_for)
        };
        settings.apply(&metadata, me);
        assert_eq!(shown(&settings), ("4".to_owned(), None));
        metadata.set_setting(Family::Settings, ("a", None), "8", at).unwrap();
        settings.apply(&metadata, me);
        settings.apply(&metadata, me);
        assert_eq!(shown(&settings), ("8".to_owned(), Some(SetFor::Cluster)));
        metadata.set_setting(Family::Settings, ("a", Some(me)), "2", at).unwrap();
        settings.apply(&metadata, me);
        assert_eq!(shown(&settings), ("2".to_owned(), Some(SetFor::Node)));
        metadata.set_setting(Family::Settings, ("a", Some(me)), "of a later release", at).unwrap();
        settings.apply(&metadata, me);
        assert_eq!(shown(&settings), ("4".to_owned(), None));
        metadata.unset_setting(Family::Settings, "a", Some(me));
        settings.apply(&metadata, me);
        assert_eq!(*applied.lock().unwrap(), ["8", "2", "4", "8"]);
    }

    #[test]
    fn what_a_setting_of_transfers_takes() {
        assert_eq!((limit("1"), limit("64")), (Ok(1), Ok(64)));
        for text in ["0", "65", "", "many", "-1"] {
            assert!(limit(text).unwrap_err().contains("1 to 64"), "{text}");
        }
        assert_eq!((rate("none"), rate("1000000")), (Ok(None), Ok(Some(1_000_000))));
        assert_eq!((rate("64MiB"), rate("1 GiB")), (Ok(Some(64 << 20)), Ok(Some(1 << 30))));
        assert!(rate("MiB").is_err() && rate("99999999999TiB").is_err() && rate("64MB").is_err());
        assert!(rate("1").is_err() && rate("fast").is_err());
    }
}
