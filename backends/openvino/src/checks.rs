//! What an ONNX model wants of its inputs and the engine does not check, looked at before each run: indices that
//! have to be inside.

use infer_core::{Dtype, Error, ErrorKind, Result, Signature, Tensor, clip};

use infer_onnx::{Graph, Model, Node};

/// What is looked at before a run.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    /// Inputs that are indices; for one that is outside the engine would give zeros.
    indices: Vec<Indices>,
    /// An operator of the model of which the engine gives the lowest number, not infinity, for no elements.
    not_of_nothing: Option<&'static str>,
}

/// An input that `Gather` takes for indices.
#[derive(Debug)]
struct Indices {
    input: usize,
    size: Size,
}

/// What the indices go into.
#[derive(Debug)]
enum Size {
    /// So many elements.
    Of(usize),
    /// An axis of another input, counted from the end where negative.
    OfInput(usize, i64),
}

impl Checks {
    /// The checks for a model, none where it is not ONNX.
    pub(crate) fn of(model: Option<&Model>) -> Checks {
        let Some(graph) = model.and_then(|model| model.graph.as_ref()) else {
            return Checks::default();
        };
        let names: Vec<&str> = graph
            .given_inputs()
            .into_iter()
            .map(|input| input.name.as_str())
            .collect();
        Checks {
            not_of_nothing: ["ReduceMax", "ReduceMin"]
                .into_iter()
                .find(|operator| graph.nodes.iter().any(|node| node.operator == *operator)),
            indices: graph
                .nodes
                .iter()
                .filter_map(|node| Indices::of(node, graph, &names))
                .collect(),
        }
    }

    /// Checks the inputs of a run, which are in the signature's order and fit it.
    ///
    /// # Errors
    /// `InvalidArgument` for an index that is outside, `UnsupportedOperation` for an input without elements that the
    /// engine would answer wrongly.
    pub(crate) fn check(&self, inputs: &[Tensor], signature: &Signature) -> Result<()> {
        let empty = |tensor: &Tensor| tensor.byte_length() == 0;
        if let Some(operator) = self.not_of_nothing.filter(|_| inputs.iter().any(empty)) {
            let message = format!("OpenVINO would run `{operator}` of no elements wrongly");
            return Err(Error::new(ErrorKind::UnsupportedOperation, message)
                .with_hint("another backend may run this model"));
        }
        self.indices
            .iter()
            .try_for_each(|indices| indices.check(inputs, signature))
    }
}

impl Indices {
    /// The check for a node whose indices are an input of the model's.
    fn of(node: &Node, graph: &Graph, names: &[&str]) -> Option<Indices> {
        if !matches!(node.operator.as_str(), "Gather" | "GatherElements") {
            return None;
        }
        let [data, indices] = node.inputs.as_slice() else {
            return None;
        };
        let place = |name: &String| names.iter().position(|input| input == name);
        let input = place(indices)?;
        let axis = node.attributes.iter().find(|a| a.name == "axis");
        let axis = axis.map_or(0, |a| a.int);
        let size = match place(data) {
            Some(data) => Size::OfInput(data, axis),
            None => {
                let constant = graph.initializers.iter().find(|t| t.name == *data)?;
                let dims = &constant.dims;
                Size::Of(usize::try_from(dims[axis_of(axis, dims.len())?]).ok()?)
            }
        };
        Some(Indices { input, size })
    }

    fn check(&self, inputs: &[Tensor], signature: &Signature) -> Result<()> {
        let size = match self.size {
            Size::Of(size) => size,
            Size::OfInput(input, axis) => {
                let shape = inputs[input].shape();
                match axis_of(axis, shape.len()) {
                    Some(axis) => shape[axis],
                    None => return Ok(()),
                }
            }
        };
        let end = i64::try_from(size).unwrap_or(i64::MAX);
        let outside = |index: &i64| !(-end..end).contains(index);
        match numbers(&inputs[self.input])?.into_iter().find(outside) {
            None => Ok(()),
            Some(index) => {
                let name = clip(&signature.inputs[self.input].name);
                let message = format!(
                    "input `{name}`: expected indices of -{end} to below {end}, got {index}"
                );
                Err(Error::new(ErrorKind::InvalidArgument, message))
            }
        }
    }
}

fn axis_of(axis: i64, rank: usize) -> Option<usize> {
    let rank = i64::try_from(rank).ok()?;
    let axis = if axis < 0 { axis + rank } else { axis };
    (0..rank).contains(&axis).then_some(axis as usize)
}

/// The elements of a tensor of indices; none for other dtypes, which the engine does not take for some.
fn numbers(tensor: &Tensor) -> Result<Vec<i64>> {
    let bytes = tensor.host()?;
    Ok(match tensor.dtype() {
        Dtype::I64 => {
            let (numbers, _) = bytes.as_chunks();
            numbers.iter().map(|n| i64::from_le_bytes(*n)).collect()
        }
        Dtype::I32 => {
            let (numbers, _) = bytes.as_chunks();
            let wide = numbers.iter().map(|n| i32::from_le_bytes(*n).into());
            wide.collect()
        }
        _ => Vec::new(),
    })
}
