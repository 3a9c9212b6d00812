//! Cases that exist only on the preview1 ABI, or differ there: raw calls, wrong pointers and wrong numbers.
//!
//! Every function answers with an errno, so nothing here need trap.
//!
//! SAFETY, for every call here: the host reads and writes this guest's memory within its bounds only, and what
//! it writes in earnest goes to locals of the right size.

#![allow(
    unsafe_code,
    reason = "these cases are the mistakes that a safe layer prevents"
)]

use crate::case::{Case, Expected, Failure, Outcome, f32s, number};
use infer_guest::DType;
use infer_guest::abi::preview1::{Slice, Tensor, check, imports};
use infer_guest::abi::{Context, Graph, View};
use std::ptr;

/// The cases of this module.
pub(crate) const CASES: &[Case] = &[
    Case::new(
        "tensors-too-large",
        Expected::Err,
        "sets BYTES=1048576 as input of COUNT=1024 contexts",
        |arguments| tensors_too_large(number(arguments, 0, 1024)?, number(arguments, 1, 1 << 20)?),
    ),
    Case::new(
        "context-drop-with-outputs-alive",
        Expected::Err,
        "get_output of a context that is gone",
        |_| {
            let mut context = computed()?;
            let gone = Context(context.0);
            gone.close()?;
            context.results().fetch(0, None)?;
            accepted()
        },
    ),
    Case::new(
        "get-output-before-compute",
        Expected::Err,
        "get_output of a context that has not run",
        |_| with_context(|context| context.results().fetch(0, None).map(|_| ())),
    ),
    Case::new(
        "get-output-bad-index",
        Expected::Err,
        "get_output of output 9",
        |_| {
            with(computed()?, |context| {
                context.results().fetch(9, None).map(|_| ())
            })
        },
    ),
    Case::new(
        "out-buffer-too-small",
        Expected::Err,
        "get_output of 8 bytes into 7",
        |_| {
            with(computed()?, |context| {
                context.results().fetch_into(0, 7).map(|_| ())
            })
        },
    ),
    Case::new(
        "out-buffer-exact",
        Expected::Ok,
        "get_output of 8 bytes into 8",
        |_| {
            let mut context = computed()?;
            let length = context.results().fetch_into(0, 8)?.len();
            context.close()?;
            Ok(format!("{length} bytes"))
        },
    ),
    Case::new(
        "set-input-bad-index",
        Expected::Err,
        "set_input of input 9",
        |_| {
            let data = f32s(&[1.0]);
            with_context(|context| {
                context.set_input(
                    9,
                    &View {
                        dtype: DType::F32,
                        dimensions: &[1],
                        data: &data,
                    },
                )
            })
        },
    ),
    Case::new(
        "bad-pointer",
        Expected::Err,
        "load_by_name: a name outside memory",
        |_| refused(|graph| unsafe { imports::load_by_name(outside(), 8, graph) }),
    ),
    Case::new(
        "bad-length",
        Expected::Err,
        "load_by_name: a name that runs out of memory",
        |_| refused(|graph| unsafe { imports::load_by_name(NAME.as_ptr(), u32::MAX, graph) }),
    ),
    Case::new(
        "bad-pointer-parts",
        Expected::Err,
        "load: a list of parts outside memory",
        |_| refused(|graph| unsafe { imports::load(outside(), 1, ONNX, CPU, graph) }),
    ),
    Case::new(
        "bad-length-parts",
        Expected::Err,
        "load: 2^29 parts, more than memory has",
        |_| {
            let part = Slice {
                start: NAME.as_ptr(),
                length: 1,
            };
            refused(|graph| unsafe { imports::load(&part, 1 << 29, ONNX, CPU, graph) })
        },
    ),
    Case::new(
        "bad-pointer-part",
        Expected::Err,
        "load: a part outside memory",
        |_| {
            let part = Slice {
                start: outside(),
                length: 8,
            };
            refused(|graph| unsafe { imports::load(&part, 1, ONNX, CPU, graph) })
        },
    ),
    Case::new(
        "bad-pointer-record",
        Expected::Err,
        "set_input: the tensor's record outside memory",
        |_| with_context(|context| check(unsafe { imports::set_input(context.0, 0, outside()) })),
    ),
    Case::new(
        "bad-pointer-data",
        Expected::Err,
        "set_input: data outside memory",
        |_| set_input(|tensor| tensor.data.start = outside()),
    ),
    Case::new(
        "bad-length-data",
        Expected::Err,
        "set_input: data that runs out of memory",
        |_| set_input(|tensor| tensor.data.length = u32::MAX),
    ),
    Case::new(
        "bad-pointer-dimensions",
        Expected::Err,
        "set_input: dimensions outside memory",
        |_| set_input(|tensor| tensor.dimensions.start = outside()),
    ),
    Case::new(
        "bad-length-dimensions",
        Expected::Err,
        "set_input: 2^30 dimensions, more than memory has",
        |_| set_input(|tensor| tensor.dimensions.length = 1 << 30),
    ),
    Case::new(
        "misaligned-dimensions",
        Expected::Either,
        "set_input: dimensions at an odd address",
        |_| {
            let bytes = [0, 1, 0, 0, 0, 0, 0, 0];
            let odd = usize::from((bytes.as_ptr() as usize).is_multiple_of(2));
            let mut dimensions = bytes;
            dimensions[odd..odd + 4].copy_from_slice(&1u32.to_le_bytes());
            match set_input(|tensor| {
                tensor.dimensions.start = dimensions.as_ptr().wrapping_add(odd)
            }) {
                Err(Failure::Wrong(_)) => Ok("taken".into()),
                refused => refused,
            }
        },
    ),
    Case::new(
        "bad-out-pointer",
        Expected::Err,
        "load_by_name: the handle goes outside memory",
        |_| {
            refused(|_| unsafe {
                imports::load_by_name(NAME.as_ptr(), NAME.len() as u32, outside())
            })
        },
    ),
    Case::new(
        "bad-out-pointer-context",
        Expected::Err,
        "init_execution_context: the handle goes outside memory",
        |_| {
            let graph = Graph::by_name(NAME)?;
            let errno = unsafe { imports::init_execution_context(graph.0, outside()) };
            graph.close()?;
            refused(|_| errno)
        },
    ),
    Case::new(
        "bad-pointer-buffer",
        Expected::Err,
        "get_output: the buffer outside memory",
        |_| {
            with(computed()?, |context| {
                let mut written = 0;
                check(unsafe { imports::get_output(context.0, 0, outside(), 8, &mut written) })
            })
        },
    ),
    Case::new(
        "bad-length-buffer",
        Expected::Either,
        "get_output: a buffer that runs out of memory",
        |_| {
            let mut context = computed()?;
            let (mut buffer, mut written) = ([0u8; 8], 0);
            let errno = unsafe {
                imports::get_output(context.0, 0, buffer.as_mut_ptr(), u32::MAX, &mut written)
            };
            let context_is_well = context.results().fetch(0, None);
            context.close()?;
            context_is_well?;
            check(errno)?;
            Ok(format!("{written} bytes"))
        },
    ),
    Case::new(
        "bad-out-pointer-length",
        Expected::Err,
        "get_output: the length goes outside memory",
        |_| {
            with(computed()?, |context| {
                let mut buffer = [0u8; 8];
                check(unsafe {
                    imports::get_output(context.0, 0, buffer.as_mut_ptr(), 8, outside())
                })
            })
        },
    ),
    Case::new(
        "bad-utf8-name",
        Expected::Err,
        "load_by_name: a name that is no UTF-8",
        |_| {
            let name = [0x66u8, 0xff, 0xfe];
            refused(|graph| unsafe { imports::load_by_name(name.as_ptr(), 3, graph) })
        },
    ),
    Case::new(
        "bad-enum-dtype",
        Expected::Err,
        "set_input: element type 200",
        |_| set_input(|tensor| tensor.dtype = 200),
    ),
    Case::new(
        "bad-enum-encoding",
        Expected::Err,
        "load: encoding 200",
        |_| {
            let part = Slice {
                start: NAME.as_ptr(),
                length: 1,
            };
            refused(|graph| unsafe { imports::load(&part, 1, 200, CPU, graph) })
        },
    ),
    Case::new("bad-enum-target", Expected::Err, "load: target 200", |_| {
        let part = Slice {
            start: NAME.as_ptr(),
            length: 1,
        };
        refused(|graph| unsafe { imports::load(&part, 1, ONNX, 200, graph) })
    }),
    Case::new(
        "stale-graph",
        Expected::Err,
        "init_execution_context of an unloaded graph",
        |_| {
            let graph = Graph::by_name(NAME)?;
            let stale = Graph(graph.0);
            graph.close()?;
            stale.context()?;
            accepted()
        },
    ),
    Case::new(
        "unknown-graph",
        Expected::Err,
        "init_execution_context of a handle that never was",
        |_| {
            Graph(123_456).context()?;
            accepted()
        },
    ),
    Case::new(
        "stale-context",
        Expected::Err,
        "compute of a finalised context",
        |_| {
            let context = computed()?;
            let stale = context.0;
            context.close()?;
            check(imports::compute(stale))?;
            accepted()
        },
    ),
    Case::new(
        "unknown-context",
        Expected::Err,
        "compute of a handle that never was",
        |_| {
            check(imports::compute(123_456))?;
            accepted()
        },
    ),
    Case::new(
        "double-drop",
        Expected::Err,
        "unloads a graph twice",
        |_| {
            let graph = Graph::by_name(NAME)?;
            let again = Graph(graph.0);
            graph.close()?;
            again.close()?;
            accepted()
        },
    ),
    Case::new(
        "double-drop-context",
        Expected::Err,
        "finalises a context twice",
        |_| {
            let context = computed()?;
            let again = Context(context.0);
            context.close()?;
            again.close()?;
            accepted()
        },
    ),
];

/// A model's name.
const NAME: &str = "identity-f32";
/// The number of the encoding ONNX.
const ONNX: u32 = 1;
/// The number of the target CPU.
const CPU: u32 = 0;

/// An address that no memory here reaches.
fn outside<T>() -> *mut T {
    ptr::without_provenance_mut(0xFFFF_FFF0)
}

/// A context of `identity-f32` that has run on two values.
fn computed() -> Result<Context, Failure> {
    let graph = Graph::by_name(NAME)?;
    let mut context = graph.context()?;
    graph.close()?;
    let data = f32s(&[1.0, 2.0]);
    context.set_input(
        0,
        &View {
            dtype: DType::F32,
            dimensions: &[2],
            data: &data,
        },
    )?;
    check(imports::compute(context.0))?;
    Ok(context)
}

/// Does what must be refused with a context, and gives that back.
fn with(mut context: Context, wrong: impl Fn(&mut Context) -> infer_guest::Result<()>) -> Outcome {
    let done = wrong(&mut context);
    context.close()?;
    done?;
    accepted()
}

fn with_context(wrong: impl Fn(&mut Context) -> infer_guest::Result<()>) -> Outcome {
    let graph = Graph::by_name(NAME)?;
    let context = graph.context()?;
    graph.close()?;
    with(context, wrong)
}

/// Sets an input that is right but for one change, and runs if it was taken.
fn set_input(change: impl Fn(&mut Tensor)) -> Outcome {
    let (dimensions, data) = ([1u32], f32s(&[1.0]));
    let mut tensor = Tensor {
        dimensions: Slice {
            start: dimensions.as_ptr().cast(),
            length: 1,
        },
        dtype: 1,
        data: Slice {
            start: data.as_ptr(),
            length: 4,
        },
    };
    change(&mut tensor);
    with_context(|context| {
        check(unsafe { imports::set_input(context.0, 0, &tensor) })?;
        check(imports::compute(context.0))
    })
}

/// Makes a call that must be refused.
fn refused(call: impl Fn(*mut u32) -> u32) -> Outcome {
    let mut handle = 0;
    check(call(&mut handle))?;
    accepted()
}

/// Sets the same bytes as input of many contexts, all alive, until one is refused.
fn tensors_too_large(count: u64, bytes: u64) -> Outcome {
    let data = vec![0; bytes as usize / 4 * 4];
    let dimensions = [(data.len() / 4) as u32];
    let graph = Graph::by_name(NAME)?;
    let mut held = Vec::new();
    let mut outcome = Ok(format!("{count} tensors, none refused"));
    for _ in 0..count {
        let mut context = graph.context()?;
        let set = context.set_input(
            0,
            &View {
                dtype: DType::F32,
                dimensions: &dimensions,
                data: &data,
            },
        );
        held.push(context);
        if let Err(error) = set {
            outcome = Err(Failure::Host(error));
            break;
        }
    }
    held.into_iter().try_for_each(Context::close)?;
    graph.close()?;
    outcome
}

fn accepted() -> Outcome {
    Err(Failure::Wrong("the host took it".into()))
}
