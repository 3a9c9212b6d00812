//! Element types by the protocol's names.

use infer_core::{Dtype, Error, ErrorKind, Result, clip};

/// All, in the order in which messages list them.
const NAMES: [(&str, Dtype); 14] = [
    ("BOOL", Dtype::Bool),
    ("UINT8", Dtype::U8),
    ("UINT16", Dtype::U16),
    ("UINT32", Dtype::U32),
    ("UINT64", Dtype::U64),
    ("INT8", Dtype::I8),
    ("INT16", Dtype::I16),
    ("INT32", Dtype::I32),
    ("INT64", Dtype::I64),
    ("FP16", Dtype::F16),
    ("FP32", Dtype::F32),
    ("FP64", Dtype::F64),
    ("BF16", Dtype::BF16),
    ("BYTES", Dtype::String),
];

/// The protocol's name for it.
pub(crate) fn name(dtype: Dtype) -> &'static str {
    let found = NAMES.iter().find(|(_, named)| *named == dtype);
    // Every dtype is among them.
    found.map_or("", |(name, _)| name)
}

/// The dtype of this name.
///
/// # Errors
/// `InvalidArgument`, with the names that there are.
pub(crate) fn parse(text: &str) -> Result<Dtype> {
    let found = NAMES.iter().find(|(name, _)| *name == text);
    found.map(|(_, dtype)| *dtype).ok_or_else(|| {
        let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
        let message = format!(
            "expected a datatype of {}, got `{}`",
            names.join(", "),
            clip(text)
        );
        Error::new(ErrorKind::InvalidArgument, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dtype_has_a_name_of_its_own() {
        for (text, dtype) in NAMES {
            assert_eq!(name(dtype), text);
            assert_eq!(parse(text).expect("a name"), dtype);
        }
        let all = Dtype::WASI_NN.len() + 7;
        assert_eq!(NAMES.len(), all);
        assert!(parse("fp32").is_err());
    }
}
