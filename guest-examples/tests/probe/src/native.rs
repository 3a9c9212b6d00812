//! No ABI: a native build has no raw cases. It exists so that the tables can be tested with `cargo test`.

use crate::case::Case;

/// The cases of this module.
pub(crate) const CASES: &[Case] = &[];
