//! What is left of a request's body when it was answered without: taken all the same, for a while. A client may look for
//! the answer only when it has sent all, and loses it where the connection is closed before.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;

use crate::serve::access::About;

/// How long a body is taken that nobody reads.
const LINGERING: Duration = Duration::from_secs(2);

/// A request's body, of which the bytes are counted.
pub(crate) struct Lingering<B: Body<Data = Bytes> + Send + Unpin + 'static> {
    /// Until it is dropped.
    body: Option<B>,
    about: Arc<About>,
    /// It was read to its end.
    over: bool,
    /// Its client waits to be told to send it, which a refusal does not.
    waits: bool,
}

impl<B: Body<Data = Bytes> + Send + Unpin + 'static> Lingering<B> {
    /// `waits` is whether its client sends nothing before it is told to.
    pub(crate) fn new(body: B, about: Arc<About>, waits: bool) -> Lingering<B> {
        Lingering {
            body: Some(body),
            about,
            over: false,
            waits,
        }
    }
}

impl<B: Body<Data = Bytes> + Send + Unpin + 'static> Body for Lingering<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        self.waits = false;
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                self.about.came(bytes as u64);
            }
            Poll::Ready(_) => self.over = true,
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

impl<B: Body<Data = Bytes> + Send + Unpin + 'static> Drop for Lingering<B> {
    fn drop(&mut self) {
        let over = self.over || self.waits || self.is_end_stream();
        if let Ok(runtime) = tokio::runtime::Handle::try_current()
            && let Some(mut body) = self.body.take()
            && !over
        {
            let taking = async move { while let Some(Ok(_)) = body.frame().await {} };
            drop(runtime.spawn(tokio::time::timeout(LINGERING, taking)));
        }
    }
}
