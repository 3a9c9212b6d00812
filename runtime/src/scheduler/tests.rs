//! The scheduler on a graph that can be held in the middle of a run.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Condvar};
use std::thread::ThreadId;

use infer_core::{Dtype, Placement, TensorInfo, run_batch};

use super::*;
use crate::slices::Slices;
use crate::threads::Threads;

/// What a run does with its rows of two bytes each.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Adds 1 to each byte.
    AddsOne,
    /// Adds the first row's first byte to each byte, as a model that mixes rows might.
    MixesRows,
    /// Panics at a byte of 13.
    Panics,
}

struct Held {
    kind: Kind,
    signature: Signature,
    concurrency: usize,
    /// How many runs may go on.
    open: Mutex<usize>,
    opened: Condvar,
    now: AtomicUsize,
    most: AtomicUsize,
    ran_on: Mutex<Option<ThreadId>>,
}

struct HeldGraph(Arc<Held>);

fn held(kind: Kind, concurrency: usize) -> Arc<Held> {
    let info = |name: &str| TensorInfo {
        name: name.to_owned(),
        dtype: Dtype::U8,
        dimensions: vec![None, Some(2)],
    };
    Arc::new(Held {
        kind,
        signature: Signature {
            inputs: vec![info("x")],
            outputs: vec![info("y")],
            ..Signature::default()
        },
        concurrency,
        open: Mutex::new(usize::MAX),
        opened: Condvar::new(),
        now: AtomicUsize::new(0),
        most: AtomicUsize::new(0),
        ran_on: Mutex::default(),
    })
}

impl Held {
    /// Runs wait from now on, or go on.
    fn let_run(&self, open: bool) {
        *self.open.lock().expect("no panic") = match open {
            true => usize::MAX,
            false => 0,
        };
        self.opened.notify_all();
    }

    fn let_one_run(&self) {
        *self.open.lock().expect("no panic") = 1;
        self.opened.notify_all();
    }

    fn wait_until_running(&self) {
        while self.now.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
    }

    fn run(&self, input: &Tensor) -> Result<Vec<Tensor>> {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        *self.ran_on.lock().expect("no panic") = Some(std::thread::current().id());
        let open = self.open.lock().expect("no panic");
        let open = self.opened.wait_while(open, |open| *open == 0);
        let mut open = open.expect("no panic");
        if *open != usize::MAX {
            *open -= 1;
        }
        drop(open);
        self.now.fetch_sub(1, Ordering::SeqCst);
        let bytes = input.host()?;
        assert!(
            self.kind != Kind::Panics || !bytes.contains(&13),
            "thirteen"
        );
        let add = match self.kind {
            Kind::MixesRows => bytes[0],
            Kind::AddsOne | Kind::Panics => 1,
        };
        let bytes: Vec<u8> = bytes.iter().map(|byte| byte.wrapping_add(add)).collect();
        Ok(vec![Tensor::copied_from(
            Dtype::U8,
            input.shape().to_vec(),
            &bytes,
        )?])
    }
}

impl Graph for HeldGraph {
    fn signature(&self) -> &Signature {
        &self.0.signature
    }

    fn placement(&self) -> Placement {
        unreachable!("nobody asks")
    }

    fn concurrency(&self) -> usize {
        self.0.concurrency
    }

    fn session(&self) -> Result<Box<dyn Session>> {
        Ok(Box::new(HeldSession(self.0.clone())))
    }
}

struct HeldSession(Arc<Held>);

impl Session for HeldSession {
    fn run(&mut self, calls: &mut [Call]) {
        run_batch(calls, |inputs, _| self.0.run(&inputs[0]));
    }

    fn reset(&mut self) -> Result<()> {
        Ok(())
    }
}

fn scheduler(held: &Arc<Held>, scheduling: &Scheduling) -> Arc<Scheduler> {
    let scheduler = Scheduler::new("m", "held", Arc::new(HeldGraph(held.clone())));
    Arc::new(
        scheduler
            .with(scheduling, Arc::default())
            .expect("can be scheduled so"),
    )
}

fn batches_of(max_batch: usize, max_delay: Duration) -> Scheduling {
    Scheduling {
        batching: Some(Batching {
            max_batch: NonZeroUsize::new(max_batch).expect("not 0"),
            max_delay,
        }),
        ..Scheduling::default()
    }
}

fn run(scheduler: &Scheduler, first: u8, cancel: &Cancel) -> Result<()> {
    let input = Tensor::copied_from(Dtype::U8, vec![1, 2], &[first, 0])?;
    let outputs = scheduler.run(vec![input], cancel, &mut None)?;
    assert_eq!(outputs[0].shape(), [1, 2]);
    assert_eq!(outputs[0].host()?, [first + 1, 1].as_slice());
    Ok(())
}

/// Starts a caller for each number; they wait until `held` lets them run.
fn callers(
    scheduler: &Arc<Scheduler>,
    numbers: impl IntoIterator<Item = u8>,
) -> Vec<std::thread::JoinHandle<Result<()>>> {
    let numbers = numbers.into_iter();
    numbers
        .map(|number| {
            let before = scheduler.statistics().waiting;
            let caller = scheduler.clone();
            let thread = std::thread::spawn(move || run(&caller, number, &Cancel::default()));
            while scheduler.statistics().waiting == before {
                std::thread::yield_now();
            }
            thread
        })
        .collect()
}

fn join(threads: Vec<std::thread::JoinHandle<Result<()>>>) -> Vec<Result<()>> {
    let ended = threads.into_iter().map(|thread| thread.join());
    ended.map(|ended| ended.expect("no panic")).collect()
}

fn runs_of_more_than_one(statistics: &Statistics) -> u64 {
    let sizes = statistics.batch_sizes.iter();
    sizes.skip(1).map(|(_, runs)| runs).sum()
}

#[test]
fn no_more_run_than_the_graph_allows() {
    for concurrency in [1, 3] {
        let held = held(Kind::AddsOne, concurrency);
        let scheduler = scheduler(&held, &Scheduling::default());
        let threads = (0..8).map(|number| {
            let scheduler = scheduler.clone();
            std::thread::spawn(move || {
                (0..200).try_for_each(|_| run(&scheduler, number, &Cancel::default()))
            })
        });
        assert!(join(threads.collect()).into_iter().all(|ran| ran.is_ok()));
        assert!(held.most.load(Ordering::SeqCst) <= concurrency);
        let statistics = scheduler.statistics();
        assert_eq!((statistics.succeeded, statistics.runs), (1600, 1600));
        assert_eq!(statistics.waiting, 0);
    }
}

#[test]
fn what_waits_runs_as_one_and_everybody_gets_their_own_row() {
    let held = held(Kind::AddsOne, 1);
    let scheduler = scheduler(&held, &batches_of(4, Duration::ZERO));
    held.let_run(false);
    let first = scheduler.clone();
    let first = std::thread::spawn(move || run(&first, 99, &Cancel::default()));
    held.wait_until_running();
    let waiting = callers(&scheduler, 10..16);
    held.let_run(true);
    let all = waiting.into_iter().chain([first]).collect();
    assert!(join(all).into_iter().all(|ran| ran.is_ok()));
    let sizes: Vec<u64> = scheduler
        .statistics()
        .batch_sizes
        .iter()
        .map(|(_, runs)| *runs)
        .collect();
    // The first alone, then four, then the two that are left.
    assert_eq!(sizes[..4], [1, 1, 1, 0]);
}

#[test]
fn a_full_batch_does_not_wait_for_the_delay() {
    let held = held(Kind::AddsOne, 2);
    let scheduler = scheduler(&held, &batches_of(2, Duration::from_secs(3600)));
    let threads = callers(&scheduler, [1]);
    run(&scheduler, 2, &Cancel::default()).expect("runs with the other");
    assert!(join(threads).into_iter().all(|ran| ran.is_ok()));
    assert_eq!(runs_of_more_than_one(&scheduler.statistics()), 1);
}

#[test]
fn a_lone_call_runs_when_its_delay_is_over() {
    let held = held(Kind::AddsOne, 1);
    let scheduler = scheduler(&held, &batches_of(8, Duration::from_millis(1)));
    for number in 0..20 {
        run(&scheduler, number, &Cancel::default()).expect("runs");
    }
    assert_eq!(scheduler.statistics().runs, 20);
}

#[test]
fn a_level_that_there_is_not_is_the_default() {
    let levels = |number| NonZeroU32::new(number).expect("not 0");
    let scheduling = Scheduling {
        priorities: Some(Priorities::new(levels(4))),
        ..Scheduling::default()
    };
    let with = scheduler(&held(Kind::AddsOne, 1), &scheduling);
    let without = scheduler(&held(Kind::AddsOne, 1), &Scheduling::default());
    for (asked, expected) in [(0, 2), (1, 1), (4, 4), (5, 2), (u32::MAX, 2)] {
        let asked = NonZeroU32::new(asked);
        assert_eq!((with.level(asked), without.level(asked)), (expected, 0));
    }
}

#[test]
fn past_the_queue_calls_are_refused_at_once() {
    let held = held(Kind::AddsOne, 1);
    let scheduling = Scheduling {
        queue: 2,
        ..Scheduling::default()
    };
    let scheduler = scheduler(&held, &scheduling);
    held.let_run(false);
    let first = scheduler.clone();
    let first = std::thread::spawn(move || run(&first, 1, &Cancel::default()));
    held.wait_until_running();
    let waiting = callers(&scheduler, [2, 3]);
    let refused = run(&scheduler, 4, &Cancel::default()).expect_err("the queue is full");
    assert_eq!(refused.kind(), ErrorKind::Busy);
    assert_eq!(refused.to_string(), "2 calls already wait for the model");
    held.let_run(true);
    let all = waiting.into_iter().chain([first]).collect();
    assert!(join(all).into_iter().all(|ran| ran.is_ok()));
    let statistics = scheduler.statistics();
    assert_eq!((statistics.succeeded, statistics.failed), (3, 1));
}

#[test]
fn who_is_stopped_leaves_the_queue_and_takes_no_turn_along() {
    for scheduling in [Scheduling::default(), batches_of(2, Duration::ZERO)] {
        let held = held(Kind::AddsOne, 1);
        let scheduler = scheduler(&held, &scheduling);
        held.let_run(false);
        let running = scheduler.clone();
        let running = std::thread::spawn(move || run(&running, 1, &Cancel::default()));
        held.wait_until_running();
        let (stopped, cancel) = (scheduler.clone(), Cancel::default());
        let cancelled = cancel.clone();
        let stopped = std::thread::spawn(move || run(&stopped, 2, &cancelled));
        while scheduler.statistics().waiting == 0 {
            std::thread::yield_now();
        }
        let behind = callers(&scheduler, [3]);
        cancel.cancel();
        let error = stopped.join().expect("no panic").expect_err("stopped");
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert_eq!(scheduler.statistics().waiting, 1);
        held.let_run(true);
        let all = behind.into_iter().chain([running]).collect();
        assert!(join(all).into_iter().all(|ran| ran.is_ok()));
    }
}

#[test]
fn a_panic_costs_only_the_call_that_causes_it_and_no_turn() {
    let held = held(Kind::Panics, 1);
    let scheduler = scheduler(&held, &batches_of(2, Duration::from_secs(3600)));
    let threads = callers(&scheduler, [13]);
    run(&scheduler, 1, &Cancel::default()).expect("runs by itself");
    let panicked = join(threads).remove(0).expect_err("the engine panics");
    assert!(panicked.to_string().contains("thirteen"), "{panicked}");
    let threads = callers(&scheduler, [1]);
    run(&scheduler, 2, &Cancel::default()).expect("the next batch runs");
    assert!(join(threads).into_iter().all(|ran| ran.is_ok()));
}

#[test]
fn a_call_that_fails_at_once_makes_no_other_short() {
    let held = held(Kind::Panics, 1);
    let scheduler = scheduler(&held, &Scheduling::default());
    let shape = Tensor::copied_from(Dtype::U8, vec![1, 2], &[0; 2]).expect("valid");
    let is_short = || {
        scheduler
            .costs
            .is_short(Costs::kind(std::slice::from_ref(&shape)))
    };
    run(&scheduler, 13, &Cancel::default()).expect_err("the engine panics");
    assert!(!is_short(), "nothing is known");
    // However busy the machine is: some of many runs are.
    assert!((0..100_000).any(|_| {
        run(&scheduler, 1, &Cancel::default()).expect("it runs");
        is_short()
    }));
}

#[tokio::test]
async fn a_short_call_runs_where_it_is_polled_if_there_is_a_place() {
    let held = held(Kind::AddsOne, 1);
    let scheduler = scheduler(&held, &Scheduling::default());
    let (threads, slices) = (
        Threads::new(None),
        Slices::new(1, wasmtime::Engine::default()),
    );
    let elsewhere = Elsewhere {
        threads: &threads,
        places: Some(&slices),
    };
    let runs_here = async || {
        let input = Tensor::copied_from(Dtype::U8, vec![1, 2], &[1, 0]).expect("valid");
        let cancel = Cancel::default();
        let call = (vec![input], (&cancel).into());
        let ran = scheduler.run_elsewhere(elsewhere, call, &mut None).await;
        ran.expect("it runs");
        *held.ran_on.lock().expect("no panic") == Some(std::thread::current().id())
    };
    assert!(!runs_here().await, "nothing is known of it");
    // However busy the machine is: some of many runs are short.
    let mut tries = 0;
    while !runs_here().await {
        tries += 1;
        assert!(tries < 100_000);
    }
    let place = slices.place().expect("all calls have ended");
    for _ in 0..10 {
        assert!(!runs_here().await, "there is no place");
    }
    drop(place);
    while !runs_here().await {
        tries += 1;
        assert!(tries < 200_000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_another_thread_took_over_is_counted_when_it_is_left() {
    let held = held(Kind::AddsOne, 1);
    let (scheduler, threads) = (scheduler(&held, &Scheduling::default()), Threads::new(None));
    held.let_run(false);
    let ask = || {
        let (scheduler, threads) = (scheduler.clone(), threads.clone());
        tokio::spawn(async move {
            let elsewhere = Elsewhere {
                threads: &threads,
                places: None,
            };
            let input = Tensor::copied_from(Dtype::U8, vec![1, 2], &[1, 0])?;
            let cancel = Cancel::default();
            let call = (vec![input], (&cancel).into());
            scheduler.run_elsewhere(elsewhere, call, &mut None).await
        })
    };
    let first = ask();
    held.wait_until_running();
    let second = ask();
    while scheduler.statistics().waiting == 0 {
        tokio::task::yield_now().await;
    }
    held.let_one_run();
    first.await.expect("no panic").expect("it runs");
    held.wait_until_running();
    assert_eq!(threads.abandoned(), 0, "somebody waits for the second");
    second.abort();
    while threads.abandoned() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    held.let_run(true);
    while threads.abandoned() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn stops_at_any_moment_lose_no_turn() {
    for scheduling in [
        Scheduling::default(),
        batches_of(3, Duration::ZERO),
        batches_of(3, Duration::from_micros(100)),
    ] {
        let held = held(Kind::AddsOne, 2);
        let scheduler = scheduler(&held, &scheduling);
        let start = Arc::new(Barrier::new(9));
        let threads = (0..8u8).map(|number| {
            let (scheduler, start) = (scheduler.clone(), start.clone());
            std::thread::spawn(move || {
                start.wait();
                for round in 0..300u32 {
                    let cancel = Cancel::default();
                    let canceller = cancel.clone();
                    let stop = (round % 3 == 0).then(|| {
                        std::thread::spawn(move || {
                            for _ in 0..round % 7 {
                                std::thread::yield_now();
                            }
                            canceller.cancel();
                        })
                    });
                    match run(&scheduler, number, &cancel) {
                        Ok(()) => {}
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Timeout, "{error}"),
                    }
                    if let Some(stop) = stop {
                        stop.join().expect("no panic");
                    }
                }
                Ok(())
            })
        });
        let threads: Vec<_> = threads.collect();
        start.wait();
        join(threads);
        let state = scheduler.state();
        assert_eq!((state.turns, state.queue.len()), (2, 0));
    }
}

#[test]
fn a_model_that_mixes_rows_is_not_batched() {
    let held = held(Kind::MixesRows, 1);
    let scheduler = Scheduler::new("m", "held", Arc::new(HeldGraph(held)));
    let error = scheduler
        .with(&batches_of(4, Duration::ZERO), Arc::default())
        .err()
        .expect("refused");
    assert_eq!(error.kind(), ErrorKind::UnsupportedOperation);
    assert!(
        error.to_string().contains("cannot be batched: a row"),
        "{error}"
    );
}
