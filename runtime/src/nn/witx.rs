//! wasi-nn for core modules: `wasi_ephemeral_nn`, the preview1 ABI.
//!
//! Every function returns an errno; what it gives goes to an address that the guest passed. A bad pointer,
//! enum, string or handle is an errno too, never a trap. The ABI has no messages: they go to the log.
//!
//! | function | parameters |
//! |---|---|
//! | `load` | parts: address, number; encoding; target; address of the graph |
//! | `load_by_name` | name: address, bytes; address of the graph |
//! | `init_execution_context` | graph; address of the context |
//! | `set_input` | context; index; address of a tensor |
//! | `compute` | context |
//! | `get_output` | context; index; buffer: address, bytes; address of the number of bytes written |
//! | `unload` | graph |
//! | `finalize_execution_context` | context |
//!
//! A part is an address and a number of bytes. A tensor is the dimensions' address and number, a dtype in
//! one byte and three of padding, the elements' address and number of bytes. All numbers are 32-bit
//! little-endian. The last two functions are WasmEdge's: the ABI itself has no drop. Dtypes 6
//! (BF16) and 7 to 13 (bool, i8, i16, u16, u32, u64, string) are ours: the ABI's own list ends before them.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use infer_core::{Dtype, Encoding, Error, ErrorKind, Result, clip};
use wasmtime::{Caller, Extern, Linker, Memory};

use crate::host::Host;
use crate::nn::state::{GuestContext, GuestGraph, Held, NnState, Target, check_parts, check_rank};

const MODULE: &str = "wasi_ephemeral_nn";

/// wasi-nn's errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
enum Errno {
    Success = 0,
    InvalidArgument = 1,
    InvalidEncoding = 2,
    MissingMemory = 3,
    RuntimeError = 5,
    UnsupportedOperation = 6,
    TooLarge = 7,
    NotFound = 8,
}

/// The handles of one instance. A number is never given twice, so that a stale one stays invalid.
#[derive(Default)]
pub(crate) struct Handles {
    graphs: Numbered<GuestGraph>,
    contexts: Numbered<Context>,
}

struct Numbered<T> {
    items: BTreeMap<u32, T>,
    next: u32,
}

/// A context as this ABI has it: inputs are set one by one and stay set, outputs are fetched later.
struct Context {
    context: GuestContext,
    inputs: Vec<Option<Held>>,
    outputs: Option<Vec<Held>>,
}

impl<T> Default for Numbered<T> {
    fn default() -> Numbered<T> {
        Numbered {
            items: BTreeMap::new(),
            next: 0,
        }
    }
}

impl<T> Numbered<T> {
    fn insert(&mut self, item: T) -> Result<u32> {
        let number = self.next;
        self.next = number.checked_add(1).ok_or_else(|| {
            Error::new(
                ErrorKind::TooLarge,
                "this instance has used all numbers for handles",
            )
        })?;
        self.items.insert(number, item);
        Ok(number)
    }

    fn get(&mut self, what: &str, number: u32) -> Result<&mut T> {
        self.items
            .get_mut(&number)
            .ok_or_else(|| no_such(what, number))
    }

    fn remove(&mut self, what: &str, number: u32) -> Result<T> {
        self.items
            .remove(&number)
            .ok_or_else(|| no_such(what, number))
    }
}

fn no_such(what: &str, number: u32) -> Error {
    invalid(format!(
        "there is no {what} {number}: it was never made, or is dropped"
    ))
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

/// Adds `wasi_ephemeral_nn` to the linker.
pub(crate) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        MODULE,
        "load",
        |mut caller: Caller<'_, Host>,
         (parts, number, encoding, target, out): (u32, u32, u32, u32, u32)| {
            Box::new(async move {
                let Some(mut guest) = Guest::of(&mut caller) else {
                    return missing_memory("load");
                };
                let loaded = guest.load(parts, number, encoding, target, out).await;
                errno("load", loaded)
            })
        },
    )?;
    // The guest's thread is its own, so it waits for the engine here: no fiber is suspended.
    linker.func_wrap(
        MODULE,
        "compute",
        |mut caller: Caller<'_, Host>, context: u32| {
            let Host { nn, handles, .. } = caller.data_mut();
            errno("compute", compute(nn, handles, context))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "load_by_name",
        |mut caller: Caller<'_, Host>, name: u32, length: u32, out: u32| {
            let Some(mut guest) = Guest::of(&mut caller) else {
                return missing_memory("load_by_name");
            };
            errno("load_by_name", guest.load_by_name(name, length, out))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "init_execution_context",
        |mut caller: Caller<'_, Host>, graph: u32, out: u32| {
            let Some(mut guest) = Guest::of(&mut caller) else {
                return missing_memory("init_execution_context");
            };
            errno(
                "init_execution_context",
                guest.init_execution_context(graph, out),
            )
        },
    )?;
    linker.func_wrap(
        MODULE,
        "set_input",
        |mut caller: Caller<'_, Host>, context: u32, index: u32, tensor: u32| {
            let Some(mut guest) = Guest::of(&mut caller) else {
                return missing_memory("set_input");
            };
            errno("set_input", guest.set_input(context, index, tensor))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "get_output",
        |mut caller: Caller<'_, Host>,
         context: u32,
         index: u32,
         buffer: u32,
         length: u32,
         written: u32| {
            let Some(mut guest) = Guest::of(&mut caller) else {
                return missing_memory("get_output");
            };
            errno(
                "get_output",
                guest.get_output(context, index, buffer, length, written),
            )
        },
    )?;
    linker.func_wrap(
        MODULE,
        "unload",
        |mut caller: Caller<'_, Host>, graph: u32| {
            errno(
                "unload",
                caller
                    .data_mut()
                    .handles
                    .graphs
                    .remove("graph", graph)
                    .map(drop),
            )
        },
    )?;
    linker.func_wrap(
        MODULE,
        "finalize_execution_context",
        |mut caller: Caller<'_, Host>, context: u32| {
            let removed = caller
                .data_mut()
                .handles
                .contexts
                .remove("context", context);
            errno("finalize_execution_context", removed.map(drop))
        },
    )?;
    Ok(())
}

/// The errno as a core function returns it; the message goes to the log.
fn errno(call: &str, result: Result<()>) -> u32 {
    let Err(error) = result else {
        return Errno::Success as u32;
    };
    let errno = match error.kind() {
        ErrorKind::InvalidArgument => Errno::InvalidArgument,
        ErrorKind::InvalidEncoding => Errno::InvalidEncoding,
        ErrorKind::UnsupportedOperation | ErrorKind::Security => Errno::UnsupportedOperation,
        ErrorKind::TooLarge => Errno::TooLarge,
        ErrorKind::NotFound => Errno::NotFound,
        ErrorKind::Timeout | ErrorKind::RuntimeError | ErrorKind::Busy | ErrorKind::Unknown => {
            Errno::RuntimeError
        }
    };
    tracing::info!(
        "{call} answers errno {}: {}: {}",
        errno as u16,
        error.kind().name(),
        error.report()
    );
    errno as u32
}

fn missing_memory(call: &str) -> u32 {
    tracing::info!(
        "{call} answers errno 3: the module exports no memory named `memory`, or a shared one"
    );
    Errno::MissingMemory as u32
}

fn compute(nn: &NnState, handles: &mut Handles, context: u32) -> Result<()> {
    let context = handles.contexts.get("context", context)?;
    context.outputs = None;
    let slots = context.inputs.clone();
    let inputs = context.context.model().signature().check_slots(slots)?;
    context.outputs = Some(nn.compute(&mut context.context, inputs)?);
    Ok(())
}

/// A call of a guest: its memory and the host's data beside it.
struct Guest<'a> {
    memory: &'a mut [u8],
    nn: &'a NnState,
    handles: &'a mut Handles,
}

impl<'a> Guest<'a> {
    fn of(caller: &'a mut Caller<'_, Host>) -> Option<Guest<'a>> {
        let memory: Memory = caller.get_export("memory").and_then(Extern::into_memory)?;
        let (memory, host) = memory.data_and_store_mut(caller);
        Some(Guest {
            memory,
            nn: &host.nn,
            handles: &mut host.handles,
        })
    }

    async fn load(
        &mut self,
        parts: u32,
        number: u32,
        encoding: u32,
        target: u32,
        out: u32,
    ) -> Result<()> {
        self.range("the address of the graph", out, 4)?;
        check_parts(number as usize)?;
        let (encoding, target) = (encoding_of(encoding)?, target_of(target)?);
        let parts: Vec<Range<usize>> = (0..number)
            .map(|index| self.pair("a part", parts, index))
            .collect::<Result<_>>()?;
        let bytes = parts.iter().map(|part| part.len() as u64).sum();
        let admitted = self.nn.admit_load(target, bytes)?;
        let copies = parts
            .into_iter()
            .map(|part| Bytes::copy_from_slice(&self.memory[part]))
            .collect();
        let graph = self.nn.load(copies, encoding, admitted).await?;
        let number = self.handles.graphs.insert(graph)?;
        self.write_u32(out, number)
    }

    fn load_by_name(&mut self, name: u32, length: u32, out: u32) -> Result<()> {
        self.range("the address of the graph", out, 4)?;
        let bytes = &self.memory[self.range("the name", name, length)?];
        let name = std::str::from_utf8(bytes).map_err(|error| {
            let lossy = String::from_utf8_lossy(bytes);
            invalid(format!("the name `{}` is not UTF-8", clip(&lossy))).with_source(error)
        })?;
        let graph = self.nn.load_by_name(name)?;
        let number = self.handles.graphs.insert(graph)?;
        self.write_u32(out, number)
    }

    fn init_execution_context(&mut self, graph: u32, out: u32) -> Result<()> {
        self.range("the address of the context", out, 4)?;
        let context = self.nn.context(self.handles.graphs.get("graph", graph)?)?;
        let inputs = context
            .model()
            .signature()
            .inputs
            .iter()
            .map(|_| None)
            .collect();
        let number = self.handles.contexts.insert(Context {
            context,
            inputs,
            outputs: None,
        })?;
        self.write_u32(out, number)
    }

    fn set_input(&mut self, context: u32, index: u32, tensor: u32) -> Result<()> {
        let record = self.range("a tensor", tensor, 20)?.start;
        let dimensions = self.array(
            "the dimensions",
            self.u32_at(record),
            self.u32_at(record + 4),
            4,
        )?;
        let dtype = dtype_of(self.memory[record + 8])?;
        let data = self.range(
            "the elements",
            self.u32_at(record + 12),
            self.u32_at(record + 16),
        )?;
        check_rank(dimensions.len() / 4)?;
        let shape = dimensions
            .step_by(4)
            .map(|at| self.u32_at(at) as usize)
            .collect();
        let context = self.handles.contexts.get("context", context)?;
        let signature = context.context.model().signature();
        let Some(info) = signature.inputs.get(index as usize) else {
            let inputs = signature.inputs.len();
            return Err(invalid(format!(
                "there is no input {index}: the model has {inputs}"
            )));
        };
        // The old tensor goes first, so that a guest may replace one that is as large as its limit.
        context.inputs[index as usize] = None;
        let held = self
            .nn
            .tensor(dtype, shape, &self.memory[data])
            .map_err(|error| Error::new(error.kind(), format!("input `{}`: {error}", info.name)))?;
        context.inputs[index as usize] = Some(held);
        Ok(())
    }

    fn get_output(
        &mut self,
        context: u32,
        index: u32,
        buffer: u32,
        length: u32,
        written: u32,
    ) -> Result<()> {
        self.range("the address of the number of bytes", written, 4)?;
        let buffer = self.range("the buffer", buffer, length)?;
        let context = self.handles.contexts.get("context", context)?;
        let Some(outputs) = &context.outputs else {
            return Err(invalid(
                "there are no outputs before a `compute` that succeeded".to_owned(),
            ));
        };
        let Some(output) = outputs.get(index as usize) else {
            return Err(invalid(format!(
                "there is no output {index}: the model has {}",
                outputs.len()
            )));
        };
        let bytes = output.tensor.host()?;
        if bytes.len() > buffer.len() {
            let (needed, got) = (bytes.len(), buffer.len());
            let message = format!("output {index} has {needed} bytes, the buffer has {got}");
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        self.memory[buffer.start..buffer.start + bytes.len()].copy_from_slice(&bytes);
        self.write_u32(written, bytes.len() as u32)
    }

    /// A checked range of the guest's memory.
    fn range(&self, what: &str, address: u32, length: u32) -> Result<Range<usize>> {
        self.array(what, address, length, 1)
    }

    fn array(&self, what: &str, address: u32, number: u32, size: usize) -> Result<Range<usize>> {
        let start = address as usize;
        let range = (number as usize)
            .checked_mul(size)
            .and_then(|length| Some(start..start.checked_add(length)?));
        range
            .filter(|range| range.end <= self.memory.len())
            .ok_or_else(|| {
                let (bytes, memory) = (u64::from(number) * size as u64, self.memory.len());
                invalid(format!(
                    "{what}: {bytes} bytes at {address} are not all in the memory of {memory} bytes"
                ))
            })
    }

    /// The range that the address and length at an index of an array name.
    fn pair(&self, what: &str, array: u32, index: u32) -> Result<Range<usize>> {
        let at = self.array(what, array, index + 1, 8)?.end - 8;
        self.range(what, self.u32_at(at), self.u32_at(at + 4))
    }

    /// The number at a place that was checked.
    fn u32_at(&self, at: usize) -> u32 {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.memory[at..at + 4]);
        u32::from_le_bytes(bytes)
    }

    fn write_u32(&mut self, address: u32, value: u32) -> Result<()> {
        let range = self.range("an address", address, 4)?;
        self.memory[range].copy_from_slice(&value.to_le_bytes());
        Ok(())
    }
}

fn dtype_of(tag: u8) -> Result<Dtype> {
    Ok(match tag {
        0 => Dtype::F16,
        1 => Dtype::F32,
        2 => Dtype::F64,
        3 => Dtype::U8,
        4 => Dtype::I32,
        5 => Dtype::I64,
        6 => Dtype::BF16,
        7 => Dtype::Bool,
        8 => Dtype::I8,
        9 => Dtype::I16,
        10 => Dtype::U16,
        11 => Dtype::U32,
        12 => Dtype::U64,
        13 => Dtype::String,
        _ => return Err(invalid(format!("expected a dtype from 0 to 13, got {tag}"))),
    })
}

fn encoding_of(tag: u32) -> Result<Option<Encoding>> {
    Ok(Some(match tag {
        0 => Encoding::OpenVino,
        1 => Encoding::Onnx,
        2 => Encoding::TensorFlow,
        3 => Encoding::PyTorch,
        4 => Encoding::TensorFlowLite,
        5 => return Ok(None),
        _ => {
            return Err(invalid(format!(
                "expected an encoding from 0 to 5 (autodetect), got {tag}"
            )));
        }
    }))
}

fn target_of(tag: u32) -> Result<Target> {
    Ok(match tag {
        0 => Target::Cpu,
        1 => Target::Gpu,
        2 => Target::Tpu,
        _ => return Err(invalid(format!("expected a target from 0 to 2, got {tag}"))),
    })
}
