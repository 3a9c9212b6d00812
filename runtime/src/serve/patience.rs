//! A connection whose client does not read what it is sent is cut, and what is held for it given back; of HTTP/2, which
//! lets a client take one answer and leave another, the stream.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use hyper::rt::Executor;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::latency::nanoseconds;

tokio::task_local! {
    static PROGRESS: Arc<Progress>;
}

/// How a stream of HTTP/2 gets on.
#[derive(Default)]
struct Progress {
    /// When something of its answer was handed over or taken last, in nanoseconds from [`BEGINNING`]; 0 while nothing waits
    /// to be taken.
    last: AtomicU64,
    /// Bytes that were handed over and not taken.
    untaken: AtomicUsize,
}

static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A client may keep hundreds waiting, but not for hours.
const MOST_TURNS: u32 = 10;

/// How many bytes of answers a connection may hold that its client does not take, after we have done with them.
const MOST_LEFT: usize = 4 << 20;

/// In nanoseconds from then, never 0.
fn now() -> u64 {
    nanoseconds(BEGINNING.elapsed()).max(1)
}

impl Progress {
    fn handed_over(&self) {
        self.last.store(now(), Ordering::Relaxed);
    }

    /// Something was taken, which may have been handed over before there was nothing more.
    fn taken(&self) {
        let waits = |last: u64| (last > 0).then(now);
        let _ = self
            .last
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, waits);
    }

    fn nothing_waits(&self) {
        self.last.store(0, Ordering::Relaxed);
    }

    fn last(&self) -> Option<Instant> {
        let last = self.last.load(Ordering::Relaxed);
        (last > 0).then(|| *BEGINNING + Duration::from_nanos(last))
    }
}

/// A piece of an answer, on its way to its client.
pub(crate) struct Piece {
    bytes: Bytes,
    /// Of a stream of HTTP/2; `Patient` sees to connections of HTTP/1.1.
    progress: Option<Arc<Progress>>,
}

impl Piece {
    /// Of the answer for which this task was asked for more.
    pub(crate) fn handed_over(bytes: Bytes) -> Piece {
        let progress = PROGRESS.try_with(Arc::clone).ok();
        if let Some(progress) = &progress {
            progress.handed_over();
            progress.untaken.fetch_add(bytes.len(), Ordering::Relaxed);
        }
        Piece { bytes, progress }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, taken: usize) {
        self.bytes.advance(taken);
        if let Some(progress) = &self.progress {
            progress.taken();
            progress.untaken.fetch_sub(taken, Ordering::Relaxed);
        }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if let Some(progress) = &self.progress {
            let left = self.bytes.len();
            progress.untaken.fetch_sub(left, Ordering::Relaxed);
        }
    }
}

/// There is nothing to hand over now: this task was asked for more of an answer.
pub(crate) fn nothing_to_hand_over() {
    let _ = PROGRESS.try_with(|progress| progress.nothing_waits());
}

/// Runs the streams of one connection of HTTP/2 and ends those whose client takes nothing: dropped, they are reset. One of
/// several that wait has its turn later, and is waited for as many times longer.
#[derive(Clone)]
pub(crate) struct PatientStreams {
    patience: Duration,
    waiting: Arc<AtomicU32>,
    left: Arc<Left>,
}

impl PatientStreams {
    pub(crate) fn new(patience: Duration) -> PatientStreams {
        PatientStreams {
            patience,
            waiting: Arc::default(),
            left: Arc::default(),
        }
    }

    /// Whether the client takes nothing of answers that were handed over whole, of windows that it has closed since then, and
    /// that is much: nothing but the connection's end gives it back, and others' answers may be on their way there.
    pub(crate) fn are_stuck(&self) -> bool {
        let waiting = self.waiting.load(Ordering::Relaxed);
        self.left.older_than(self.patience, waiting) > MOST_LEFT
    }
}

/// Streams that have ended on our side, of whose answers something may be left to be taken.
#[derive(Default)]
struct Left(Mutex<LeftStreams>);

#[derive(Default)]
struct LeftStreams {
    /// Pieces hold what these point to.
    all: Vec<Weak<Progress>>,
    /// How many there may be until those are let go of which nothing is left.
    most: usize,
}

impl Left {
    fn add(&self, progress: &Arc<Progress>) {
        // From now on time counts by what is taken alone.
        progress.handed_over();
        let mut left = self.lock();
        if left.all.len() >= left.most {
            left.all.retain(|progress| progress.strong_count() > 0);
            left.most = (2 * left.all.len()).max(64);
        }
        left.all.push(Arc::downgrade(progress));
    }

    /// Bytes of those that have waited for longer than this for each that waits, so many others among them.
    fn older_than(&self, patience: Duration, others: u32) -> usize {
        let mut left = self.lock();
        left.all.retain(|progress| progress.strong_count() > 0);
        let all = u32::try_from(left.all.len()).unwrap_or(u32::MAX);
        let longest = patience * turns(all.saturating_add(others));
        let waiting = left.all.iter().filter_map(Weak::upgrade);
        let is_old = |progress: &Arc<Progress>| {
            let last = progress.last();
            last.is_some_and(|last| last.elapsed() > longest)
        };
        let untaken = |progress: Arc<Progress>| progress.untaken.load(Ordering::Relaxed);
        waiting.filter(is_old).map(untaken).sum()
    }

    fn lock(&self) -> MutexGuard<'_, LeftStreams> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many times longer each of so many is waited for.
fn turns(waiting: u32) -> u32 {
    waiting.clamp(1, MOST_TURNS)
}

/// A stream of which something waits to be taken.
struct Waits(Arc<AtomicU32>);

impl Waits {
    fn among(waiting: &Arc<AtomicU32>) -> Waits {
        waiting.fetch_add(1, Ordering::Relaxed);
        Waits(waiting.clone())
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for PatientStreams {
    fn execute(&self, stream: F) {
        let PatientStreams {
            patience,
            waiting,
            left,
        } = self.clone();
        let progress = Arc::<Progress>::default();
        let seen = progress.clone();
        let patiently = async move {
            let mut stream = pin!(stream);
            let (mut stalled, mut waits) = (pin!(None::<Sleep>), None);
            let ended = std::future::poll_fn(|context| {
                if stream.as_mut().poll(context).is_ready() {
                    return Poll::Ready(true);
                }
                let Some(last) = seen.last() else {
                    waits = None;
                    return Poll::Pending;
                };
                waits.get_or_insert_with(|| Waits::among(&waiting));
                let until = last + patience * turns(waiting.load(Ordering::Relaxed));
                match stalled.as_mut().as_pin_mut() {
                    Some(stalled) if stalled.deadline() == until => {}
                    Some(stalled) => stalled.reset(until),
                    None => stalled.set(Some(tokio::time::sleep_until(until))),
                }
                let over = stalled.as_mut().as_pin_mut().map(|over| over.poll(context));
                over.unwrap_or(Poll::Pending).map(|()| false)
            });
            match ended.await {
                true => left.add(&seen),
                false => {
                    tracing::debug!("a stream was ended whose client took nothing in {patience:?}");
                }
            }
        };
        drop(tokio::spawn(PROGRESS.scope(progress, patiently)));
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

    #[test]
    fn what_is_taken_late_does_not_begin_a_wait() {
        let progress = Arc::<Progress>::default();
        let given = || {
            let piece = PROGRESS.sync_scope(progress.clone(), || Piece::handed_over("abcd".into()));
            assert!(progress.last().is_some(), "it waits to be taken");
            piece
        };
        let mut piece = given();
        let before = progress.last();
        piece.advance(2);
        assert!(progress.last() >= before && progress.last().is_some());
        PROGRESS.sync_scope(progress.clone(), nothing_to_hand_over);
        assert_eq!(progress.last(), None);
        piece.advance(2);
        assert_eq!(progress.last(), None, "the guest computes, say");
        given();
    }

    #[tokio::test]
    async fn an_answer_that_was_handed_over_and_is_not_taken_is_seen() {
        let streams = PatientStreams::new(Duration::from_millis(1));
        let (given, mut pieces) = tokio::sync::mpsc::unbounded_channel();
        let hand_over = |bytes: usize| {
            let given = given.clone();
            streams.execute(async move {
                let _ = given.send(Piece::handed_over(vec![0; bytes].into()));
                nothing_to_hand_over();
            });
        };
        for _ in 0..100 {
            hand_over(MOST_LEFT);
            pieces.recv().await.expect("a piece");
        }
        hand_over(MOST_LEFT);
        let _little = pieces.recv().await.expect("a piece");
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!streams.are_stuck(), "all but one were taken");
        hand_over(2);
        let mut left = pieces.recv().await.expect("a piece");
        while !streams.are_stuck() {
            tokio::task::yield_now().await;
        }
        left.advance(1);
        while !streams.are_stuck() {
            tokio::task::yield_now().await;
        }
        left.advance(1);
        assert!(!streams.are_stuck());
    }

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
