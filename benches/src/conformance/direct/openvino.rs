//! OpenVINO by the crate `openvino`, which has no tensors of text: the CPU, in f32, since its default is less
//! exact on some processors.

use std::cell::RefCell;

use infer_core::Dtype;
use infer_engines::NativeEngine;
use openvino::{Core, DeviceType, ElementType, InferenceError, RwPropertyKey, Shape, Tensor};

use crate::conformance::{About, Case, DataSet, Harness, Output, Stopped, Value};

pub(super) struct OpenVino(RefCell<Core>);

impl OpenVino {
    pub(super) fn new() -> anyhow::Result<OpenVino> {
        let library = super::library(NativeEngine::OpenVino)?;
        openvino_sys::library::load_from(library).map_err(anyhow::Error::msg)?;
        let mut core = Core::new()?;
        core.set_properties(
            &DeviceType::CPU,
            [
                (RwPropertyKey::HintInferencePrecision, "f32"),
                (RwPropertyKey::InferenceNumThreads, "1"),
            ],
        )?;
        Ok(OpenVino(RefCell::new(core)))
    }

    pub(super) fn version(&self) -> String {
        openvino::version().build_number
    }

    fn load(&self, case: &Case) -> Result<openvino::CompiledModel, InferenceError> {
        let mut core = self.0.borrow_mut();
        let model = core.read_model_from_file(&case.model().to_string_lossy(), "")?;
        core.compile_model(&model, DeviceType::CPU)
    }
}

impl Harness for OpenVino {
    fn carries(&self, dtype: Dtype) -> bool {
        dtype != Dtype::String
    }

    fn run(&self, case: &Case, set: &DataSet) -> Result<Vec<Output>, Stopped> {
        let names = About::read(&case.model())
            .map_err(Stopped::failed)?
            .inputs();
        let mut model = self
            .load(case)
            .map_err(|error| Stopped::unsupported(flat(&error)))?;
        let inputs: Vec<(&String, &Value)> = names.iter().zip(&set.inputs).collect();
        infer(&mut model, &inputs).map_err(|error| Stopped::failed(flat(&error)))?
    }
}

type Outputs = Result<Vec<Output>, Stopped>;

fn infer(
    model: &mut openvino::CompiledModel,
    inputs: &[(&String, &Value)],
) -> Result<Outputs, InferenceError> {
    let mut request = model.create_infer_request()?;
    // By position; by name where an input that nothing uses is gone.
    let whole = model.get_input_size()? == inputs.len();
    for (place, (name, value)) in inputs.iter().enumerate() {
        if whole && !value.shape.is_empty() {
            request.set_input_tensor_by_index(place, &to_openvino(value)?)?;
        } else if whole || model.get_input_by_name(name).is_ok() {
            match give(&mut request, name, value) {
                Err(_) if value.shape.is_empty() => return Ok(Err(no_rank_0())),
                given => given?,
            }
        }
    }
    request.infer()?;
    let mut outputs = Vec::new();
    for place in 0..model.get_output_size()? {
        let tensor = request.get_output_tensor_by_index(place)?;
        match from_openvino(&tensor)? {
            Ok(value) => outputs.push(value.into()),
            Err(stopped) => return Ok(Err(stopped)),
        }
    }
    Ok(Ok(outputs))
}

fn give(
    request: &mut openvino::InferRequest,
    name: &str,
    value: &Value,
) -> Result<(), InferenceError> {
    if !value.shape.is_empty() {
        return request.set_tensor(name, &to_openvino(value)?);
    }
    // The crate cannot make a tensor of rank 0; the request's own has it.
    let mut own = request.get_tensor(name)?;
    let bytes = own.get_raw_data_mut()?;
    match bytes.len() == value.bytes.len() {
        true => bytes.copy_from_slice(&value.bytes),
        false => return request.set_tensor(name, &to_openvino(value)?),
    }
    Ok(())
}

/// What the crate says then is left over from an earlier failure.
fn no_rank_0() -> Stopped {
    Stopped::failed("the crate openvino has no tensors of rank 0".to_owned())
}

fn to_openvino(value: &Value) -> Result<Tensor, InferenceError> {
    let shape: Vec<i64> = value.shape.iter().map(|&size| size as i64).collect();
    let mut tensor = Tensor::new(element_of(value.dtype), &Shape::new(&shape)?)?;
    if !value.bytes.is_empty() {
        tensor.get_raw_data_mut()?.copy_from_slice(&value.bytes);
    }
    Ok(tensor)
}

fn from_openvino(tensor: &Tensor) -> Result<Result<Value, Stopped>, InferenceError> {
    let element = tensor.get_element_type()?;
    let Some(dtype) = DTYPES
        .iter()
        .find(|(_, known)| *known == element)
        .map(|(dtype, _)| *dtype)
    else {
        return Ok(Err(Stopped::failed(format!(
            "an output of dtype {element}"
        ))));
    };
    let Ok(shape) = tensor.get_shape() else {
        return Ok(Err(no_rank_0()));
    };
    let shape = shape
        .get_dimensions()
        .iter()
        .map(|&size| size as usize)
        .collect();
    let bytes = match tensor.get_byte_size()? {
        0 => Vec::new(),
        _ => tensor.get_raw_data()?.to_vec(),
    };
    Ok(Ok(Value {
        dtype,
        shape,
        bytes,
    }))
}

const DTYPES: [(Dtype, ElementType); 13] = [
    (Dtype::F16, ElementType::F16),
    (Dtype::BF16, ElementType::Bf16),
    (Dtype::F32, ElementType::F32),
    (Dtype::F64, ElementType::F64),
    (Dtype::Bool, ElementType::Boolean),
    (Dtype::U8, ElementType::U8),
    (Dtype::U16, ElementType::U16),
    (Dtype::U32, ElementType::U32),
    (Dtype::U64, ElementType::U64),
    (Dtype::I8, ElementType::I8),
    (Dtype::I16, ElementType::I16),
    (Dtype::I32, ElementType::I32),
    (Dtype::I64, ElementType::I64),
];

fn element_of(dtype: Dtype) -> ElementType {
    let found = DTYPES.iter().find(|(known, _)| *known == dtype);
    found.map_or(ElementType::String, |(_, element)| *element)
}

fn flat(error: &InferenceError) -> String {
    error.to_string()
}
