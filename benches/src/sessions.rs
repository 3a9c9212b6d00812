//! How many runs a second several callers get of one model: on one graph whose engine session all of them run at once,
//! and beside it with a mutex round one session, which is how a host does it that holds the engine not to be safe for
//! more.
//!
//! Each way and number of callers is measured for a short time, one after the other, and again in the next round, so
//! that whatever else the machine does meets all of them.

use std::fmt::Write;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use infer_core::{Call, Cancel, Device, Graph, LoadOptions, Session, Tensor};

use crate::measure::{self, made_up};

/// How callers share a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sharing {
    /// A session of ours for each, on one graph: one engine session, one copy of the weights.
    Graph,
    /// One session of ours, behind a mutex.
    Mutex,
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many callers there are at once, one number after the other.
    pub callers: Vec<NonZeroUsize>,
    /// How long each way and number of callers is measured in one round.
    pub slice: Duration,
    /// How many rounds.
    pub rounds: usize,
}

/// Runs a second of one number of callers: the middle one of all rounds, and what 5 and 95 of 100 did not exceed.
#[derive(Clone, Copy, Debug)]
struct Rate {
    p5: f64,
    median: f64,
    p95: f64,
}

/// One number of callers of a model.
pub struct Row {
    model: String,
    callers: usize,
    graph: Rate,
    mutex: Rate,
    /// Of the graph, against the first number of callers.
    rise: f64,
}

/// Measures a model on ONNX Runtime, on the processor, with one engine thread for each run.
///
/// # Errors
/// Where the engine or the model is not there or fails.
pub fn measure(plan: &Plan, model: &str) -> anyhow::Result<Vec<Row>> {
    let options = LoadOptions {
        threads: Some(NonZeroUsize::MIN),
        ..LoadOptions::default()
    };
    let file = measure::model_file(model)?;
    let graph = measure::load(&measure::engine()?, file, (Device::Cpu, options))?;
    let inputs = graph
        .signature()
        .arrange(made_up(graph.signature(), &[1])?)?;
    let ways = [Sharing::Graph, Sharing::Mutex];
    let mut rates = vec![[Vec::new(), Vec::new()]; plan.callers.len()];
    // The first round only warms up.
    for round in 0..=plan.rounds {
        for (rates, &callers) in rates.iter_mut().zip(&plan.callers) {
            for (rates, way) in rates.iter_mut().zip(ways) {
                let rate = runs_per_second((&graph, &inputs), (way, callers.get()), plan.slice)?;
                if round > 0 {
                    rates.push(rate);
                }
            }
        }
    }
    let mut rows: Vec<Row> = Vec::new();
    for ([graph, mutex], &callers) in rates.into_iter().zip(&plan.callers) {
        let [graph, mutex] = [Rate::of(graph), Rate::of(mutex)];
        let (graph, mutex) = (graph.context("no rounds")?, mutex.context("no rounds")?);
        let first = rows.first().map_or(graph.median, |row| row.graph.median);
        rows.push(Row {
            model: model.to_owned(),
            callers: callers.get(),
            graph,
            mutex,
            rise: graph.median / first,
        });
    }
    Ok(rows)
}

fn runs_per_second(
    (graph, inputs): (&Arc<dyn Graph>, &[Tensor]),
    (sharing, callers): (Sharing, usize),
    time: Duration,
) -> anyhow::Result<f64> {
    let one = Mutex::new(graph.session()?);
    let (over, start) = (AtomicBool::new(false), Barrier::new(callers + 1));
    let call = |own: &mut Option<Box<dyn Session>>| match own {
        Some(session) => run(session.as_mut(), inputs),
        None => run(
            one.lock().unwrap_or_else(PoisonError::into_inner).as_mut(),
            inputs,
        ),
    };
    let caller = || -> anyhow::Result<usize> {
        let session = match sharing {
            Sharing::Graph => graph.session().map(Some),
            Sharing::Mutex => Ok(None),
        };
        // Whoever fails must be waited for no more than the others.
        start.wait();
        let (mut session, mut runs) = (session?, 0);
        while !over.load(Ordering::Relaxed) {
            call(&mut session)?;
            runs += 1;
        }
        Ok(runs)
    };
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..callers).map(|_| scope.spawn(caller)).collect();
        start.wait();
        let started = Instant::now();
        std::thread::sleep(time);
        over.store(true, Ordering::Relaxed);
        let mut runs = 0;
        for caller in callers {
            let of_caller = caller.join().ok().context("a caller panicked")?;
            runs += of_caller?;
        }
        // To the end of the last run, which counts.
        Ok(runs as f64 / started.elapsed().as_secs_f64())
    })
}

fn run(session: &mut dyn Session, inputs: &[Tensor]) -> anyhow::Result<()> {
    let mut calls = [Call::new(inputs.to_vec(), Cancel::default())];
    session.run(&mut calls);
    let [call] = calls;
    let outputs = call.result.context("the engine gave no result")?;
    let outputs = outputs.map_err(measure::described)?;
    ensure!(!outputs.is_empty(), "the model has no outputs");
    Ok(())
}

impl Rate {
    fn of(mut rates: Vec<f64>) -> Option<Rate> {
        rates.sort_unstable_by(f64::total_cmp);
        let last = rates.len().checked_sub(1)?;
        let at = |part: usize| rates[last * part / 100];
        Some(Rate {
            p5: at(5),
            median: at(50),
            p95: at(95),
        })
    }
}

/// The table, in Markdown.
pub fn table(rows: &[Row]) -> String {
    let mut text = "| model | callers | one graph, runs/s: median (p5 - p95) | to the first row | mutex round one session, \
         runs/s: median (p5 - p95) | graph / mutex |\n|---|--:|--:|--:|--:|--:|\n"
        .to_owned();
    for row in rows {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {:.2} | {} | {:.2} |",
            row.model,
            row.callers,
            shown(&row.graph),
            row.rise,
            shown(&row.mutex),
            row.graph.median / row.mutex.median,
        );
    }
    text
}

fn shown(rate: &Rate) -> String {
    format!("{:.1} ({:.1} - {:.1})", rate.median, rate.p5, rate.p95)
}
