//! What is left of a request's body when it was answered without: taken all the same, for a while. A client may look for
//! the answer only when it has sent all, and loses it where the connection is closed before.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;

/// How long a body is taken that nobody reads.
const LINGERING: Duration = Duration::from_secs(2);

/// A request's body.
pub(crate) struct Lingering {
    body: Body,
    /// It was read to its end.
    over: bool,
    /// Its client waits to be told to send it, which a refusal does not.
    waits: bool,
}

impl Lingering {
    /// `waits` is whether its client sends nothing before it is told to.
    pub(crate) fn new(body: Body, waits: bool) -> Lingering {
        Lingering {
            body,
            over: false,
            waits,
        }
    }
}

impl http_body::Body for Lingering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.waits = false;
        let polled = Pin::new(&mut self.body).poll_frame(context);
        self.over |= matches!(polled, Poll::Ready(None | Some(Err(_))));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let over = self.over || self.waits || self.body.is_end_stream();
        if let Ok(runtime) = tokio::runtime::Handle::try_current()
            && !over
        {
            let mut body = std::mem::take(&mut self.body);
            let taking = async move { while let Some(Ok(_)) = body.frame().await {} };
            drop(runtime.spawn(tokio::time::timeout(LINGERING, taking)));
        }
    }
}
