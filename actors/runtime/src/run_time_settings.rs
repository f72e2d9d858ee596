//! Settings that operators change while nodes run. It decides which there are, what each takes, and what counts: a
//! value for this node before one for the whole cluster before the node's configuration. What a value does, whoever
//! registers the setting knows. Where values are kept, and how they reach other nodes, is the metadata's matter.
//!
//! A further setting of the node is one entry in `of_node`.

use crate::antientropy::board::RepairBoard;
use crate::node_core::NodeCore;
use ringwork_core::ids::NodeId;
use ringwork_core::limits::{
    HANDOFF_BYTES_PER_SECOND_MAX, HANDOFF_BYTES_PER_SECOND_MIN, HANDOFF_LIMIT_MAX, REPAIR_EXCHANGES_MAX,
    REPAIR_INTERVAL_MS_MAX, REPAIR_INTERVAL_MS_MIN, REPAIRS_EXCHANGE_MAX,
};
use ringwork_core::metadata::{Family, Metadata, SetFor};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

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

fn exchanges(text: &str) -> Result<usize, String> {
    let exchanges = text.parse::<usize>().ok().filter(|exchanges| *exchanges <= REPAIR_EXCHANGES_MAX);
    exchanges.ok_or_else(|| {
        format!("it takes a whole number from 0 to {REPAIR_EXCHANGES_MAX}; 0 compares nothing")
    })
}

fn items_per_second(text: &str) -> Result<u64, String> {
    let items = text.parse::<u64>().ok().filter(|items| (1..=REPAIRS_EXCHANGE_MAX).contains(items));
    items.ok_or_else(|| format!("it takes a whole number from 1 to {REPAIRS_EXCHANGE_MAX}"))
}

/// Units of durations and their milliseconds, as in the configuration; the coarsest first.
const SPAN_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

fn interval(text: &str) -> Result<Duration, String> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let span_ms = text.split_at_checked(end).and_then(|(number, unit)| {
        let (_, unit_ms) = SPAN_UNITS.iter().find(|(name, _)| *name == unit)?;
        number.parse::<u64>().ok()?.checked_mul(*unit_ms)
    });
    let range = REPAIR_INTERVAL_MS_MIN..=REPAIR_INTERVAL_MS_MAX;
    let span_ms = span_ms.filter(|span_ms| range.contains(span_ms));
    let wrong = || {
        format!("it takes a duration from {} to {}, such as 15s", span(*range.start()), span(*range.end()))
    };
    span_ms.map(Duration::from_millis).ok_or_else(wrong)
}

/// A duration as it is written in the configuration.
fn span(span_ms: u64) -> String {
    let coarsest = SPAN_UNITS.iter().find(|(_, unit_ms)| span_ms.is_multiple_of(*unit_ms));
    coarsest.map_or_else(String::new, |(name, unit_ms)| format!("{}{name}", span_ms / unit_ms))
}

/// A setting of the part of the node that `board` shows: how it is read, and what is done with it.
fn of_board<B: Send + Sync + 'static, T: 'static>(
    board: &Arc<B>,
    (key, takes, configured): (&str, String, String),
    read: fn(&str) -> Result<T, String>,
    set: fn(&B, T) -> Result<(), String>,
) -> RunTimeSetting {
    let board = board.clone();
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
    let mut settings = vec![
        of_board(
            board,
            (
                "handoff.limit",
                format!("1 to {HANDOFF_LIMIT_MAX} transfers at a time"),
                board.limit().to_string(),
            ),
            limit,
            |board, limit| board.set(Some(limit), None).map_err(|refusal| refusal.to_string()),
        ),
        of_board(
            board,
            (
                "handoff.bytes_per_second",
                "bytes a second for each transfer, such as 64MiB, or none".to_owned(),
                configured_rate,
            ),
            rate,
            |board, rate| board.set(None, Some(rate)).map_err(|refusal| refusal.to_string()),
        ),
    ];
    settings.extend(of_repair(&node.repair));
    settings
}

/// Those of anti-entropy. A board that was made to keep no trees takes no number of exchanges.
fn of_repair(board: &Arc<RepairBoard>) -> Vec<RunTimeSetting> {
    let configured = board.settings();
    let interval_ms = u64::try_from(configured.interval.as_millis()).unwrap_or(u64::MAX);
    let mut of_exchanges = of_board(
        board,
        (
            "repair.exchanges",
            format!(
                "0 to {REPAIR_EXCHANGES_MAX} comparisons at a time, for each service; 0 compares nothing"
            ),
            if configured.enabled { configured.exchanges.to_string() } else { "0".to_owned() },
        ),
        exchanges,
        |board, exchanges| {
            board.change(|settings| settings.exchanges = exchanges);
            Ok(())
        },
    );
    if !configured.enabled {
        of_exchanges.check = Box::new(|text| match exchanges(text)? {
            0 => Ok(()),
            _ => Err(
                "this node keeps no trees to compare: configure repair.exchanges other than 0 for it, and \
                      start it again"
                    .to_owned(),
            ),
        });
    }
    vec![
        of_exchanges,
        of_board(
            board,
            (
                "repair.items_per_second",
                format!("1 to {REPAIRS_EXCHANGE_MAX} items a second, for each comparison"),
                configured.items_per_second.to_string(),
            ),
            items_per_second,
            |board, items| {
                board.change(|settings| settings.items_per_second = items);
                Ok(())
            },
        ),
        of_board(
            board,
            (
                "repair.interval",
                format!(
                    "a duration from {} to {}",
                    span(REPAIR_INTERVAL_MS_MIN),
                    span(REPAIR_INTERVAL_MS_MAX)
                ),
                span(interval_ms),
            ),
            interval,
            |board, interval| {
                board.change(|settings| settings.interval = interval);
                Ok(())
            },
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::antientropy::board::RepairSettings;
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
    #[test]
    fn settings_of_anti_entropy_take_what_the_configuration_takes_and_count_at_once() {
        let board = Arc::new(RepairBoard::new(RepairSettings::default()));
        let settings = of_repair(&board);
        let shown: Vec<_> = settings.iter().map(|one| (one.key.as_str(), one.configured.as_str())).collect();
        let configured =
            [("repair.exchanges", "2"), ("repair.items_per_second", "5000"), ("repair.interval", "15s")];
        assert_eq!(shown, configured);
        for (setting, text) in settings.iter().zip(["16", "1", "2m"]) {
            assert_eq!(((setting.check)(text), (setting.apply)(text)), (Ok(()), Ok(())), "{text}");
            assert_eq!((setting.check)(&setting.configured), Ok(()));
        }
        let set = board.settings();
        assert_eq!((set.exchanges, set.items_per_second), (16, 1));
        assert_eq!((set.interval, set.compares()), (Duration::from_secs(120), true));
        assert_eq!((settings[0].apply)("0"), Ok(()));
        assert!(!board.settings().compares());
        for (setting, texts) in settings.iter().zip([["17", "-1"], ["0", "100001"], ["999ms", "25h"]]) {
            for text in texts.into_iter().chain(["", "15 s", "2M", "99999999999999999d", "none"]) {
                assert!((setting.check)(text).unwrap_err().starts_with("it takes"), "{text}");
            }
        }
        for (text, milliseconds) in [("1d", 86_400_000), ("1500ms", 1500), ("90s", 90_000), ("1000ms", 1000)]
        {
            assert_eq!(interval(text), Ok(Duration::from_millis(milliseconds)));
            assert_eq!(interval(&span(milliseconds)), interval(text));
        }
    }

    #[test]
    fn a_node_that_keeps_no_trees_says_what_it_takes_to_compare() {
        let without = RepairSettings { enabled: false, ..RepairSettings::default() };
        let settings = of_repair(&Arc::new(RepairBoard::new(without)));
        assert_eq!(settings[0].configured, "0");
        assert_eq!((settings[0].check)("0"), Ok(()));
        assert!((settings[0].check)("2").unwrap_err().contains("start it again"));
    }
}
