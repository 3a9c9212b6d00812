//! Element types that wasi-nn has no name for, for components: `infer:nn/tensor-types@0.1.0`.
//!
//! Two functions about wasi-nn's own tensors; everything else is done by `wit`.

use infer_core::Dtype;
use wasmtime::component::{ComponentType, Lift, Linker, Lower, Resource, WasmList};

use crate::host::Host;
use crate::nn::wit::{GuestTensor, new_tensor};

/// The interface; a guest that imports it knows that there are more types than wasi-nn's.
pub(crate) const TENSOR_TYPES: &str = "infer:nn/tensor-types@0.1.0";

/// The types, in the order of the WIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
#[allow(dead_code, reason = "guests make them")]
enum ExtendedType {
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

/// Adds the interface to the linker.
pub(crate) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    let mut types = linker.instance(TENSOR_TYPES)?;
    types.func_wrap(
        "create",
        |store, (dimensions, ty, data): (WasmList<u32>, ExtendedType, WasmList<u8>)| {
            Ok((new_tensor(store, &dimensions, dtype(ty), &data)?,))
        },
    )?;
    types.func_wrap("ty", |mut store, (tensor,): (Resource<GuestTensor>,)| {
        let tensor = store.data_mut().table.get(&tensor)?;
        Ok((extended(tensor.dtype()),))
    })
}

fn dtype(ty: ExtendedType) -> Dtype {
    match ty {
        ExtendedType::Bool => Dtype::Bool,
        ExtendedType::I8 => Dtype::I8,
        ExtendedType::I16 => Dtype::I16,
        ExtendedType::U16 => Dtype::U16,
        ExtendedType::U32 => Dtype::U32,
        ExtendedType::U64 => Dtype::U64,
        ExtendedType::String => Dtype::String,
    }
}

fn extended(dtype: Dtype) -> Option<ExtendedType> {
    Some(match dtype {
        Dtype::Bool => ExtendedType::Bool,
        Dtype::I8 => ExtendedType::I8,
        Dtype::I16 => ExtendedType::I16,
        Dtype::U16 => ExtendedType::U16,
        Dtype::U32 => ExtendedType::U32,
        Dtype::U64 => ExtendedType::U64,
        Dtype::String => ExtendedType::String,
        _ => return None,
    })
}
