//! The two ends alone: offers that are refused, messages that cannot be, deadlines, rates.

use crate::ids::{Boot, ClusterId, Generation, NodeId, Partition};
use crate::limits::{BATCH_BYTES_MAX, BATCH_ITEMS_MAX, WINDOW_BATCHES_MAX, WINDOW_BYTES_MAX};
use crate::membership::{ClusterState, Member, Possession, Status, Target, TargetKey};
use crate::ring::RingSize;
use crate::transfer::message::*;
use crate::transfer::progress::Amount;
use crate::transfer::receiving::{
    Inbound, Judgement, Outgoing, Receiving, ReceivingEffect, ReceivingEvent, ReceivingOutcome, Situation,
    judge,
};
use crate::transfer::sending::{Flip, Outcome, Sending, SendingEffect, SendingEvent, SendingPlan};
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const P: Partition = Partition(3);

fn id(n: u8) -> NodeId {
    NodeId([n; 16])
}

fn generation(n: u32) -> GenerationId {
    GenerationId { number: Generation(n), mark: 100 + u64::from(n) }
}

fn session(number: u64) -> SessionId {
    SessionId { node: id(1), boot: Boot(1), number }
}

/// Node 1 holds everything; partition 3 is to go to node 2.
fn state() -> ClusterState {
    let member = |n: u8| Member::new(&format!("n{n}"), "127.0.0.1:1", None, Status::Valid, id(n)).unwrap();
    let size = RingSize::try_from(8).unwrap();
    let mut state = ClusterState::born(ClusterId([7; 16]), size, id(1), member(1));
    state.merge_member(id(2), &member(2));
    state.merge_member(id(3), &member(3));
    let mut owners = [id(1); 8].to_vec();
    owners[3] = id(2);
    state.target = Target::new(1, id(1), owners);
    state
}

fn offer(kind: Kind) -> Offer {
    Offer {
        kind,
        partition: P,
        possession: Possession::first(id(1)),
        target: state().target().key(),
        generation: generation(5),
        services: vec!["chat".into()],
        begun: (kind == Kind::Ownership).then(|| session(1)),
        estimate: Amount::default(),
        bequeathed: None,
    }
}

struct At {
    state: ClusterState,
    me: NodeId,
    from: NodeId,
    outgoing: Outgoing,
    has_hints: bool,
    running: u32,
    paused: bool,
    stopping: bool,
    record: Option<Inbound>,
    inbound: Option<(Possession, GenerationId)>,
}

impl At {
    fn new(me: u8, from: u8) -> Self {
        Self {
            state: state(),
            me: id(me),
            from: id(from),
            outgoing: Outgoing::None,
            has_hints: false,
            running: 0,
            paused: false,
            stopping: false,
            record: None,
            inbound: None,
        }
    }

    fn judge(&self, offer: &Offer) -> Judgement {
        let services: BTreeSet<String> = ["chat".to_owned()].into();
        judge(
            offer,
            &Situation {
                me: self.me,
                from: self.from,
                state: &self.state,
                services: &services,
                stopping: self.stopping,
                paused: self.paused,
                running: self.running,
                limit: 4,
                outgoing: self.outgoing,
                has_hints: self.has_hints,
                record: self.record.as_ref(),
                live: (self.state.holder(P) == Some(self.me)).then(|| generation(8)),
                inbound: self.inbound,
                fresh: generation(9),
            },
        )
    }

    fn refusal(&self, offer: &Offer) -> Option<Refusal> {
        match self.judge(offer) {
            Judgement::Refuse(refusal) => Some(refusal),
            Judgement::Accept { .. } => None,
        }
    }

    fn resume(&self, offer: &Offer) -> Position {
        match self.judge(offer) {
            Judgement::Accept { record, .. } => record.position,
            Judgement::Refuse(refusal) => panic!("{refusal}"),
        }
    }
}

#[test]
fn an_offer_that_is_not_for_this_node_is_refused_with_what_is_known_better() {
    let own = offer(Kind::Ownership);
    assert_eq!(At::new(2, 1).refusal(&own), None);
    assert!(matches!(At::new(3, 1).refusal(&own), Some(Refusal::NotHeir(_))), "another's");
    assert!(matches!(At::new(2, 3).refusal(&own), Some(Refusal::NotHolder(_))), "from one who holds nothing");
    assert!(matches!(At::new(1, 1).refusal(&own), Some(Refusal::Impossible(_))), "from itself");
    let unknown = Offer { partition: Partition(8), ..own.clone() };
    assert!(matches!(At::new(2, 1).refusal(&unknown), Some(Refusal::Impossible(_))));
    let nameless = Offer { begun: None, ..own.clone() };
    assert!(matches!(At::new(2, 1).refusal(&nameless), Some(Refusal::Impossible(_))));
    let foreign = Offer { services: vec!["kv".into()], ..own.clone() };
    assert_eq!(At::new(2, 1).refusal(&foreign), Some(Refusal::NoService("kv".into())));

    let later = Offer { possession: Possession::first(id(1)).passed_to(id(1)), ..own.clone() };
    assert_eq!(At::new(2, 1).refusal(&later), Some(Refusal::Behind), "the receiver has to learn");
    let epoch = |epoch| Offer { target: TargetKey { epoch, ..own.target }, ..own.clone() };
    assert_eq!(At::new(2, 1).refusal(&epoch(2)), Some(Refusal::Behind));
    assert!(matches!(At::new(2, 1).refusal(&epoch(0)), Some(Refusal::NotHeir(_))), "of an older target");

    let hint = offer(Kind::Hinted);
    assert_eq!(At::new(1, 3).refusal(&hint), None);
    assert!(matches!(At::new(2, 3).refusal(&hint), Some(Refusal::NotHolder(_))), "an heir is no holder");
}

#[test]
fn limits_pauses_and_crossed_offers_refuse() {
    let (own, hint) = (offer(Kind::Ownership), offer(Kind::Hinted));
    assert_eq!(At { running: 4, ..At::new(2, 1) }.refusal(&own), Some(Refusal::Busy { limit: 4 }));
    assert_eq!(At { paused: true, ..At::new(2, 1) }.refusal(&own), Some(Refusal::Paused));
    assert_eq!(At { stopping: true, ..At::new(2, 1) }.refusal(&own), Some(Refusal::Stopping));
    assert_eq!(At { has_hints: true, ..At::new(2, 1) }.refusal(&own), Some(Refusal::Crossed));
    let revocable = At { outgoing: Outgoing::Revocable, ..At::new(1, 2) };
    assert!(matches!(revocable.judge(&hint), Judgement::Accept { ends_outgoing: true, .. }));
    let bound = At { outgoing: Outgoing::Bound, ..At::new(1, 2) };
    assert_eq!(bound.refusal(&hint), Some(Refusal::Crossed), "possession is passing to the one who offers");
}

#[test]
fn a_transfer_is_resumed_only_where_both_generations_and_its_beginning_are_the_same() {
    let own = offer(Kind::Ownership);
    let after = Position::After(Place { stream: 0, key: vec![7] });
    let record = Inbound {
        sender: id(1),
        kind: Kind::Ownership,
        source: generation(5),
        services: vec!["chat".into()],
        begun: Some(session(1)),
        possession: own.possession,
        generation: generation(4),
        position: after.clone(),
        inherited: false,
    };
    let at =
        At { record: Some(record.clone()), inbound: Some((own.possession, generation(4))), ..At::new(2, 1) };
    assert_eq!(at.resume(&own), after);
    let wiped = GenerationId { mark: 1, ..generation(5) };
    for other in [
        Offer { generation: wiped, ..own.clone() },
        Offer { begun: Some(session(2)), ..own.clone() },
        Offer { services: vec![], ..own.clone() },
    ] {
        assert_eq!(at.resume(&other), Position::Start, "{other:?}");
    }
    let gone = At { inbound: None, record: Some(record.clone()), ..At::new(2, 1) };
    assert_eq!(gone.resume(&own), Position::Start, "the generation that it speaks of is no more");

    // Possession has passed, the word of it was lost: nothing need be sent again.
    let mut at = At { record: Some(Inbound { inherited: true, ..record }), ..At::new(2, 1) };
    at.state.adopt(P, own.possession.passed_to(id(2)));
    let told = Offer { bequeathed: Some(generation(4)), ..offer(Kind::Hinted) };
    assert_eq!(at.resume(&told), Position::End);
    assert_eq!(at.resume(&Offer { bequeathed: Some(generation(6)), ..told.clone() }), Position::Start);
    assert_eq!(at.resume(&Offer { generation: generation(6), ..told }), Position::Start);
}

/// What is kept of a transfer that is about to begin.
fn record(kind: Kind) -> Inbound {
    let offer = offer(kind);
    Inbound {
        sender: id(1),
        kind,
        source: offer.generation,
        services: offer.services,
        begun: offer.begun,
        possession: offer.possession,
        generation: generation(4),
        position: Position::Start,
        inherited: false,
    }
}

fn receiving(kind: Kind) -> Receiving {
    Receiving::begin(session(1), record(kind), 2, Amount::default(), 0).0
}

fn batch(sequence: u64) -> SenderSays {
    SenderSays::Batch(Batch::of(sequence, 0, &[Bytes::from_static(b"x")], Some(Position::End)))
}

fn fails(effects: &[ReceivingEffect]) -> bool {
    matches!(
        effects,
        [
            ReceivingEffect::Send(ReceiverSays::Cancel(CancelReason::Failed(_))),
            ReceivingEffect::Close(ReceivingOutcome::Cancelled(_)),
        ]
    )
}

#[test]
fn what_an_earlier_session_has_brought_is_synced_before_it_is_said_to_be_here() {
    let resumed = Inbound { position: Position::End, ..record(Kind::Hinted) };
    let (mut one, effects) = Receiving::begin(session(2), resumed.clone(), 2, Amount::default(), 0);
    let nothing = Batch::of(0, 0, &[], None);
    assert_eq!(
        effects,
        [ReceivingEffect::Keep(resumed), ReceivingEffect::Store { batch: nothing, record: None }],
        "not accepted yet: there may be nothing left to be sent, and a confirmation next"
    );
    let effects = one.on(1, ReceivingEvent::Stored { sequence: 0, unreadable: 0 });
    let accept = ReceiverSays::Accept { generation: generation(4), resume: Position::End, window: 2 };
    assert_eq!(effects, [ReceivingEffect::Send(accept)]);
    let effects = one.on(2, ReceivingEvent::Said(SenderSays::Done { batches: 0 }));
    let confirmed = ReceiverSays::Confirmed { generation: generation(4) };
    assert_eq!(effects[..1], [ReceivingEffect::Send(confirmed)]);
}

#[test]
fn a_receiver_acknowledges_only_what_is_stored_and_refuses_what_is_out_of_place() {
    let said = |receiving: &mut Receiving, says| receiving.on(1, ReceivingEvent::Said(says));
    let mut one = receiving(Kind::Hinted);
    assert!(matches!(said(&mut one, batch(1))[..], [ReceivingEffect::Store { .. }]));
    assert_eq!(said(&mut one, SenderSays::Done { batches: 1 }), [], "not before it is stored");
    let effects = one.on(2, ReceivingEvent::Stored { sequence: 1, unreadable: 3 });
    let confirmed = ReceiverSays::Confirmed { generation: generation(4) };
    assert_eq!(
        effects,
        [
            ReceivingEffect::Send(ReceiverSays::Ack { sequence: 1, unreadable: 3 }),
            ReceivingEffect::Send(confirmed),
            ReceivingEffect::Close(ReceivingOutcome::Completed),
        ]
    );
    for wrong in [batch(2), SenderSays::Done { batches: 1 }, SenderSays::Offer(offer(Kind::Hinted))] {
        assert!(fails(&said(&mut receiving(Kind::Hinted), wrong)));
    }
    assert!(fails(&said(&mut receiving(Kind::Ownership), SenderSays::Done { batches: 0 })), "no flip");
    let mut full = receiving(Kind::Hinted);
    said(&mut full, batch(1));
    said(&mut full, batch(2));
    assert!(fails(&said(&mut full, batch(3))), "beyond the window");
    let foreign = SenderSays::Batch(Batch::of(1, 1, &[Bytes::from_static(b"x")], None));
    assert!(fails(&said(&mut receiving(Kind::Hinted), foreign)), "a service that was not offered");
    let mut silent = receiving(Kind::Hinted);
    let at = silent.wake_at_ms().unwrap();
    assert_eq!(silent.on(at - 1, ReceivingEvent::Tick), []);
    assert_eq!(silent.on(at, ReceivingEvent::Tick).len(), 2);
}

fn plan(kind: Kind) -> SendingPlan {
    SendingPlan {
        session: session(1),
        to: id(2),
        kind,
        partition: P,
        possession: Possession::first(id(1)),
        target: state().target().key(),
        generation: generation(5),
        sealed: true,
        services: vec!["chat".into()],
        estimate: Amount::default(),
        outbound: None,
        bequeathed: None,
        bytes_per_second: None,
    }
}

fn accept() -> SendingEvent {
    let generation = generation(4);
    SendingEvent::Said(ReceiverSays::Accept { generation, resume: Position::Start, window: 2 })
}

fn scanned(position: Position) -> SendingEvent {
    SendingEvent::Scanned { stream: 0, items: vec![Bytes::from(vec![0; 1000])], position, unreadable: 0 }
}

fn ack(sequence: u64) -> SendingEvent {
    SendingEvent::Said(ReceiverSays::Ack { sequence, unreadable: 0 })
}

fn place(n: u8) -> Position {
    Position::After(Place { stream: 0, key: vec![n] })
}

/// An ownership transfer that holds requests back, with nothing left but one dirty key, at time 0.
fn frozen() -> Sending {
    let (mut sending, _) = Sending::begin(plan(Kind::Ownership), 0);
    assert!(matches!(sending.on(0, accept())[..], [SendingEffect::Mark { anew: true, .. }]));
    sending.on(0, SendingEvent::Marking { waiting: BTreeMap::new() });
    sending.on(0, scanned(Position::End));
    sending.on(0, ack(1));
    let effects = sending.on(0, SendingEvent::Frozen { waiting: [(0, 1)].into() });
    assert!(matches!(effects[..], [SendingEffect::Fetch { stream: 0, .. }]), "{effects:?}");
    sending
}

fn fetched() -> SendingEvent {
    let items = vec![Bytes::from_static(b"x")];
    SendingEvent::Fetched { stream: 0, items, keys: vec![(vec![1], 1)], waiting: 0 }
}

#[test]
fn possession_passes_only_when_nothing_is_unsent_dirty_or_unacknowledged() {
    let mut sending = frozen();
    assert!(matches!(sending.on(1, fetched())[..], [SendingEffect::Send(SenderSays::Batch(_))]));
    let effects = sending.on(2, ack(2));
    assert!(
        matches!(effects[..], [SendingEffect::Clean { .. }, SendingEffect::Flip(_)]),
        "the mark is gone, then possession: {effects:?}"
    );
    assert!(!sending.is_revocable());
    assert_eq!(sending.on(3, SendingEvent::CutOff), [], "that comes to its end first");
    let flip = Flip { possession: Possession::first(id(1)).passed_to(id(2)), complete: true };
    let effects = sending.on(4, SendingEvent::Flipped(Some(flip)));
    assert_eq!(
        effects,
        [SendingEffect::Thaw, SendingEffect::Close(Outcome::Untold)],
        "and nothing is dropped"
    );
}

#[test]
fn the_source_drops_only_by_the_heirs_word_that_it_has_this_generation() {
    for (says, drops) in [
        (ReceiverSays::Taken { generation: generation(4) }, true),
        (ReceiverSays::Taken { generation: generation(6) }, false),
        (ReceiverSays::Gone, false),
        (ReceiverSays::Cancel(CancelReason::Stopping), false),
        (ReceiverSays::Confirmed { generation: generation(4) }, false),
    ] {
        let mut sending = frozen();
        sending.on(1, fetched());
        sending.on(2, ack(2));
        let flip = Flip { possession: Possession::first(id(1)).passed_to(id(2)), complete: true };
        let effects = sending.on(3, SendingEvent::Flipped(Some(flip)));
        assert!(matches!(effects[..], [SendingEffect::Thaw, SendingEffect::Send(SenderSays::Flip { .. })]));
        let effects = sending.on(4, SendingEvent::Said(says.clone()));
        assert_eq!(effects.contains(&SendingEffect::Drop(generation(5))), drops, "{says:?}");
        assert!(drops || sending.is_ended(), "{says:?}");
    }
}

#[test]
fn requests_are_not_held_back_for_longer_than_a_second_and_it_is_tried_again_later() {
    let mut sending = frozen();
    sending.on(1, fetched());
    let at = sending.wake_at_ms().unwrap();
    assert!(at <= 1000, "{at}");
    assert_eq!(sending.on(at, SendingEvent::Tick), [SendingEffect::Thaw]);
    assert_eq!(sending.on(at + 1, ack(2))[1..], [], "not at once");
    let again = sending.wake_at_ms().unwrap();
    assert!(again > at + 1 && again <= at + 1000, "{again}");
    assert_eq!(sending.on(again, SendingEvent::Tick), [SendingEffect::Freeze]);
    assert_eq!(sending.on(again, SendingEvent::CutOff)[0], SendingEffect::Thaw, "whatever happens");
}

#[test]
fn every_wait_for_the_receiver_has_an_end() {
    let (mut sending, _) = Sending::begin(plan(Kind::Hinted), 0);
    let timeout = SendingEffect::Close(Outcome::Cancelled(CancelReason::Timeout));
    let at = sending.wake_at_ms().unwrap();
    assert!(!sending.clone().on(at - 1, SendingEvent::Tick).contains(&timeout));
    assert!(sending.clone().on(at, SendingEvent::Tick).contains(&timeout), "no answer");
    sending.on(0, accept());
    sending.on(0, scanned(place(1)));
    sending.on(0, scanned(Position::End));
    let at = sending.wake_at_ms().unwrap();
    assert!(sending.clone().on(at, SendingEvent::Tick).contains(&timeout), "no acknowledgement");
    sending.on(5, ack(2));
    let at = sending.wake_at_ms().unwrap();
    assert!(sending.on(at, SendingEvent::Tick).contains(&timeout), "no confirmation");
}

#[test]
fn the_window_and_the_rate_bound_what_is_read() {
    let slow = SendingPlan { bytes_per_second: Some(10_000), ..plan(Kind::Hinted) };
    let (mut sending, _) = Sending::begin(slow, 0);
    assert!(matches!(sending.on(0, accept())[..], [SendingEffect::Scan { .. }]));
    assert_eq!(sending.on(0, scanned(place(1))).len(), 1, "a thousand bytes: a tenth of a second");
    assert_eq!(sending.wake_at_ms(), Some(100));
    assert!(matches!(sending.on(100, SendingEvent::Tick)[..], [SendingEffect::Scan { .. }]));
    assert_eq!(sending.on(100, scanned(place(2))).len(), 1);
    assert_eq!(sending.on(300, SendingEvent::Tick), [], "two are on their way, the window is two");
    assert!(matches!(sending.on(300, ack(1))[..], [SendingEffect::Scan { .. }]));
    let effects = sending.on(300, ack(9));
    assert!(matches!(
        effects.last(),
        Some(SendingEffect::Close(Outcome::Cancelled(CancelReason::Failed(_))))
    ));
}

#[test]
fn a_large_item_is_alone_on_its_way_and_while_it_moves_nobody_gives_up() {
    let (mut sending, _) = Sending::begin(plan(Kind::Hinted), 0);
    sending.on(0, accept());
    let large = vec![Bytes::from(vec![0; WINDOW_BYTES_MAX])];
    let scanned = |n, items| SendingEvent::Scanned { stream: 0, items, position: place(n), unreadable: 0 };
    let effects = sending.on(0, scanned(1, large));
    assert!(matches!(effects[..], [SendingEffect::Send(_)]), "nothing more is read meanwhile: {effects:?}");
    let silence = sending.wake_at_ms().unwrap();
    assert_eq!(sending.on(silence - 1, SendingEvent::Moving), []);
    assert_eq!(sending.on(silence, SendingEvent::Tick), [], "a part has moved");
    assert!(matches!(sending.on(silence, ack(1))[..], [SendingEffect::Scan { .. }]));
    sending.on(silence, scanned(2, vec![Bytes::from_static(b"x")]));
    let silence = sending.wake_at_ms().unwrap();
    sending.on(silence, SendingEvent::Tick);
    assert!(sending.is_ended(), "nothing moves");

    let mut receiver = receiving(Kind::Hinted);
    let at = receiver.wake_at_ms().unwrap();
    assert_eq!(receiver.on(at - 1, ReceivingEvent::Moving), []);
    assert_eq!(receiver.on(at, ReceivingEvent::Tick), []);
    assert_eq!(receiver.on(receiver.wake_at_ms().unwrap(), ReceivingEvent::Tick).len(), 2);
}

#[test]
fn an_offer_of_what_was_sent_forgets_the_marks_and_another_offer_keeps_them() {
    for (offered, forgets) in [(generation(4), true), (generation(7), false)] {
        let mut sending = frozen();
        let effects = sending.on(1, SendingEvent::OfferFromReceiver(offered));
        assert_eq!(effects.contains(&SendingEffect::Forget), forgets);
        assert!(effects.contains(&SendingEffect::Thaw) && sending.is_ended());
    }
}

#[test]
fn messages_survive_their_bytes_and_what_is_too_much_is_refused() {
    let mut bytes = Vec::new();
    let items = [Bytes::from_static(b"one"), Bytes::new(), Bytes::from_static(b"three")];
    let batch = Batch::of(7, 0, &items, Some(place(1)));
    assert_eq!(batch.each().collect::<Vec<_>>(), items);
    for says in [
        SenderSays::Offer(offer(Kind::Ownership)),
        SenderSays::Batch(batch.clone()),
        SenderSays::Done { batches: 3 },
        SenderSays::Cancel(CancelReason::failed("x".repeat(5000))),
    ] {
        let message = ForReceiver { session: session(4), says };
        bytes.clear();
        message.encode_into(&mut bytes).unwrap();
        assert_eq!(ForReceiver::decode(&Bytes::copy_from_slice(&bytes)).unwrap(), message);
    }
    let refused = |batch: Batch| {
        let mut bytes = Vec::new();
        ForReceiver { session: session(4), says: SenderSays::Batch(batch) }.encode_into(&mut bytes).unwrap();
        ForReceiver::decode(&bytes.into()).unwrap_err()
    };
    let many = vec![Bytes::new(); BATCH_ITEMS_MAX + 1];
    assert!(matches!(refused(Batch::of(1, 0, &many, None)), MessageError::TooMuch { .. }));
    let large = vec![Bytes::from(vec![0; BATCH_BYTES_MAX / 2 + 1]); 2];
    assert!(matches!(refused(Batch::of(1, 0, &large, None)), MessageError::TooMuch { .. }));
    let one = Bytes::from(vec![0; BATCH_BYTES_MAX + 1]);
    assert_eq!(Batch::of(1, 0, &[one], None).check(), Ok(()), "a single item may be larger");
    assert!(matches!(refused(Batch { lengths: vec![99], ..batch }), MessageError::Unsound(_)));
    for window in [0, WINDOW_BATCHES_MAX + 1] {
        let says = ReceiverSays::Accept { generation: generation(1), resume: Position::Start, window };
        let mut bytes = Vec::new();
        ForSender { session: session(1), says }.encode_into(&mut bytes).unwrap();
        assert!(ForSender::decode(&bytes).is_err());
    }
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_read_but_never_panic(bytes: Vec<u8>) {
        let _ = ForSender::decode(&bytes);
        if let Ok(ForReceiver { says: SenderSays::Batch(batch), .. }) = ForReceiver::decode(&bytes.into()) {
            prop_assert_eq!(batch.each().count(), batch.lengths.len());
        }
    }
}
