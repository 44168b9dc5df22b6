//! A response body whose bytes are all known, in parts that other bodies may share. Its response
//! has a `Content-Length`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// The parts that are not sent yet.
#[derive(Debug, Default)]
pub(super) struct Whole(VecDeque<Bytes>);

impl Whole {
    pub(super) fn new(parts: impl IntoIterator<Item = Bytes>) -> Self {
        Self(parts.into_iter().filter(|part| !part.is_empty()).collect())
    }

    /// Returns the body, ending with a newline.
    pub(super) fn with_newline(mut self) -> Self {
        if self.0.back().is_none_or(|last| !last.ends_with(b"\n")) {
            self.0.push_back(Bytes::from_static(b"\n"));
        }
        self
    }

    #[cfg(test)]
    pub(super) fn parts(&self) -> impl Iterator<Item = &Bytes> {
        self.0.iter()
    }
}

impl From<Bytes> for Whole {
    fn from(bytes: Bytes) -> Self {
        Self::new([bytes])
    }
}

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let length = self.0.iter().map(|part| u64::try_from(part.len()).unwrap_or(u64::MAX));
        SizeHint::with_exact(length.fold(0, u64::saturating_add))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn the_length_is_known_and_the_order_of_parts_is_kept() {
        let parts = ["one, ", "", "two"].map(|part| Bytes::from_static(part.as_bytes()));
        let whole = Whole::new(parts);
        assert_eq!(whole.size_hint().exact(), Some(8));
        assert_eq!(whole.collect().await.unwrap().to_bytes(), "one, two");
        let with_newline = Whole::from(Bytes::from_static(b"{}")).with_newline().with_newline();
        assert_eq!(with_newline.size_hint().exact(), Some(3));
        assert_eq!(with_newline.collect().await.unwrap().to_bytes(), "{}\n");
        assert!(Whole::default().is_end_stream() && Whole::from(Bytes::new()).is_end_stream());
    }
}
