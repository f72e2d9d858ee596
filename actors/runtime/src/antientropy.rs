//! Anti-entropy of one service on one node: an actor that has trees built where there are none, asks core's
//! [`Schedule`] which pairs are to be looked at and which compared, and runs a survey or core's [`Exchange`] for them.
//! It decides nothing about trees or order; it carries questions to both sides and their answers back. Who answers is
//! in `answering`, looks at many roots at once are in `surveying`, what a vnode does for its trees is in `vnode/trees`,
//! what operators see in [`board`].

pub(crate) mod answering;
pub mod board;
mod surveying;

use crate::antientropy::answering::{moving, not_now};
use crate::antientropy::board::{RepairLine, RepairSettings};
use crate::families;
use crate::handoff::service::OfService;
use crate::net::Channel;
use crate::node_core::NodeCore;
use crate::post::{Permits, Postbox, Posted};
use crate::remote::TreesAsked;
use crate::service_core::ServiceCore;
use crate::vnode::TreeTask;
use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use ringwork_core::antientropy::Fingerprints;
use ringwork_core::antientropy::exchange::{
    Answer, Effect, Ending, Event, Exchange, Question, Repaired, Side,
};
use ringwork_core::antientropy::keeping::Standing;
use ringwork_core::antientropy::listing::Summing;
use ringwork_core::antientropy::schedule::{
    Consequence, Decisions, Pair, Schedule, Start, Surroundings, Survey,
};
use ringwork_core::antientropy::survey::Sight;
use ringwork_core::gossip::detector::Availability;
use ringwork_core::ids::{NodeId, Partition};
use ringwork_core::limits::SCAN_STEP_ITEMS_MAX;
use ringwork_core::membership::ClusterState;
use ringwork_core::mutant::{Mutant, planted};
use ringwork_core::preflist::RingView;
use ringwork_core::store::KeyRange;
use ringwork_core::vnode::Vnode;
use ringwork_core::wire::codec;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How often it looks what is due.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// For how long it does not look closer where nothing has changed that it is told of and nothing is due, a little less
/// than a number of looks: not all that hinders a comparison says when it has passed.
const REST_MAX: Duration = Duration::from_millis(1900);
/// How soon after an exchange the next one may begin: what decides goes through all pairs.
const NEXT_AFTER: Duration = Duration::from_millis(40);
/// How long one question to another node may be on its way; core asks again a little later.
const ANSWER_WITHIN: Duration = Duration::from_secs(14);
/// How long one exchange may take in all: with the most that it sends, several times over.
const EXCHANGE_WITHIN: Duration = Duration::from_secs(600);
/// Trees that were just built and are in doubt again are not built before this has passed.
const BUILD_PAUSE: Duration = Duration::from_secs(30);
/// Pause after a vnode could not be started, or its items not be read.
const FAILED_BUILD_PAUSE: Duration = Duration::from_secs(5);

/// How far the trees of each partition's vnode are, for whoever may not ask it.
pub(crate) struct TreeTable {
    standings: Vec<AtomicU8>,
    /// How often one has changed, so that who counts them need not do it anew when none has.
    changes: AtomicU64,
}

impl TreeTable {
    pub(crate) fn new(partitions: usize) -> Self {
        let standings = (0..partitions).map(|_| AtomicU8::new(0)).collect();
        Self { standings, changes: AtomicU64::new(0) }
    }

    /// None: the vnode does not run.
    pub(crate) fn set(&self, partition: Partition, standing: Option<Standing>) {
        let code = match standing {
            None => 0,
            Some(Standing::InDoubt) => 1,
            Some(Standing::Building) => 2,
            Some(Standing::Ready) => 3,
        };
        let slot = self.standings.get(usize::from(partition.0));
        if slot.is_some_and(|slot| slot.swap(code, Ordering::Relaxed) != code) {
            // After it: who sees this number sees what was set, or sees a higher one the next time.
            self.changes.fetch_add(1, Ordering::Release);
        }
    }

    fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// How many of these there are of each kind: not running, in doubt, being built, ready.
    fn count(&self, partitions: &BTreeSet<Partition>) -> [usize; 4] {
        let mut counts = [0; 4];
        for partition in partitions {
            let code = self.standings.get(usize::from(partition.0)).map_or(0, |s| s.load(Ordering::Relaxed));
            if let Some(count) = counts.get_mut(usize::from(code)) {
                *count += 1;
            }
        }
        counts
    }

    pub(crate) fn standing(&self, partition: Partition) -> Option<Standing> {
        match self.standings.get(usize::from(partition.0))?.load(Ordering::Relaxed) {
            1 => Some(Standing::InDoubt),
            2 => Some(Standing::Building),
            3 => Some(Standing::Ready),
            _ => None,
        }
    }
}

/// See the module's head.
pub(crate) struct AntiEntropy<V: Vnode> {
    service: Arc<ServiceCore<V>>,
    schedule: Schedule,
    /// The partition whose trees are being built, one at a time: a scan takes a pool thread.
    building: Option<Partition>,
    /// When a partition's trees may be built next, and when they are to be, whatever they say.
    builds: BTreeMap<Partition, Builds>,
    /// An exchange has ended, and what is next is looked at in a moment.
    next_soon: bool,
    /// What this node holds, and in which state: it is asked at each look, and of a large ring it is long.
    held: Option<(Arc<ClusterState>, Arc<BTreeSet<Partition>>)>,
    /// How many of them stood how when the table had changed that often.
    counted: Option<(u64, Arc<BTreeSet<Partition>>, [usize; 4])>,
    /// Until when nothing is to be done, and what must not change for that.
    resting: Option<(u64, Circumstances)>,
}

/// What a look depends on that changes without a word to the actor.
struct Circumstances {
    view: Arc<RingView>,
    trees: u64,
    settings: RepairSettings,
    serves: bool,
}

impl PartialEq for Circumstances {
    fn eq(&self, other: &Self) -> bool {
        let of = |it: &Self| (it.trees, it.settings, it.serves);
        Arc::ptr_eq(&self.view, &other.view) && of(self) == of(other)
    }
}

#[derive(Clone, Copy)]
struct Builds {
    not_before_ms: u64,
    due_ms: u64,
}

/// Asks whether the actor lives; posted by nobody else.
struct Look;

impl<V: Vnode> AntiEntropy<V> {
    /// Starts it on the calling thread, which must be an actix one.
    pub(crate) fn start(service: Arc<ServiceCore<V>>) {
        let (schedule, builds) = Default::default();
        let (building, held, counted, resting) = (None, None, None, None);
        let actor = Self { service, schedule, building, builds, next_soon: false, held, counted, resting };
        let permits = Permits::new(1);
        Self::create(|ctx| {
            Postbox::new(ctx.address(), permits).post_control(Look);
            actor
        });
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.service.node.clock.moment().as_millis()).unwrap_or(u64::MAX)
    }

    fn held(&mut self, state: &Arc<ClusterState>) -> Arc<BTreeSet<Partition>> {
        match &self.held {
            Some((of, held)) if Arc::ptr_eq(of, state) => held.clone(),
            _ => {
                let held = Arc::new(state.held_set(self.service.node.id));
                self.held = Some((state.clone(), held.clone()));
                held
            }
        }
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        let node = self.service.node.clone();
        if node.is_stopping() && node.started.load().is_none() {
            return ctx.stop();
        }
        let view = node.ring.load_full();
        // Before all shards are there no vnode can be started, and one whose start fails has lost the trees it found.
        let serves = node.spawner.complete() && !node.is_stopping() && !node.is_outside();
        let (settings, trees) = (node.repair.settings(), self.service.trees.changes());
        let around = Circumstances { view: view.clone(), trees, settings, serves };
        let now_ms = self.now_ms();
        if self.resting.as_ref().is_some_and(|(until_ms, as_of)| now_ms < *until_ms && *as_of == around) {
            return node.repair.grow_older(V::SERVICE, self.schedule.oldest_ms(now_ms));
        }
        let held = self.held(view.state());
        if serves && view.state().was_ever_shared() {
            if node.repair.settings().compares() {
                self.build_next(&held, ctx);
            }
            self.begin_due(&held, ctx);
        }
        self.show(&held);
        let rest_ms = self.now_ms().saturating_add(milliseconds(REST_MAX));
        let due_ms = self.schedule.due_ms(milliseconds(settings.interval)).unwrap_or(rest_ms);
        self.resting = Some((rest_ms.min(due_ms), around));
    }

    fn begin_due(&mut self, held: &BTreeSet<Partition>, ctx: &mut Context<Self>) {
        if planted(Mutant::NeverCompare) {
            return;
        }
        let node = self.service.node.clone();
        let settings = node.repair.settings();
        let view = node.ring.load_full();
        let moving = moving(&node);
        let ready = held.iter().copied();
        let ready = ready
            .filter(|partition| self.service.trees.standing(*partition) == Some(Standing::Ready))
            .filter(|partition| not_now(&node, *partition, &moving).is_none())
            .collect();
        let holder = |partition| {
            let holder = view.state().holder(partition)?;
            let answers = view.availability(holder) == Availability::Up;
            (holder == node.id || answers && view.can_be_asked(V::SERVICE, holder)).then_some(holder)
        };
        let around = Surroundings {
            size: view.size(),
            n: node.quorum.n_val,
            ready: &ready,
            holder: &holder,
            limit: settings.exchanges,
            interval_ms: milliseconds(settings.interval),
            pressure: pressure(&self.service),
        };
        let Decisions { surveys, starts } = self.schedule.decide(self.now_ms(), &around);
        for survey in surveys {
            let look = surveying::look(self.service.clone(), survey);
            let looked =
                look.into_actor(self).map(|(survey, sights), actor, ctx| actor.looked(&survey, sights, ctx));
            ctx.spawn(looked);
        }
        for start in starts {
            let (pair, partner) = (start.pair, start.partner);
            let run = exchange(self.service.clone(), start);
            let ended =
                run.into_actor(self).map(move |ending, actor, ctx| actor.ended(pair, partner, &ending, ctx));
            ctx.spawn(ended);
        }
    }

    /// A survey has ended.
    fn looked(&mut self, survey: &Survey, sights: Option<Vec<Sight>>, ctx: &mut Context<Self>) {
        let now_ms = self.now_ms();
        for (pair, ending) in self.schedule.survey_ended(now_ms, survey, sights.as_deref()) {
            self.note(pair, survey.partner, &ending);
        }
        self.look_soon(ctx);
    }

    /// Puts an ending on the board.
    fn note(&self, pair: Pair, partner: NodeId, ending: &Ending) {
        let node = &self.service.node;
        node.repair.ended(V::SERVICE, ending, |problem| {
            format!("group {} with node {}: {problem}", pair.group, node.name_of(partner))
        });
    }

    fn look_soon(&mut self, ctx: &mut Context<Self>) {
        self.resting = None;
        if !std::mem::replace(&mut self.next_soon, true) {
            ctx.run_later(NEXT_AFTER, |actor, ctx| {
                actor.next_soon = false;
                actor.look(ctx);
            });
        }
    }

    fn ended(&mut self, pair: Pair, partner: NodeId, ending: &Ending, ctx: &mut Context<Self>) {
        let (node, now_ms) = (self.service.node.clone(), self.now_ms());
        let consequence = self.schedule.ended(now_ms, pair, ending);
        self.note(pair, partner, ending);
        if let Ending::Repaired { repaired: Repaired { sent, fetched }, .. } = ending {
            tracing::info!(
                service = V::SERVICE,
                group = pair.group.0,
                partner = %node.name_of(partner),
                sent,
                fetched,
                "two replicas differed and are being made equal"
            );
        }
        self.look_soon(ctx);
        if consequence == Consequence::Doubt {
            tracing::warn!(
                service = V::SERVICE,
                partition = pair.mine.0,
                "trees differ where items do not: they are built anew"
            );
            for partition in [Some(pair.mine), (partner == node.id).then_some(pair.theirs)] {
                partition.into_iter().for_each(|partition| self.tell(partition, TreeTask::Doubt));
            }
        }
    }

    fn tell(&self, partition: Partition, task: TreeTask) {
        self.service.routes.find(partition, |postbox| {
            if let Some(postbox) = postbox {
                postbox.post_control(task);
            }
        });
    }

    /// Has the next trees built that are not there or not to be believed, or that are old.
    fn build_next(&mut self, held: &BTreeSet<Partition>, ctx: &mut Context<Self>) {
        let now_ms = self.now_ms();
        self.builds.retain(|partition, _| held.contains(partition));
        if self.building.is_some() {
            return;
        }
        let rebuild_ms = milliseconds(self.service.node.repair.settings().rebuild_interval);
        let mut due = None;
        for partition in held {
            let due_ms = old_at_ms(now_ms, rebuild_ms, *partition);
            let builds = self.builds.entry(*partition).or_insert(Builds { not_before_ms: 0, due_ms });
            let standing = self.service.trees.standing(*partition);
            let wanted = match standing {
                None | Some(Standing::InDoubt) => true,
                Some(Standing::Building) => false,
                Some(Standing::Ready) => builds.due_ms <= now_ms && pressure(&self.service) < 25,
            };
            if wanted && builds.not_before_ms <= now_ms {
                due = Some((*partition, standing));
                break;
            }
        }
        let Some((partition, standing)) = due else { return };
        self.building = Some(partition);
        let built = build(self.service.clone(), partition, standing.is_some());
        let ended = built.into_actor(self).map(move |outcome, actor, ctx| {
            (actor.building, actor.resting) = (None, None);
            let now_ms = actor.now_ms();
            let pause = match &outcome {
                Ok(true) => BUILD_PAUSE,
                // It says in a moment whether it has trees.
                Ok(false) => LOOK_INTERVAL,
                Err(_) => FAILED_BUILD_PAUSE,
            };
            if let Some(builds) = actor.builds.get_mut(&partition) {
                builds.not_before_ms = now_ms.saturating_add(milliseconds(pause));
                if matches!(outcome, Ok(true)) {
                    builds.due_ms = old_at_ms(now_ms, rebuild_ms, partition);
                }
            }
            match outcome {
                Ok(true) => actor.service.node.repair.built(V::SERVICE),
                Ok(false) => {}
                Err(why) => {
                    let problem = format!("the trees of partition {partition} could not be built: {why}");
                    actor.service.node.repair.problem(V::SERVICE, problem);
                    // Of one that could not be started nothing was built: what it finds when it does is whole.
                    if standing.is_some() {
                        actor.tell(partition, TreeTask::Doubt);
                    }
                }
            }
            actor.look(ctx);
        });
        ctx.spawn(ended);
    }

    fn show(&mut self, held: &Arc<BTreeSet<Partition>>) {
        let changes = self.service.trees.changes();
        let counted = self.counted.take().filter(|(at, of, _)| *at == changes && Arc::ptr_eq(of, held));
        let counts = counted.map_or_else(|| self.service.trees.count(held), |(_, _, counts)| counts);
        self.counted = Some((changes, held.clone(), counts));
        let [not_running, in_doubt, building, ready] = counts;
        self.service.node.repair.show(
            V::SERVICE,
            RepairLine {
                pairs: self.schedule.pairs(),
                never_equal: self.schedule.never_equal(),
                running: self.schedule.running(),
                oldest_ms: self.schedule.oldest_ms(self.now_ms()),
                trees_ready: ready,
                trees_building: building,
                trees_in_doubt: in_doubt + not_running,
                ..RepairLine::default()
            },
        );
    }
}

impl<V: Vnode> Actor for AntiEntropy<V> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.service.node.beat.clone().each(LOOK_INTERVAL, ctx, Self::look);
    }
}

impl<V: Vnode> Handler<Posted<Look>> for AntiEntropy<V> {
    type Result = ();

    fn handle(&mut self, _: Posted<Look>, ctx: &mut Self::Context) {
        self.look(ctx);
    }
}

fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// When trees that are built now are to be built anew: spread over the second half of the time, so that not all of them
/// are old at once.
fn old_at_ms(now_ms: u64, rebuild_ms: u64, partition: Partition) -> u64 {
    let spread = u64::from(partition.0.wrapping_mul(40_503) % 1024);
    now_ms.saturating_add(rebuild_ms / 2 + rebuild_ms / 2 / 1024 * spread)
}

/// How full the fullest queue of the node is that requests and repairs share, in hundredths.
fn pressure<V: Vnode>(service: &ServiceCore<V>) -> u8 {
    let node = &service.node;
    let (limits, (writes, bytes)) = (node.storage.limits(), node.storage.waiting());
    let (_, requests) = service.routes.census();
    let parts =
        [(writes, limits.writes_max), (bytes, limits.bytes_max), (requests, node.limits.vnode_in_flight_max)];
    let hundredths = parts.map(|(used, max)| used.saturating_mul(100) / max.max(1));
    u8::try_from(hundredths.into_iter().max().unwrap_or(0).min(100)).unwrap_or(100)
}

/// Builds the trees of a vnode; one that does not run is started only, and says afterwards whether it has trees. Says
/// whether trees were built.
async fn build<V: Vnode>(
    service: Arc<ServiceCore<V>>,
    partition: Partition,
    runs: bool,
) -> Result<bool, String> {
    if !runs {
        return match OfService(service).run(partition).await {
            true => Ok(false),
            false => Err("the vnode does not start".to_owned()),
        };
    }
    let (done, begun) = oneshot::channel();
    let told = |task| {
        service.routes.find(partition, |postbox| match postbox {
            Some(postbox) => postbox.post_control(task),
            None => drop(task),
        });
    };
    told(TreeTask::Build(done));
    let (building, snapshot, groups) = begun.await.map_err(|_| "the vnode has ended".to_owned())?;
    let mut summing = Summing::new(snapshot, KeyRange::all(), groups);
    loop {
        let step = move || {
            let stepped = catch_unwind(AssertUnwindSafe(|| summing.step::<V>(SCAN_STEP_ITEMS_MAX)));
            let stepped = match stepped {
                Ok(Ok(more)) => Ok(more),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("the module {} panicked while it was read", V::SERVICE)),
            };
            (summing, stepped)
        };
        let stepped = service.node.spawner.on_pool_in_turn(step).await;
        let (after, more) = stepped.map_err(|_| "the worker pool is full".to_owned())?;
        summing = after;
        if service.node.is_stopping() {
            return Err("the node stops".to_owned());
        }
        if !more? {
            break;
        }
    }
    told(TreeTask::Built(building, Some(summing.finish())));
    Ok(true)
}

/// Runs one exchange to its end.
async fn exchange<V: Vnode>(service: Arc<ServiceCore<V>>, start: Start) -> Ending {
    let Start { pair, partner, before } = start;
    let node = service.node.clone();
    let now_ms = || milliseconds(node.clock.moment());
    let begun_ms = now_ms();
    let prints = Fingerprints::new(node.ring.load().state().cluster(), V::SERVICE);
    let mut exchange = Exchange::new(pair.group, prints, node.repair.settings().items_per_second, before);
    // There are never more questions open than there are sides, each asked a few times.
    let (sender, mut answers) = mpsc::channel(16);
    let mut event = Event::Tick;
    loop {
        let mut wake_at_ms = None;
        // It may be changed on the way.
        exchange.pace(node.repair.settings().items_per_second);
        for effect in exchange.handle(now_ms(), event) {
            match effect {
                Effect::End(ending) => return ending,
                Effect::WakeAt(at_ms) => wake_at_ms = Some(at_ms),
                Effect::Ask { side, number, question } => {
                    let (service, sender) = (service.clone(), sender.clone());
                    let group = pair.group;
                    let (partition, at) = match side {
                        Side::Mine => (pair.mine, service.node.id),
                        Side::Theirs => (pair.theirs, partner),
                    };
                    actix_rt::spawn(async move {
                        let event = match ask(service, at, partition, group, question).await {
                            Ok(answer) => Event::Answered { number, answer },
                            Err(why) => Event::Failed { number, why },
                        };
                        let _ = sender.send(event).await;
                    });
                }
            }
        }
        if now_ms().saturating_sub(begun_ms) > milliseconds(EXCHANGE_WITHIN) {
            let why = format!("it has not ended within {} s", EXCHANGE_WITHIN.as_secs());
            return Ending::GaveUp { side: Side::Mine, why, repaired: exchange.repaired() };
        }
        let wait_ms = wake_at_ms.unwrap_or(begun_ms).saturating_sub(now_ms()).max(1);
        let waited = tokio::time::timeout(Duration::from_millis(wait_ms), answers.recv()).await;
        event = waited.ok().flatten().unwrap_or(Event::Tick);
    }
}

/// Asks a vnode, here or on another node.
async fn ask<V: Vnode>(
    service: Arc<ServiceCore<V>>,
    at: NodeId,
    partition: Partition,
    group: Partition,
    question: Question,
) -> Result<Answer, String> {
    if at == service.node.id {
        return answering::answer(service, partition, group, question).await;
    }
    let node: &NodeCore = &service.node;
    let name = node.name_of(at);
    let network = node.network().ok_or("this node has no network any more")?;
    let asked = TreesAsked {
        service: V::SERVICE.to_owned(),
        layout: answering::layout::<V>(),
        partition,
        group,
        question,
    };
    let encode = |out: &mut Vec<u8>| codec::encode_into(&asked, out);
    let called =
        network.call(at, Channel::Request, families::TREES, families::VERSION, ANSWER_WITHIN, encode);
    let incoming = called.await.map_err(|error| format!("node {name}: {error}"))?;
    codec::decode::<Result<Answer, String>>(&incoming.body)
        .map_err(|error| format!("the answer of node {name} cannot be read: {error}"))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_counts_those_that_are_asked_for_and_says_when_to_count_anew() {
        let table = TreeTable::new(6);
        let some = BTreeSet::from([0, 1, 2, 3, 9].map(Partition));
        let before = table.changes();
        assert_eq!(table.count(&some), [5, 0, 0, 0], "nothing runs");
        for (partition, standing) in
            [(0, Standing::Ready), (1, Standing::Ready), (2, Standing::InDoubt), (5, Standing::Building)]
        {
            table.set(Partition(partition), Some(standing));
        }
        assert_ne!(table.changes(), before);
        assert_eq!(table.count(&some), [2, 1, 0, 2]);
        let before = table.changes();
        table.set(Partition(1), None);
        assert_ne!(table.changes(), before);
        assert_eq!(table.count(&some), [3, 1, 0, 1]);
        assert_eq!(table.standing(Partition(0)), Some(Standing::Ready));
    }
}
