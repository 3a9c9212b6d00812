//! Guests that are models: components that export `infer:nn/transform`.
//!
//! Each call gets an instance of its own. Tensors go in and come out as handles: what the caller gave is put into the
//! instance's table and books as it is, and what it gives back is taken out of them, both without a copy.

use infer_core::{Dtype, Error, ErrorKind, Result, Signature, Tensor, TensorInfo, clip, clip_to};
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime::component::{
    Component, ComponentExportIndex, ComponentNamedList, ComponentType, InstancePre, Lift, Lower,
    Resource,
};

use crate::guest::run::{Answering, Work};
use crate::guest::{Guest, Instance, Program};
use crate::host::Host;
use crate::nn::state::{LONGEST_NAME, check_rank};
use crate::nn::wit::GuestTensor;

/// What a component exports that is a model.
pub(super) const TRANSFORM: &str = "infer:nn/transform@0.1.0";

/// The most inputs or outputs of a guest.
const MOST_TENSORS: usize = 256;

/// The longest text of a guest's that a caller is told, in bytes.
const LONGEST_TEXT: usize = 4096;

/// Such a component, and where its functions are.
#[derive(Clone)]
pub(super) struct Transform {
    instance: InstancePre<Host>,
    describe: ComponentExportIndex,
    transform: ComponentExportIndex,
}

impl Transform {
    /// `None` for a component that exports no such interface.
    pub(super) fn of(component: &Component, instance: &InstancePre<Host>) -> Option<Transform> {
        let interface = component.get_export_index(None, TRANSFORM)?;
        let function = |name: &str| component.get_export_index(Some(&interface), name);
        Some(Transform {
            instance: instance.clone(),
            describe: function("describe")?,
            transform: function("transform")?,
        })
    }

    async fn call<P, R>(
        &self,
        store: &mut Store<Host>,
        function: ComponentExportIndex,
        arguments: P,
    ) -> wasmtime::Result<R>
    where
        P: ComponentNamedList + Lower + Send + Sync,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
    {
        let instance = self.instance.instantiate_async(&mut *store).await?;
        let function = instance.get_typed_func::<P, R>(&mut *store, &function)?;
        function.call_async(store, arguments).await
    }
}

impl Guest {
    /// Asks the guest what it takes and gives, in a new instance. Must be called within a tokio runtime that has its
    /// timers enabled.
    ///
    /// # Errors
    /// `UnsupportedOperation` where it is no model. Its answer: `RuntimeError` where it says that it cannot be used,
    /// `InvalidArgument` for an answer that is no signature.
    pub fn describe(&self, instance: Instance) -> Result<Answering<Signature>> {
        let transform = self.transforms()?;
        Ok(self.ask(instance, |answer| Describing { transform, answer }))
    }

    /// Has the guest make outputs of inputs, in a new instance; both are in the order of the signature, which is what
    /// it answered to [`Guest::describe`] and what the inputs were checked against. Must be called within a tokio
    /// runtime that has its timers enabled.
    ///
    /// # Errors
    /// `UnsupportedOperation` where it is no model. Its answer: `InvalidArgument` for what it refuses, with its own
    /// text, `Busy` if a model had no room for its call; `TooLarge` for inputs that do not fit its limits; `RuntimeError` for outputs that are not as it had said.
    pub fn transform(
        &self,
        instance: Instance,
        signature: &Signature,
        inputs: Vec<Tensor>,
    ) -> Result<Answering<Vec<Tensor>>> {
        let transform = self.transforms()?;
        let names = signature.inputs.iter().map(|info| info.name.clone());
        let inputs = names.zip(inputs).collect();
        let outputs = signature.outputs.clone();
        Ok(self.ask(instance, |answer| Transforming {
            transform,
            inputs,
            outputs,
            answer,
        }))
    }

    fn transforms(&self) -> Result<Transform> {
        match &self.program {
            Program::Transform(transform) => Ok(transform.clone()),
            _ => {
                let message = format!("the guest is no model: it does not export `{TRANSFORM}`");
                Err(Error::new(ErrorKind::UnsupportedOperation, message))
            }
        }
    }
}

struct Describing {
    transform: Transform,
    answer: oneshot::Sender<Result<Signature>>,
}

impl Work for Describing {
    async fn perform(self, store: &mut Store<Host>) -> wasmtime::Result<u32> {
        let describe = self.transform.describe;
        let (described,): (std::result::Result<ModelInfo, String>,) =
            self.transform.call(store, describe, ()).await?;
        let answer = match described {
            Ok(info) => info.signature(),
            Err(text) => {
                let text = clip_to(&text, LONGEST_TEXT);
                let message = format!("the guest says that it cannot be used: {text}");
                Err(Error::new(ErrorKind::RuntimeError, message))
            }
        };
        // Nobody waits any more where the caller went away.
        let _ = self.answer.send(answer);
        Ok(0)
    }
}

struct Transforming {
    transform: Transform,
    inputs: Vec<(String, Tensor)>,
    outputs: Vec<TensorInfo>,
    answer: oneshot::Sender<Result<Vec<Tensor>>>,
}

/// A tensor and the name of its input or output.
type Named = (String, Resource<GuestTensor>);

impl Work for Transforming {
    async fn perform(self, store: &mut Store<Host>) -> wasmtime::Result<u32> {
        let Transforming {
            transform,
            inputs,
            outputs,
            answer,
        } = self;
        let inputs = match hand_in(store.data_mut(), inputs)? {
            Ok(inputs) => inputs,
            Err(error) => {
                // Nobody waits any more where the caller went away.
                let _ = answer.send(Err(error));
                return Ok(0);
            }
        };
        let (transformed,): (std::result::Result<Vec<Named>, String>,) = transform
            .call(store, transform.transform, (inputs,))
            .await?;
        let result = match transformed {
            Ok(named) => take_out(store.data_mut(), named)?
                .and_then(|named| arrange(&outputs, named))
                .map_err(|error| {
                    Error::new(
                        ErrorKind::RuntimeError,
                        "its outputs are not as it described them",
                    )
                    .with_source(error)
                }),
            Err(text) => {
                let text = clip_to(&text, LONGEST_TEXT);
                Err(Error::new(refusal(store.data()), text))
            }
        };
        let _ = answer.send(result);
        Ok(0)
    }
}

/// Why a guest refuses: the caller's inputs, unless a model had no room for it. Then the same call may go well later.
fn refusal(host: &Host) -> ErrorKind {
    match host.nn.busy {
        true => ErrorKind::Busy,
        false => ErrorKind::InvalidArgument,
    }
}

/// Enters the inputs into the instance's books and its table.
fn hand_in(host: &mut Host, inputs: Vec<(String, Tensor)>) -> wasmtime::Result<Result<Vec<Named>>> {
    let mut named = Vec::with_capacity(inputs.len());
    for (name, tensor) in inputs {
        let held = host.nn.held("an input", tensor);
        match held.and_then(|held| GuestTensor::of_host(&host.nn, held, &name)) {
            Ok(tensor) => named.push((name, host.table.push(tensor)?)),
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(named))
}

/// Takes the outputs out of the table and the books.
fn take_out(host: &mut Host, named: Vec<Named>) -> wasmtime::Result<Result<Vec<(String, Tensor)>>> {
    let mut tensors = Vec::with_capacity(named.len());
    for (name, tensor) in named {
        let tensor = host.table.delete(tensor)?;
        match tensor.into_tensor(&name) {
            Ok(tensor) => tensors.push((name, tensor)),
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(tensors))
}

/// The outputs in the order in which the guest described them, each as it said.
fn arrange(described: &[TensorInfo], named: Vec<(String, Tensor)>) -> Result<Vec<Tensor>> {
    let mut slots: Vec<Option<Tensor>> = described.iter().map(|_| None).collect();
    for (name, tensor) in named {
        let shown = clip(&name);
        let Some(place) = described.iter().position(|info| info.name == name) else {
            return Err(wrong(format!("unknown output `{shown}`")));
        };
        let info = &described[place];
        if !info.accepts(tensor.dtype(), tensor.shape()) {
            let (dtype, shape) = (tensor.dtype(), infer_core::display_shape(tensor.shape()));
            let message = format!("output `{shown}`: expected {info}, got {dtype} {shape}");
            return Err(wrong(message));
        }
        if slots[place].replace(tensor).is_some() {
            return Err(wrong(format!("output `{shown}` is given twice")));
        }
    }
    let missing = |info: &TensorInfo| {
        let name = clip(&info.name);
        wrong(format!("missing output `{name}`: expected {info}"))
    };
    let slots = described.iter().zip(slots);
    slots
        .map(|(info, slot)| slot.ok_or_else(|| missing(info)))
        .collect()
}

fn wrong(message: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

/// What a guest says of itself, as in the WIT.
#[derive(Debug, ComponentType, Lift)]
#[component(record)]
struct ModelInfo {
    inputs: Vec<Described>,
    outputs: Vec<Described>,
}

#[derive(Debug, ComponentType, Lift)]
#[component(record)]
struct Described {
    name: String,
    ty: DataType,
    dimensions: Vec<Option<u32>>,
}

/// The types, in the order of the WIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[allow(dead_code, reason = "guests make them")]
enum DataType {
    #[component(name = "FP16")]
    Fp16,
    #[component(name = "FP32")]
    Fp32,
    #[component(name = "FP64")]
    Fp64,
    #[component(name = "BF16")]
    Bf16,
    #[component(name = "U8")]
    U8,
    #[component(name = "I32")]
    I32,
    #[component(name = "I64")]
    I64,
    #[component(name = "bool")]
    Bool,
    #[component(name = "I8")]
    I8,
    #[component(name = "I16")]
    I16,
    #[component(name = "U16")]
    U16,
    #[component(name = "U32")]
    U32,
    #[component(name = "U64")]
    U64,
    #[component(name = "string")]
    String,
}

impl ModelInfo {
    fn signature(self) -> Result<Signature> {
        Ok(Signature {
            inputs: infos("input", self.inputs)?,
            outputs: infos("output", self.outputs)?,
            ..Signature::default()
        })
    }
}

fn infos(what: &str, described: Vec<Described>) -> Result<Vec<TensorInfo>> {
    let fault = |message: String| {
        let message = format!("the guest describes itself wrongly: {message}");
        Err(Error::new(ErrorKind::InvalidArgument, message))
    };
    if described.len() > MOST_TENSORS {
        let got = described.len();
        return fault(format!(
            "expected at most {MOST_TENSORS} {what}s, got {got}"
        ));
    }
    let mut infos: Vec<TensorInfo> = Vec::with_capacity(described.len());
    for info in described {
        let name = clip(&info.name);
        if info.name.is_empty() || info.name.len() > LONGEST_NAME {
            let got = info.name.len();
            return fault(format!(
                "expected a name of 1 to {LONGEST_NAME} bytes for an {what}, got {got}"
            ));
        }
        if infos.iter().any(|other| other.name == info.name) {
            return fault(format!("two {what}s have the name `{name}`"));
        }
        if let Err(error) = check_rank(info.dimensions.len()) {
            return fault(format!("{what} `{name}`: {error}"));
        }
        infos.push(info.info());
    }
    Ok(infos)
}

impl Described {
    fn info(self) -> TensorInfo {
        let dimensions = self.dimensions.into_iter();
        TensorInfo {
            name: self.name,
            dtype: self.ty.dtype(),
            dimensions: dimensions
                .map(|size| size.map(|size| size as usize))
                .collect(),
        }
    }
}

impl DataType {
    fn dtype(self) -> Dtype {
        match self {
            DataType::Fp16 => Dtype::F16,
            DataType::Fp32 => Dtype::F32,
            DataType::Fp64 => Dtype::F64,
            DataType::Bf16 => Dtype::BF16,
            DataType::U8 => Dtype::U8,
            DataType::I32 => Dtype::I32,
            DataType::I64 => Dtype::I64,
            DataType::Bool => Dtype::Bool,
            DataType::I8 => Dtype::I8,
            DataType::I16 => Dtype::I16,
            DataType::U16 => Dtype::U16,
            DataType::U32 => Dtype::U32,
            DataType::U64 => Dtype::U64,
            DataType::String => Dtype::String,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(name: &str, tensor: Tensor) -> (String, Tensor) {
        (name.to_owned(), tensor)
    }

    fn floats(shape: &[usize]) -> Tensor {
        let bytes = vec![0; 4 * shape.iter().product::<usize>()];
        Tensor::copied_from(Dtype::F32, shape.to_vec(), &bytes).expect("valid")
    }

    #[test]
    fn outputs_are_held_against_the_description() {
        let info = |name: &str, dimensions: &[Option<usize>]| TensorInfo {
            name: name.to_owned(),
            dtype: Dtype::F32,
            dimensions: dimensions.to_vec(),
        };
        let described = [info("a", &[Some(2)]), info("b", &[None, Some(1)])];
        let (a, b) = (
            || output("a", floats(&[2])),
            || output("b", floats(&[3, 1])),
        );
        let arranged = arrange(&described, vec![b(), a()]).expect("as described");
        assert_eq!(arranged[0].shape(), [2]);
        let u8 = Tensor::copied_from(Dtype::U8, vec![2], &[0; 2]).expect("valid");
        let cases = [
            (vec![a()], "missing output `b`: expected f32 [?, 1]"),
            (vec![a(), a(), b()], "output `a` is given twice"),
            (
                vec![a(), b(), output("c", floats(&[1]))],
                "unknown output `c`",
            ),
            (
                vec![output("a", floats(&[3])), b()],
                "output `a`: expected f32 [2], got f32 [3]",
            ),
            (
                vec![output("a", u8), b()],
                "output `a`: expected f32 [2], got u8 [2]",
            ),
        ];
        for (named, message) in cases {
            let error = arrange(&described, named).expect_err(message);
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn a_description_must_be_a_signature() {
        let described = |name: &str, rank| Described {
            name: name.to_owned(),
            ty: DataType::String,
            dimensions: vec![None; rank],
        };
        let cases = [
            (
                vec![described("a", 1), described("a", 1)],
                "two inputs have the name `a`",
            ),
            (vec![described("", 1)], "got 0"),
            (vec![described("a", 65)], "at most 64 dimensions"),
            (
                (0..257).map(|n| described(&n.to_string(), 0)).collect(),
                "at most 256 inputs, got 257",
            ),
        ];
        for (inputs, message) in cases {
            let info = ModelInfo {
                inputs,
                outputs: Vec::new(),
            };
            let error = info.signature().expect_err(message);
            assert!(error.to_string().contains(message), "{error}");
        }
    }
}
