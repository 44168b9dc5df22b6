//! A connection on which a write fails if it makes no progress for a while.
//!
//! Hyper limits the time for reading, but not for writing: without this, a client that stops
//! reading would keep its connection open for ever.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// A stream with a limit on how long a write may wait.
pub(super) struct Stall<S> {
    stream: S,
    patience: Duration,
    /// Runs while a write waits.
    timer: Pin<Box<Sleep>>,
    waiting: bool,
}

impl<S: AsyncWrite + Unpin> Stall<S> {
    pub(super) fn new(stream: S, patience: Duration) -> Self {
        Self { stream, patience, timer: Box::pin(tokio::time::sleep(patience)), waiting: false }
    }

    /// Polls the stream. Fails if it has been pending for too long.
    fn bounded<T>(
        &mut self,
        context: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let polled = poll(Pin::new(&mut self.stream), context);
        if polled.is_ready() {
            self.waiting = false;
            return polled;
        }
        if !self.waiting {
            self.waiting = true;
            self.timer.as_mut().reset(Instant::now() + self.patience);
        }
        ready!(self.timer.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stall<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stall<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.bounded(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.bounded(context, |stream, context| stream.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.bounded(context, |stream, context| stream.poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.bounded(context, |stream, context| stream.poll_shutdown(context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::bounds::Limits;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const PATIENCE: Duration = Duration::from_secs(15);

    fn stall(stream: tokio::io::DuplexStream) -> Stall<tokio::io::DuplexStream> {
        Stall::new(stream, Limits::default().stall)
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_to_a_client_that_stops_reading_fails() {
        let (ours, _theirs) = tokio::io::duplex(8);
        let mut ours = stall(ours);
        ours.write_all(b"12345678").await.expect("fits");
        let begun = Instant::now();
        let ended = tokio::time::timeout(PATIENCE * 4, ours.write_all(b"9")).await;
        let error = ended.expect("ended").expect_err("not read");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() >= PATIENCE && begun.elapsed() < PATIENCE + Duration::from_millis(10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_to_a_slow_client_continues() {
        let (ours, mut theirs) = tokio::io::duplex(1);
        let mut ours = stall(ours);
        let reader = tokio::spawn(async move {
            let mut taken = Vec::new();
            let mut byte = [0];
            loop {
                // Virtual time: the client reads slowly.
                tokio::time::sleep(PATIENCE / 2).await;
                match theirs.read(&mut byte).await.expect("readable") {
                    0 => return taken,
                    _ => taken.extend_from_slice(&byte),
                }
            }
        });
        ours.write_all(b"slowly").await.expect("each byte is progress");
        drop(ours);
        assert_eq!(reader.await.expect("ended"), b"slowly");
    }
}
