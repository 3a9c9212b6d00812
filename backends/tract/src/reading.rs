//! What tract makes of a model that it has parsed, either for inputs of any shape or for those of one call.

use std::collections::HashSet;

use infer_core::{Cancel, Error, Result, Tensor};
use tract_onnx::model::ParseResult;
use tract_onnx::pb::{GraphProto, ModelProto};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::{DimFact, DimLike, Factoid, ShapeFactoid, TractError};

use crate::load::{graph_of, rejected};
use crate::{refuse, repair};

/// A parsed model, and its file without the weights, which the parsed model has.
pub(crate) struct Reading {
    parsed: ParseResult,
    proto: ModelProto,
    convolves: bool,
}

/// Why there is no reading.
pub(crate) enum Unread {
    /// It is refused, whatever the shapes.
    Never(Error),
    /// tract did not find out enough, which it may for other shapes.
    SoFar(Error),
}

impl From<Unread> for Error {
    fn from(unread: Unread) -> Error {
        match unread {
            Unread::Never(error) | Unread::SoFar(error) => error,
        }
    }
}

impl From<Error> for Unread {
    fn from(error: Error) -> Unread {
        Unread::Never(error)
    }
}

impl Reading {
    /// # Errors
    /// `InvalidEncoding` for a model without a graph.
    pub(crate) fn new(mut parsed: ParseResult, mut proto: ModelProto) -> Result<Reading> {
        let convolves = convolves(graph_of(&proto)?);
        if let Some(graph) = &mut proto.graph {
            graph.initializer.clear();
        }
        name_open_dimensions(&mut parsed.model).map_err(|e| rejected("parse", e))?;
        Ok(Reading {
            parsed,
            proto,
            convolves,
        })
    }

    /// Whether an input has a dimension that is for the caller to choose.
    pub(crate) fn is_open(&self) -> bool {
        let model = &self.parsed.model;
        let is_known = |fact: &InferenceFact| {
            let shape = fact.shape.concretize();
            shape.is_some_and(|shape| shape.iter().all(|dim| dim.to_usize().is_ok()))
        };
        !model
            .inputs
            .iter()
            .all(|input| model.outlet_fact(*input).is_ok_and(is_known))
    }

    /// Whether most of the weights are those of convolutions.
    pub(crate) fn convolves(&self) -> bool {
        self.convolves
    }

    /// The model, typed, checked, put right and simplified, for inputs of any shape.
    ///
    /// # Errors
    /// `UnsupportedOperation`, `TooLarge`, `Cancelled`.
    pub(crate) fn for_any_shapes(
        &self,
        cancel: &Cancel,
    ) -> std::result::Result<TypedModel, Unread> {
        self.simplified(self.parsed.clone(), cancel)
    }

    /// The same for inputs of these shapes.
    ///
    /// # Errors
    /// Those of [`Reading::for_any_shapes`].
    pub(crate) fn for_shapes(&self, inputs: &[Tensor], cancel: &Cancel) -> Result<TypedModel> {
        let mut parsed = self.parsed.clone();
        let model = &mut parsed.model;
        // What the file says of shapes in between is in terms of names, which now are numbers.
        for node in &mut model.nodes {
            for output in &mut node.outputs {
                if output.fact.value.concretize().is_none() {
                    output.fact.shape = ShapeFactoid::default();
                }
            }
        }
        for (place, input) in inputs.iter().enumerate() {
            let fact = model.input_fact_mut(place);
            let fact = fact.map_err(|e| rejected("take the inputs of", e))?;
            fact.shape = input.shape().iter().copied().collect();
        }
        Ok(self.simplified(parsed, cancel)?)
    }

    fn simplified(
        &self,
        mut parsed: ParseResult,
        cancel: &Cancel,
    ) -> std::result::Result<TypedModel, Unread> {
        cancel.check()?;
        let so_far = |e: TractError| match e.downcast::<Error>() {
            // A limit of ours.
            Ok(error) => Unread::Never(error),
            Err(e) => Unread::SoFar(rejected("work out the types of", e)),
        };
        parsed.model.analyse(false).map_err(so_far)?;
        refuse::check_typed(&self.proto, graph_of(&self.proto)?, &parsed)?;
        cancel.check()?;
        let mut typed = parsed.model.into_typed().map_err(so_far)?;
        repair::put_right(&mut typed);
        simplify(&mut typed, cancel)?;
        Ok(typed)
    }
}

/// Lets tract work out what it can, and checks what is left.
pub(crate) fn simplify(typed: &mut TypedModel, cancel: &Cancel) -> Result<()> {
    cancel.check()?;
    typed.declutter().map_err(|e| rejected("simplify", e))?;
    refuse::check_simplified(typed)
}

/// tract knows a dimension that the caller chooses by a name, and files need not give it one.
fn name_open_dimensions(model: &mut InferenceModel) -> TractResult<()> {
    for input in model.inputs.clone() {
        let symbols = model.symbols.clone();
        let shape = &mut model.outlet_fact_mut(input)?.shape;
        if shape.is_open() {
            continue;
        }
        let named = |dim: &DimFact| {
            let dim = dim.concretize();
            dim.unwrap_or_else(|| symbols.new_with_prefix("open").into())
        };
        *shape = shape.dims().map(named).collect();
    }
    Ok(())
}

fn convolves(graph: &GraphProto) -> bool {
    let convolutions = graph
        .node
        .iter()
        .filter(|node| node.op_type.contains("Conv"));
    let kernels: HashSet<&String> = convolutions.filter_map(|node| node.input.get(1)).collect();
    let constants = graph.node.iter().filter_map(|node| {
        let tensor = node
            .attribute
            .iter()
            .find_map(|attribute| attribute.t.as_ref())?;
        Some((node.output.first()?, tensor))
    });
    let weights = graph
        .initializer
        .iter()
        .map(|tensor| (&tensor.name, tensor));
    let (mut in_kernels, mut in_others) = (0_u64, 0_u64);
    for (name, tensor) in weights.chain(constants) {
        let sizes = tensor.dims.iter().map(|&size| size.unsigned_abs());
        let elements = sizes.fold(1, u64::saturating_mul);
        let sum = match kernels.contains(name) {
            true => &mut in_kernels,
            false => &mut in_others,
        };
        *sum = sum.saturating_add(elements);
    }
    in_kernels > in_others
}
