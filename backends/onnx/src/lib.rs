//! What backends of native engines look at in an ONNX model before the engine does.
//!
//! Steps: [`Model::read`] decodes the file, whose weights are borrowed and not copied; [`Model::check_files`]
//! keeps it from naming files outside its folder; [`Model::check_rules`] refuses what an engine is known to
//! answer wrongly; [`Model::shared_dimensions`] are the dimensions that inputs must agree on.
//!
//! It neither validates a model nor infers types: the engine does.

mod facts;
mod files;
mod proto;

use infer_core::{Error, ErrorKind, Result, SharedDimension, Source};
use prost::Message;

pub use facts::{ElementType, Facts, Rule};

use proto::dimension::Size;
use proto::{GraphProto, ModelProto};

/// A decoded model.
pub struct Model {
    proto: ModelProto,
    /// Where it may name further files; none for a model of bytes.
    folder: Option<std::path::PathBuf>,
}

impl Model {
    /// Decodes a model of one part.
    ///
    /// # Errors
    /// `InvalidArgument` for another number of parts, `NotFound` and `RuntimeError` for a file that cannot be
    /// read, `InvalidEncoding` for bytes that are no ONNX model.
    pub fn read(source: &Source) -> Result<Model> {
        let (bytes, folder) = files::read(source)?;
        let proto = ModelProto::decode(bytes).map_err(|error| {
            Error::new(ErrorKind::InvalidEncoding, "the model is not valid ONNX").with_source(error)
        })?;
        if proto.graph.is_none() {
            let message = "the model is not valid ONNX: it has no graph";
            return Err(Error::new(ErrorKind::InvalidEncoding, message));
        }
        Ok(Model { proto, folder })
    }

    /// Checks that the model names no file outside its folder, and a model of bytes none at all.
    ///
    /// # Errors
    /// `Security` for one that does.
    pub fn check_files(&self) -> Result<()> {
        self.for_each_graph(&mut |graph| files::check(graph, self.folder.as_deref()))
    }

    /// Refuses the model if a rule of `engine` applies to any of its nodes, in subgraphs and functions too.
    ///
    /// # Errors
    /// `UnsupportedOperation` with the operator and what of it.
    pub fn check_rules(&self, engine: &str, rules: &[Rule]) -> Result<()> {
        facts::check(&self.proto, engine, rules)
    }

    /// The operators that it uses, each once.
    pub fn operators(&self) -> Vec<&str> {
        let mut found: Vec<&str> = facts::nodes(&self.proto)
            .map(|node| node.op_type.as_str())
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Dimensions of inputs that have one name, `batch` say, by the inputs' and the axes' places among `inputs`.
    pub fn shared_dimensions(&self, inputs: &[&str]) -> Vec<SharedDimension> {
        let mut found: Vec<SharedDimension> = Vec::new();
        let values = self.proto.graph.iter().flat_map(|graph| &graph.input);
        for value in values {
            let Some(input) = inputs.iter().position(|name| *name == value.name) else {
                continue;
            };
            let tensor = value
                .r#type
                .as_ref()
                .and_then(|kind| kind.tensor_type.as_ref());
            let dimensions = tensor.and_then(|tensor| tensor.shape.as_ref());
            for (axis, dimension) in dimensions.iter().flat_map(|shape| &shape.dim).enumerate() {
                let Some(Size::Symbol(name)) = &dimension.size else {
                    continue;
                };
                match found.iter_mut().find(|shared| shared.name == *name) {
                    Some(shared) => shared.places.push((input, axis)),
                    None => found.push(SharedDimension {
                        name: name.clone(),
                        places: vec![(input, axis)],
                    }),
                }
            }
        }
        found.retain(|shared| shared.places.len() > 1 && !shared.name.is_empty());
        found
    }

    fn for_each_graph(&self, visit: &mut dyn FnMut(&GraphProto) -> Result<()>) -> Result<()> {
        self.proto
            .graph
            .iter()
            .try_for_each(|graph| for_each_graph(graph, visit))
    }
}

fn for_each_graph(
    graph: &GraphProto,
    visit: &mut dyn FnMut(&GraphProto) -> Result<()>,
) -> Result<()> {
    visit(graph)?;
    let attributes = graph.node.iter().flat_map(|node| &node.attribute);
    for inner in attributes.flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs)) {
        for_each_graph(inner, visit)?;
    }
    Ok(())
}
