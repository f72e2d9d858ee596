//! Settings that operators change at run time, as entries: one for the whole cluster, and one for each node that is to
//! have another. It decides under which key and in which namespace they lie, and which of them counts for a node. What
//! a setting means, and what it takes, those know who register it.

use super::namespace::{EntryRefusal, NamespaceName};
use super::store::{At, Metadata};
use crate::ids::NodeId;
use crate::limits::SETTING_VALUE_BYTES_MAX;

/// Between a setting's name and the node that it is for.
const OF: char = '@';

/// To which family a setting belongs, and so in which namespace it lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// How nodes run: `settings`. May differ from node to node.
    Settings,
    /// Properties of a service: `services`. The same on all nodes.
    Services,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Settings, Self::Services];

    fn name(self) -> Result<NamespaceName, EntryRefusal> {
        NamespaceName::try_from(match self {
            Self::Settings => "settings",
            Self::Services => "services",
        })
    }
}

/// Whose value counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetFor {
    /// That of the node.
    Node,
    /// That of the whole cluster.
    Cluster,
}

fn key_of(setting: &str, node: Option<NodeId>) -> String {
    node.map_or_else(|| setting.to_owned(), |node| format!("{setting}{OF}{node}"))
}

impl Metadata {
    fn setting_text(&self, family: Family, key: &str) -> Option<&str> {
        let value = self.namespace(&family.name().ok()?)?.value(key)?;
        std::str::from_utf8(value).ok()
    }

    /// What is set for the whole cluster, or for one node.
    pub fn setting(&self, family: Family, setting: &str, node: Option<NodeId>) -> Option<&str> {
        self.setting_text(family, &key_of(setting, node))
    }

    /// What counts for a node: its own value, else that of the cluster.
    pub fn setting_for(&self, family: Family, setting: &str, node: NodeId) -> Option<(&str, SetFor)> {
        let own = self.setting(family, setting, Some(node)).map(|text| (text, SetFor::Node));
        own.or_else(|| self.setting(family, setting, None).map(|text| (text, SetFor::Cluster)))
    }

    /// Sets a value for the whole cluster or for one node.
    pub fn set_setting(
        &mut self,
        family: Family,
        (setting, node): (&str, Option<NodeId>),
        text: &str,
        at: At,
    ) -> Result<(), EntryRefusal> {
        if text.len() > SETTING_VALUE_BYTES_MAX {
            return Err(EntryRefusal::Setting(text.len()));
        }
        self.put(&family.name()?, &key_of(setting, node), text.as_bytes().to_vec(), at)
    }

    /// Takes a value back. Says whether there was one.
    pub fn unset_setting(&mut self, family: Family, setting: &str, node: Option<NodeId>) -> bool {
        family.name().is_ok_and(|name| self.remove(&name, &key_of(setting, node)))
    }

    /// Every name under which something is set, with the nodes for which it is.
    pub fn settings(&self, family: Family) -> impl Iterator<Item = (&str, Option<&str>)> {
        let namespace = family.name().ok().and_then(|name| self.namespace(&name));
        let keys = namespace.into_iter().flat_map(|namespace| namespace.keys());
        keys.map(|key| key.split_once(OF).map_or((key, None), |(setting, node)| (setting, Some(node))))
    }

    /// Takes back what was set for nodes that are gone for good. Says whether there was anything.
    pub fn forget_settings_of(&mut self, is_gone: impl Fn(&str) -> bool) -> bool {
        let mut gone = Vec::new();
        for family in Family::ALL {
            let all = self.settings(family);
            let of_gone = all.filter_map(|(setting, node)| node.map(|node| (setting, node)));
            gone.extend(
                of_gone.filter(|(_, node)| is_gone(node)).map(|(s, n)| (family, format!("{s}{OF}{n}"))),
            );
        }
        let forget =
            |(family, key): &(Family, String)| family.name().is_ok_and(|name| self.remove(&name, key));
        gone.iter().map(forget).fold(false, |any, one| any | one)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::hybrid::HybridTime;
    use crate::ids::ClusterId;

    #[test]
    fn a_nodes_own_value_counts_before_that_of_the_cluster_and_goes_with_the_node() {
        let (one, other) = (NodeId([1; 16]), NodeId([2; 16]));
        let mut metadata = Metadata::new(ClusterId([7; 16]));
        let now = HybridTime::at_ms(1);
        let at = At { life: metadata.begin_life(one, now), now };
        let limit = "handoff.limit";
        metadata.set_setting(Family::Settings, (limit, None), "8", at).unwrap();
        metadata.set_setting(Family::Settings, (limit, Some(other)), "2", at).unwrap();
        let of = |metadata: &Metadata, node| {
            metadata
                .setting_for(Family::Settings, limit, node)
                .map(|(text, source)| (text.to_owned(), source))
        };
        assert_eq!(of(&metadata, one), Some(("8".into(), SetFor::Cluster)));
        assert_eq!(of(&metadata, other), Some(("2".into(), SetFor::Node)));
        assert_eq!(metadata.setting(Family::Services, limit, None), None, "families are apart");
        let text = other.to_string();
        assert!(!metadata.forget_settings_of(|_| false));
        assert!(metadata.forget_settings_of(|node| node == text));
        assert_eq!(of(&metadata, other), Some(("8".into(), SetFor::Cluster)));
        assert!(metadata.unset_setting(Family::Settings, limit, None));
        assert!(!metadata.unset_setting(Family::Settings, limit, None));
        assert_eq!(of(&metadata, one), None);
        let long = "x".repeat(SETTING_VALUE_BYTES_MAX + 1);
        let refusal = metadata.set_setting(Family::Settings, (limit, None), &long, at).unwrap_err();
        assert!(refusal.to_string().contains("at most"), "{refusal}");
    }
}
