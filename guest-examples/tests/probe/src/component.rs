//! Cases that exist only on the component ABI, or differ there: raw calls of the lowered functions.
//!
//! The functions are declared here once more, beside `wit-bindgen`'s own, with plain numbers for pointers and
//! handles, so that every one of them can be wrong. The canonical ABI lets a host answer that with a trap only.
//!
//! SAFETY, for every call here: the host reads and writes this guest's memory within its bounds only, and where
//! an answer is written in earnest it goes to a local of the right size and alignment ([`handle`]).

#![allow(
    unsafe_code,
    reason = "these cases are the mistakes that safe bindings prevent"
)]

use crate::case::{Case, Expected, Failure, Outcome, f32s, number};
use infer_guest::DType;
use infer_guest::abi::View;
use infer_guest::abi::component::{Graph, errors, graph, send};

/// The cases of this module.
pub(crate) const CASES: &[Case] = &[
    Case::new(
        "tensors-too-large",
        Expected::Err,
        "keeps COUNT=1024 tensors of BYTES=1048576, uses the last",
        |arguments| {
            let (count, bytes) = (number(arguments, 0, 1024)?, number(arguments, 1, 1 << 20)?);
            let data = vec![0; bytes as usize / 4 * 4];
            keep_and_use_last(count, &[(data.len() / 4) as u32], &data)
        },
    ),
    Case::new(
        "handles-exhausted-tensors",
        Expected::Err,
        "keeps MAX=2000000 empty tensors, uses the last",
        |arguments| keep_and_use_last(number(arguments, 0, 2_000_000)?, &[0], &[]),
    ),
    Case::new(
        "handles-exhausted-errors",
        Expected::Either,
        "keeps MAX=2000000 errors alive",
        |arguments| {
            let most = number(arguments, 0, 2_000_000)?;
            let errors: Vec<_> = (0..most)
                .filter_map(|_| graph::load_by_name("no-such-model").err())
                .collect();
            let last = errors.last().map(errors::Error::code);
            Ok(format!("{} errors, the last {last:?}", errors.len()))
        },
    ),
    Case::new(
        "context-drop-with-outputs-alive",
        Expected::Ok,
        "reads an output whose context is gone",
        |_| {
            let graph = graph::load_by_name("identity-f32").map_err(host_error)?;
            let context = graph.init_execution_context().map_err(host_error)?;
            let data = f32s(&[1.5]);
            let inputs = vec![(
                "x".to_owned(),
                send(&View {
                    dtype: DType::F32,
                    dimensions: &[1],
                    data: &data,
                }),
            )];
            let outputs = context.compute(inputs).map_err(host_error)?;
            drop(context);
            drop(graph);
            match outputs
                .first()
                .is_some_and(|(name, tensor)| name == "y" && tensor.data() == data)
            {
                true => Ok("y [1.5]".into()),
                false => Err(Failure::Wrong("the output changed".into())),
            }
        },
    ),
    Case::new(
        "malformed-tensor-read-back",
        Expected::Either,
        "reads the bytes of a tensor that does not fit",
        |_| {
            let tensor = send(&View {
                dtype: DType::F32,
                dimensions: &[4],
                data: &[1, 2, 3],
            });
            Ok(format!(
                "{:?} {:?} {:?}",
                tensor.dimensions(),
                tensor.ty(),
                tensor.data()
            ))
        },
    ),
    Case::new(
        "bad-pointer",
        Expected::Trap,
        "load-by-name: a name outside memory",
        |_| answered(|result| unsafe { lowered::load_by_name(OUTSIDE, 8, result) }),
    ),
    Case::new(
        "bad-length",
        Expected::Trap,
        "load-by-name: a name that runs out of memory",
        |_| {
            answered(|result| unsafe {
                lowered::load_by_name(NAME.as_ptr() as u32, u32::MAX, result)
            })
        },
    ),
    Case::new(
        "bad-pointer-parts",
        Expected::Trap,
        "load: a list of parts outside memory",
        |_| answered(|result| unsafe { lowered::load(OUTSIDE, 1, 1, 0, result) }),
    ),
    Case::new(
        "bad-length-parts",
        Expected::Trap,
        "load: 2^29 parts, more than memory has",
        |_| {
            let part = [0u32; 2];
            answered(|result| unsafe { lowered::load(part.as_ptr() as u32, 1 << 29, 1, 0, result) })
        },
    ),
    Case::new(
        "bad-pointer-part",
        Expected::Trap,
        "load: a part outside memory",
        |_| {
            let part = [OUTSIDE, 8];
            answered(|result| unsafe { lowered::load(part.as_ptr() as u32, 1, 1, 0, result) })
        },
    ),
    Case::new(
        "bad-pointer-data",
        Expected::Trap,
        "tensor: data outside memory",
        |_| made(unsafe { lowered::tensor(ONE.as_ptr() as u32, 1, FP32, OUTSIDE, 4) }),
    ),
    Case::new(
        "bad-length-data",
        Expected::Trap,
        "tensor: data that runs out of memory",
        |_| {
            made(unsafe {
                lowered::tensor(ONE.as_ptr() as u32, 1, FP32, ONE.as_ptr() as u32, u32::MAX)
            })
        },
    ),
    Case::new(
        "bad-pointer-dimensions",
        Expected::Trap,
        "tensor: dimensions outside memory",
        |_| made(unsafe { lowered::tensor(OUTSIDE & !3, 1, FP32, ONE.as_ptr() as u32, 4) }),
    ),
    Case::new(
        "misaligned-dimensions",
        Expected::Trap,
        "tensor: dimensions at an odd address",
        |_| {
            made(unsafe {
                lowered::tensor(ONE.as_ptr() as u32 + 1, 1, FP32, ONE.as_ptr() as u32, 4)
            })
        },
    ),
    Case::new(
        "bad-out-pointer",
        Expected::Trap,
        "load-by-name: the result goes outside memory",
        |_| {
            unsafe { lowered::load_by_name(NAME.as_ptr() as u32, NAME.len() as u32, OUTSIDE & !7) };
            accepted()
        },
    ),
    Case::new(
        "bad-utf8-name",
        Expected::Trap,
        "load-by-name: a name that is no UTF-8",
        |_| {
            let name = [0x66u8, 0xff, 0xfe];
            answered(|result| unsafe { lowered::load_by_name(name.as_ptr() as u32, 3, result) })
        },
    ),
    Case::new(
        "bad-enum-dtype",
        Expected::Trap,
        "tensor: element type 200",
        |_| made(unsafe { lowered::tensor(ONE.as_ptr() as u32, 1, 200, ONE.as_ptr() as u32, 4) }),
    ),
    Case::new(
        "bad-enum-encoding",
        Expected::Trap,
        "load: encoding 200",
        |_| answered(|result| unsafe { lowered::load(0, 0, 200, 0, result) }),
    ),
    Case::new(
        "bad-enum-target",
        Expected::Trap,
        "load: target 200",
        |_| answered(|result| unsafe { lowered::load(0, 0, 1, 200, result) }),
    ),
    Case::new(
        "stale-graph",
        Expected::Trap,
        "init-execution-context of a dropped graph",
        |_| {
            let graph = open()?;
            unsafe { lowered::drop_graph(graph) };
            answered(|result| unsafe { lowered::init_execution_context(graph, result) })
        },
    ),
    Case::new(
        "unknown-graph",
        Expected::Trap,
        "init-execution-context of a handle that never was",
        |_| answered(|result| unsafe { lowered::init_execution_context(123_456, result) }),
    ),
    Case::new(
        "stale-context",
        Expected::Trap,
        "compute of a dropped context",
        |_| {
            let context = context()?;
            unsafe { lowered::drop_context(context) };
            answered(|result| unsafe { lowered::compute(context, 0, 0, result) })
        },
    ),
    Case::new(
        "stale-tensor",
        Expected::Trap,
        "data of a dropped tensor",
        |_| {
            let tensor = one_element();
            unsafe { lowered::drop_tensor(tensor) };
            answered(|result| unsafe { lowered::data(tensor, result) })
        },
    ),
    Case::new(
        "tensor-sent-twice",
        Expected::Trap,
        "compute with one tensor as two inputs",
        |_| {
            let context = context()?;
            let input = [INPUT.as_ptr() as u32, INPUT.len() as u32, one_element()];
            let twice = [input, input].concat();
            answered(|result| unsafe {
                lowered::compute(context, twice.as_ptr() as u32, 2, result)
            })
        },
    ),
    Case::new(
        "wrong-kind-handle",
        Expected::Trap,
        "init-execution-context of a tensor",
        |_| {
            let tensor = one_element();
            answered(|result| unsafe { lowered::init_execution_context(tensor, result) })
        },
    ),
    Case::new("double-drop", Expected::Trap, "drops a graph twice", |_| {
        let graph = open()?;
        unsafe { lowered::drop_graph(graph) };
        unsafe { lowered::drop_graph(graph) };
        accepted()
    }),
];

/// An address that no memory here reaches.
const OUTSIDE: u32 = 0xFFFF_FFF1;
/// A model's name.
const NAME: &str = "identity-f32";
/// Its input's name.
const INPUT: &str = "x";
/// The dimensions of a tensor of one element, and, as bytes, one element.
static ONE: [u32; 2] = [1, 1];
/// The number of the element type f32.
const FP32: u32 = 1;

/// What a function that can fail writes: a tag, then a handle or a list.
#[derive(Default)]
#[repr(C, align(8))]
struct Answer {
    failed: u8,
    value: u32,
    length: u32,
}

/// The functions as the component's core module imports them: every pointer and handle is a number.
mod lowered {
    #[link(wasm_import_module = "wasi:nn/graph@0.2.0-rc-2024-10-28")]
    unsafe extern "C" {
        #[link_name = "load"]
        pub(super) fn load(parts: u32, count: u32, encoding: u32, target: u32, result: u32);
        #[link_name = "load-by-name"]
        pub(super) fn load_by_name(name: u32, length: u32, result: u32);
        #[link_name = "[method]graph.init-execution-context"]
        pub(super) fn init_execution_context(graph: u32, result: u32);
        #[link_name = "[resource-drop]graph"]
        pub(super) fn drop_graph(graph: u32);
    }

    #[link(wasm_import_module = "wasi:nn/inference@0.2.0-rc-2024-10-28")]
    unsafe extern "C" {
        #[link_name = "[method]graph-execution-context.compute"]
        pub(super) fn compute(context: u32, inputs: u32, count: u32, result: u32);
        #[link_name = "[resource-drop]graph-execution-context"]
        pub(super) fn drop_context(context: u32);
    }

    #[link(wasm_import_module = "wasi:nn/tensor@0.2.0-rc-2024-10-28")]
    unsafe extern "C" {
        #[link_name = "[constructor]tensor"]
        pub(super) fn tensor(dimensions: u32, rank: u32, dtype: u32, data: u32, length: u32)
        -> u32;
        #[link_name = "[method]tensor.data"]
        pub(super) fn data(tensor: u32, result: u32);
        #[link_name = "[resource-drop]tensor"]
        pub(super) fn drop_tensor(tensor: u32);
    }
}

/// Makes tensors, keeps all, and runs `identity-f32` on the last, which is when a tensor can be refused.
fn keep_and_use_last(count: u64, dimensions: &[u32], data: &[u8]) -> Outcome {
    let view = View {
        dtype: DType::F32,
        dimensions,
        data,
    };
    let mut tensors: Vec<_> = (0..count).map(|_| send(&view)).collect();
    let graph = Graph::by_name(NAME)?;
    let last = tensors
        .pop()
        .ok_or(Failure::Wrong("expected a count over 0".into()))?;
    graph
        .context()?
        .compute_tensors(vec![(INPUT.to_owned(), last)])?;
    Ok(format!("{count} tensors, none refused"))
}

fn open() -> Result<u32, Failure> {
    handle(|result| unsafe {
        lowered::load_by_name(NAME.as_ptr() as u32, NAME.len() as u32, result)
    })
}

fn context() -> Result<u32, Failure> {
    let graph = open()?;
    handle(|result| unsafe { lowered::init_execution_context(graph, result) })
}

fn one_element() -> u32 {
    let one = ONE.as_ptr() as u32;
    // SAFETY: one dimension and four bytes are there.
    unsafe { lowered::tensor(one, 1, FP32, one, 4) }
}

/// Calls a function that writes an answer, and takes the handle or the error out of it.
fn handle(call: impl Fn(u32)) -> Result<u32, Failure> {
    let mut answer = Answer::default();
    call(&raw mut answer as u32);
    // SAFETY: the host has written the answer behind the compiler's back.
    let Answer {
        failed,
        value,
        length: _,
    } = unsafe { (&raw const answer).read_volatile() };
    match failed {
        0 => Ok(value),
        // SAFETY: the answer says that this is an error, and nobody else has its handle.
        _ => Err(host_error(unsafe { errors::Error::from_handle(value) })),
    }
}

/// The same, where no answer should ever come.
fn answered(call: impl Fn(u32)) -> Outcome {
    handle(call)?;
    accepted()
}

fn made(_tensor: u32) -> Outcome {
    accepted()
}

fn accepted() -> Outcome {
    Err(Failure::Wrong("the host took it".into()))
}

fn host_error(error: errors::Error) -> Failure {
    Failure::Host(infer_guest::abi::component::error(error))
}
