//! Faults that are planted on purpose, to see whether the tests find them. Only with the feature `mutants`, which
//! nothing but the simulator's own proof turns on; without it [`planted`] is a constant `false`, and the compiler takes
//! the faults out. It decides nothing; each fault stands where the rule stands that it breaks.

/// A planted fault, by what is left out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Mutant {
    /// Joins of chat items keep the later of two instead of what both know.
    LastWriteWins,
    /// The store is told to sync and does not.
    SkipSync,
    /// A write is done with one confirmation less than w.
    AcknowledgeOneLess,
    /// A write is acknowledged before its commit.
    AcknowledgeBeforeCommit,
    /// After a restart a node does not look for what it holds for others.
    ForgetStrays,
    /// A partition whose store may have lost something goes on counting as the same actor.
    ReuseActor,
    /// Of two possessions of one fence the older may win.
    IgnoreHop,
    /// What a replica that does not know everything has not, counts as not there.
    TrustIncomplete,
    /// Who was taken for down, or took others for down in a former life, is not put in doubt.
    NoDoubt,
    /// Reads leave the replicas as they find them.
    NoReadRepair,
    /// A deadline that has passed is told as a refusal.
    DeadlineIsRefusal,
    /// A retry under a key makes a message of its own.
    ForgetKeys,
    /// A delete mark is confirmed and not kept.
    ForgetMarks,
    /// A vnode that ended is not started again.
    LeavePanickedVnode,
    /// With too few complete replicas, nobody else is asked.
    NeverAskStrays,
    /// Stand-ins are taken from the replicas' own nodes.
    StandInTwice,
    /// A state that is older than one's own is taken for the newer.
    TakeOlderState,
    /// A generation is dropped before the receiver has confirmed it.
    DropBeforeConfirmed,
    /// An offer from the heir does not end the transfer to it.
    IgnoreHeirsOffer,
    /// A transfer is resumed without what has changed since it was sent.
    ForgetDirty,
    /// A node that has lost its store counts as complete.
    CompleteAfterWipe,
    /// What was removed from the metadata counts as never seen.
    ForgetRemoved,
    /// Turns do not say what they change.
    TellNothing,
    /// Replicas are not compared.
    NeverCompare,
    /// A first look at many pairs of replicas finds all of them equal.
    SurveyEqual,
    /// An incomplete vnode gives pages of a list.
    ListIncomplete,
    /// Lives of writers are folded before all members have what they wrote.
    FoldEarly,
    /// Of two states of an object the one that was written later stays, and not what both have.
    LatestObjectWins,
    /// Who has a partition no longer hands a command on to who has it, beside saying that it has moved.
    ForwardCommand,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 29] = [
        Self::LastWriteWins,
        Self::SkipSync,
        Self::AcknowledgeOneLess,
        Self::AcknowledgeBeforeCommit,
        Self::ForgetStrays,
        Self::ReuseActor,
        Self::IgnoreHop,
        Self::TrustIncomplete,
        Self::NoDoubt,
        Self::NoReadRepair,
        Self::DeadlineIsRefusal,
        Self::ForgetKeys,
        Self::ForgetMarks,
        Self::LeavePanickedVnode,
        Self::NeverAskStrays,
        Self::StandInTwice,
        Self::TakeOlderState,
        Self::DropBeforeConfirmed,
        Self::IgnoreHeirsOffer,
        Self::ForgetDirty,
        Self::CompleteAfterWipe,
        Self::ForgetRemoved,
        Self::TellNothing,
        Self::NeverCompare,
        Self::SurveyEqual,
        Self::ListIncomplete,
        Self::FoldEarly,
        Self::LatestObjectWins,
        Self::ForwardCommand,
    ];
}

impl Mutant {
    /// The service that alone can show it; none where any can.
    pub fn service(self) -> Option<&'static str> {
        match self {
            Self::LatestObjectWins | Self::ForwardCommand => Some("kv"),
            _ => None,
        }
    }
}

#[cfg(any(test, feature = "mutants"))]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Plants a fault, or none, for everything that runs on this thread.
#[cfg(any(test, feature = "mutants"))]
pub fn plant(mutant: Option<Mutant>) {
    PLANTED.set(mutant);
}

/// Whether that fault is planted here.
#[inline(always)]
pub fn planted(mutant: Mutant) -> bool {
    #[cfg(any(test, feature = "mutants"))]
    return PLANTED.get() == Some(mutant);
    #[cfg(not(any(test, feature = "mutants")))]
    {
        let _ = mutant;
        false
    }
}
