//! Passes messages from a connection to the node's task, in order. Decodes large messages outside
//! of that task, and pauses the connection until its earlier messages are handled.
//!
//! One peer's large messages thus do not delay other peers, and each peer's queue is bounded.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::spawn_blocking;

use crate::dist::control::Control;
use crate::dist::link::LinkEvent;
use crate::etf::Atoms;
use crate::limits;
use crate::node::event::{Arrival, NodeCommand, Permit};
use crate::node::link_id::LinkId;
use crate::node::machine;

/// Bounds how many large messages are decoded at once: a decoded message may use far more memory
/// than its bytes.
static READERS: Semaphore = Semaphore::const_new(limits::LARGE_READERS);

/// Passes on the events of a connection until it ends.
pub(crate) async fn run(link: LinkId, mut received: mpsc::Receiver<LinkEvent>, inbox: mpsc::Sender<NodeCommand>) {
    let window = Arc::new(Semaphore::new(limits::LINK_BATCHES));
    let all = u32::try_from(limits::LINK_BATCHES).unwrap_or(u32::MAX);
    while let Some(event) = received.recv().await {
        let (arrivals, held) = match event {
            LinkEvent::Closed(reason) => (vec![Arrival::Closed(reason)], None),
            LinkEvent::Messages(batch, charge) => (arrivals(batch).await, Some(Arc::new(charge))),
        };
        for arrival in arrivals {
            // The end waits until all earlier messages are handled.
            let permits = if matches!(arrival, Arrival::Closed(_)) { all } else { 1 };
            let Ok(window) = window.clone().acquire_many_owned(permits).await else { return };
            let permit = Permit::new(window, held.clone());
            if inbox.send(NodeCommand::Link(link, arrival, permit)).await.is_err() {
                return;
            }
        }
    }
}

fn is_large((_, payload): &(Control, Option<Bytes>)) -> bool {
    payload.as_ref().is_some_and(|payload| payload.len() > limits::CALL_ARGUMENTS)
}

async fn arrivals(batch: Vec<(Control, Option<Bytes>)>) -> Vec<Arrival> {
    if !batch.iter().any(is_large) {
        return vec![Arrival::Messages(batch)];
    }
    let (mut arrivals, mut small) = (Vec::new(), Vec::new());
    for message in batch {
        if !is_large(&message) {
            small.push(message);
            continue;
        }
        if !small.is_empty() {
            arrivals.push(Arrival::Messages(std::mem::take(&mut small)));
        }
        let (control, payload) = message;
        // The semaphore is never closed. The thread holds the permit even if its caller is
        // cancelled.
        let permit = READERS.acquire().await;
        // The atoms of a large message are not worth keeping.
        let reading = spawn_blocking(move || {
            let _permit = permit;
            let content = machine::read(&control, payload.unwrap_or_default(), &mut Atoms::new());
            Arrival::Large(Box::new((control, content)))
        });
        match reading.await {
            Ok(arrival) => arrivals.push(arrival),
            // The closure never panics, and is aborted only when the operating system's process
            // ends.
            Err(e) => std::panic::resume_unwind(Box::new(e)),
        }
    }
    if !small.is_empty() {
        arrivals.push(Arrival::Messages(small));
    }
    arrivals
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::error::TryRecvError;

    use super::*;
    use crate::dist::budget::Budget;
    use crate::dist::link::CloseReason;
    use crate::etf::{Atom, Pid, Raw, Term};
    use crate::node::machine::Content;
    use crate::node::services::gen_server::Message;

    fn message(bytes: usize) -> (Control, Option<Bytes>) {
        let from = Pid { node: Atom::literal("p@h"), id: 1, serial: 0, creation: 1 };
        let term = Raw::encode(&Term::binary(vec![7; bytes]));
        (Control::SendName { from, to: Atom::literal("pg") }, Some(term.bytes().clone()))
    }

    fn batch(bytes: usize) -> LinkEvent {
        let charge = Budget::new(usize::MAX).holding().charge(bytes);
        LinkEvent::Messages(vec![message(bytes)], charge)
    }

    #[tokio::test]
    async fn a_connection_waits_until_its_messages_are_handled() {
        let (link, received) = mpsc::channel(1);
        let (inbox, mut events) = mpsc::channel(100);
        let running = tokio::spawn(run(LinkId(1), received, inbox));
        let sending = tokio::spawn(async move {
            for _ in 0..limits::LINK_BATCHES {
                link.send(batch(1)).await.unwrap();
            }
            link.send(batch(2)).await.unwrap();
            link.send(LinkEvent::Closed(CloseReason::ClosedByPeer)).await.unwrap();
        });
        let mut unhandled = Vec::new();
        for _ in 0..limits::LINK_BATCHES {
            unhandled.push(events.recv().await.unwrap());
        }
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(matches!(events.try_recv(), Err(TryRecvError::Empty)));
        unhandled.pop();
        let next = events.recv().await.unwrap();
        assert!(matches!(next, NodeCommand::Link(LinkId(1), Arrival::Messages(_), _)));
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(matches!(events.try_recv(), Err(TryRecvError::Empty)), "the end waits for the earlier messages");
        drop((unhandled, next));
        let last = events.recv().await.unwrap();
        assert!(matches!(last, NodeCommand::Link(LinkId(1), Arrival::Closed(CloseReason::ClosedByPeer), _)));
        sending.await.unwrap();
        running.await.unwrap();
    }

    #[tokio::test]
    async fn large_messages_are_decoded_and_keep_their_order() {
        let large = limits::CALL_ARGUMENTS;
        let batch = vec![message(1), message(2), message(large), message(large), message(3)];
        let kinds = arrivals(batch).await.into_iter().map(|arrival| match arrival {
            Arrival::Messages(batch) => batch.len(),
            Arrival::Large(read) => match *read {
                (_, Content::Message(Message::Info(message))) if message.bytes().len() > large => 100,
                other => panic!("{other:?}"),
            },
            Arrival::Closed(_) => 0,
        });
        assert_eq!(kinds.collect::<Vec<_>>(), [2, 100, 100, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_large_messages_decoded_at_once_are_bounded() {
        let all = u32::try_from(limits::LARGE_READERS).unwrap();
        let reading = READERS.acquire_many(all).await.unwrap();
        let mut next = std::pin::pin!(arrivals(vec![message(limits::CALL_ARGUMENTS)]));
        // The paused clock does not advance while a blocking thread runs.
        let hour = std::time::Duration::from_secs(3600);
        assert!(tokio::time::timeout(hour, &mut next).await.is_err(), "it waits");
        let small = arrivals(vec![message(1)]).await;
        assert!(matches!(small[..], [Arrival::Messages(_)]), "a small message does not wait");
        drop(reading);
        assert!(matches!(next.await[..], [Arrival::Large(_)]));
    }
}
