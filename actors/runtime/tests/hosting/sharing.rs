//! Several nodes that share metadata: settings reach everybody and are kept over starts, nodes may differ, a member of
//! an older release is noticed, an entry lives from created to active, and subscribers hear of what is kept.

use crate::stores::{Gate, GatedStore};
use crate::summit::Summit;
use crate::{eventually, options, run, stop};
use ringwork_core::metadata::features::SHARED_SETTINGS;
use ringwork_core::metadata::{NamespaceName, Stage, features};
use ringwork_core::store::memory::MemoryStore;
use ringwork_core::vnode::Vnode;
use ringwork_runtime::administration::{AdministrationRefusal, Change, ClusterSetting};
use ringwork_runtime::antientropy::board::RepairSettings;
use ringwork_runtime::metadata::change;
use ringwork_runtime::node::{ClusterOptions, Keep, Node, NodeLimits, NodeOptions};
use ringwork_runtime::randomness::Randomness;
use ringwork_runtime::spawner::Placement;
use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A machine: where its node lives and what it keeps.
pub(crate) struct Machine {
    name: String,
    pub(crate) listen: SocketAddr,
    directory: tempfile::TempDir,
    store: MemoryStore,
    /// Of its disk.
    pub(crate) gate: Gate,
    pub(crate) repair: RepairSettings,
    pub(crate) limits: NodeLimits,
    starts: u64,
}

impl Machine {
    pub(crate) fn new(number: usize) -> Self {
        // Freed at once: only this process asks for ports of this kind.
        let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let directory = tempfile::tempdir().unwrap();
        Self {
            name: format!("n{number}"),
            listen,
            directory,
            store: MemoryStore::new(),
            gate: Gate::default(),
            repair: RepairSettings::default(),
            limits: NodeLimits::default(),
            starts: 0,
        }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    async fn start(&mut self, seed: Option<SocketAddr>, own: BTreeSet<String>) -> Node {
        self.start_with::<Summit>(seed, own).await
    }

    /// With a module that may be of another release.
    pub(crate) async fn start_with<V: Vnode<Config = ()>>(
        &mut self,
        seed: Option<SocketAddr>,
        own: BTreeSet<String>,
    ) -> Node {
        self.starts += 1;
        let seeds = seed.map(|seed| seed.to_string()).into_iter().collect();
        let seed = u64::from(self.listen.port()) << 16 | self.starts;
        let store = Arc::new(GatedStore { inner: self.store.clone(), gate: self.gate.clone() });
        let options = NodeOptions {
            name: self.name.clone(),
            keep: Keep::Given {
                store: store.clone(),
                directory: Some(self.path().to_owned()),
                machine_boot: None,
            },
            cluster: Some(ClusterOptions { listen: self.listen, advertise: None, seeds, location: None }),
            randomness: Randomness::seeded(seed),
            features: own,
            repair: self.repair,
            limits: self.limits,
            ..options(Placement::Own(1), store)
        };
        Node::builder(options).service::<V>(()).start().await.unwrap()
    }
}

/// Nodes that have become one cluster, all of them with what `own` says by number.
async fn cluster(count: usize, own: impl Fn(usize) -> BTreeSet<String>) -> (Vec<Machine>, Vec<Node>) {
    let mut machines: Vec<Machine> = (0..count).map(|number| Machine::new(number + 1)).collect();
    let mut nodes = Vec::new();
    let first = machines[0].listen;
    for (number, machine) in machines.iter_mut().enumerate() {
        nodes.push(machine.start((number > 0).then_some(first), own(number)).await);
    }
    become_one(&nodes).await;
    (machines, nodes)
}

/// Nodes whose seed is the first of them become its cluster.
pub(crate) async fn become_one(nodes: &[Node]) {
    let count = nodes.len();
    let administration = nodes[0].administration();
    eventually("all joins are staged", async || administration.cluster_status().staged.len() == count - 1)
        .await;
    eventually("the plan is committed", async || {
        administration.plan().await.is_ok_and(|plan| plan.changes.len() == count - 1)
            && administration.commit().await.is_ok()
    })
    .await;
    for node in nodes {
        eventually("all are members", async || {
            let status = node.administration().cluster_status();
            status.members.len() == count && status.members.iter().all(|member| member.status == "valid")
        })
        .await;
    }
}

/// Two nodes whose replicas are compared often, so many pairs at once, and are all equal.
pub(crate) async fn two_that_are_equal(exchanges: usize) -> ([Machine; 2], [Node; 2]) {
    let mut machines = [Machine::new(1), Machine::new(2)];
    for machine in &mut machines {
        machine.repair.interval = Duration::from_millis(100);
        machine.repair.exchanges = exchanges;
    }
    let [one, two] = &mut machines;
    let first = one.start_with::<Summit>(None, features::own()).await;
    let second = two.start_with::<Summit>(Some(one.listen), features::own()).await;
    let nodes = [first, second];
    become_one(&nodes).await;
    for node in &nodes {
        eventually("all pairs are equal", async || {
            let line = node.core().repair.snapshot()["summit"].clone();
            line.pairs > 0 && line.never_equal == 0
        })
        .await;
    }
    (machines, nodes)
}

async fn all_share(nodes: &[Node]) {
    for node in nodes {
        eventually("everybody can share settings", async || node.core().metadata.is_active(SHARED_SETTINGS))
            .await;
    }
}

async fn set(
    node: &Node,
    key: &str,
    value: &str,
    of: Option<&str>,
) -> Result<ClusterSetting, AdministrationRefusal> {
    node.administration().change_setting(key, Some(value), of).await
}

fn shown(node: &Node, key: &str) -> (String, String) {
    let setting = node.administration().setting(key).unwrap();
    (setting.value, setting.source)
}

async fn sees(node: &Node, key: &str, value: &str, source: &str) {
    let wanted = (value.to_owned(), source.to_owned());
    for _ in 0..2000 {
        if shown(node, key) == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let view = node.core().ring.load_full();
    let status = node.administration().cluster_status();
    let others: Vec<(String, String)> =
        status.members.into_iter().map(|member| (member.name, format!("{:?}", member.available))).collect();
    panic!(
        "{} has {:?}, not {wanted:?}; it sees {others:?}, epoch {}",
        node.core().name,
        shown(node, key),
        view.state().target().key().epoch
    );
}

async fn stop_all(nodes: Vec<Node>) {
    for node in nodes {
        stop(node).await;
    }
}

#[test]
fn a_setting_reaches_every_member_and_stays_over_a_start_and_a_node_may_differ() {
    run(async {
        let (mut machines, mut nodes) = cluster(3, |_| features::own()).await;
        all_share(&nodes).await;
        let mut heard = nodes[2].core().metadata.subscribe();
        heard.mark_unchanged();
        assert_eq!(shown(&nodes[0], "handoff.limit"), ("4".into(), "configuration".into()));
        let now = set(&nodes[0], "handoff.limit", "9", None).await.unwrap();
        assert_eq!(
            (now.value.as_str(), now.source.as_str(), now.cluster.as_deref()),
            ("9", "cluster", Some("9"))
        );
        assert_eq!(nodes[0].core().handoff.limit(), 9, "what is answered is in force");
        for node in &nodes {
            sees(node, "handoff.limit", "9", "cluster").await;
            assert_eq!(node.core().handoff.limit(), 9);
        }
        tokio::time::timeout(Duration::from_secs(5), heard.changed()).await.unwrap().unwrap();
        set(&nodes[1], "handoff.limit", "2", Some("n3")).await.unwrap();
        sees(&nodes[2], "handoff.limit", "2", "node").await;
        assert_eq!(shown(&nodes[1], "handoff.limit"), ("9".into(), "cluster".into()));
        // Only what is known is taken back.
        eventually("n1 knows of n3's own value", async || {
            !nodes[0].administration().setting("handoff.limit").unwrap().nodes.is_empty()
        })
        .await;
        // n3 is away while its own value is taken back and the cluster's is changed.
        stop(nodes.pop().unwrap()).await;
        nodes[0].administration().change_setting("handoff.limit", None, Some("n3")).await.unwrap();
        set(&nodes[1], "handoff.limit", "7", None).await.unwrap();
        let third = machines[2].start(None, features::own()).await;
        let limit = third.core().handoff.limit();
        assert!([2, 7].contains(&limit), "{limit}: as it was kept, or what others have told already");
        sees(&third, "handoff.limit", "7", "cluster").await;
        for node in &nodes {
            sees(node, "handoff.limit", "7", "cluster").await;
            // Two nodes changed two values, so who has heard of one need not have heard of the other.
            eventually("nobody knows of a value of n3's own any more", async || {
                node.administration().setting("handoff.limit").unwrap().nodes.is_empty()
            })
            .await;
        }
        third.administration().change_setting("handoff.limit", None, None).await.unwrap();
        for node in nodes.iter().chain([&third]) {
            sees(node, "handoff.limit", "4", "configuration").await;
            assert_eq!(node.core().handoff.limit(), 4);
        }
        nodes.push(third);
        stop_all(nodes).await;
    });
}

#[test]
fn what_a_setting_does_not_take_is_refused_and_so_is_what_nobody_knows() {
    run(async {
        let mut machine = Machine::new(1);
        let node = machine.start(None, features::own()).await;
        let refusal = set(&node, "handoff.limit", "0", None).await.unwrap_err();
        assert_eq!(refusal.code, "bad-setting");
        assert!(refusal.detail.contains("1 to 64"), "{refusal}");
        let refusal = set(&node, "handoff.limits", "4", None).await.unwrap_err();
        assert_eq!(refusal.code, "unknown-setting");
        assert!(refusal.detail.contains("handoff.limit,"), "{refusal}");
        let refusal = set(&node, "summit.n_val", "5", None).await.unwrap_err();
        assert!(refusal.detail.contains("does not change"), "{refusal}");
        let refusal = set(&node, "summit.r", "4", None).await.unwrap_err();
        assert!(refusal.detail.contains("1 to 3"), "{refusal}");
        let refusal = set(&node, "summit.r", "1", Some("n1")).await.unwrap_err();
        assert!(refusal.detail.contains("same on all nodes"), "{refusal}");
        assert_eq!(set(&node, "handoff.limit", "4", Some("n7")).await.unwrap_err().code, "unknown-node");
        set(&node, "summit.r", "one", None).await.unwrap();
        assert_eq!(shown(&node, "summit.r"), ("one".into(), "cluster".into()));
        stop(node).await;
        let bytes = std::fs::read(machine.path().join("metadata")).unwrap();
        let damaged: Vec<u8> = bytes.iter().map(|byte| byte ^ 1).collect();
        let node = machine.start(None, features::own()).await;
        assert_eq!(shown(&node, "summit.r"), ("one".into(), "cluster".into()));
        stop(node).await;
        std::fs::write(machine.path().join("metadata"), damaged).unwrap();
        let options = NodeOptions {
            keep: Keep::Given {
                store: Arc::new(machine.store.clone()),
                directory: Some(machine.path().to_owned()),
                machine_boot: None,
            },
            ..options(Placement::Own(1), Arc::new(machine.store.clone()))
        };
        let error = Node::builder(options).service::<Summit>(()).start().await.err().unwrap().to_string();
        assert!(error.contains("metadata is damaged") && error.contains("Way out"), "{error}");
    });
}

#[test]
fn a_member_of_the_release_before_keeps_a_feature_from_being_used_until_it_is_upgraded() {
    run(async {
        let before =
            || features::FEATURES_BEFORE.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<String>>();
        let (mut machines, mut nodes) =
            cluster(2, |number| if number == 0 { features::own() } else { before() }).await;
        let knows = |node: &Node| {
            let status = node.administration().cluster_status();
            status.members.iter().all(|member| member.protocols == Some((1, 1)))
        };
        for node in &nodes {
            eventually("both have said what they can do", async || knows(node)).await;
            assert!(!node.core().metadata.is_active(SHARED_SETTINGS));
            assert!(node.administration().cluster_status().features.is_empty());
        }
        let refusal = set(&nodes[0], "handoff.limit", "9", None).await.unwrap_err();
        assert_eq!(refusal.code, "feature-missing");
        assert!(refusal.detail.starts_with("n2 cannot share settings"), "{refusal}");
        set(&nodes[0], "handoff.limit", "9", Some("n1")).await.unwrap();
        assert_eq!(shown(&nodes[0], "handoff.limit"), ("9".into(), "node".into()));
        stop(nodes.pop().unwrap()).await;
        nodes.push(machines[1].start(None, features::own()).await);
        all_share(&nodes).await;
        let status = nodes[0].administration().cluster_status();
        let own: Vec<String> = features::own().into_iter().collect();
        assert_eq!(status.features, own);
        assert!(status.members.iter().all(|member| member.features == own));
        set(&nodes[0], "handoff.limit", "9", None).await.unwrap();
        sees(&nodes[1], "handoff.limit", "9", "cluster").await;
        stop_all(nodes).await;
    });
}

#[test]
fn an_entry_becomes_ready_when_every_member_has_it_and_a_member_that_is_away_is_waited_for() {
    run(async {
        let (mut machines, mut nodes) = cluster(2, |_| features::own()).await;
        let types = || NamespaceName::try_from("bucket-types").unwrap();
        let stage = |node: &Node| {
            let metadata = node.core().metadata.current();
            metadata.namespace(&types()).and_then(|namespace| namespace.stage("maps"))
        };
        stop(nodes.pop().unwrap()).await;
        change(nodes[0].core(), move |metadata, at| {
            metadata
                .create(&types(), "maps", vec![1], at)
                .map_err(|e| AdministrationRefusal::new("x", e.to_string()))
        })
        .await
        .unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        let members: Vec<_> = nodes[0].core().ring.load().state().members().map(|(node, _)| node).collect();
        let metadata = nodes[0].core().metadata.current();
        let away: Vec<_> = members.iter().copied().filter(|node| *node != nodes[0].core().id).collect();
        assert_eq!(
            (stage(&nodes[0]), metadata.awaited(&types(), "maps", &members)),
            (Some(Stage::Created), away)
        );
        nodes.push(machines[1].start(None, features::own()).await);
        for node in &nodes {
            eventually("every member has it", async || stage(node) == Some(Stage::Ready)).await;
        }
        change(nodes[1].core(), move |metadata, _| {
            let activated = metadata.activate(&types(), "maps", &members);
            activated.map_err(|refusal| AdministrationRefusal::new("x", refusal.to_string()))
        })
        .await
        .unwrap();
        for node in &nodes {
            eventually("it is used everywhere", async || stage(node) == Some(Stage::Active)).await;
        }
        stop_all(nodes).await;
    });
}

/// In the moment after a join the metadata manager has not looked at the cluster's state yet: what was changed then
/// went into what the node had known alone, and was dropped (simulator seeds 830689 and 830778).
#[test]
fn what_is_changed_right_after_a_join_is_kept() {
    run(async {
        let (mut one, mut two) = (Machine::new(1), Machine::new(2));
        let nodes = vec![one.start(None, features::own()).await, two.start(None, features::own()).await];
        let types = || NamespaceName::try_from("bucket-types").unwrap();
        nodes[1].administration().stage(Change::Join { seed: one.listen.to_string() }).await.unwrap();
        change(nodes[1].core(), move |metadata, at| {
            metadata
                .put(&types(), "maps", vec![1], at)
                .map_err(|e| AdministrationRefusal::new("x", e.to_string()))
        })
        .await
        .unwrap();
        for node in &nodes {
            eventually("it is known everywhere", async || {
                let metadata = node.core().metadata.current();
                metadata.namespace(&types()).is_some_and(|types| types.siblings("maps").next().is_some())
            })
            .await;
        }
        stop_all(nodes).await;
    });
}
