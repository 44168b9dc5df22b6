//! A connection that hyper reads and writes through a reference, so that its owner can detect when
//! the client closes it.
//!
//! Hyper does not detect that while it sends a response, because clients may close only their
//! sending half after a request.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;

pub(super) struct Borrowed<'a>(pub &'a UnixStream);

impl Borrowed<'_> {
    /// Calls `write` whenever the connection is writable, until it does not return `WouldBlock`.
    fn write(&self, context: &mut Context<'_>, write: impl Fn() -> io::Result<usize>) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(context))?;
            match write() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

impl AsyncRead for Borrowed<'_> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(context))?;
            match self.0.try_read_buf(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read.map(drop)),
            }
        }
    }
}

impl AsyncWrite for Borrowed<'_> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.write(context, || self.0.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(context, || self.0.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(rustix::net::shutdown(self.0, rustix::net::Shutdown::Write)?))
    }
}

/// Waits until the client has closed the connection. Waits forever if the client closes its sending
/// half first: once it closes the rest too, the next write fails.
pub(super) async fn closed_by_client(stream: &UnixStream) {
    // Becomes ready when the client's sending half is closed, even if bytes are unread.
    let ended = stream.ready(Interest::PRIORITY).await;
    if ended.is_ok() && !hung_up(stream) {
        std::future::pending().await
    }
}

/// Returns whether both directions are closed.
fn hung_up(stream: &UnixStream) -> bool {
    let mut polled = [PollFd::new(stream, PollFlags::empty())];
    poll(&mut polled, Some(&Timespec::default())).is_ok_and(|count| count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn bytes_pass_both_ways_and_each_half_ends() {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        let mut ours = Borrowed(&ours);
        theirs.write_all(b"question").await.expect("written");
        theirs.shutdown().await.expect("open");
        let mut read = String::new();
        ours.read_to_string(&mut read).await.expect("read");
        assert_eq!(read, "question");
        let sent = vec![b'x'; 1 << 20];
        let receive = async {
            let mut received = Vec::new();
            theirs.read_to_end(&mut received).await.expect("read");
            received
        };
        let send = async {
            ours.write_all(&sent).await.expect("written");
            ours.shutdown().await.expect("open");
        };
        let (received, ()) = tokio::join!(receive, send);
        assert!(received == sent);
    }

    #[tokio::test]
    async fn only_a_client_that_closes_both_directions_counts_as_gone() {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        theirs.write_all(b"unread").await.expect("written");
        let soon = Duration::from_millis(1);
        tokio::time::timeout(soon, closed_by_client(&ours)).await.expect_err("open");
        drop(theirs);
        closed_by_client(&ours).await;

        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        theirs.shutdown().await.expect("open");
        tokio::time::timeout(soon, closed_by_client(&ours)).await.expect_err("it still reads");
    }
}
