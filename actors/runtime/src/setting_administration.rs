//! What operators ask of settings that can be changed at run time. It decides every refusal but those of the metadata's
//! bounds: an unknown setting, a value that it does not take, a member that does not know shared settings yet.

use crate::administration::{AdministrationRefusal, ClusterSetting};
use crate::metadata::change;
use crate::metadata_manager::waited_for;
use crate::node_core::NodeCore;
use crate::run_time_settings::RunTimeSetting;
use ringwork_core::ids::NodeId;
use ringwork_core::membership::ClusterState;
use ringwork_core::metadata::features::SHARED_SETTINGS;
use ringwork_core::metadata::{EntryRefusal, Family, Metadata, SetFor};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A setting's name that is no setting of this release, but that somebody has set.
const UNKNOWN: &str = "not known to the asked node's release";

fn status(
    node: &NodeCore,
    (metadata, state): (&Metadata, &ClusterState),
    setting: &RunTimeSetting,
) -> Option<ClusterSetting> {
    let in_force = node.metadata.settings()?.in_force(setting);
    let set_for = match in_force.set_for {
        Some(SetFor::Node) => "node",
        Some(SetFor::Cluster) => "cluster",
        None => "configuration",
    };
    Some(ClusterSetting {
        key: setting.key.clone(),
        value: in_force.value,
        source: set_for.to_owned(),
        takes: setting.takes.clone(),
        configured: setting.configured.clone(),
        cluster: metadata.setting(setting.family, &setting.key, None).map(str::to_owned),
        nodes: nodes(metadata, state, setting.family, &setting.key),
    })
}

fn nodes(metadata: &Metadata, state: &ClusterState, family: Family, key: &str) -> BTreeMap<String, String> {
    let own = |node: NodeId| metadata.setting(family, key, Some(node)).map(str::to_owned);
    state.members().filter_map(|(node, _)| Some((state.name_of(node), own(node)?))).collect()
}

/// All settings, by name; those too that only a later release knows.
pub(crate) fn settings(node: &NodeCore) -> Vec<ClusterSetting> {
    let (metadata, view) = (node.metadata.current(), node.ring.load_full());
    let Some(known) = node.metadata.settings() else { return Vec::new() };
    let shown = known.known().iter().filter_map(|setting| status(node, (&metadata, view.state()), setting));
    let mut all: BTreeMap<String, ClusterSetting> = shown.map(|s| (s.key.clone(), s)).collect();
    for family in Family::ALL {
        for (key, _) in metadata.settings(family) {
            all.entry(key.to_owned()).or_insert_with(|| ClusterSetting {
                key: key.to_owned(),
                value: String::new(),
                source: UNKNOWN.to_owned(),
                takes: UNKNOWN.to_owned(),
                configured: String::new(),
                cluster: metadata.setting(family, key, None).map(str::to_owned),
                nodes: nodes(&metadata, view.state(), family, key),
            });
        }
    }
    all.into_values().collect()
}

/// One setting.
pub(crate) fn setting(node: &NodeCore, key: &str) -> Result<ClusterSetting, AdministrationRefusal> {
    let found = settings(node).into_iter().find(|setting| setting.key == key);
    found.ok_or_else(|| unknown(node, key))
}

fn unknown(node: &NodeCore, key: &str) -> AdministrationRefusal {
    let known = node.metadata.settings().map(|settings| settings.known()).unwrap_or_default();
    let names: Vec<&str> = known.iter().map(|setting| setting.key.as_str()).collect();
    let key: String = key.chars().take(80).collect();
    let detail = format!(
        "there is no setting {key:?} that can be changed at run time; there are {}; others are in the configuration \
         ('ringwork config reference')",
        names.join(", ")
    );
    AdministrationRefusal::new("unknown-setting", detail)
}

fn refused(refusal: EntryRefusal) -> AdministrationRefusal {
    AdministrationRefusal::of_entry(&refusal, "bad-setting")
}

/// Whether a value can be shared now: a member that does not know of shared settings would go on with its own.
fn check_members(
    node: &NodeCore,
    metadata: &Metadata,
    of: Option<NodeId>,
) -> Result<(), AdministrationRefusal> {
    let view = node.ring.load();
    if node.is_outside() {
        let detail = "this node waits to be taken into a cluster; ask a member, or wait until it is one";
        return Err(AdministrationRefusal::new("not-a-member", detail));
    }
    let members = of.map_or_else(|| waited_for(view.state()), |node| vec![node]);
    let lacking = metadata.lacking(SHARED_SETTINGS, &members);
    if lacking.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = lacking.into_iter().map(|node| view.state().name_of(node)).collect();
    let detail = format!(
        "{} cannot share settings, or did not say yet that it can: its release may be older. Upgrade it, or start it; \
         a member that stays away is no longer waited for after 'ringwork cluster down'",
        names.join(", ")
    );
    Err(AdministrationRefusal::new("feature-missing", detail))
}

/// Sets a value, or takes it back where there is none, for the whole cluster or for the member `of`. What the setting
/// then is on the asked node.
pub(crate) async fn change_setting(
    node: Arc<NodeCore>,
    key: String,
    value: Option<String>,
    of: Option<NodeId>,
) -> Result<ClusterSetting, AdministrationRefusal> {
    let known = node.metadata.settings().and_then(|settings| settings.find(&key));
    // What a later release has set may be taken back; it lies in either family.
    let families = known.map_or(Family::ALL.to_vec(), |setting| vec![setting.family]);
    if known.is_none() && (value.is_some() || setting(&node, &key).is_err()) {
        return Err(unknown(&node, &key));
    }
    if of.is_some() && families == [Family::Services] {
        let detail =
            format!("{key} is a property of a service and the same on all nodes; set it without --of");
        return Err(AdministrationRefusal::new("bad-setting", detail));
    }
    if let (Some(setting), Some(value)) = (known, &value) {
        let wrong =
            |why| AdministrationRefusal::new("bad-setting", format!("{key} cannot be {value:?}: {why}"));
        (setting.check)(value).map_err(wrong)?;
    }
    let (for_check, name) = (node.clone(), key.clone());
    change(&node, move |metadata, at| {
        check_members(&for_check, metadata, of)?;
        for family in families {
            match &value {
                Some(value) => {
                    metadata.set_setting(family, (&name, of), value, at).map_err(refused)?;
                }
                None => _ = metadata.unset_setting(family, &name, of),
            }
        }
        Ok(())
    })
    .await?;
    let gone = |_| ClusterSetting { key: key.clone(), ..ClusterSetting::default() };
    setting(&node, &key).or_else(|refusal| Ok(gone(refusal)))
}
