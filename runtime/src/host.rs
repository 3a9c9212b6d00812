//! The data of one instance's store: its WASI, its wasi-nn, its limits.

use wasmtime::ResourceLimiter;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{WasiCtxView, WasiView};

use crate::nn::state::NnState;
use crate::nn::witx::Handles;

/// Entries of the table of resources beside those of wasi-nn: streams, files, sockets.
const WASI_RESOURCES: usize = 10_000;

/// Elements of all tables of an instance together.
const MOST_TABLE_ELEMENTS: usize = 10_000_000;

/// Everything that belongs to one instance.
pub(crate) struct Host {
    /// WASI by both of its ABIs; its table also has the component's wasi-nn resources.
    pub(crate) wasi: WasiP1Ctx,
    pub(crate) nn: NnState,
    pub(crate) handles: Handles,
    pub(crate) memory: MemoryLimit,
}

impl Host {
    pub(crate) fn new(mut wasi: WasiP1Ctx, nn: NnState, memory: usize, handles: u64) -> Host {
        let handles = usize::try_from(handles)
            .unwrap_or(usize::MAX)
            .saturating_add(WASI_RESOURCES);
        wasi.ctx().table.set_max_capacity(handles);
        Host {
            wasi,
            nn,
            handles: Handles::default(),
            memory: MemoryLimit {
                limit: memory,
                used: 0,
                refused: false,
            },
        }
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.wasi.ctx()
    }
}

/// The limit of all linear memories together. A guest that is refused memory usually ends itself, so the
/// refusal is remembered.
pub(crate) struct MemoryLimit {
    pub(crate) limit: usize,
    used: usize,
    pub(crate) refused: bool,
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let used = self.used.saturating_add(desired.saturating_sub(current));
        self.refused |= used > self.limit;
        if used <= self.limit {
            self.used = used;
        }
        Ok(used <= self.limit)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= MOST_TABLE_ELEMENTS)
    }
}
