//! The runs of a guest.
//!
//! A run makes a store and an instance on a thread that is its own meanwhile, where engine calls may block, or, where it
//! answers a request, on those of the caller's runtime (see `slices`), and watches its deadline from outside: the guest is
//! interrupted between instructions, waiting is dropped, engines are asked to stop, and what does not stop is
//! abandoned.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use infer_core::{Cancel, Error, ErrorKind, Result};
use tokio::sync::{Notify, oneshot};
use tracing::{Instrument, Span};
use wasmtime::component::ResourceTableError;
use wasmtime::{InstancePre, PoolConcurrencyLimitError, Store, Trap, UpdateDeadline};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi::{I32Exit, WasiCtxBuilder};

use crate::config::{Grants, Limits};
use crate::deadlines::Noted;
use crate::engine::Engine;
use crate::guest::outgoing::Outgoing;
use crate::guest::{Guest, Instance, Program, text};
use crate::host::Host;
use crate::nn::state::NnState;
use crate::nn::usage::{Limit, Usage};
use crate::slices::Slice;
use crate::spans;
use crate::threads;
use crate::wasi::held;

/// Stack of the thread that polls a guest, in bytes; the guest itself runs on a stack of wasmtime's.
const THREAD_STACK: usize = 2 << 20;

/// The thread that asks engines to stop, and its stack in bytes.
const STOP: &str = "infer-stop";
const STOP_STACK: usize = 512 << 10;

/// The most random bytes that a guest gets by one call, which nothing interrupts.
const MOST_RANDOM: u64 = 1 << 20;

/// How long is waited at most before an instance that was stopped is interrupted again.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// How long an engine that was asked to stop may take before its thread is abandoned.
const GRACE: Duration = Duration::from_millis(30);

/// How a run ended, and what it used.
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// The books of the instance, closed by now unless a thread was abandoned.
    pub usage: Arc<Usage>,
}

/// How a run ended.
#[derive(Debug)]
pub enum End {
    /// The guest ended by itself with this status.
    Exited(u32),
    /// It was stopped at its deadline.
    TimedOut(Duration),
    /// It trapped, or used up its fuel.
    Trapped(Error),
    /// The host could not run it.
    Failed(Error),
}

/// What an instance is asked for, and waited for.
pub struct Answering<T> {
    /// Its answer, or what went wrong for it; is dropped if it ends without.
    pub answer: oneshot::Receiver<Result<T>>,
    /// How the instance ends. Nothing is done before it is first polled, and dropping it stops the instance.
    pub outcome: Pin<Box<dyn Future<Output = Outcome> + Send>>,
    /// Stops it, and leaves the outcome to be waited for.
    pub stop: Stopper,
}

/// What is done in an instance: it instantiates, calls, and gives the status to end with.
pub(super) trait Work: Send + 'static {
    fn perform(self, store: &mut Store<Host>)
    -> impl Future<Output = wasmtime::Result<u32>> + Send;
}

impl Guest {
    /// Runs the guest in a new instance, to its end or its deadline. Must be called within a tokio runtime
    /// that has its timers enabled.
    pub async fn run(&self, instance: Instance) -> Outcome {
        let usage = Usage::new(&instance.limits);
        let end = match self.command() {
            Ok(command) => {
                let running = self.elsewhere(command, instance, (usage.clone(), Where::OwnThread));
                running.0.await
            }
            Err(error) => End::Failed(error),
        };
        Outcome { end, usage }
    }

    /// The same on the thread that polls this, which saves handing the guest to another: for callers that have threads
    /// for guests. Engine calls block the thread. At the deadline all is done that [`Guest::run`] does, but an engine
    /// that does not stop keeps the thread until it ends.
    pub async fn run_here(&self, instance: Instance) -> Outcome {
        let usage = Usage::new(&instance.limits);
        let running = async {
            let place = (usage.clone(), Where::OwnThread);
            let run = self.prepare(self.command()?, instance, place)?;
            Ok(run.drive().await)
        };
        let end = caught(running).await.unwrap_or_else(End::Failed);
        Outcome { end, usage }
    }

    fn command(&self) -> Result<Command> {
        match &self.program {
            Program::Command(component) => Ok(Command::Component(component.clone())),
            Program::Module(module) => Ok(Command::Module(module.clone())),
            Program::Http(_) | Program::Transform(_) => {
                let role = self.role();
                let message = format!(
                    "the component {role}, it is no command: it does not export `wasi:cli/run`"
                );
                Err(Error::new(ErrorKind::UnsupportedOperation, message)
                    .with_hint("serve it: infer serve GUEST"))
            }
        }
    }

    /// Has a new instance do work that answers by a channel.
    pub(super) fn ask<T, W: Work>(
        &self,
        instance: Instance,
        work: impl FnOnce(oneshot::Sender<Result<T>>) -> W,
    ) -> Answering<T> {
        let (sender, answer) = oneshot::channel();
        let usage = Usage::new(&instance.limits);
        let place = match self.engine.config().on_runtime {
            0 => Where::OwnThread,
            _ => Where::Runtime,
        };
        let (running, stop) = self.elsewhere(work(sender), instance, (usage.clone(), place));
        let outcome = Box::pin(async move {
            Outcome {
                end: running.await,
                usage,
            }
        });
        Answering {
            answer,
            outcome,
            stop,
        }
    }

    /// Does the work in a new instance. Dropping the future stops the instance, too.
    fn elsewhere<W: Work>(
        &self,
        work: W,
        instance: Instance,
        (usage, place): (Arc<Usage>, Where),
    ) -> (impl Future<Output = End> + Send + use<W>, Stopper) {
        let run = self.prepare(work, instance, (usage, place));
        let stopper = Stopper {
            engine: self.engine.clone(),
            stop: run.as_ref().ok().map(|run| run.stop.clone()),
        };
        let engine = self.engine.clone();
        let running = async move {
            let ended = match run {
                Ok(run) => run_watched(engine, run, place).await,
                Err(error) => Err(error),
            };
            ended.unwrap_or_else(End::Failed)
        };
        (running, stopper)
    }

    fn prepare<W: Work>(
        &self,
        work: W,
        mut instance: Instance,
        (usage, place): (Arc<Usage>, Where),
    ) -> Result<Run<W>> {
        let permit = instance.permit.take();
        let (limits, stop) = (instance.limits.clone(), Arc::new(Stop::default()));
        let span = spans::instance(instance.args.first().map_or("", String::as_str));
        let store = self.store(instance, usage, (&stop, place))?;
        let stopped = stop.clone();
        let deadline = self.at(limits.timeout, move |engine| {
            let (threads, engine) = (engine.threads().clone(), engine.clone());
            let work = {
                let (stopped, engine) = (stopped.clone(), engine.clone());
                move || stopped.to_its_end(&engine)
            };
            // An engine that blocks when it is asked to stop holds up no other's deadline.
            if threads.detach(STOP, STOP_STACK, work).is_err() {
                stopped.now(&engine);
            }
        })?;
        let given_up = stop.clone();
        let grace = limits.timeout.map(|timeout| timeout.saturating_add(GRACE));
        let late = self.at(grace, move |_| given_up.abandoned.notify_one())?;
        Ok(Run {
            unfinished: Unfinished(Some(stop.clone())),
            work,
            store,
            limits,
            _ending: Ending(stop.clone()),
            stop,
            span,
            _deadlines: [deadline, late],
            _permit: permit,
        })
    }

    /// Has `act` called after some time; not at all where that is further away than time goes.
    fn at(
        &self,
        after: Option<Duration>,
        act: impl FnOnce(&Engine) + Send + 'static,
    ) -> Result<Option<Noted>> {
        let time = after.and_then(|after| Instant::now().checked_add(after));
        let engine = self.engine.clone();
        let noted = time.map(|time| self.engine.deadlines().at(time, move || act(&engine)));
        noted.transpose()
    }

    fn store(
        &self,
        instance: Instance,
        usage: Arc<Usage>,
        (stop, place): (&Arc<Stop>, Where),
    ) -> Result<Store<Host>> {
        let wasi = wasi(&instance.args, &instance.grants)?
            .stdin(instance.stdin)
            .stdout(instance.stdout)
            .stderr(instance.stderr)
            .build_p1();
        let (limits, name) = (instance.limits, instance.args.first());
        let name = name.map_or("", String::as_str);
        let outgoing = Outgoing::new((name, instance.request_id), &instance.grants);
        let nn = NnState {
            registry: instance.registry,
            backends: instance.backends,
            grants: instance.grants,
            usage,
            cancel: stop.cancel.clone(),
            threads: self.engine.threads().clone(),
            may_block: place == Where::OwnThread,
            more_dtypes: self.more_dtypes,
            owner: self.owner,
            busy: false,
        };
        let most = match self.program {
            Program::Module(_) => held::MOST,
            _ => held::RESOURCES,
        };
        let pooled = self.engine.config().instances.is_some();
        let host = Host::new((wasi, most), (nn, outgoing), (&limits, pooled));
        let mut store = Store::new(self.engine.wasmtime(), host);
        store.limiter(|host| &mut host.memory);
        // No list that a guest passes is larger than its memory; parts of one may overlap.
        store.set_hostcall_fuel(limits.memory.saturating_mul(2));
        store.set_epoch_deadline(1);
        let stop = stop.clone();
        store.epoch_deadline_callback(move |_| {
            Ok(match stop.cancel.is_cancelled() {
                true => UpdateDeadline::Interrupt,
                false if stop.slice.ends() => UpdateDeadline::Yield(1),
                // The deadline or the slice of another instance.
                false => UpdateDeadline::Continue(1),
            })
        });
        match (self.engine.config().fuel, limits.fuel) {
            (true, fuel) => {
                let set = store.set_fuel(fuel.unwrap_or(u64::MAX));
                set.map_err(|error| failed("cannot set the fuel", &error))?;
            }
            (false, None) => {}
            (false, Some(_)) => {
                let message =
                    "fuel is limited, but this engine does not count it (`EngineConfig::fuel`)";
                return Err(Error::new(ErrorKind::InvalidArgument, message));
            }
        }
        Ok(store)
    }
}

/// Whose thread an instance runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    /// One that is the instance's alone.
    OwnThread,
    /// One of the caller's runtime, for slices of time.
    Runtime,
}

/// Runs to the end or until it is given up.
async fn run_watched<W: Work>(engine: Engine, run: Run<W>, place: Where) -> Result<End> {
    let (stop, timeout) = (run.stop.clone(), run.limits.timeout);
    let mut unwatched = Unwatched(Some(Stopper {
        engine: engine.clone(),
        stop: Some(stop.clone()),
    }));
    let running = async {
        let mut driving = Box::pin(caught(async { Ok(run.drive().await) }));
        if place == Where::Runtime
            && let Some(ended) = in_slices(&engine, &stop.slice, driving.as_mut()).await
        {
            return ended;
        }
        let runtime = tokio::runtime::Handle::current();
        let work = move || runtime.block_on(driving);
        engine
            .threads()
            .run("infer-guest", THREAD_STACK, work)
            .await?
    };
    let ended = tokio::select! {
        biased;
        ended = running => ended,
        () = stop.abandoned.notified() => Ok(End::TimedOut(timeout.unwrap_or_default())),
    };
    unwatched.0 = None;
    ended
}

/// Runs where it is polled; `None` as soon as it has to go on on a thread of its own.
async fn in_slices<T>(
    engine: &Engine,
    slice: &Slice,
    mut driving: Pin<&mut impl Future<Output = T>>,
) -> Option<T> {
    let slices = engine.slices();
    poll_fn(|context| {
        let Some(_begun) = slices.begin(slice) else {
            return Poll::Ready(None);
        };
        match driving.as_mut().poll(context) {
            Poll::Ready(ended) => Poll::Ready(Some(ended)),
            Poll::Pending if slice.is_over() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

fn wasi(args: &[String], grants: &Grants) -> Result<WasiCtxBuilder> {
    let mut wasi = WasiCtxBuilder::new();
    wasi.args(args)
        .envs(&grants.env)
        .max_random_size(MOST_RANDOM);
    for dir in &grants.dirs {
        wasi.preopened_dir(&dir.host, &dir.guest, dir.permissions())
            .map_err(|error| {
                Error::new(
                    ErrorKind::NotFound,
                    format!("cannot open the folder `{}`", dir.host.display()),
                )
                .with_source(text(&error))
                .with_hint("--dir takes HOST[::GUEST][:ro], where HOST is a folder that exists")
            })?;
    }
    if grants.network {
        wasi.inherit_network()
            .allow_ip_name_lookup(true)
            .allow_tcp(true)
            .allow_udp(true);
    }
    Ok(wasi)
}

/// How an instance is stopped.
#[derive(Default)]
struct Stop {
    cancel: Cancel,
    /// Its time is up.
    due: Notify,
    /// It was given time to end, and has not.
    abandoned: Notify,
    /// It ended otherwise than by itself. Said before anything that it holds is dropped.
    failed: AtomicBool,
    /// Nothing is left of it.
    ended: AtomicBool,
    slice: Slice,
}

impl Stop {
    fn now(&self, engine: &Engine) {
        // A permit is kept for a guest that does not wait at this moment.
        self.due.notify_one();
        self.cancel.cancel();
        engine.wasmtime().increment_epoch();
    }

    /// Stops it and moves the epoch on until it has ended: wasmtime reads the epoch anew after it has asked whether to
    /// stop, and may have missed one. For a thread that nobody waits for.
    fn to_its_end(&self, engine: &Engine) {
        self.now(engine);
        let mut rest = Duration::from_millis(1);
        while !self.ended.load(Ordering::Acquire) {
            std::thread::sleep(rest);
            engine.wasmtime().increment_epoch();
            rest = (rest * 2).min(LONGEST_REST);
        }
    }
}

/// Says that nothing is left of an instance.
struct Ending(Arc<Stop>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Release);
    }
}

/// Stops an instance: the guest is interrupted, its engine asked to stop.
pub struct Stopper {
    engine: Engine,
    stop: Option<Arc<Stop>>,
}

impl Stopper {
    /// Whether it has ended, and not by itself: it trapped, or its time was up. What it was giving is not whole then.
    pub fn has_failed(&self) -> bool {
        let stop = self.stop.as_ref();
        stop.is_none_or(|stop| stop.failed.load(Ordering::Acquire))
    }

    /// Stops it and does not wait for its end. If it has ended, nothing happens.
    pub fn stop(self) {
        let Some(stop) = self.stop else {
            return;
        };
        let (engine, stopping) = (self.engine.clone(), stop.clone());
        let work = move || stopping.to_its_end(&engine);
        // An engine may block when it is asked to stop.
        if self
            .engine
            .threads()
            .detach(STOP, STOP_STACK, work)
            .is_err()
        {
            stop.now(&self.engine);
        }
    }
}

/// Stops an instance that nobody waits for any more, because the future of its run was dropped.
struct Unwatched(Option<Stopper>);

impl Drop for Unwatched {
    fn drop(&mut self) {
        if let Some(stopper) = self.0.take() {
            stopper.stop();
        }
    }
}

/// An instance that is ready to start.
struct Run<W> {
    /// The first to go: a body that the store drops unfinished must not look whole.
    unfinished: Unfinished,
    work: W,
    store: Store<Host>,
    limits: Limits,
    stop: Arc<Stop>,
    span: Span,
    _deadlines: [Option<Noted>; 2],
    _ending: Ending,
    /// The last to go: who gets it next finds the instance's place in the pool free.
    _permit: Option<Box<dyn Any + Send>>,
}

/// Says that an instance has failed, unless it is known not to have.
struct Unfinished(Option<Arc<Stop>>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(stop) = &self.0 {
            stop.failed.store(true, Ordering::Release);
        }
    }
}

impl<W: Work> Run<W> {
    async fn drive(self) -> End {
        let span = self.span.clone();
        self.until_its_end().instrument(span).await
    }

    async fn until_its_end(mut self) -> End {
        let end = Run::end(self.work, (&mut self.store, &self.limits), &self.stop).await;
        if matches!(end, End::Exited(_)) {
            self.unfinished.0 = None;
        }
        end
    }

    async fn end(work: W, (store, limits): (&mut Store<Host>, &Limits), stop: &Stop) -> End {
        let due = End::TimedOut(limits.timeout.unwrap_or_default());
        let call = work.perform(&mut *store);
        let result = tokio::select! {
            biased;
            result = call => result,
            // Ends waiting, for input say; the epoch and the engine's own stop end everything else.
            () = stop.due.notified() => return due,
        };
        let usage = store.data().nn.usage.clone();
        let refused = usage.ran_into(Limit::Memory);
        if result.is_ok() && refused {
            let limit = limits.memory;
            tracing::warn!(
                "the guest was refused memory beyond its limit of {limit} bytes (--max-memory)"
            );
        }
        let timed_out = limits.timeout.is_some() && stop.cancel.is_cancelled();
        match result {
            _ if timed_out => due,
            Ok(status) => End::Exited(status),
            Err(error) if error.is::<I32Exit>() => End::Exited(
                error
                    .downcast_ref::<I32Exit>()
                    .map_or(1, |exit| exit.0.cast_unsigned()),
            ),
            Err(error) if error.is::<PoolConcurrencyLimitError>() => {
                End::Failed(pool_is_full(&error))
            }
            Err(error) if has_no_memory(&error) => End::Failed(no_memory(&error)),
            Err(error) => {
                if error.downcast_ref() == Some(&Trap::OutOfFuel) {
                    usage.hit(Limit::Fuel);
                }
                if holds_too_much(&error) {
                    usage.hit(Limit::Resources);
                }
                End::Trapped(trapped(&error, limits, refused))
            }
        }
    }
}

/// A panic of the host's as an error, as it is on a guest's own thread.
async fn caught<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut work = pin!(work);
    poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)));
        polled.unwrap_or_else(|_| Poll::Ready(Err(threads::panicked())))
    })
    .await
}

/// A program that runs from its start to its end.
enum Command {
    Component(CommandPre<Host>),
    Module(InstancePre<Host>),
}

impl Work for Command {
    async fn perform(self, store: &mut Store<Host>) -> wasmtime::Result<u32> {
        match self {
            Command::Component(command) => {
                let command = command.instantiate_async(&mut *store).await?;
                Ok(match command.wasi_cli_run().call_run(store).await? {
                    Ok(()) => 0,
                    Err(()) => 1,
                })
            }
            Command::Module(module) => {
                let instance = module.instantiate_async(&mut *store).await?;
                let start = instance.get_typed_func::<(), ()>(&mut *store, "_start")?;
                start.call_async(store, ()).await?;
                Ok(0)
            }
        }
    }
}

fn trapped(error: &wasmtime::Error, limits: &Limits, memory_refused: bool) -> Error {
    let cause = error.root_cause();
    let trap = error.downcast_ref::<Trap>().copied();
    let message = match (trap, limits.fuel) {
        (Some(Trap::OutOfFuel), Some(fuel)) => {
            format!("the guest used up its {fuel} units of fuel")
        }
        _ if holds_too_much(error) => {
            let (most, module) = (held::RESOURCES, held::MOST);
            format!(
                "the guest trapped: it holds as many resources as it may: {most} of WASI, {module} of preview1, and twice its handles (--max-handles) of wasi-nn"
            )
        }
        _ => format!("the guest trapped: {cause}"),
    };
    let mut trapped = Error::new(ErrorKind::RuntimeError, message);
    if let Some(backtrace) = error.downcast_ref::<wasmtime::WasmBacktrace>() {
        trapped = trapped.with_source(backtrace.to_string().trim_end().to_owned());
    }
    match (trap, memory_refused) {
        (Some(Trap::OutOfFuel), _) => trapped.with_hint("give it more with --fuel"),
        (_, true) => trapped.with_hint(format!(
            "before that it was refused memory beyond its limit of {} bytes: raise --max-memory",
            limits.memory
        )),
        _ => trapped,
    }
}

/// Whether one of its tables had no room; those of WASI say so by a trap.
fn holds_too_much(error: &wasmtime::Error) -> bool {
    error
        .chain()
        .any(|cause| matches!(cause.downcast_ref(), Some(ResourceTableError::Full)))
}

fn pool_is_full(error: &wasmtime::Error) -> Error {
    let message = "the engine runs as many instances as it was made for";
    Error::new(ErrorKind::RuntimeError, message)
        .with_source(text(error))
        .with_hint("start fewer at one time, or raise `EngineConfig::instances`")
}

/// Whether the host could not have the memory for an instance; what a guest asks for itself it is refused otherwise.
fn has_no_memory(error: &wasmtime::Error) -> bool {
    let io = |cause: &std::io::Error| cause.kind() == std::io::ErrorKind::OutOfMemory;
    error.downcast_ref::<std::io::Error>().is_some_and(io)
        || error.downcast_ref() == Some(&rustix::io::Errno::NOMEM)
}

fn no_memory(error: &wasmtime::Error) -> Error {
    let message = "the host has no memory for an instance: each of its memories takes 4 GiB of address space, of which what it touches is used";
    Error::new(ErrorKind::RuntimeError, message)
        .with_source(text(error))
        .with_hint("raise the limit of address space (`ulimit -v`), if there is one")
}

fn failed(message: &str, error: &wasmtime::Error) -> Error {
    Error::new(ErrorKind::RuntimeError, message).with_source(text(error))
}
