//! stub
use super::error::SendError;
use ringwork_core::wire::WireError;

/// Answers one request, once, from any thread. Dropped unanswered, it tells the asker that no answer will come.
pub struct Responder {}

#[allow(unused_variables)]
impl Responder {
    /// Queues the reply. On an error the asker hears nothing and its deadline ends the wait.
    pub fn reply(
        self,
        version: u16,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
    ) -> Result<(), SendError> {
        Err(SendError::NotConnected)
    }
}
