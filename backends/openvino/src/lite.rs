//! TensorFlow Lite models in ONNX's words (`words`): the operators, element types and constants of the first graph, which
//! is the one that is run. Slots and numbers are those of TensorFlow's schema.fbs.
//!
//! Offsets are followed with checks; one that leads out of the file makes it invalid. A tensor that is quantised counts as
//! f32: the engine computes it so.

use bytes::Bytes;
use infer_core::{Error, ErrorKind, Result};
use infer_onnx::Model;

use crate::operators::UNKNOWN;
use crate::refuse::unsupported;
use crate::words::Words;

const MODEL_OPERATOR_CODES: usize = 1;
const MODEL_SUBGRAPHS: usize = 2;
const MODEL_BUFFERS: usize = 4;
const CODE_DEPRECATED: usize = 0;
const CODE_BUILTIN: usize = 3;
const GRAPH_TENSORS: usize = 0;
const GRAPH_INPUTS: usize = 1;
const GRAPH_OUTPUTS: usize = 2;
const GRAPH_OPERATORS: usize = 3;
const TENSOR_TYPE: usize = 1;
const TENSOR_BUFFER: usize = 2;
const TENSOR_QUANTIZATION: usize = 4;
const TENSOR_IS_VARIABLE: usize = 5;
const QUANTIZATION_SCALE: usize = 2;
const OPERATOR_CODE: usize = 0;
const OPERATOR_INPUTS: usize = 1;
const OPERATOR_OUTPUTS: usize = 2;
const OPERATOR_OPTIONS: usize = 4;
/// Of the options of plain arithmetic.
const OPTIONS_ACTIVATION: usize = 0;
const BUFFER_DATA: usize = 0;

const FLOAT: i32 = 1;
const CAST: i32 = 53;

/// Reads the first graph.
///
/// # Errors
/// `InvalidEncoding` for what is no such model, `UnsupportedOperation` for one with variables.
pub(crate) fn read(bytes: &Bytes) -> Result<Model> {
    let invalid = |why: &str| {
        let message = format!("not a valid TensorFlow Lite model: {why}");
        Error::new(ErrorKind::InvalidEncoding, message)
    };
    if bytes.get(4..8) != Some(b"TFL3") {
        return Err(invalid("it does not say `TFL3`"));
    }
    let file = Flatbuffer(bytes);
    let graph = Graph::of(file).ok_or_else(|| invalid("an offset leads out of the file"))?;
    if graph.has_variables {
        return Err(unsupported(
            "OpenVINO would run the model wrongly: it has variables, and each run starts anew"
                .to_owned(),
        ));
    }
    Ok(graph.words())
}

struct Graph {
    tensors: Vec<Tensor>,
    inputs: Vec<usize>,
    outputs: Vec<usize>,
    operators: Vec<Operator>,
    has_variables: bool,
}

struct Tensor {
    dtype: i32,
    /// The elements of a constant.
    data: Option<Bytes>,
}

struct Operator {
    code: i32,
    inputs: Vec<usize>,
    outputs: Vec<usize>,
    /// Whether its result goes through an activation.
    is_activated: bool,
}

impl Graph {
    fn of(file: Flatbuffer<'_>) -> Option<Graph> {
        let model = file.follow(0)?;
        let codes: Vec<i32> = file
            .tables(model, MODEL_OPERATOR_CODES)?
            .into_iter()
            .map(|code| {
                let new = file.number32(code, CODE_BUILTIN)?;
                // An old file has its number here; a new one has it there as well where it fits.
                Some(new.max(file.number8(code, CODE_DEPRECATED)?.into()))
            })
            .collect::<Option<_>>()?;
        let buffers = file.tables(model, MODEL_BUFFERS)?;
        let graph = *file.tables(model, MODEL_SUBGRAPHS)?.first()?;
        let mut has_variables = false;
        let mut tensors = Vec::new();
        for tensor in file.tables(graph, GRAPH_TENSORS)? {
            has_variables |= file.number8(tensor, TENSOR_IS_VARIABLE)? != 0;
            let buffer = usize::try_from(file.number32(tensor, TENSOR_BUFFER)?).ok()?;
            let data = match buffers.get(buffer) {
                Some(buffer) => file.bytes(*buffer, BUFFER_DATA)?,
                None => None,
            };
            let quantised = match file.slot(tensor, TENSOR_QUANTIZATION)? {
                Some(at) => !file
                    .indices(file.follow(at)?, QUANTIZATION_SCALE)?
                    .is_empty(),
                None => false,
            };
            let dtype = match quantised {
                true => FLOAT,
                false => dtype(file.number8(tensor, TENSOR_TYPE)?),
            };
            tensors.push(Tensor { dtype, data });
        }
        let mut operators = Vec::new();
        for operator in file.tables(graph, GRAPH_OPERATORS)? {
            let code = usize::try_from(file.number32(operator, OPERATOR_CODE)?).ok()?;
            let code = *codes.get(code)?;
            has_variables |= touches_variables(code);
            let options = match file.slot(operator, OPERATOR_OPTIONS)? {
                Some(at) if matches!(code, ADD | MUL | SUB | DIV) => Some(file.follow(at)?),
                _ => None,
            };
            operators.push(Operator {
                code,
                is_activated: match options {
                    Some(options) => file.number8(options, OPTIONS_ACTIVATION)? != 0,
                    None => false,
                },
                inputs: file.indices(operator, OPERATOR_INPUTS)?,
                outputs: file.indices(operator, OPERATOR_OUTPUTS)?,
            });
        }
        Some(Graph {
            inputs: file.indices(graph, GRAPH_INPUTS)?,
            outputs: file.indices(graph, GRAPH_OUTPUTS)?,
            tensors,
            operators,
            has_variables,
        })
    }

    fn words(self) -> Model {
        let mut words = Words::default();
        let name = |tensor: &usize| match self.tensors.get(*tensor) {
            Some(_) => tensor.to_string(),
            // An input that is left out.
            None => String::new(),
        };
        let names = |tensors: &[usize]| -> Vec<String> { tensors.iter().map(name).collect() };
        for (index, tensor) in self.tensors.iter().enumerate() {
            words.declare(name(&index), tensor.dtype);
            if let Some(data) = &tensor.data {
                words.constant(name(&index), tensor.dtype, Some(data.clone()));
            }
        }
        for index in &self.inputs {
            let dtype = self
                .tensors
                .get(*index)
                .map_or(UNKNOWN, |tensor| tensor.dtype);
            words.input(name(index), dtype);
        }
        for index in &self.outputs {
            words.output(name(index));
        }
        for operator in &self.operators {
            let (mut inputs, mut outputs) = (names(&operator.inputs), names(&operator.outputs));
            if operator.is_activated {
                let before = outputs.iter().map(|name| format!("{name} before"));
                let before: Vec<String> = before.collect();
                words.node("Relu", before.clone(), outputs);
                outputs = before;
            }
            match operator.code {
                CAST => {
                    let to = operator
                        .outputs
                        .first()
                        .and_then(|to| self.tensors.get(*to));
                    words.cast(to.map_or(UNKNOWN, |tensor| tensor.dtype), inputs, outputs);
                }
                code => {
                    let operator = onnx_name(code);
                    // Sizes or an axis come first there.
                    if matches!(code, FILL | SPLIT) {
                        inputs.reverse();
                    }
                    words.node(&operator, inputs, outputs);
                }
            }
        }
        words.model()
    }
}

/// A file of tables, each with a list of where its slots are.
#[derive(Clone, Copy)]
struct Flatbuffer<'a>(&'a Bytes);

impl Flatbuffer<'_> {
    fn array<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..at.checked_add(N)?)?.try_into().ok()
    }

    /// Where the offset at this place leads.
    fn follow(self, at: usize) -> Option<usize> {
        let offset = usize::try_from(u32::from_le_bytes(self.array(at)?)).ok()?;
        let to = at.checked_add(offset)?;
        (to < self.0.len()).then_some(to)
    }

    /// Where a table's slot is; `Some(None)` where it is left out.
    fn slot(self, table: usize, slot: usize) -> Option<Option<usize>> {
        let back = i64::from(i32::from_le_bytes(self.array(table)?));
        let slots = usize::try_from(i64::try_from(table).ok()?.checked_sub(back)?).ok()?;
        let size = usize::from(u16::from_le_bytes(self.array(slots)?));
        let at = 4 + 2 * slot;
        if at + 2 > size {
            return Some(None);
        }
        match u16::from_le_bytes(self.array(slots.checked_add(at)?)?) {
            0 => Some(None),
            offset => Some(Some(table.checked_add(offset.into())?)),
        }
    }

    fn number8(self, table: usize, slot: usize) -> Option<i8> {
        match self.slot(table, slot)? {
            Some(at) => Some(i8::from_le_bytes(self.array(at)?)),
            None => Some(0),
        }
    }

    fn number32(self, table: usize, slot: usize) -> Option<i32> {
        match self.slot(table, slot)? {
            Some(at) => Some(i32::from_le_bytes(self.array(at)?)),
            None => Some(0),
        }
    }

    /// A vector's first element and their number; `Some(None)` where it is left out.
    fn vector(self, table: usize, slot: usize, size: usize) -> Option<Option<(usize, usize)>> {
        let Some(at) = self.slot(table, slot)? else {
            return Some(None);
        };
        let at = self.follow(at)?;
        let count = usize::try_from(u32::from_le_bytes(self.array(at)?)).ok()?;
        let start = at + 4;
        let end = start.checked_add(count.checked_mul(size)?)?;
        (end <= self.0.len()).then_some(Some((start, count)))
    }

    fn tables(self, table: usize, slot: usize) -> Option<Vec<usize>> {
        let (start, count) = self.vector(table, slot, 4)?.unwrap_or_default();
        (0..count)
            .map(|index| self.follow(start + 4 * index))
            .collect()
    }

    /// Numbers of 32 bits, one below 0 as one that is too large for any index.
    fn indices(self, table: usize, slot: usize) -> Option<Vec<usize>> {
        let (start, count) = self.vector(table, slot, 4)?.unwrap_or_default();
        let index = |at| {
            let number = i32::from_le_bytes(self.array(start + 4 * at)?);
            Some(usize::try_from(number).unwrap_or(usize::MAX))
        };
        (0..count).map(index).collect()
    }

    fn bytes(self, table: usize, slot: usize) -> Option<Option<Bytes>> {
        let found = self.vector(table, slot, 1)?;
        Some(found.map(|(start, count)| self.0.slice(start..start + count)))
    }
}

/// Whether an operator keeps something from one run to the next.
fn touches_variables(code: i32) -> bool {
    const CALL_ONCE: i32 = 129;
    const VAR_HANDLE: i32 = 142;
    const ASSIGN_VARIABLE: i32 = 144;
    code == CALL_ONCE || (VAR_HANDLE..=ASSIGN_VARIABLE).contains(&code)
}

/// ONNX's number of an element type.
fn dtype(number: i8) -> i32 {
    match number {
        0 => FLOAT,
        1 => 10,
        2 => 6,
        3 => 2,
        4 => 7,
        5 => 8,
        6 => 9,
        7 => 5,
        9 => 3,
        10 => 11,
        12 => 13,
        15 => 12,
        16 => 4,
        _ => UNKNOWN,
    }
}

const ADD: i32 = 0;
const MUL: i32 = 18;
const SUB: i32 = 41;
const DIV: i32 = 42;
const SPLIT: i32 = 49;
const FILL: i32 = 94;

/// ONNX's name of an operator, where it has one.
fn onnx_name(code: i32) -> String {
    let name = match code {
        ADD => "Add",
        2 | 83 => "Concat",
        9 | 126 => "MatMul",
        MUL | 92 | 99 => "Mul",
        19..=21 | 152 => "Relu",
        22 | 39 => "Reshape",
        23 | 97 => "Resize",
        34 | 60 | 100 => "Pad",
        36 => "Gather",
        40 => "ReduceMean",
        SUB => "Sub",
        DIV | 90 => "Div",
        43 => "Squeeze",
        45 | 65 => "Slice",
        48 => "TopK",
        SPLIT | 102 => "Split",
        55 => "Max",
        56 => "ArgMax",
        57 => "Min",
        58 => "Less",
        59 => "Neg",
        61 => "Greater",
        62 => "GreaterOrEqual",
        63 => "LessOrEqual",
        64 | 123 => "Where",
        69 => "Tile",
        70 => "Unsqueeze",
        71 | 72 => "Equal",
        74 => "ReduceSum",
        77 | 110 => "Shape",
        78 => "Pow",
        79 => "ArgMin",
        81 => "ReduceProd",
        82 => "ReduceMax",
        84 => "Or",
        85 => "OneHot",
        86 => "And",
        87 => "Not",
        89 => "ReduceMin",
        FILL | 130 => "Expand",
        95 => "Mod",
        96 => "Range",
        101 => "Abs",
        103 => "Unique",
        106 | 125 | 155 => "Sum",
        107 => "GatherND",
        109 => "NonZero",
        128 => "CumSum",
        160 => "BitwiseXor",
        other => return format!("operator {other}"),
    };
    name.to_owned()
}
