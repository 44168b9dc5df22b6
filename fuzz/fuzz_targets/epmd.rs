//! Checks both ends of EPMD's protocol:
//! - The daemon's EPMD answers or refuses each request, and the client can decode the answers.
//! - The client reads any response as an answer or an error.
//!
//! The input starts with 0 for requests to the server. Each request is a connection number, a
//! length in one byte, and that many bytes. Length 0 closes the connection. Any other first byte
//! starts a response to the client.
#![no_main]

use std::collections::BTreeMap;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use beam::epmd::protocol::{self, EpmdRequest, Table, Then};
use beam::fair::Source;
use erl_dist::epmd::{EpmdClient, EpmdError, NodeEntry};
use libfuzzer_sys::fuzz_target;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

fuzz_target!(|data: &[u8]| match data {
    [0, requests @ ..] => served(requests),
    [_, answer @ ..] => answered(answer),
    [] => {}
});

/// Runs an exchange of the client with a complete response, as `epmd::client` does.
fn now<T>(exchange: impl Future<Output = T>) -> T {
    match pin!(exchange).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("the response is incomplete"),
    }
}

fn client(answer: &[u8]) -> EpmdClient<Compat<tokio::io::Join<&[u8], tokio::io::Sink>>> {
    EpmdClient::new(tokio::io::join(answer, tokio::io::sink()).compat())
}

fn port(answer: &[u8]) -> Result<Option<u16>, EpmdError> {
    Ok(now(client(answer).get_node("name"))?.map(|entry| entry.port))
}

fn creation(answer: &[u8]) -> Result<u32, EpmdError> {
    now(client(answer).register(NodeEntry::new("name", 1))).map(|(_, creation)| creation.get())
}

fn answered(answer: &[u8]) {
    for (name, _) in protocol::names(answer).unwrap_or_default() {
        assert!(!name.contains('\n') && name.len() <= answer.len());
    }
    let _ = (port(answer), creation(answer));
}

/// Returns the port and the name in an `ALIVE2_REQ`.
fn alive(request: &[u8]) -> (u16, &[u8]) {
    let (port, rest) = request[1..].split_first_chunk().expect("a port");
    let (length, name) = rest[6..].split_first_chunk().expect("a length");
    (u16::from_be_bytes(*port), &name[..u16::from_be_bytes(*length).into()])
}

fn served(mut requests: &[u8]) {
    let mut table = Table::new(4369, u32::MAX);
    // The expected registrations: for each name, the connection and the port.
    let mut nodes: BTreeMap<Vec<u8>, (u8, u16)> = BTreeMap::new();
    while let [connection, length, rest @ ..] = requests {
        let (request, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        requests = rest;
        if request.is_empty() {
            table.gone(u64::from(*connection));
            nodes.retain(|_, (its, _)| its != connection);
            continue;
        }
        let Some(read) = EpmdRequest::read(request) else { continue };
        let answer = table.answer(u64::from(*connection), Source::User(0), read.clone());
        match (read, answer.then) {
            (EpmdRequest::Alive(_), Then::Keep) => {
                let (port, name) = alive(request);
                assert!(creation(&answer.bytes).is_ok_and(|creation| creation > 0));
                assert!(nodes.insert(name.to_vec(), (*connection, port)).is_none(), "a name is registered once");
            }
            (EpmdRequest::Alive(_), then) => {
                assert_eq!(then, Then::Close);
                assert!(matches!(creation(&answer.bytes), Err(EpmdError::RegisterNodeError { .. })));
            }
            (EpmdRequest::Port(name), then) => {
                assert_eq!(then, Then::Close);
                assert_eq!(port(&answer.bytes).expect("an answer"), nodes.get(&name).map(|(_, port)| *port));
            }
            (EpmdRequest::Names, then) => {
                assert_eq!(then, Then::Close);
                let names = protocol::names(&answer.bytes).expect("an answer").into_iter();
                let expected = nodes.iter().map(|(name, (_, port))| (name.clone(), *port));
                assert!(names.map(|(name, port)| (name.into_bytes(), port)).eq(expected));
            }
            (EpmdRequest::Kill, then) => assert_eq!(then == Then::End, nodes.is_empty()),
            (EpmdRequest::Dump | EpmdRequest::Stop, then) => assert_eq!(then, Then::Close),
        }
        assert!(nodes.len() <= beam::limits::EPMD_NODES);
    }
}
