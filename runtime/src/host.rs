//! The data of one instance's store: its WASI, its wasi-nn, its HTTP, its limits.

use std::collections::BTreeSet;
use std::sync::Arc;

use wasmtime::ResourceLimiter;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::config::Limits;
use crate::guest::outgoing::Outgoing;
use crate::nn::state::NnState;
use crate::nn::usage::{Limit, Usage};
use crate::nn::witx::Handles;
use crate::pages;
use crate::wasi::held;

/// Host memory of one table element, in bytes.
const TABLE_ELEMENT: usize = size_of::<usize>();

/// Core instances, tables and memories of one component: what each costs beside its memory is not counted.
pub(crate) const MOST_OF_EACH: usize = 100;

/// Everything that belongs to one instance.
pub(crate) struct Host {
    /// WASI by both of its ABIs, with a table of its own.
    pub(crate) wasi: WasiP1Ctx,
    pub(crate) nn: NnState,
    /// A component's resources of wasi-nn.
    pub(crate) table: ResourceTable,
    pub(crate) handles: Handles,
    pub(crate) memory: MemoryLimit,
    http: WasiHttpCtx,
    outgoing: Outgoing,
    /// The bodies of responses that it made, by their places in WASI's table, which bounds them.
    pub(crate) answers: BTreeSet<u32>,
    /// What it holds of WASI.
    pub(crate) held: held::Tally,
}

impl Host {
    /// `wasi` comes with how many of its resources the instance may hold; `pooled` is whether its memories lie in a pool.
    pub(crate) fn new(
        (mut wasi, most): (WasiP1Ctx, usize),
        (nn, outgoing): (NnState, Outgoing),
        (limits, pooled): (&Limits, bool),
    ) -> Host {
        let usage = nn.usage.clone();
        wasi.ctx().table.set_max_capacity(most);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(held::FIELD_BYTES);
        // The books have the limit; as many handles again tell of failures.
        let handles = usize::try_from(limits.handles).unwrap_or(usize::MAX);
        let mut table = ResourceTable::new();
        table.set_max_capacity(handles.saturating_mul(2).saturating_add(1));
        Host {
            wasi,
            nn,
            table,
            handles: Handles::default(),
            memory: MemoryLimit {
                limit: limits.memory,
                used: 0,
                usage,
                // What an instance in a pool leaves behind is given back or cleared, for which small pages are better.
                may_be_large: !pooled,
            },
            http,
            outgoing,
            answers: BTreeSet::new(),
            held: held::Tally::default(),
        }
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.wasi.ctx()
    }
}

impl WasiHttpView for Host {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.outgoing,
            table: self.wasi.ctx().table,
            ctx: &mut self.http,
        }
    }
}

/// The limit of all linear memories and tables together. A guest that is refused memory usually ends
/// itself, so the refusal is noted in its books.
pub(crate) struct MemoryLimit {
    pub(crate) limit: usize,
    used: usize,
    usage: Arc<Usage>,
    /// Whether a memory that grows large shall have large pages, which is to be said once.
    may_be_large: bool,
}

impl MemoryLimit {
    fn grow(&mut self, bytes: usize) -> bool {
        let used = self.used.saturating_add(bytes);
        let fits = used <= self.limit;
        if fits {
            self.used = used;
        }
        if !fits {
            self.usage.hit(Limit::Memory);
        }
        fits
    }
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let grows = self.grow(desired.saturating_sub(current));
        // One that is only being made is nowhere yet.
        if grows && current > 0 && desired > pages::SMALL && std::mem::take(&mut self.may_be_large)
        {
            pages::use_large();
        }
        Ok(grows)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow(
            desired
                .saturating_sub(current)
                .saturating_mul(TABLE_ELEMENT),
        ))
    }

    fn instances(&self) -> usize {
        MOST_OF_EACH
    }

    fn tables(&self) -> usize {
        MOST_OF_EACH
    }

    fn memories(&self) -> usize {
        MOST_OF_EACH
    }
}
