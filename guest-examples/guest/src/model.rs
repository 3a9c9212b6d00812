//! A model: opened by name or from bytes, and run any number of times.
//!
//! A model holds one execution context of the host and uses it for every run. Inputs are given by name; where
//! the ABI knows positions only (preview1), names become positions by the host's own description of the model,
//! or by the order in which they are given where the host has none.

use crate::abi::{self, Argument, Encoding, Target};
use crate::error::{Code, Error, Result};
use crate::info::Info;
use crate::tensor::{Output, Tensor, known_dimensions};
use std::cell::OnceCell;

/// A model that the host has loaded for this guest.
///
/// On the component ABI everything is given back when it is dropped. Preview1 has no such call; there a model
/// lives until the guest ends, or until [`Model::close`].
pub struct Model {
    pub(crate) context: abi::Context,
    graph: abi::Graph,
    name: Option<String>,
    description: OnceCell<Option<Description>>,
}

/// What the host tells of a model, and the handles through which it was asked, kept to be given back.
struct Description {
    info: Info,
    context: abi::Context,
    graph: abi::Graph,
}

impl Model {
    /// Opens the model that the host knows by this name; `default` is the name that portable guests ask for.
    ///
    /// # Errors
    /// [`NotFound`](Code::NotFound) when the host knows none (some hosts use another code).
    pub fn open(name: &str) -> Result<Model> {
        Model::of(abi::Graph::by_name(name)?, Some(name.to_owned()))
    }

    /// Hands the host the bytes of a model, in as many parts as its encoding has (ONNX: 1; OpenVINO: 2).
    ///
    /// # Errors
    /// [`Security`](Code::Security) when the host does not let guests load models or use that device,
    /// [`InvalidEncoding`](Code::InvalidEncoding) when no engine reads it, and
    /// [`TooLarge`](Code::TooLarge) when it is over the host's limit.
    pub fn load(parts: &[&[u8]], encoding: Encoding, target: Target) -> Result<Model> {
        Model::of(abi::Graph::load(parts, encoding, target)?, None)
    }

    fn of(graph: abi::Graph, name: Option<String>) -> Result<Model> {
        Ok(Model {
            context: graph.context()?,
            graph,
            name,
            description: OnceCell::new(),
        })
    }

    /// What the host tells of the model; `None` when it tells nothing, as other hosts do, or when the model was
    /// loaded from bytes. Asked for once, then kept.
    pub fn info(&self) -> Option<&Info> {
        let description = self
            .description
            .get_or_init(|| Description::of(self.name.as_deref()?).ok()?);
        description.as_ref().map(|description| &description.info)
    }

    /// Runs the model. Inputs are given by name, in any order where the host knows names.
    ///
    /// # Errors
    /// [`InvalidArgument`](Code::InvalidArgument) when an input is missing, unknown, given twice or does not
    /// fit the model; [`TooLarge`](Code::TooLarge) over a limit of the host; [`Timeout`](Code::Timeout);
    /// [`RuntimeError`](Code::RuntimeError) when the engine fails. The model can be run again after any of them.
    pub fn run(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Outputs<'_>> {
        if abi::BY_POSITION {
            self.info();
        }
        let description = self.description.get().and_then(Option::as_ref);
        let info = description.map(|description| &description.info);
        let arguments = inputs
            .iter()
            .enumerate()
            .map(|(position, (name, tensor))| {
                Ok(Argument {
                    name,
                    index: index_of(name, position, inputs, info)?,
                    tensor: view(tensor),
                })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Outputs {
            results: self.context.compute(&arguments)?,
            info,
        })
    }

    /// Gives back the model's handles now, in preview1 too, where dropping it frees nothing.
    ///
    /// On preview1 this makes the guest import two functions that WasmEdge added to the ABI (`unload`,
    /// `finalize_execution_context`): a guest that calls it does not instantiate on hosts that lack them.
    ///
    /// # Errors
    /// Whatever the host answers; the handles are gone all the same.
    pub fn close(self) -> Result<()> {
        if let Some(Description { context, graph, .. }) = self.description.into_inner().flatten() {
            context.close()?;
            graph.close()?;
        }
        self.context.close()?;
        self.graph.close()
    }
}

impl Description {
    /// Asks the host; none when it answers with something else than a description.
    fn of(name: &str) -> Result<Option<Description>> {
        let graph = abi::Graph::by_name(&format!("{name}#info"))?;
        let mut context = graph.context()?;
        let json = context.compute(&[])?.fetch(0, None)?.data;
        Ok(Info::parse(&json).map(|info| Description {
            info,
            context,
            graph,
        }))
    }
}

fn view(tensor: &Tensor) -> abi::View<'_> {
    abi::View {
        dtype: tensor.dtype(),
        dimensions: tensor.dimensions(),
        data: tensor.bytes(),
    }
}

/// The position of an input in the model's signature. Where names decide, it is not used and not checked.
fn index_of(
    name: &str,
    position: usize,
    inputs: &[(&str, &Tensor)],
    info: Option<&Info>,
) -> Result<u32> {
    let Some(info) = info.filter(|_| abi::BY_POSITION) else {
        return Ok(position as u32);
    };
    let given = |wanted: &str| inputs.iter().filter(|(name, _)| *name == wanted).count();
    if let Some(missing) = info.inputs.iter().find(|input| given(&input.name) == 0) {
        return Err(Error::invalid(format!(
            "input `{}` is missing",
            missing.name
        )));
    }
    if given(name) > 1 {
        return Err(Error::invalid(format!("input `{name}` is given twice")));
    }
    info.inputs
        .iter()
        .position(|input| input.name == name)
        .map(|index| index as u32)
        .ok_or_else(|| Error::invalid(format!("the model has no input `{name}`")))
}

/// The outputs of one run. Values stay with the host until [`Outputs::get`] asks for them.
pub struct Outputs<'model> {
    results: abi::Results<'model>,
    info: Option<&'model Info>,
}

/// How an output is asked for: by name (`"probabilities"`) or by its position in the model's signature (`0`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key<'name> {
    /// By name.
    Name(&'name str),
    /// By position, from 0.
    Index(usize),
}

impl<'name> From<&'name str> for Key<'name> {
    fn from(name: &'name str) -> Self {
        Key::Name(name)
    }
}

impl From<usize> for Key<'_> {
    fn from(index: usize) -> Self {
        Key::Index(index)
    }
}

impl Outputs<'_> {
    /// Copies one output into the guest.
    ///
    /// # Errors
    /// [`NotFound`](Code::NotFound) when there is no such output, or when it is asked for by name and the host
    /// knows no names (preview1 on hosts without `#info`); [`TooLarge`](Code::TooLarge) when the guest's memory
    /// cannot hold it.
    pub fn get<'name>(&self, key: impl Into<Key<'name>>) -> Result<Output> {
        let key = key.into();
        let index = self.position(key).ok_or_else(|| self.unknown(key))?;
        let described = self.info.and_then(|info| info.outputs.get(index));
        let expected = described.and_then(|output| {
            let elements = output
                .dimensions
                .iter()
                .try_fold(1usize, |n, size| n.checked_mul((*size)? as usize))?;
            elements.checked_mul(output.dtype()?.size())
        });
        let fetched = self.results.fetch(index as u32, expected)?;
        let dtype = fetched
            .dtype
            .or_else(|| described.and_then(|output| output.dtype()));
        let dimensions = fetched
            .dimensions
            .or_else(|| known_dimensions(dtype?, &described?.dimensions, fetched.data.len()));
        Ok(Output {
            dtype,
            dimensions,
            bytes: fetched.data,
        })
    }

    fn position(&self, key: Key<'_>) -> Option<usize> {
        match key {
            Key::Name(name) => match self.results.names() {
                Some(mut names) => names.position(|known| known == name),
                None => self
                    .info?
                    .outputs
                    .iter()
                    .position(|output| output.name == name),
            },
            Key::Index(index) => self
                .results
                .names()
                .is_none_or(|names| index < names.len())
                .then_some(index),
        }
    }

    fn unknown(&self, key: Key<'_>) -> Error {
        let message = match key {
            Key::Name(name) if self.results.names().is_none() && self.info.is_none() => {
                format!("output `{name}`: this host gives no names; ask for a position")
            }
            Key::Name(name) => format!("the model has no output `{name}`"),
            Key::Index(index) => format!("the model has no output number {index}"),
        };
        Error::new(Code::NotFound, message)
    }
}
