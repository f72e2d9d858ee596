//! A member of the cluster: its name, where it is reached, and how it stands. Each field is a register of its
//! own, so that two changes of different fields never fight. It does not know what a member holds.

use super::register::{Register, RegisterValue};
use crate::ids::NodeId;
use crate::limits::{ADDRESS_BYTES_MAX, LOCATION_BYTES_MAX, NODE_NAME_BYTES_MAX};
use serde::{Deserialize, Serialize};

/// What a member was before it was marked down, and is again when it returns.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Before {
    /// It waited for a commit.
    Joining,
    /// It was a full member.
    Valid,
    /// It was giving away what it had.
    Leaving,
}

/// How a member stands. The order decides between concurrent changes: the later wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Status {
    /// Known, but nothing is given to it before a commit.
    Joining,
    /// A full member.
    Valid,
    /// It gives away what it holds, and gets nothing.
    Leaving,
    /// It holds nothing any more; the claimant removes it.
    Exiting,
    /// An operator has said that it is not waited for; when it returns it is again what it was.
    Down(Before),
    /// Gone for good: no later write brings the node id back.
    Removed,
}

impl RegisterValue for Status {
    fn is_final(&self) -> bool {
        *self == Self::Removed
    }
}

impl Status {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Valid => "valid",
            Self::Leaving => "leaving",
            Self::Exiting => "exiting",
            Self::Down(_) => "down",
            Self::Removed => "removed",
        }
    }

    /// Whether partitions may be given to it.
    pub fn claims(self) -> bool {
        matches!(self, Self::Valid | Self::Down(Before::Valid))
    }

    /// Whether the cluster waits for its word: it may hold data, and no operator has excused it.
    pub fn is_waited_for(self) -> bool {
        matches!(self, Self::Valid | Self::Leaving | Self::Exiting)
    }
}

/// See the module's head.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Member {
    /// For people; unique among members by the rules of joining.
    pub name: Register<String>,
    /// host:port of its cluster port.
    pub address: Register<String>,
    /// Where it stands, so that replicas can be spread over locations.
    pub location: Register<Option<String>>,
    /// How it stands.
    pub status: Register<Status>,
}

/// The text is no name, address or location of a member. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what} {text:?} is not possible: {expected}")]
pub struct MemberTextError {
    what: &'static str,
    text: String,
    expected: String,
}

fn lawful(what: &'static str, text: &str, bytes_max: usize) -> Result<(), MemberTextError> {
    let good = !text.is_empty() && text.len() <= bytes_max && text.chars().all(|c| !c.is_control());
    if good && text.trim() == text {
        return Ok(());
    }
    let expected = format!("take 1 to {bytes_max} bytes without control characters or spaces at the ends");
    Err(MemberTextError { what, text: text.chars().take(80).collect(), expected })
}

/// Whether the text can be a location.
pub fn check_location(text: &str) -> Result<(), MemberTextError> {
    lawful("location", text, LOCATION_BYTES_MAX)
}

impl Member {
    /// A member as `writer` learns of it.
    pub fn new(
        name: &str,
        address: &str,
        location: Option<&str>,
        status: Status,
        writer: NodeId,
    ) -> Result<Self, MemberTextError> {
        let member = Self {
            name: Register::new(name.to_owned(), writer),
            address: Register::new(address.to_owned(), writer),
            location: Register::new(location.map(str::to_owned), writer),
            status: Register::new(status, writer),
        };
        member.check()?;
        Ok(member)
    }

    /// Whether its texts are within their bounds.
    pub fn check(&self) -> Result<(), MemberTextError> {
        lawful("name", self.name.value(), NODE_NAME_BYTES_MAX)?;
        lawful("address", self.address.value(), ADDRESS_BYTES_MAX)?;
        self.location.value().as_deref().map_or(Ok(()), check_location)
    }

    /// Its status.
    pub fn status(&self) -> Status {
        *self.status.value()
    }

    /// Whether it is still one.
    pub fn is_member(&self) -> bool {
        self.status() != Status::Removed
    }

    /// Merges field by field; says whether anything grew.
    pub fn merge(&mut self, other: &Self) -> bool {
        let name = self.name.merge(&other.name);
        let address = self.address.merge(&other.address);
        let location = self.location.merge(&other.location);
        let status = self.status.merge(&other.status);
        name | address | location | status
    }
}
