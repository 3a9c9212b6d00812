//! Puts a server under load and checks every answer.
//!
//! Steps: a few different requests are made beforehand ([`request`]); each connection ([`client`]) sends them in turn.
//! In a closed loop a connection sends its next request when it has the answer; in an open loop requests have times,
//! whatever the server does, and each is sent by the next connection that is free. Latency is counted to the last byte
//! of the answer, in a closed loop from when the request is sent, in an open one from when it should have been sent, so
//! that a server that falls behind cannot hide it. Times are kept one thread away from the connections, since timers of
//! tokio have milliseconds.

pub mod client;
pub mod request;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use client::Connection;
use request::{Made, Protocol};

/// How long a connection rests after a failure.
const REST: Duration = Duration::from_millis(10);

/// What is sent where.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where the server listens.
    pub address: SocketAddr,
    /// What it speaks.
    pub protocol: Protocol,
    /// The requests.
    pub made: Arc<Vec<Made>>,
}

/// How much, and what is right.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Requests at one time; of an open loop, at most.
    pub connections: NonZeroUsize,
    /// How long requests are sent.
    pub duration: Duration,
    /// Requests a second of an open loop.
    pub rate: Option<f64>,
    /// What each request must be answered.
    pub expected: Expected,
}

/// What is right.
#[derive(Clone, Debug)]
pub enum Expected {
    /// The place of the largest value, for each request.
    Places(Arc<Vec<usize>>),
    /// The values of the request.
    Echo,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Right answers.
    pub answered: usize,
    /// Failures, by status or connection.
    pub failed: usize,
    /// Answers that were not right.
    pub wrong: usize,
    /// Requests of an open loop that were due and found no connection.
    pub unsent: usize,
    /// One of the failures or wrong answers.
    pub failure: Option<String>,
    /// From the first request to the last answer, in seconds.
    pub seconds: f64,
    /// Right answers a second.
    pub rate: f64,
    /// Latency that half of them do not exceed, in nanoseconds.
    pub p50: Option<u64>,
    /// That 90 of 100 do not exceed.
    pub p90: Option<u64>,
    /// That 99 of 100 do not exceed.
    pub p99: Option<u64>,
    /// The longest.
    pub longest: Option<u64>,
}

/// What one connection saw.
#[derive(Default)]
struct Seen {
    latencies: Vec<Duration>,
    failed: usize,
    wrong: usize,
    failure: Option<String>,
}

/// Sends each request once, one after the other, and gives the places of the largest values.
///
/// # Errors
/// Where a request fails.
pub async fn learn(target: &Target) -> anyhow::Result<Vec<usize>> {
    let mut connection = Connection::open(target.address, target.protocol).await?;
    let mut places = Vec::new();
    for made in target.made.iter() {
        let answer = connection.send(made).await?;
        places.push(answer.place().context("an answer without values")?);
    }
    Ok(places)
}

/// Puts it under load.
///
/// # Errors
/// Where no connection can be made at all, and for a plan with fewer answers than requests.
pub async fn run(target: &Target, plan: &Plan) -> anyhow::Result<Report> {
    if let Expected::Places(places) = &plan.expected {
        ensure!(
            places.len() == target.made.len(),
            "expected {} answers, got {}",
            target.made.len(),
            places.len()
        );
    }
    let mut connections = Vec::new();
    for _ in 0..plan.connections.get() {
        connections.push(Connection::open(target.address, target.protocol).await?);
    }
    let start = Instant::now();
    let schedule = Schedule::start(plan, start);
    let mut callers = Vec::new();
    for (number, connection) in connections.into_iter().enumerate() {
        let caller = Caller {
            connection: Some(connection),
            target: target.clone(),
            expected: plan.expected.clone(),
            number,
            seen: Seen::default(),
        };
        callers.push(tokio::spawn(caller.call(schedule.clone())));
    }
    let mut all = Seen::default();
    for caller in callers {
        all.add(caller.await?);
    }
    let seconds = start.elapsed().as_secs_f64();
    Ok(all.report(seconds, schedule.unsent().await))
}

/// When requests are due.
#[derive(Clone)]
enum Schedule {
    /// As soon as there is a connection, until then.
    Closed { end: Instant },
    /// At these times. Whatever is due later than `end` by the server's own fault is not sent.
    Open {
        due: Arc<Mutex<UnboundedReceiver<Instant>>>,
        end: Instant,
    },
}

impl Schedule {
    fn start(plan: &Plan, start: Instant) -> Schedule {
        let end = start + plan.duration;
        let Some(rate) = plan.rate else {
            return Schedule::Closed { end };
        };
        let (sender, due) = unbounded_channel();
        let count = (plan.duration.as_secs_f64() * rate) as u32;
        std::thread::spawn(move || {
            for number in 0..count {
                let time = start + Duration::from_secs_f64(f64::from(number) / rate);
                std::thread::sleep(time.saturating_duration_since(Instant::now()));
                if sender.send(time).is_err() {
                    return;
                }
            }
        });
        Schedule::Open {
            due: Arc::new(Mutex::new(due)),
            end: end + plan.duration,
        }
    }

    /// When the next request was due, as soon as it is; `None` when there is none.
    async fn next(&self) -> Option<Instant> {
        match self {
            Schedule::Closed { end } => {
                let now = Instant::now();
                (now < *end).then_some(now)
            }
            Schedule::Open { due, end } => {
                if Instant::now() >= *end {
                    return None;
                }
                due.lock().await.recv().await
            }
        }
    }

    /// How many were due and never sent.
    async fn unsent(&self) -> usize {
        match self {
            Schedule::Closed { .. } => 0,
            Schedule::Open { due, .. } => due.lock().await.len(),
        }
    }
}

/// One connection and what it sends.
struct Caller {
    connection: Option<Connection>,
    target: Target,
    expected: Expected,
    /// Which request it begins with.
    number: usize,
    seen: Seen,
}

impl Caller {
    async fn call(mut self, schedule: Schedule) -> Seen {
        let made = Arc::clone(&self.target.made);
        while let Some(due) = schedule.next().await {
            let index = self.number % made.len();
            self.number += 1;
            match self.send((index, &made[index])).await {
                Ok((answered, true)) => self.seen.latencies.push(answered.duration_since(due)),
                Ok((_, false)) => {
                    self.seen.wrong += 1;
                    let failure = || format!("a wrong answer to request {index}");
                    self.seen.failure.get_or_insert_with(failure);
                }
                Err(error) => {
                    self.seen.failed += 1;
                    self.seen
                        .failure
                        .get_or_insert_with(|| format!("{error:#}"));
                    self.connection = None;
                    tokio::time::sleep(REST).await;
                }
            }
        }
        self.seen
    }

    /// When the last byte of the answer was there, and whether it is right.
    async fn send(&mut self, (index, made): (usize, &Made)) -> anyhow::Result<(Instant, bool)> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(Connection::open(self.target.address, self.target.protocol).await?),
        };
        connection.receive(made).await?;
        let answered = Instant::now();
        let answer = connection.answer()?;
        let right = match &self.expected {
            Expected::Places(places) => answer.place() == places.get(index).copied(),
            Expected::Echo => answer.values() == Some(made.values()),
        };
        Ok((answered, right))
    }
}

impl Seen {
    fn add(&mut self, other: Seen) {
        self.latencies.extend(other.latencies);
        self.failed += other.failed;
        self.wrong += other.wrong;
        self.failure = self.failure.take().or(other.failure);
    }

    fn report(mut self, seconds: f64, unsent: usize) -> Report {
        self.latencies.sort_unstable();
        let last = self.latencies.len().saturating_sub(1);
        let at = |part: usize| {
            let latency = self.latencies.get((last * part).div_ceil(100))?;
            u64::try_from(latency.as_nanos()).ok()
        };
        Report {
            answered: self.latencies.len(),
            failed: self.failed,
            wrong: self.wrong,
            unsent,
            seconds,
            rate: self.latencies.len() as f64 / seconds,
            p50: at(50),
            p90: at(90),
            p99: at(99),
            longest: at(100),
            failure: self.failure,
        }
    }
}
