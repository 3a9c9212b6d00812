//! Work under load: so many callers at one time, each of which starts anew when it is done.
//!
//! What is measured is what a caller waits: for its turn, for the engine, for the sandbox where the work is a guest.

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use infer_core::{Cancel, Error, ErrorKind, Result};

use crate::registry::Model;
use crate::scheduler::{OwnSession, Scheduler};
use crate::tune::inputs;

/// How often progress is told.
const TELL: Duration = Duration::from_millis(50);

/// How much work is asked for, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Callers at one time.
    pub callers: NonZeroUsize,
    /// How long work is done before it counts; each caller does it once in any case.
    pub warm_up: Duration,
    /// How long it counts.
    pub time: Duration,
}

/// What a caller repeats.
pub type Repeated = Box<dyn FnMut() -> Result<()>>;

/// What callers waited.
#[derive(Clone, Debug)]
pub struct Measured {
    /// From the first start that counts to the last end.
    pub elapsed: Duration,
    /// The time of each run, the shortest first; at least one for each caller.
    pub times: Vec<Duration>,
}

impl Measured {
    /// The time that so many of 100 runs did not exceed.
    pub fn percentile(&self, percent: f64) -> Duration {
        let place = (self.times.len() as f64 * percent / 100.0).ceil() as usize;
        let place = place.clamp(1, self.times.len().max(1)) - 1;
        self.times.get(place).copied().unwrap_or_default()
    }

    /// The mean time of a run.
    pub fn mean(&self) -> Duration {
        let sum: Duration = self.times.iter().sum();
        sum / u32::try_from(self.times.len().max(1)).unwrap_or(u32::MAX)
    }

    /// Runs in a second, of all callers together.
    pub fn throughput(&self) -> f64 {
        self.times.len() as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// Puts work under load. `caller` is asked once for each caller, on its own thread, for what it repeats; `warmed` is called
/// when all have warmed up and none counts yet.
///
/// # Errors
/// The first of the work itself, after which all callers stop.
pub fn measure<Work: FnMut() -> Result<()>>(
    load: Load,
    caller: impl Fn() -> Result<Work> + Sync,
    (warmed, progress): (&(dyn Fn() + Sync), &mut dyn FnMut(f64)),
) -> Result<Measured> {
    let callers = load.callers.get();
    let shared = Shared {
        load,
        warm: Meeting::of(callers, warmed),
        stop: AtomicBool::new(false),
        failed: Mutex::new(None),
    };
    let started = Instant::now();
    let counted: Vec<Counted> = std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for started in 0..callers {
            let thread = std::thread::Builder::new();
            match thread.spawn_scoped(scope, || shared.repeat(&caller)) {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    shared.noted::<()>(Err(no_thread((started, callers), error)));
                    drop(shared.warm.come(callers - started));
                    break;
                }
            }
        }
        let whole = load.warm_up + load.time;
        while threads.iter().any(|thread| !thread.is_finished()) {
            std::thread::sleep(TELL.min(whole / 20));
            progress((started.elapsed().as_secs_f64() / whole.as_secs_f64()).min(1.0));
        }
        let ended = threads.into_iter().map(|thread| thread.join());
        ended
            .filter_map(std::result::Result::ok)
            .flatten()
            .collect()
    });
    let failed = shared.failed.into_inner();
    if let Some(error) = failed.unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    if counted.len() < callers {
        return Err(panicked());
    }
    let start = counted.iter().map(|counted| counted.start).min();
    let end = counted.iter().map(|counted| counted.end).max();
    let elapsed = end.zip(start).map(|(end, start)| end - start);
    let mut times: Vec<Duration> = counted
        .into_iter()
        .flat_map(|counted| counted.times)
        .collect();
    times.sort_unstable();
    Ok(Measured {
        elapsed: elapsed.unwrap_or_default(),
        times,
    })
}

fn no_thread((started, callers): (usize, usize), error: std::io::Error) -> Error {
    let message = format!("cannot start {callers} callers: there are threads for {started}");
    Error::new(ErrorKind::RuntimeError, message)
        .with_source(error)
        .with_hint("raise the limit of threads (`ulimit -u`, or that of the container), or take fewer callers")
}

fn panicked() -> Error {
    let message = "a caller panicked: this is a fault of infer";
    Error::new(ErrorKind::RuntimeError, message)
}

/// What one caller did while it counted.
struct Counted {
    start: Instant,
    end: Instant,
    times: Vec<Duration>,
}

/// Where callers wait for each other.
struct Meeting<'a> {
    missing: Mutex<usize>,
    complete: Condvar,
    then: &'a (dyn Fn() + Sync),
}

impl<'a> Meeting<'a> {
    /// `then` is called by the last that comes, while the others still wait.
    fn of(callers: usize, then: &'a (dyn Fn() + Sync)) -> Meeting<'a> {
        Meeting {
            missing: Mutex::new(callers),
            complete: Condvar::new(),
            then,
        }
    }

    /// Stands for so many that come.
    fn come(&self, callers: usize) -> MutexGuard<'_, usize> {
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        *missing = missing.saturating_sub(callers);
        if *missing == 0 {
            (self.then)();
            self.complete.notify_all();
        }
        missing
    }

    /// Comes, and waits for the others.
    fn wait(&self) {
        let missing = self.come(1);
        drop(self.complete.wait_while(missing, |missing| *missing > 0));
    }
}

/// What the callers of one load share.
struct Shared<'a> {
    load: Load,
    /// All start to count together.
    warm: Meeting<'a>,
    stop: AtomicBool,
    failed: Mutex<Option<Error>>,
}

impl Shared<'_> {
    /// Nothing where this or another caller failed.
    fn repeat<Work: FnMut() -> Result<()>>(
        &self,
        caller: impl Fn() -> Result<Work>,
    ) -> Option<Counted> {
        let warm_up = || {
            let mut work = caller()?;
            self.warm_up(&mut work)?;
            Ok(work)
        };
        let warmed = catch_unwind(AssertUnwindSafe(warm_up)).unwrap_or_else(|_| Err(panicked()));
        let work = self.noted(warmed);
        // Every caller comes here, also one that failed: the others wait for it.
        self.warm.wait();
        let counted = self.count(work?);
        self.noted(counted)
    }

    fn warm_up(&self, work: &mut impl FnMut() -> Result<()>) -> Result<()> {
        let started = Instant::now();
        work()?;
        while started.elapsed() < self.load.warm_up && !self.stop.load(Ordering::Relaxed) {
            work()?;
        }
        Ok(())
    }

    fn count(&self, mut work: impl FnMut() -> Result<()>) -> Result<Counted> {
        let start = Instant::now();
        let (mut times, mut last) = (Vec::new(), start);
        while times.is_empty()
            || last - start < self.load.time && !self.stop.load(Ordering::Relaxed)
        {
            work()?;
            let now = Instant::now();
            times.push(now - last);
            last = now;
        }
        Ok(Counted {
            start,
            end: last,
            times,
        })
    }

    fn noted<T>(&self, result: Result<T>) -> Option<T> {
        result
            .map_err(|error| {
                self.stop.store(true, Ordering::Relaxed);
                let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.get_or_insert(error);
            })
            .ok()
    }
}

/// Runs of a model with made-up inputs, as a guest's `compute` would do them; for [`measure`]. A dynamic dimension is 1
/// unless `shapes` says the input's shape.
///
/// # Errors
/// `UnsupportedOperation` for an input of strings; `InvalidArgument` for a shape that does not fit, or of an input that
/// is not there; `TooLarge` for more than 4 GiB.
pub fn model_caller(
    model: &Arc<Model>,
    shapes: &[(String, Vec<usize>)],
) -> Result<impl Fn() -> Result<Repeated> + Sync> {
    let signature = model.signature();
    let inputs = signature.arrange(inputs::make(signature, shapes)?)?;
    let model = model.clone();
    Ok(move || {
        let (model, inputs) = (model.clone(), inputs.clone());
        let (cancel, mut own) = (Cancel::default(), OwnSession::None);
        let work = move || {
            let scheduler: &Scheduler = model.scheduler();
            scheduler.run(inputs.clone(), &cancel, &mut own).map(drop)
        };
        Ok(Box::new(work) as Repeated)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::AtomicUsize;

    fn load(callers: usize) -> Load {
        Load {
            callers: NonZeroUsize::new(callers).expect("not 0"),
            warm_up: Duration::from_millis(2),
            time: Duration::from_millis(10),
        }
    }

    #[test]
    fn every_caller_runs_at_the_same_time_as_the_others() {
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let warmed = AtomicBool::new(false);
        let all = Barrier::new(3);
        let caller = || {
            let (now, most, all, mut runs) = (&now, &most, &all, 0);
            Ok(move || {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                if runs == 0 {
                    all.wait();
                }
                runs += 1;
                now.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            })
        };
        let mut told = 0.0;
        let measured = measure(
            load(3),
            caller,
            (&|| warmed.store(true, Ordering::SeqCst), &mut |part| {
                told = part
            }),
        )
        .expect("works");
        assert_eq!(most.load(Ordering::SeqCst), 3);
        assert!(measured.times.len() >= 3 && measured.times.is_sorted());
        assert!(warmed.into_inner());
        assert!(measured.elapsed >= Duration::from_millis(10) && told > 0.0);
    }

    #[test]
    fn an_error_ends_all_callers() {
        for failing_run in [0, 1, 100] {
            let runs = AtomicUsize::new(0);
            let caller = || {
                Ok(
                    || match runs.fetch_add(1, Ordering::SeqCst) == failing_run {
                        true => Err(Error::new(ErrorKind::RuntimeError, "no more")),
                        false => Ok(()),
                    },
                )
            };
            let error = measure(load(2), caller, (&|| (), &mut |_| {})).expect_err("one failed");
            assert_eq!(error.to_string(), "no more");
        }
    }

    #[test]
    fn percentiles_are_times_that_were_seen() {
        let measured = Measured {
            elapsed: Duration::from_secs(2),
            times: (1..=100).map(Duration::from_millis).collect(),
        };
        for (percent, expected) in [(0.0, 1), (50.0, 50), (95.0, 95), (99.0, 99), (100.0, 100)] {
            assert_eq!(
                measured.percentile(percent),
                Duration::from_millis(expected)
            );
        }
        assert_eq!(measured.throughput(), 50.0);
        assert_eq!(measured.mean(), Duration::from_micros(50_500));
    }
}
