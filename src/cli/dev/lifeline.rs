//! A pipe that ties a node's life to that of the program that started it: when the other end is closed, by
//! whatever end of that program, even kill -9, the node ends in peace. It decides nothing else.

use std::io;
use std::os::fd::AsFd;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

/// Standard input, as a lifeline.
pub struct Lifeline(Receiver);

impl Lifeline {
    /// Takes standard input, which must be a pipe. Must be called in a runtime.
    pub fn stdin() -> io::Result<Self> {
        let descriptor = io::stdin().as_fd().try_clone_to_owned()?;
        Receiver::from_owned_fd(descriptor).map(Self)
    }

    /// Ends when the other end is closed. What is written into the pipe is thrown away.
    pub async fn cut(&mut self) {
        let mut thrown_away = [0; 64];
        while let Ok(1..) = self.0.read(&mut thrown_away).await {}
    }
}
