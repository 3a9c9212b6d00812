//! ONNX Runtime driven natively at its best, without our backend: what we are measured beside.
//!
//! A session is made once. [`NativeModel::bind`] puts the inputs into memory that the engine reads where it lies and
//! makes a tensor for each output, so that [`Bound::run`] is the engine's own run and nothing else: on the CPU no byte
//! is copied and no memory is allocated for inputs and outputs, on a GPU inputs are copied from pinned memory to the
//! device and outputs from there to pinned memory. Options are those of our backend. [`profile`] tells where nodes ran.

pub mod profile;

use std::num::NonZeroUsize;
use std::path::Path;

use anyhow::{Context, ensure};
use infer_core::{Device, Dtype, Tensor};
use infer_onnxruntime::{OnnxRuntime, run_bound};
use ort::environment::Environment;
use ort::ep::CUDA;
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::builder::SessionBuilder;
use ort::session::{IoBinding, Session, SessionInputValue};
use ort::value::{DynTensor, DynValue, TensorElementType};

use crate::conformance::value::{Element, elements_of, with_element};
use crate::measure::described;

/// How the engine shall run a model.
#[derive(Clone, Copy, Debug)]
pub struct NativeOptions {
    /// The CPU or a GPU.
    pub device: Device,
    /// Threads of one run; the engine's own choice where absent.
    pub threads: Option<NonZeroUsize>,
    /// What its threads do between runs.
    pub idle: Idle,
}

impl NativeOptions {
    /// On this device as our backend does it: the engine's own number of threads, asleep between runs.
    pub fn on(device: Device) -> NativeOptions {
        NativeOptions {
            device,
            threads: None,
            idle: Idle::Sleep,
        }
    }
}

/// What the engine's threads do while there is no work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// They sleep, as with our backend.
    Sleep,
    /// They look for work without a pause, which is the engine's own default.
    Spin,
}

/// A model and its session.
pub struct NativeModel {
    session: Session,
    device: Device,
}

impl NativeModel {
    /// Loads a model from its file. `engine` says which library it is, and opens it.
    ///
    /// # Errors
    /// Where the library or the device cannot be used or the engine cannot load the model.
    pub fn open(
        engine: &OnnxRuntime,
        model: &Path,
        options: &NativeOptions,
    ) -> anyhow::Result<NativeModel> {
        let mut builder = session_builder(engine, options)?;
        let session = builder.commit_from_file(model);
        let session = session.with_context(|| format!("cannot load `{}`", model.display()))?;
        Ok(NativeModel {
            session,
            device: options.device,
        })
    }

    /// Binds inputs by name, and memory for every output. It runs the model once, to learn the outputs' shapes.
    ///
    /// # Errors
    /// For tensors of strings, and those of the engine, which checks the inputs.
    pub fn bind(&mut self, inputs: &[(String, Tensor)]) -> anyhow::Result<Bound<'_>> {
        let allocators = Allocators::of(&self.session, self.device)?;
        let inputs = self.arranged(inputs)?.into_iter().map(|(name, tensor)| {
            let value = written(&allocators.inputs, tensor)?.into_dyn();
            Ok((name, value))
        });
        let inputs = inputs.collect::<anyhow::Result<Vec<(String, DynValue)>>>()?;
        let mut binding = self.session.create_binding()?;
        for (name, input) in &inputs {
            binding.bind_input(name.as_str(), input)?;
        }
        let mut outputs = Vec::new();
        for (name, mut output) in empty_outputs(&mut self.session, (&inputs, &allocators.outputs))?
        {
            binding.bind_output(name, &mut output)?;
            outputs.push(output.into_dyn());
        }
        let mut bound = Bound {
            session: &mut self.session,
            binding,
            inputs,
            outputs,
            device: self.device,
        };
        bound.run()?;
        Ok(bound)
    }

    /// The inputs in the model's order.
    fn arranged<'t>(
        &self,
        given: &'t [(String, Tensor)],
    ) -> anyhow::Result<Vec<(String, &'t Tensor)>> {
        let expected = self.session.inputs();
        ensure!(
            given.len() == expected.len(),
            "expected {} inputs, got {}",
            expected.len(),
            given.len()
        );
        let arranged = expected.iter().map(|input| {
            let (name, tensor) = given
                .iter()
                .find(|(name, _)| name == input.name())
                .with_context(|| format!("expected an input `{}`", input.name()))?;
            Ok((name.clone(), tensor))
        });
        arranged.collect()
    }
}

/// A model with its inputs and the memory for its outputs.
pub struct Bound<'m> {
    session: &'m mut Session,
    binding: IoBinding,
    inputs: Vec<(String, DynValue)>,
    outputs: Vec<DynValue>,
    device: Device,
}

impl Bound<'_> {
    /// One run. On a GPU it ends when the outputs are in the host's memory.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn run(&mut self) -> ort::Result<()> {
        if self.device == Device::Cpu {
            return run_bound(self.session, &self.binding);
        }
        // Binding is what copies an input to the device.
        for (name, input) in &self.inputs {
            self.binding.bind_input(name.as_str(), input)?;
        }
        run_bound(self.session, &self.binding)?;
        self.binding.synchronize_outputs()
    }

    /// Copies of what the last run gave, in the model's order.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn outputs(&self) -> anyhow::Result<Vec<Tensor>> {
        self.outputs.iter().map(read).collect()
    }
}

/// A builder with the options of our backend, each written out here, so that one which ours lacks is seen.
pub(crate) fn session_builder(
    engine: &OnnxRuntime,
    options: &NativeOptions,
) -> anyhow::Result<SessionBuilder> {
    let environment = engine.environment(options.device).map_err(described)?;
    Ok(configured(&environment, options)?)
}

fn configured(environment: &Environment, options: &NativeOptions) -> ort::Result<SessionBuilder> {
    let spin = options.idle == Idle::Spin;
    let mut builder = Session::builder(environment)?
        .with_no_environment_execution_providers()?
        .with_intra_op_spinning(spin)?
        .with_inter_op_spinning(spin)?;
    if let Some(threads) = options.threads {
        builder = builder.with_intra_threads(threads.get())?;
    }
    if let Device::Gpu(index) = options.device {
        let cuda = CUDA::default()
            .with_device_id(i32::try_from(index).unwrap_or(i32::MAX))
            .with_tf32(false);
        builder = builder.with_execution_providers([cuda.build().error_on_failure()])?;
    }
    Ok(builder)
}

/// Where inputs and outputs lie: memory of the host, pinned where a device reads and writes it by itself.
struct Allocators {
    inputs: Allocator,
    outputs: Allocator,
}

impl Allocators {
    fn of(session: &Session, device: Device) -> anyhow::Result<Allocators> {
        let Device::Gpu(index) = device else {
            return Ok(Allocators {
                inputs: Allocator::default(),
                outputs: Allocator::default(),
            });
        };
        let index = i32::try_from(index)?;
        let pinned = |memory, index| {
            let device = AllocationDevice::CUDA_PINNED;
            let info = MemoryInfo::new(device, index, AllocatorType::Device, memory)?;
            Allocator::new(session, info)
        };
        // The engine may have one pinned memory for all GPUs, with the number 0.
        let pinned = |memory| pinned(memory, index).or_else(|_| pinned(memory, 0));
        Ok(Allocators {
            inputs: pinned(MemoryType::CPUInput)?,
            outputs: pinned(MemoryType::CPUOutput)?,
        })
    }
}

/// A tensor for each output, of the shape that a run with these inputs gives.
fn empty_outputs(
    session: &mut Session,
    (inputs, allocator): (&[(String, DynValue)], &Allocator),
) -> anyhow::Result<Vec<(String, DynTensor)>> {
    let inputs = inputs.iter().map(|(_, value)| value.into());
    let inputs: Vec<SessionInputValue<'_>> = inputs.collect();
    let given = session.run(inputs.as_slice())?;
    let mut outputs = Vec::new();
    for (name, value) in given.iter() {
        let value = value.downcast::<ort::value::DynTensorValueType>()?;
        ensure!(
            *value.data_type() != TensorElementType::String,
            "an output of strings cannot be bound"
        );
        let tensor = DynTensor::new(allocator, *value.data_type(), value.shape().clone())?;
        outputs.push((name.to_owned(), tensor));
    }
    Ok(outputs)
}

/// The engine's tensor of the same elements.
fn written(allocator: &Allocator, tensor: &Tensor) -> anyhow::Result<DynTensor> {
    let bytes = tensor.host()?;
    with_element!(tensor.dtype(), T => {
        let mut written = ort::value::Tensor::<T>::new(allocator, tensor.shape())?;
        written.extract_tensor_mut().1.copy_from_slice(&elements_of::<T>(&bytes));
        Ok(written.upcast())
    }, anyhow::bail!("a tensor of strings cannot be bound"))
}

fn read(value: &DynValue) -> anyhow::Result<Tensor> {
    let element = value.dtype().tensor_type();
    let dtype = dtype_of(element.context("an output is no tensor")?)?;
    with_element!(dtype, T => {
        let (shape, elements) = value.try_extract_tensor::<T>()?;
        let shape = shape.iter().map(|&size| usize::try_from(size)).collect::<Result<_, _>>()?;
        let mut bytes = Vec::new();
        elements.iter().for_each(|element| element.write(&mut bytes));
        Ok(Tensor::new(dtype, shape, bytes.into())?)
    }, anyhow::bail!("an output of strings cannot be read"))
}

fn dtype_of(element: TensorElementType) -> anyhow::Result<Dtype> {
    Ok(match element {
        TensorElementType::Float16 => Dtype::F16,
        TensorElementType::Float32 => Dtype::F32,
        TensorElementType::Float64 => Dtype::F64,
        TensorElementType::Bfloat16 => Dtype::BF16,
        TensorElementType::Bool => Dtype::Bool,
        TensorElementType::Uint8 => Dtype::U8,
        TensorElementType::Uint16 => Dtype::U16,
        TensorElementType::Uint32 => Dtype::U32,
        TensorElementType::Uint64 => Dtype::U64,
        TensorElementType::Int8 => Dtype::I8,
        TensorElementType::Int16 => Dtype::I16,
        TensorElementType::Int32 => Dtype::I32,
        TensorElementType::Int64 => Dtype::I64,
        other => anyhow::bail!("an output of {other} cannot be read"),
    })
}
