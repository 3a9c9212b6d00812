//! A compiled model's inputs and outputs as a signature.
//!
//! Types and dimensions are the engine's, which runs the model. Names and order are the ONNX file's where
//! there is one, since the engine gives a tensor any of its names. The engine drops an input that no node
//! reads: such a one stays in the signature and goes nowhere.

use infer_core::{Dtype, Error, ErrorKind, Precision, Result, Signature, TensorInfo, clip};

use infer_onnx::{Model, Value};

use crate::native::{Answer, Compiled, Failure, Port, element_name};

/// The engine's index of each input and output of a signature.
pub(crate) struct Order {
    /// `None` for an input that the engine does not have.
    pub(crate) inputs: Vec<Option<usize>>,
    pub(crate) outputs: Vec<OutputPort>,
}

/// Where the engine has an output.
#[derive(Clone, Copy)]
pub(crate) struct OutputPort {
    pub(crate) index: usize,
    /// Whether it goes by the name of an input, being the same tensor. The engine then takes one for the
    /// other, so that memory set for the output would become the input's.
    pub(crate) is_input: bool,
}

/// What the names of a model's tensors are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    /// Names, whatever is in them.
    Tensors,
    /// Those of nodes, as in a frozen graph of TensorFlow: `x:0` is the first output of `x`.
    Nodes,
}

/// Describes a compiled model.
///
/// # Errors
/// `UnsupportedOperation` for dtypes and ranks that the contract does not have, for f64 where less is not
/// asked for, and for an input that the engine has lost.
pub(crate) fn signature(
    compiled: &Compiled,
    onnx: Option<&Model>,
    (precision, naming): (Precision, Naming),
) -> Result<(Signature, Order)> {
    let inputs = Side {
        what: "input",
        ports: compiled.inputs().map_err(undescribed)?,
        by_name: &|name| compiled.input_named(name),
        precision,
        naming,
    };
    let outputs = Side {
        what: "output",
        ports: compiled.outputs().map_err(undescribed)?,
        by_name: &|name| compiled.output_named(name),
        precision,
        naming,
    };
    let input_names: Vec<Option<String>> = inputs.ports.iter().map(Port::name).collect();
    let is_input: Vec<bool> = outputs
        .ports
        .iter()
        .map(|port| input_names.contains(&port.name()))
        .collect();
    let graph = onnx.and_then(|model| Some((model, model.graph.as_ref()?)));
    let (inputs, outputs) = match graph {
        None => (inputs.undeclared()?, outputs.undeclared()?),
        Some((model, graph)) => {
            let declared: Vec<&Value> = graph.outputs.iter().collect();
            (
                inputs.declared(&graph.given_inputs(), Some(model))?,
                outputs.declared(&declared, None)?,
            )
        }
    };
    let order = Order {
        inputs: inputs.1,
        outputs: (outputs.1.into_iter().flatten())
            .map(|index| OutputPort {
                index,
                is_input: is_input[index],
            })
            .collect(),
    };
    let signature = Signature {
        inputs: inputs.0,
        outputs: outputs.0,
        stateful: false,
        shared: graph.map_or_else(Vec::new, |(_, graph)| graph.shared_dimensions()),
    };
    Ok((signature, order))
}

/// Descriptions, and the engine's index of each.
type Described = (Vec<TensorInfo>, Vec<Option<usize>>);

/// The inputs or the outputs.
struct Side<'a> {
    what: &'static str,
    ports: Vec<Port>,
    by_name: &'a dyn Fn(&str) -> Answer<Port>,
    precision: Precision,
    naming: Naming,
}

impl Side<'_> {
    /// As the engine has them.
    fn undeclared(&self) -> Result<Described> {
        let infos = self.ports.iter().enumerate().map(|(index, port)| {
            let name = port.name().map(|name| self.short(name));
            let name = name.unwrap_or_else(|| format!("{}_{index}", self.what));
            self.info(port, name, None)
        });
        let infos = infos.collect::<Result<_>>()?;
        Ok((infos, (0..self.ports.len()).map(Some).collect()))
    }

    /// The first output of a node goes by the node's name, which is the one that people know.
    fn short(&self, name: String) -> String {
        match name.strip_suffix(":0") {
            Some(node) if !node.is_empty() && self.naming == Naming::Nodes => node.to_owned(),
            _ => name,
        }
    }

    /// As the file has them. Inputs come with the model, in which some may have no use.
    fn declared(&self, values: &[&Value], model: Option<&Model>) -> Result<Described> {
        let indices = self.indices(values);
        let mut infos = Vec::new();
        for (value, index) in values.iter().zip(&indices) {
            infos.push(match (index, model) {
                (Some(index), _) => {
                    let name = value.name.clone();
                    self.info(&self.ports[*index], name, value.dimensions())?
                }
                (None, Some(model)) => unused(model, value)?,
                (None, None) => return Err(self.lost(&value.name)),
            });
        }
        Ok((infos, indices))
    }

    /// The engine's index of each: by name, or the only one left for the only one left.
    fn indices(&self, values: &[&Value]) -> Vec<Option<usize>> {
        let mut indices: Vec<Option<usize>> = values
            .iter()
            .enumerate()
            .map(|(place, value)| self.index_of(&value.name, place))
            .collect();
        let mut free = (0..self.ports.len()).filter(|index| !indices.contains(&Some(*index)));
        if let (Some(index), None) = (free.next(), free.next()) {
            let mut missing = indices.iter_mut().filter(|index| index.is_none());
            if let (Some(place), None) = (missing.next(), missing.next()) {
                *place = Some(index);
            }
        }
        indices
    }

    /// The engine's index of what the file names so; at the same place if that fits.
    fn index_of(&self, name: &str, place: usize) -> Option<usize> {
        let any_name = (self.by_name)(name).ok()?.name()?;
        let same = |port: &Port| port.name().as_ref() == Some(&any_name);
        match self.ports.get(place) {
            Some(port) if same(port) => Some(place),
            _ => self.ports.iter().position(same),
        }
    }

    fn info(
        &self,
        port: &Port,
        name: String,
        declared: Option<Vec<Option<usize>>>,
    ) -> Result<TensorInfo> {
        let (what, shown) = (self.what, clip(&name));
        let dtype = port.dtype().map_err(undescribed)?.map_err(|number| {
            let dtype = element_name(number);
            unsupported(format!(
                "OpenVINO's {what} `{shown}` has elements of type {dtype}, which cannot be carried"
            ))
        })?;
        if dtype == Dtype::F64 && self.precision == Precision::F32 {
            let message = format!("OpenVINO would compute {what} `{shown}` of f64 in f32");
            return Err(unsupported(message).with_hint("`--precision auto` allows it"));
        }
        let dimensions = port.dimensions().map_err(undescribed)?.or(declared);
        let dimensions = dimensions.ok_or_else(|| {
            unsupported(format!(
                "OpenVINO does not know how many dimensions {what} `{shown}` has"
            ))
        })?;
        Ok(TensorInfo {
            name,
            dtype,
            dimensions,
        })
    }

    fn lost(&self, name: &str) -> Error {
        unsupported(format!("OpenVINO has lost {} `{}`", self.what, clip(name)))
    }
}

/// An input that the engine does not have, if its elements can make no difference: nothing reads it, it has
/// none, or it only tells a dtype.
fn unused(model: &Model, value: &Value) -> Result<TensorInfo> {
    let lost = || unsupported(format!("OpenVINO ignores input `{}`", clip(&value.name)));
    let dimensions = value.dimensions().ok_or_else(lost)?;
    let dtype = value.dtype().and_then(dtype_of).ok_or_else(lost)?;
    if !dimensions.contains(&Some(0)) {
        model.for_each_use(
            &value.name,
            &mut |node, place| match node.operator == "CastLike" && place == 1 {
                true => Ok(()),
                false => Err(lost()),
            },
        )?;
    }
    Ok(TensorInfo {
        name: value.name.clone(),
        dtype,
        dimensions,
    })
}

/// The dtype of an ONNX number.
fn dtype_of(number: i32) -> Option<Dtype> {
    Some(match number {
        1 => Dtype::F32,
        2 => Dtype::U8,
        3 => Dtype::I8,
        4 => Dtype::U16,
        5 => Dtype::I16,
        6 => Dtype::I32,
        7 => Dtype::I64,
        9 => Dtype::Bool,
        10 => Dtype::F16,
        11 => Dtype::F64,
        12 => Dtype::U32,
        13 => Dtype::U64,
        16 => Dtype::BF16,
        _ => return None,
    })
}

fn undescribed(failure: Failure) -> Error {
    unsupported("OpenVINO does not describe the model's inputs and outputs").with_source(failure)
}

fn unsupported(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::UnsupportedOperation, message)
}
