//! Delivers the results of requests to the node. The machine identifies each request by a token and
//! does not use channels.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::connect::dial::DialError;
use crate::etf::Raw;
use crate::node::machine::Token;
use crate::node::process::ProcessId;
use crate::node::services::rpc::CallError;

/// The least number of waiting replies at which monitors without a receiver are removed.
const SWEPT: usize = 64;

/// Where the result of a request goes.
#[derive(Debug)]
pub(crate) enum Reply {
    /// The new process.
    Spawned(oneshot::Sender<ProcessId>),
    /// The result of a call or of sending a message.
    Result(oneshot::Sender<Result<Raw, CallError>>),
    /// The exit reason of the monitored process. A monitor whose receiver is gone is removed.
    Down(oneshot::Sender<Raw>),
}

/// A result and its receiver. A receiver that is gone receives nothing.
#[derive(Debug)]
pub(super) enum Ready {
    Dialled(oneshot::Sender<Result<(), Arc<DialError>>>, Result<(), Arc<DialError>>),
    Spawned(oneshot::Sender<ProcessId>, ProcessId),
    Result(oneshot::Sender<Result<Raw, CallError>>, Result<Raw, CallError>),
}

impl Ready {
    fn send(self) {
        match self {
            Self::Dialled(to, result) => drop(to.send(result)),
            Self::Spawned(to, process) => drop(to.send(process)),
            Self::Result(to, result) => drop(to.send(result)),
        }
    }
}

/// The replies that requests wait for.
#[derive(Debug)]
pub(super) struct Replies {
    waiting: HashMap<Token, Reply>,
    /// The number of waiting replies at which monitors without a receiver are removed.
    swept_at: usize,
    /// Results that are sent once the view shows the same state.
    ready: Vec<Ready>,
}

impl Default for Replies {
    fn default() -> Self {
        Self { waiting: HashMap::new(), swept_at: SWEPT, ready: Vec::new() }
    }
}

impl Replies {
    /// Remembers where the result of a request goes.
    pub(super) fn wait(&mut self, token: Token, reply: Reply) {
        self.waiting.insert(token, reply);
    }

    /// Removes the monitors whose receivers are gone, each time that the number of replies has
    /// doubled. Returns their tokens.
    pub(super) fn sweep(&mut self) -> Vec<Token> {
        if self.waiting.len() < self.swept_at {
            return Vec::new();
        }
        let is_dropped = |reply: &mut Reply| matches!(reply, Reply::Down(down) if down.is_closed());
        let dropped = self.waiting.extract_if(|_, reply| is_dropped(reply)).map(|(token, _)| token).collect();
        self.swept_at = SWEPT.max(2 * self.waiting.len());
        dropped
    }

    /// Records that a process was spawned.
    pub(super) fn spawned(&mut self, token: Token, process: ProcessId) {
        if let Some(Reply::Spawned(to)) = self.waiting.remove(&token) {
            self.ready.push(Ready::Spawned(to, process));
        }
    }

    /// Records the result of a call.
    pub(super) fn result(&mut self, token: Token, result: Result<Raw, CallError>) {
        if let Some(Reply::Result(to)) = self.waiting.remove(&token) {
            self.ready.push(Ready::Result(to, result));
        }
    }

    /// Sends the exit reason of a monitored process at once.
    pub(super) fn down(&mut self, token: Token, reason: Raw) {
        if let Some(Reply::Down(to)) = self.waiting.remove(&token) {
            let _ = to.send(reason);
        }
    }

    /// Adds results without a token.
    pub(super) fn ready(&mut self, ready: impl IntoIterator<Item = Ready>) {
        self.ready.extend(ready);
    }

    /// Returns whether there are results to send.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Sends the results.
    pub(super) fn send(&mut self) {
        self.ready.drain(..).for_each(Ready::send);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_monitors_without_a_receiver_are_removed() {
        let mut replies = Replies::default();
        let mut kept = Vec::new();
        for token in 0..u64::try_from(SWEPT).unwrap() - 2 {
            let (down, _dropped) = oneshot::channel();
            replies.wait(token, Reply::Down(down));
        }
        let (down, receiver) = oneshot::channel();
        kept.push(receiver);
        replies.wait(1000, Reply::Down(down));
        assert_eq!(replies.sweep(), []);
        // A call whose caller is gone is removed with its result.
        replies.wait(1001, Reply::Result(oneshot::channel().0));
        let mut swept = replies.sweep();
        swept.sort_unstable();
        assert_eq!(swept, (0..u64::try_from(SWEPT).unwrap() - 2).collect::<Vec<_>>());
        assert_eq!(replies.sweep(), []);
        replies.down(1000, Raw::encode(&crate::etf::Term::atom("normal")));
        assert!(kept[0].try_recv().is_ok());
    }
}
