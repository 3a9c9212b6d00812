//! The configured wasmtime: compiler settings, and linkers with everything that a guest may import.

use std::sync::OnceLock;

use wasmtime::{Config, Enabled, PoolingAllocationConfig, component};

use infer_core::{Error, ErrorKind, Result};

use crate::config::EngineConfig;
use crate::deadlines::Deadlines;
use crate::host::{Host, MOST_OF_EACH};
use crate::nn::wit::Waits;
use crate::nn::{types, wit, witx};
use crate::slices::Slices;
use crate::threads::Threads;
use crate::wasi;

/// Stack of a guest's wasm and of the engine calls that it makes, in bytes; pages are used when touched.
const ASYNC_STACK: usize = 8 << 20;

/// Elements that a table in the pool has room for.
const TABLE_ELEMENTS: usize = 100_000;

/// The most tables of one instance in the pool: those of a component's modules, and those that bindings add.
const TABLES: u32 = 16;

/// The most memories of one instance in the pool; several have components that are composed of others.
const MEMORIES: u32 = 4;

/// Memories that a pool has room for in any case, 4 GiB of address space each: half of what a process on x86-64 has. Beyond
/// these each instance has one, and more only as long as others have no more.
const ADDRESSES: u32 = 1 << 14;

/// What is kept of an instance's tables for the next one in its place, in bytes: clearing it is cheaper than having it
/// mapped anew.
const KEPT_TABLES: usize = 128 << 10;

/// Compiles guests and links them; one per process is enough. Clones share everything.
#[derive(Clone)]
pub struct Engine(std::sync::Arc<Inner>);

struct Inner {
    config: EngineConfig,
    wasmtime: wasmtime::Engine,
    /// Made when the first component that runs, the first that is asked, or the first module, needs it.
    commands: OnceLock<component::Linker<Host>>,
    answering: OnceLock<component::Linker<Host>>,
    modules: OnceLock<wasmtime::Linker<Host>>,
    threads: Threads,
    deadlines: Deadlines,
    slices: Slices,
}

impl Engine {
    /// An engine of these settings.
    ///
    /// # Errors
    /// `UnsupportedOperation` where wasmtime cannot compile for this processor, or the pool has no room.
    pub fn new(config: &EngineConfig) -> Result<Engine> {
        let room = |each: Room| wasmtime::Engine::new(&settings(config, each));
        let wasmtime = match room(Room::ForMost) {
            Err(_) if config.instances.is_some() => room(Room::ForFew),
            engine => engine,
        };
        let wasmtime = wasmtime.map_err(failed)?;
        Ok(Engine(std::sync::Arc::new(Inner {
            config: *config,
            slices: Slices::new(config.on_runtime, wasmtime.clone()),
            wasmtime,
            commands: OnceLock::new(),
            answering: OnceLock::new(),
            modules: OnceLock::new(),
            threads: Threads::new(config.instances),
            deadlines: Deadlines::default(),
        })))
    }

    pub(crate) fn config(&self) -> &EngineConfig {
        &self.0.config
    }

    pub(crate) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.0.wasmtime
    }

    /// For components that wait so.
    pub(crate) fn components(&self, waits: Waits) -> Result<&component::Linker<Host>> {
        let linker = match waits {
            Waits::Blocking => &self.0.commands,
            Waits::Suspended => &self.0.answering,
        };
        lazily(linker, || component_linker(&self.0.wasmtime, waits))
    }

    pub(crate) fn modules(&self) -> Result<&wasmtime::Linker<Host>> {
        lazily(&self.0.modules, || module_linker(&self.0.wasmtime))
    }

    pub(crate) fn deadlines(&self) -> &Deadlines {
        &self.0.deadlines
    }

    pub(crate) fn slices(&self) -> &Slices {
        &self.0.slices
    }

    pub(crate) fn threads(&self) -> &Threads {
        &self.0.threads
    }

    /// How many threads are in engine calls that outlived their guests.
    pub fn abandoned_threads(&self) -> usize {
        self.0.threads.abandoned()
    }
}

/// What is in the cell, or what `make` puts there; two at once may both make it.
fn lazily<T>(cell: &OnceLock<T>, make: impl FnOnce() -> wasmtime::Result<T>) -> Result<&T> {
    if let Some(made) = cell.get() {
        return Ok(made);
    }
    let made = make().map_err(failed)?;
    Ok(cell.get_or_init(|| made))
}

fn failed(error: wasmtime::Error) -> Error {
    Error::new(ErrorKind::UnsupportedOperation, "cannot set up wasmtime").with_source(error)
}

/// What a pool has for each instance.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    /// As many memories and tables as an instance may have.
    ForMost,
    /// A memory and a few tables, where the system has no addresses for more: what one instance has beyond these, another
    /// goes without.
    ForFew,
}

fn settings(config: &EngineConfig, room: Room) -> Config {
    let mut settings = Config::new();
    settings.consume_fuel(config.fuel);
    // Deadlines: the watcher of an instance moves the epoch on when one has passed.
    settings.epoch_interruption(true);
    settings.async_stack_size(ASYNC_STACK);
    if let Some(instances) = config.instances {
        settings.allocation_strategy(pool(instances, config.kept_memory, room));
    }
    settings
}

fn pool(instances: u32, kept_memory: usize, room: Room) -> PoolingAllocationConfig {
    let (memories, tables) = match room {
        Room::ForMost => (
            instances
                .saturating_mul(MEMORIES)
                .min(ADDRESSES.max(instances)),
            TABLES,
        ),
        Room::ForFew => (instances, TABLES / 4),
    };
    let most_of_each = u32::try_from(MOST_OF_EACH).unwrap_or(u32::MAX);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        // These only count.
        .total_core_instances(instances.saturating_mul(most_of_each))
        // Whatever its guest, an instance takes none of what another needs.
        .max_memories_per_module(MEMORIES)
        .max_memories_per_component(MEMORIES)
        .max_tables_per_module(TABLES)
        .max_tables_per_component(TABLES)
        .total_memories(memories)
        .total_tables(instances.saturating_mul(tables))
        .table_elements(TABLE_ELEMENTS)
        .total_stacks(instances)
        .linear_memory_keep_resident(kept_memory)
        .table_keep_resident(KEPT_TABLES)
        .pagemap_scan(Enabled::Auto);
    pool
}

fn component_linker(
    wasmtime: &wasmtime::Engine,
    waits: Waits,
) -> wasmtime::Result<component::Linker<Host>> {
    let mut linker = component::Linker::new(wasmtime);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    wasi::add_to_linker(&mut linker)?;
    wit::add_to_linker(&mut linker, waits)?;
    types::add_to_linker(&mut linker)?;
    Ok(linker)
}

fn module_linker(wasmtime: &wasmtime::Engine) -> wasmtime::Result<wasmtime::Linker<Host>> {
    let mut linker = wasmtime::Linker::new(wasmtime);
    wasmtime_wasi::p1::add_to_linker_async(&mut linker, |host: &mut Host| &mut host.wasi)?;
    witx::add_to_linker(&mut linker)?;
    // wasmtime's own traps on a status of 126 or more, which a native program may end with.
    linker.allow_shadowing(true);
    linker.func_wrap(
        "wasi_snapshot_preview1",
        "proc_exit",
        |status: i32| -> wasmtime::Result<()> { Err(wasmtime_wasi::I32Exit(status).into()) },
    )?;
    Ok(linker)
}
