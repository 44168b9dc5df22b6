//! Resolves hosts with the system's resolver.
//!
//! A query to the system's resolver cannot be cancelled, so its thread is blocked until the answer
//! arrives. So the number of threads is bounded, as well as the time. Addresses are returned
//! without a query.

use std::io;
use std::net::IpAddr;

use dns_lookup::{AddrInfoHints, LookupError, LookupErrorKind, SockType, getaddrinfo};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::limits;

/// Shared by the process, as its threads are.
static RESOLVERS: Semaphore = Semaphore::const_new(limits::RESOLVERS);

/// Returns the addresses of a host in the resolver's order, without duplicates.
///
/// # Errors
/// Returns [`io::ErrorKind::NotFound`] if the host does not exist or has no address. Returns
/// [`io::ErrorKind::TimedOut`] if the system does not answer within [`limits::RESOLVE_TIME`].
/// Returns another kind if the name service failed.
pub async fn addresses(host: &str) -> io::Result<Vec<IpAddr>> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let host = host.to_owned();
    ask(move || look_up(&host)).await
}

/// Queries the system's resolver, which may take long.
fn look_up(host: &str) -> io::Result<Vec<IpAddr>> {
    let hints = AddrInfoHints { socktype: SockType::Stream.into(), ..AddrInfoHints::default() };
    let found = getaddrinfo(Some(host), None, Some(hints)).map_err(failure)?;
    found.map(|found| Ok(found?.sockaddr.ip().to_canonical())).collect()
}

/// Distinguishes a host without an address from a failed name service.
fn failure(error: LookupError) -> io::Error {
    match error.kind() {
        LookupErrorKind::NoName | LookupErrorKind::NoData => io::Error::new(io::ErrorKind::NotFound, error),
        _ => error.into(),
    }
}

async fn ask(question: impl FnOnce() -> io::Result<Vec<IpAddr>> + Send + 'static) -> io::Result<Vec<IpAddr>> {
    let answer = async {
        let permit = RESOLVERS.acquire().await.map_err(io::Error::other)?;
        let mut found = spawn_blocking(move || {
            let _permit = permit;
            question()
        })
        .await??;
        let mut seen = std::collections::HashSet::new();
        found.retain(|address| seen.insert(*address));
        Ok(found)
    };
    timeout(limits::RESOLVE_TIME, answer).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::sync::mpsc;
    use std::time::Duration;

    use tokio::time::{advance, pause, resume};

    use super::*;

    /// Returns after every task that can proceed has been polled.
    async fn polled() {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_stuck_resolver_uses_bounded_time_and_threads() {
        let mut stuck = Vec::new();
        let (began, begun) = mpsc::channel();
        pause();
        for _ in 0..64 {
            let (release, released) = mpsc::channel::<()>();
            let began = began.clone();
            let question = move || {
                let _ = began.send(());
                let _ = released.recv();
                Ok(vec![Ipv4Addr::LOCALHOST.into()])
            };
            stuck.push((release, tokio::spawn(ask(question))));
        }
        let (begin, mut count) = (std::time::Instant::now(), 0);
        while count < 64 {
            assert!(begin.elapsed() < Duration::from_secs(20), "{count} are resolved at once");
            tokio::task::yield_now().await;
            count += begun.try_iter().count();
        }
        assert_eq!(RESOLVERS.available_permits(), 0, "no more than 64");
        // All threads are in use, so this query waits until it times out.
        let more = tokio::spawn(ask(|| unreachable!("there is no thread for it")));
        // Starts its time limit.
        polled().await;
        advance(Duration::from_millis(2990)).await;
        polled().await;
        assert!(!more.is_finished() && stuck.iter().all(|(_, question)| !question.is_finished()), "before 3 s");
        advance(Duration::from_millis(20)).await;
        polled().await;
        assert!(more.is_finished(), "after 3 s");
        assert_eq!(more.await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
        for (release, question) in stuck {
            assert_eq!(question.await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
            drop(release);
        }
        resume();
        // Once the threads are free, hosts are resolved again. Addresses need no thread.
        assert!(addresses("localhost").await.unwrap().iter().all(IpAddr::is_loopback));
        assert_eq!(addresses("::1").await.unwrap(), [IpAddr::from(Ipv6Addr::LOCALHOST)]);
    }

    #[test]
    fn only_a_name_without_an_address_is_not_found() {
        // EAI_NONAME, EAI_NODATA, EAI_AGAIN and EAI_FAIL of glibc and musl.
        for (code, is_not_found) in [(-2, true), (-5, true), (-3, false), (-4, false)] {
            let error = failure(LookupError::new(code));
            assert_eq!(error.kind() == io::ErrorKind::NotFound, is_not_found, "{code}");
            assert!(error.to_string().contains("failed to lookup address information: "), "{error}");
        }
    }

    #[tokio::test]
    async fn addresses_are_returned_once() {
        let [a, b] = [1, 2].map(|last| IpAddr::from([10, 0, 0, last]));
        assert_eq!(ask(move || Ok(vec![b, a, b])).await.unwrap(), [b, a]);
    }
}
