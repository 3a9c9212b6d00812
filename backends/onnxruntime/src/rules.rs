//! What ONNX Runtime is known to answer wrongly, as a table: operators, what about them, and a test.
//!
//! Found by running the ONNX backend test data. A rule is as narrow as what is known allows.

use infer_onnx::Rule;

/// Every rule.
pub(crate) const RULES: &[Rule] = &[];
