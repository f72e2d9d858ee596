//! TEMPORARY stub
use ringwork_core::ids::{NodeId, Partition};
use ringwork_core::transfer::{Amount, Kind, Progress, SessionId};
pub struct HandoffBoard;
#[derive(Clone, Copy)]
pub enum Direction { Out, In }
#[derive(Default)]
pub struct End { pub completed: bool, pub amount: Amount, pub unreadable: u64, pub text: String }
pub struct TransferLine { pub session: SessionId, pub direction: Direction, pub kind: Kind, pub partition: Partition, pub peer: NodeId, pub progress: Progress }
pub struct WaitingLine { pub kind: Kind, pub partition: Partition, pub peer: NodeId, pub why: String }
impl HandoffBoard {
    pub fn limit(&self) -> u32 { 4 }
    pub fn paused(&self) -> bool { false }
    pub fn bytes_per_second(&self) -> Option<u64> { None }
    pub fn on_change(&self, _: Box<dyn Fn() + Send + Sync>) {}
    pub fn show(&self, _: TransferLine) {}
    pub fn ended(&self, _: SessionId, _: Direction, _: End) {}
    pub fn set_waiting(&self, _: Vec<WaitingLine>) {}
}
