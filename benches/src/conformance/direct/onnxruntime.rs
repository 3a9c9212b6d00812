//! ONNX Runtime by `ort`: default optimisations, one thread, the CPU.

use infer_core::Dtype;
use infer_engines::NativeEngine;
use ort::environment::Environment;
use ort::memory::Allocator;
use ort::session::Session;
use ort::value::{DynValue, Tensor, TensorElementType, ValueType};

use crate::conformance::value::with_element;
use crate::conformance::{About, Case, DataSet, Harness, Output, Stopped, Value};

pub(super) struct OnnxRuntime(Environment);

impl OnnxRuntime {
    pub(super) fn new() -> anyhow::Result<OnnxRuntime> {
        let library = super::library(NativeEngine::OnnxRuntime)?;
        let environment = ort::init_from(library)?.with_telemetry(false).build()?;
        Ok(OnnxRuntime(environment))
    }

    pub(super) fn version(&self) -> String {
        // The library's name has the number.
        let path = super::library(NativeEngine::OnnxRuntime).unwrap_or_default();
        let name = path.canonicalize().unwrap_or(path);
        let name = name
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        name.split_once(".so.")
            .map_or(name.clone(), |(_, version)| version.to_owned())
    }

    fn load(&self, case: &Case) -> ort::Result<Session> {
        let builder = Session::builder(&self.0)?;
        let mut builder = builder.with_intra_threads(1)?;
        builder.commit_from_file(case.model())
    }
}

impl Harness for OnnxRuntime {
    fn carries(&self, _dtype: Dtype) -> bool {
        true
    }

    fn run(&self, case: &Case, set: &DataSet) -> Result<Vec<Output>, Stopped> {
        let mut session = self.load(case).map_err(Stopped::unsupported)?;
        let names = About::read(&case.model())
            .map_err(Stopped::failed)?
            .inputs();
        let inputs: ort::Result<Vec<DynValue>> = set.inputs.iter().map(to_ort).collect();
        let inputs = names.into_iter().zip(inputs.map_err(Stopped::failed)?);
        let inputs: Vec<(String, DynValue)> = inputs.collect();
        let outputs = session.run(inputs).map_err(Stopped::failed)?;
        outputs.iter().map(|(_, value)| from_ort(&value)).collect()
    }
}

fn to_ort(value: &Value) -> ort::Result<DynValue> {
    let shape: Vec<i64> = value.shape.iter().map(|&size| size as i64).collect();
    with_element!(value.dtype, T => {
        let mut tensor = Tensor::<T>::new(&Allocator::default(), shape)?;
        tensor.extract_tensor_mut().1.copy_from_slice(&value.elements::<T>());
        Ok(tensor.into_dyn())
    }, {
        let texts = value.texts();
        Ok(Tensor::from_string_array((shape, texts.as_slice()))?.into_dyn())
    })
}

fn from_ort(value: &DynValue) -> Result<Output, Stopped> {
    let ValueType::Tensor { ty, .. } = value.dtype() else {
        return Err(Stopped::failed("an output that is no tensor"));
    };
    let dtype = dtype_of(*ty).ok_or_else(|| Stopped::failed(format!("an output of dtype {ty}")))?;
    let whole = |shape: &[i64]| shape.iter().map(|&size| size as usize).collect();
    with_element!(dtype, T => {
        let (shape, elements) = value.try_extract_tensor::<T>().map_err(Stopped::failed)?;
        Ok(Value::of(whole(shape), elements).into())
    }, {
        let (shape, texts) = value.try_extract_strings().map_err(Stopped::failed)?;
        Ok(Value::of_texts(whole(shape), &texts).into())
    })
}

fn dtype_of(element: TensorElementType) -> Option<Dtype> {
    Some(match element {
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
        TensorElementType::String => Dtype::String,
        _ => return None,
    })
}
