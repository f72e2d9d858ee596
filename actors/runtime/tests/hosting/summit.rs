//! A module of the tests' own: it keeps the largest number it has seen under each name, which is about the smallest
//! thing that merges. Some of its commands panic on purpose.

use ringwork_core::coverage::question::NoQuestion;
use ringwork_core::ids::{ActorId, Dot, Partition};
use ringwork_core::keyspace::{Keyspace, Snapshot};
use ringwork_core::store::{Direction, Flow, KeyRange, StoreError};
use ringwork_core::vnode::{After, Item, Merged, Outcome, Resolution, Turn, Vnode};
use ringwork_core::wire::Wire;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::time::Duration;

/// The release before this one; its items travel in other bytes.
pub(crate) const BEFORE: u16 = 1;
/// This one.
pub(crate) const NOW: u16 = 2;

#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Highest<const RELEASE: u16 = NOW> {
    pub(crate) name: String,
    pub(crate) number: u64,
}

impl<const RELEASE: u16> Highest<RELEASE> {
    /// What the release before has put before it.
    fn front() -> Option<u8> {
        (RELEASE == BEFORE).then_some(0)
    }
}

impl<const RELEASE: u16> Serialize for Highest<RELEASE> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match Self::front() {
            Some(front) => (front, &self.name, self.number).serialize(serializer),
            None => (&self.name, self.number).serialize(serializer),
        }
    }
}

impl<'de, const RELEASE: u16> Deserialize<'de> for Highest<RELEASE> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (name, number) = match Self::front() {
            Some(_) => {
                <(u8, String, u64)>::deserialize(deserializer).map(|(_, name, number)| (name, number))?
            }
            None => <(String, u64)>::deserialize(deserializer)?,
        };
        Ok(Self { name, number })
    }
}

impl<const RELEASE: u16> Wire for Highest<RELEASE> {
    const VERSION: u16 = RELEASE;
}

impl<const RELEASE: u16> Item for Highest<RELEASE> {
    fn routing_key(&self) -> &[u8] {
        self.name.as_bytes()
    }
    fn key(&self) -> Vec<u8> {
        self.name.clone().into_bytes()
    }
    fn join(self, other: Self) -> Self {
        Self { number: self.number.max(other.number), name: self.name }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    Get(String),
    GetOnThePool(String),
    /// Adds one, under a dot that somebody who has seen so many of this actor's has not.
    RaiseUnseen(String, u64, u64),
    /// Adds one, under a dot.
    Raise(String),
    /// Adds one at every tick until the number is reached.
    RaiseTo(String, u64),
    /// Makes the row one that cannot be read.
    Spoil(String),
    Panic,
    PanicAfterWriting(String),
    PanicOnThePool,
}

impl Wire for Ask {
    const VERSION: u16 = 1;
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) enum Told {
    Number(u64),
    Dot(u64, u64),
}

impl Wire for Told {
    const VERSION: u16 = 1;
}

pub(crate) struct Summit<const RELEASE: u16 = NOW> {
    store: Keyspace,
}

fn number(bytes: Option<bytes::Bytes>) -> u64 {
    bytes.and_then(|b| <[u8; 8]>::try_from(b.as_ref()).ok()).map_or(0, u64::from_be_bytes)
}

impl<const RELEASE: u16> Summit<RELEASE> {
    fn raise(&mut self, name: &str) -> Result<Highest<RELEASE>, StoreError> {
        let next = number(self.store.get(name.as_bytes())?) + 1;
        let item = Highest { name: name.to_owned(), number: next };
        self.keep(next - 1, &item);
        Ok(item)
    }

    fn keep(&self, before: u64, item: &Highest<RELEASE>) {
        self.store.put(item.name.clone().into_bytes(), item.number.to_be_bytes().to_vec());
        let was = Highest { name: item.name.clone(), number: before };
        self.store.changed(Some(&was).filter(|was| was.number > 0), Some(item));
    }
}

impl<const RELEASE: u16> Vnode for Summit<RELEASE> {
    const SERVICE: &'static str = "summit";
    type Config = ();
    type Command = Ask;
    type Reply = Told;
    type Item = Highest<RELEASE>;
    type Question = NoQuestion;
    type Error = StoreError;

    fn init(_: Partition, _: &(), store: Keyspace) -> Result<Self, StoreError> {
        Ok(Self { store })
    }

    fn handle_command(
        &mut self,
        command: Ask,
        turn: &mut Turn<'_, Self>,
    ) -> Result<Outcome<Self>, StoreError> {
        match command {
            Ask::Get(name) => Ok(Outcome::Reply(Told::Number(number(self.store.get(name.as_bytes())?)))),
            Ask::GetOnThePool(name) => Ok(Outcome::Offload(Box::new(move |snapshot| {
                Ok(After::Reply(Told::Number(number(snapshot.get(name.as_bytes())?))))
            }))),
            Ask::Raise(name) => {
                let item = self.raise(&name)?;
                let dot = turn.dot();
                assert!(turn.touched(item));
                Ok(Outcome::Reply(Told::Dot(dot.actor.0, dot.counter)))
            }
            Ask::RaiseUnseen(name, actor, counter) => {
                let item = self.raise(&name)?;
                let dot = turn.dot_unseen_by(&[Dot { actor: ActorId(actor), counter }].into_iter().collect());
                assert!(turn.touched(item));
                Ok(Outcome::Reply(Told::Dot(dot.actor.0, dot.counter)))
            }
            Ask::RaiseTo(name, goal) => {
                let item = self.raise(&name)?;
                if item.number < goal {
                    turn.later(Duration::from_millis(1), Ask::RaiseTo(name, goal));
                }
                assert!(turn.touched(item));
                Ok(Outcome::Nothing)
            }
            Ask::Spoil(name) => {
                let number = number(self.store.get(name.as_bytes())?);
                self.store.put(name.clone().into_bytes(), vec![0xff]);
                self.store.changed(Some(&Highest::<RELEASE> { name, number }), None);
                Ok(Outcome::Reply(Told::Number(number)))
            }
            Ask::Panic => panic!("planted"),
            Ask::PanicAfterWriting(name) => {
                self.store.put(name.into_bytes(), u64::MAX.to_be_bytes().to_vec());
                panic!("planted after a write")
            }
            Ask::PanicOnThePool => Ok(Outcome::Offload(Box::new(|_| panic!("planted on the pool")))),
        }
    }

    fn merge(&mut self, item: Highest<RELEASE>) -> Result<Merged, StoreError> {
        let before = number(self.store.get(item.name.as_bytes())?);
        if before >= item.number {
            return Ok(Merged::Unchanged);
        }
        self.keep(before, &item);
        Ok(Merged::Changed)
    }

    fn fold(
        snapshot: &Snapshot,
        range: &KeyRange,
        visit: &mut dyn FnMut(Highest<RELEASE>) -> Flow,
    ) -> Result<(), StoreError> {
        snapshot.scan(range, Direction::Ascending, &mut |key, value| {
            let name = String::from_utf8_lossy(key).into_owned();
            let Ok(number) = value.try_into().map(u64::from_be_bytes) else {
                snapshot.skipped_unreadable();
                return Flow::Continue(());
            };
            visit(Highest { name, number })
        })
    }

    fn is_empty(&self) -> Result<bool, StoreError> {
        let mut empty = true;
        self.store.scan(&KeyRange::all(), Direction::Ascending, &mut |_, _| {
            empty = false;
            Flow::Break(())
        })?;
        Ok(empty)
    }

    fn delete(&mut self) -> Result<(), StoreError> {
        let mut keys = Vec::new();
        self.store.scan(&KeyRange::all(), Direction::Ascending, &mut |key, _| {
            keys.push(key.to_vec());
            Flow::Continue(())
        })?;
        self.store.changed_within(&KeyRange::all());
        keys.into_iter().for_each(|key| self.store.remove(key));
        Ok(())
    }

    fn resolve(command: &Ask, replies: &[Told]) -> Option<Resolution<Self>> {
        let (Ask::Get(name) | Ask::GetOnThePool(name)) = command else { return None };
        let of = |told: &Told| if let Told::Number(number) = told { *number } else { 0 };
        let best = replies.iter().map(of).max()?;
        let lacking = replies.iter().enumerate().filter(|(_, told)| of(told) < best);
        let item = || Highest { name: name.clone(), number: best };
        Some(Resolution {
            reply: Told::Number(best),
            repairs: lacking.map(|(place, _)| (place, item())).collect(),
        })
    }
}
