//! A connection whose client does not read what it is sent is cut, and what is held for it given back; of HTTP/2, which
//! lets a client take one answer and leave another, the stream.

use std::cell::Cell;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::Executor;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

tokio::task_local! {
    /// When a piece of this stream's answer was handed over, and no more has been asked for yet.
    static HANDED_OVER: Cell<Option<Instant>>;
}

/// Says whether a piece of an answer was handed over now, after which one waits for its client to take it. To be said
/// whenever one is asked for.
pub(crate) fn handed_over(piece: bool) {
    // Requests of HTTP/1.1 have none: `Patient` sees to them.
    let _ = HANDED_OVER.try_with(|since| since.set(piece.then(Instant::now)));
}

/// Runs the streams of HTTP/2 and ends those whose clients take nothing: dropped, they are reset.
#[derive(Clone)]
pub(crate) struct PatientStreams(pub(crate) Duration);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for PatientStreams {
    fn execute(&self, stream: F) {
        let patience = self.0;
        let patiently = async move {
            let mut stream = pin!(stream);
            let mut stalled = pin!(None::<Sleep>);
            let ended = std::future::poll_fn(|context| {
                if stream.as_mut().poll(context).is_ready() {
                    return Poll::Ready(true);
                }
                let Some(since) = HANDED_OVER.with(Cell::get) else {
                    return Poll::Pending;
                };
                let until = since + patience;
                match stalled.as_mut().as_pin_mut() {
                    Some(stalled) if stalled.deadline() == until => {}
                    Some(stalled) => stalled.reset(until),
                    None => stalled.set(Some(tokio::time::sleep_until(until))),
                }
                let over = stalled.as_mut().as_pin_mut().map(|over| over.poll(context));
                over.unwrap_or(Poll::Pending).map(|()| false)
            });
            if !ended.await {
                tracing::debug!("a stream was ended whose client took nothing in {patience:?}");
            }
        };
        drop(tokio::spawn(HANDED_OVER.scope(Cell::new(None), patiently)));
    }
}

/// A connection of which each piece has to be taken in time.
pub(crate) struct Patient<S> {
    stream: S,
    patience: Duration,
    /// Runs while nothing is taken.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    pub(crate) fn new(stream: S, patience: Duration) -> Patient<S> {
        Patient {
            stream,
            patience,
            stalled: None,
        }
    }

    fn within<T>(
        &mut self,
        polled: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stalled = None;
            return polled;
        }
        let patience = self.patience;
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        let over = stalled.as_mut().poll(context);
        over.map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.within(polled, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.within(polled, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn who_reads_slowly_is_waited_for_and_who_does_not_read_is_not() {
        let (ours, mut theirs) = tokio::io::duplex(4);
        let mut ours = Patient::new(ours, Duration::from_secs(3));
        let writing = tokio::spawn(async move { ours.write_all(&[0; 12]).await });
        let mut piece = [0; 4];
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_millis(1700)).await;
            theirs.read_exact(&mut piece).await.expect("a piece");
        }
        writing.await.expect("no panic").expect("all is taken");
        let (ours, _theirs) = tokio::io::duplex(4);
        let mut ours = Patient::new(ours, Duration::from_secs(3));
        let error = ours.write_all(&[0; 12]).await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
