//! tract by `tract-onnx`: the inputs' shapes are set from the test, as its own examples do.

use half::f16;
use infer_core::Dtype;
use tract_onnx::prelude::*;

use crate::conformance::{Case, DataSet, Harness, Output, Stopped, Value};

/// The version that is linked in.
pub(super) const VERSION: &str = "0.23.9";

pub(super) struct Tract;

impl Harness for Tract {
    fn carries(&self, dtype: Dtype) -> bool {
        dtype != Dtype::BF16
    }

    fn run(&self, case: &Case, set: &DataSet) -> Result<Vec<Output>, Stopped> {
        let inputs: TractResult<Vec<Tensor>> = set.inputs.iter().map(to_tract).collect();
        let inputs = inputs.map_err(failed)?;
        let plan = load(case, &inputs).map_err(unsupported)?;
        let values = inputs.into_iter().map(Tensor::into_tvalue).collect();
        let outputs = plan.run(values).map_err(failed)?;
        outputs.into_iter().map(from_tract).collect()
    }
}

fn load(case: &Case, inputs: &[Tensor]) -> TractResult<Arc<TypedSimplePlan>> {
    let mut model = tract_onnx::onnx().model_for_path(case.model())?;
    for (place, input) in inputs.iter().enumerate() {
        model.set_input_fact(
            place,
            InferenceFact::dt_shape(input.datum_type(), input.shape()),
        )?;
    }
    model.into_optimized()?.into_runnable()
}

fn to_tract(value: &Value) -> TractResult<Tensor> {
    let shape = &value.shape;
    macro_rules! of {
        ($element:ty) => {
            Tensor::from_shape(shape, &value.elements::<$element>())
        };
    }
    match value.dtype {
        Dtype::F16 => of!(f16),
        Dtype::F32 => of!(f32),
        Dtype::F64 => of!(f64),
        Dtype::Bool => of!(bool),
        Dtype::U8 => of!(u8),
        Dtype::U16 => of!(u16),
        Dtype::U32 => of!(u32),
        Dtype::U64 => of!(u64),
        Dtype::I8 => of!(i8),
        Dtype::I16 => of!(i16),
        Dtype::I32 => of!(i32),
        Dtype::I64 => of!(i64),
        Dtype::String => tensor1(&value.texts()).into_shape(shape),
        Dtype::BF16 => Err(TractError::msg("tract has no bf16")),
    }
}

fn from_tract(value: TValue) -> Result<Output, Stopped> {
    let tensor = value.into_tensor();
    let tensor = match tensor.datum_type() {
        DatumType::TDim => tensor.cast_to::<i64>().map_err(failed)?.into_owned(),
        _ => tensor,
    };
    let (datum, shape) = (tensor.datum_type().unquantized(), tensor.shape().to_vec());
    let plain = tensor.try_as_plain_ram().map_err(failed)?;
    macro_rules! of {
        ($element:ty) => {
            Value::of::<$element>(shape, plain.as_slice::<$element>().map_err(failed)?)
        };
    }
    Ok(match datum {
        DatumType::F16 => of!(f16),
        DatumType::F32 => of!(f32),
        DatumType::F64 => of!(f64),
        DatumType::Bool => of!(bool),
        DatumType::U8 => of!(u8),
        DatumType::U16 => of!(u16),
        DatumType::U32 => of!(u32),
        DatumType::U64 => of!(u64),
        DatumType::I8 => of!(i8),
        DatumType::I16 => of!(i16),
        DatumType::I32 => of!(i32),
        DatumType::I64 => of!(i64),
        DatumType::String => Value::of_texts(shape, plain.as_slice::<String>().map_err(failed)?),
        other => return Err(Stopped::failed(format!("an output of dtype {other:?}"))),
    }
    .into())
}

fn unsupported(error: TractError) -> Stopped {
    Stopped::unsupported(flat(&error))
}

fn failed(error: TractError) -> Stopped {
    Stopped::failed(flat(&error))
}

fn flat(error: &TractError) -> String {
    let chain: Vec<String> = error
        .chain()
        .map(|cause| cause.to_string().replace('\n', " "))
        .collect();
    chain.join(": ")
}
