//! The text that describes a model of the fake backend, and what such a model computes.
//!
//! A description is a list of directives, separated by `;` or by new lines. At most one says what is
//! computed, the others how the model behaves:
//!
//! | directive | inputs -> outputs |
//! |---|---|
//! | `identity DTYPE [DIMS]` | `x` -> `y`, the same; also the default, as `f32 [?]` |
//! | `bool` | `identity bool [?]` |
//! | `add` | `a`, `b` f32 \[2, 3\] -> `sum` |
//! | `shared` | `a`, `b` f32 \[N\] -> `sum`; both N must agree |
//! | `several` | `x` f32 \[4\] -> `double`, `half`, `count` (an i64 scalar) |
//! | `scalar` | `x` f32 \[\] -> `y`, twice as much |
//! | `relu` | `x` f32 \[N, 3\] -> `y` |
//! | `transpose` | `x` f32 \[2, 2\] -> `y` |
//! | `matmul` | `x` f32 \[N, 4\] -> `y` f32 \[N, 2\] |
//! | `pick` | `index` i64 \[N\] -> `y` f32 \[N\], from a table of 4; another index is a runtime error |
//! | `stateful` | `x` f32 \[N\] -> `total` f32 \[\], of everything that this session has seen |
//! | `outputs BYTES [dynamic]` | `x` f32 \[N\] -> `y` u8 \[BYTES\], all zero |
//!
//! `slow TIME [cooperative]` and `slow-load TIME [cooperative]` take that long (`20ms`, `60s`) and see a
//! cancel only when cooperative; `panic` and `panic-load` panic; `fail KIND` and `fail-load KIND` fail;
//! `file NAME` refers to a file beside the model, `operator NAME` to an operator that the fake does not
//! have; `concurrency N` says how many sessions run at once.

use std::time::Duration;

use bytes::Bytes;

use crate::{Dtype, Error, ErrorKind, Result, SharedDimension, Signature, Tensor, TensorInfo};

/// A parsed description.
#[derive(Clone, Debug)]
pub(super) struct Model {
    kernel: Kernel,
    pub(super) load: Behaviour,
    pub(super) run: Behaviour,
    pub(super) concurrency: usize,
    pub(super) file: Option<String>,
    pub(super) operator: Option<String>,
}

/// What loading or running does beside its work.
#[derive(Clone, Debug, Default)]
pub(super) struct Behaviour {
    pub(super) time: Duration,
    pub(super) cooperative: bool,
    pub(super) panics: bool,
    pub(super) fails: Option<ErrorKind>,
}

#[derive(Clone, Debug)]
enum Kernel {
    Identity(Dtype, Vec<Option<usize>>),
    Add,
    Shared,
    Several,
    Scalar,
    Relu,
    Transpose,
    MatMul,
    Pick,
    Stateful,
    Outputs { bytes: usize, dynamic: bool },
}

const TABLE: [f32; 4] = [10.0, 20.0, 30.0, 40.0];

impl Model {
    /// Reads a description.
    ///
    /// # Errors
    /// `InvalidEncoding` for anything else than one.
    pub(super) fn parse(bytes: &[u8]) -> Result<Model> {
        let text =
            std::str::from_utf8(bytes).map_err(|e| not_a_model("it is no text").with_source(e))?;
        let directives: Vec<&str> = text
            .split([';', '\n'])
            .map(str::trim)
            .filter(|d| !d.is_empty())
            .collect();
        if directives.is_empty() {
            return Err(not_a_model("it is empty"));
        }
        let mut model = Model {
            kernel: Kernel::Identity(Dtype::F32, vec![None]),
            load: Behaviour::default(),
            run: Behaviour::default(),
            concurrency: 4,
            file: None,
            operator: None,
        };
        for directive in directives {
            model
                .apply(directive)
                .ok_or_else(|| not_a_model(&format!("unknown directive `{directive}`")))?;
        }
        Ok(model)
    }

    fn apply(&mut self, directive: &str) -> Option<()> {
        let (word, rest) = directive.split_once(' ').unwrap_or((directive, ""));
        let rest = rest.trim();
        match word {
            "slow" => self.run.slow(rest)?,
            "slow-load" => self.load.slow(rest)?,
            "panic" => self.run.panics = true,
            "panic-load" => self.load.panics = true,
            "fail" => self.run.fails = Some(kind_of(rest)?),
            "fail-load" => self.load.fails = Some(kind_of(rest)?),
            "file" => self.file = Some(rest.to_owned()),
            "operator" => self.operator = Some(rest.to_owned()),
            "concurrency" => self.concurrency = rest.parse().ok().filter(|&n| n > 0)?,
            _ => self.kernel = Kernel::parse(word, rest)?,
        }
        Some(())
    }

    pub(super) fn signature(&self) -> Signature {
        let (inputs, outputs) = self.kernel.tensors();
        Signature {
            inputs,
            outputs,
            stateful: matches!(self.kernel, Kernel::Stateful),
            shared: match self.kernel {
                Kernel::Shared => vec![SharedDimension {
                    name: "N".to_owned(),
                    places: vec![(0, 0), (1, 0)],
                }],
                _ => Vec::new(),
            },
        }
    }

    /// One inference; `total` is what the session has seen so far.
    pub(super) fn compute(&self, inputs: &[Tensor], total: &mut f32) -> Result<Vec<Tensor>> {
        self.kernel.compute(inputs, total)
    }
}

impl Behaviour {
    fn slow(&mut self, text: &str) -> Option<()> {
        let (time, how) = text.split_once(' ').unwrap_or((text, ""));
        self.cooperative = match how {
            "" => false,
            "cooperative" => true,
            _ => return None,
        };
        self.time = match time.strip_suffix("ms") {
            Some(milliseconds) => Duration::from_millis(milliseconds.parse().ok()?),
            None => Duration::from_secs(time.strip_suffix('s')?.parse().ok()?),
        };
        Some(())
    }
}

impl Kernel {
    fn parse(word: &str, rest: &str) -> Option<Kernel> {
        Some(match (word, rest) {
            ("identity", _) => {
                let (dtype, dimensions) = rest.split_once(' ')?;
                Kernel::Identity(dtype_of(dtype)?, dimensions_of(dimensions)?)
            }
            ("bool", "") => Kernel::Identity(Dtype::Bool, vec![None]),
            ("add", "") => Kernel::Add,
            ("shared", "") => Kernel::Shared,
            ("several", "") => Kernel::Several,
            ("scalar", "") => Kernel::Scalar,
            ("relu", "") => Kernel::Relu,
            ("transpose", "") => Kernel::Transpose,
            ("matmul", "") => Kernel::MatMul,
            ("pick", "") => Kernel::Pick,
            ("stateful", "") => Kernel::Stateful,
            ("outputs", _) => {
                let (bytes, how) = rest.split_once(' ').unwrap_or((rest, ""));
                Kernel::Outputs {
                    bytes: bytes.parse().ok()?,
                    dynamic: how == "dynamic",
                }
            }
            _ => return None,
        })
    }

    fn tensors(&self) -> (Vec<TensorInfo>, Vec<TensorInfo>) {
        let f32s = |name, dimensions: &[Option<usize>]| info(name, Dtype::F32, dimensions);
        let one_each = |dimensions: &[Option<usize>]| {
            (vec![f32s("x", dimensions)], vec![f32s("y", dimensions)])
        };
        let two = |dimensions: &[Option<usize>]| {
            (
                vec![f32s("a", dimensions), f32s("b", dimensions)],
                vec![f32s("sum", dimensions)],
            )
        };
        match self {
            Kernel::Identity(dtype, dimensions) => (
                vec![info("x", *dtype, dimensions)],
                vec![info("y", *dtype, dimensions)],
            ),
            Kernel::Add => two(&[Some(2), Some(3)]),
            Kernel::Shared => two(&[None]),
            Kernel::Several => (
                vec![f32s("x", &[Some(4)])],
                vec![
                    f32s("double", &[Some(4)]),
                    f32s("half", &[Some(4)]),
                    info("count", Dtype::I64, &[]),
                ],
            ),
            Kernel::Scalar => one_each(&[]),
            Kernel::Relu => one_each(&[None, Some(3)]),
            Kernel::Transpose => one_each(&[Some(2), Some(2)]),
            Kernel::MatMul => (
                vec![f32s("x", &[None, Some(4)])],
                vec![f32s("y", &[None, Some(2)])],
            ),
            Kernel::Pick => (
                vec![info("index", Dtype::I64, &[None])],
                vec![f32s("y", &[None])],
            ),
            Kernel::Stateful => (vec![f32s("x", &[None])], vec![f32s("total", &[])]),
            Kernel::Outputs { bytes, dynamic } => {
                let dimension = if *dynamic { None } else { Some(*bytes) };
                (
                    vec![f32s("x", &[None])],
                    vec![info("y", Dtype::U8, &[dimension])],
                )
            }
        }
    }

    fn compute(&self, inputs: &[Tensor], total: &mut f32) -> Result<Vec<Tensor>> {
        let shape = inputs[0].shape().to_vec();
        Ok(match self {
            Kernel::Identity(..) => vec![inputs[0].clone()],
            Kernel::Add | Kernel::Shared => {
                let (a, b) = (floats(&inputs[0])?, floats(&inputs[1])?);
                if a.len() != b.len() {
                    let message = format!(
                        "dimension `N` is {} in input `a`, but {} in input `b`",
                        a.len(),
                        b.len()
                    );
                    return Err(Error::new(ErrorKind::InvalidArgument, message));
                }
                vec![f32_tensor(shape, a.iter().zip(b).map(|(a, b)| a + b))?]
            }
            Kernel::Several => {
                let x = floats(&inputs[0])?;
                let count =
                    Tensor::copied_from(Dtype::I64, vec![], &(x.len() as i64).to_le_bytes())?;
                let double = f32_tensor(shape.clone(), x.iter().map(|x| x * 2.0))?;
                vec![double, f32_tensor(shape, x.iter().map(|x| x / 2.0))?, count]
            }
            Kernel::Scalar => vec![f32_tensor(
                shape,
                floats(&inputs[0])?.iter().map(|x| x * 2.0),
            )?],
            Kernel::Relu => vec![f32_tensor(
                shape,
                floats(&inputs[0])?.iter().map(|x| x.max(0.0)),
            )?],
            Kernel::Transpose => {
                let x = floats(&inputs[0])?;
                vec![f32_tensor(shape, [x[0], x[2], x[1], x[3]].into_iter())?]
            }
            Kernel::MatMul => {
                let rows = floats(&inputs[0])?;
                let products = rows.chunks(4).flat_map(|row| {
                    [0, 1].map(|column| (0..4).map(|i| row[i] * (2 * i + column + 1) as f32).sum())
                });
                vec![f32_tensor(vec![shape[0], 2], products)?]
            }
            Kernel::Pick => vec![f32_tensor(shape, picked(&inputs[0])?.into_iter())?],
            Kernel::Stateful => {
                *total += floats(&inputs[0])?.iter().sum::<f32>();
                vec![f32_tensor(vec![], std::iter::once(*total))?]
            }
            Kernel::Outputs { bytes, .. } => {
                vec![Tensor::new(
                    Dtype::U8,
                    vec![*bytes],
                    Bytes::from(vec![0; *bytes]),
                )?]
            }
        })
    }
}

fn picked(indices: &Tensor) -> Result<Vec<f32>> {
    let bytes = indices.host()?;
    bytes
        .chunks_exact(8)
        .map(|chunk| {
            let index = i64::from_le_bytes(chunk.try_into().expect("8 bytes"));
            usize::try_from(index)
                .ok()
                .and_then(|index| TABLE.get(index))
                .copied()
                .ok_or_else(|| {
                    Error::new(
                        ErrorKind::RuntimeError,
                        format!("the table has 4 rows, got index {index}"),
                    )
                })
        })
        .collect()
}

fn floats(tensor: &Tensor) -> Result<Vec<f32>> {
    let bytes = tensor.host()?;
    Ok(bytes
        .chunks_exact(4)
        .map(|chunk| f32::from_le_bytes(chunk.try_into().expect("4 bytes")))
        .collect())
}

fn f32_tensor(shape: Vec<usize>, values: impl Iterator<Item = f32>) -> Result<Tensor> {
    Tensor::new(
        Dtype::F32,
        shape,
        values.flat_map(f32::to_le_bytes).collect(),
    )
}

fn info(name: &str, dtype: Dtype, dimensions: &[Option<usize>]) -> TensorInfo {
    TensorInfo {
        name: name.to_owned(),
        dtype,
        dimensions: dimensions.to_vec(),
    }
}

fn dtype_of(name: &str) -> Option<Dtype> {
    let others = [
        Dtype::Bool,
        Dtype::I8,
        Dtype::I16,
        Dtype::U16,
        Dtype::U32,
        Dtype::U64,
        Dtype::String,
    ];
    Dtype::WASI_NN
        .into_iter()
        .chain(others)
        .find(|dtype| dtype.to_string() == name)
}

fn kind_of(name: &str) -> Option<ErrorKind> {
    use ErrorKind::*;
    let all = [
        InvalidArgument,
        InvalidEncoding,
        Timeout,
        RuntimeError,
        UnsupportedOperation,
        TooLarge,
        NotFound,
        Security,
        Unknown,
    ];
    all.into_iter().find(|kind| kind.name() == name)
}

fn dimensions_of(text: &str) -> Option<Vec<Option<usize>>> {
    let inner = text.trim().strip_prefix('[')?.strip_suffix(']')?.trim();
    if inner.is_empty() {
        return Some(Vec::new());
    }
    inner
        .split(',')
        .map(|dimension| match dimension.trim() {
            "?" => Some(None),
            number => number.parse().ok().map(Some),
        })
        .collect()
}

fn not_a_model(why: &str) -> Error {
    Error::new(
        ErrorKind::InvalidEncoding,
        format!("not a model of the fake backend: {why}"),
    )
}
