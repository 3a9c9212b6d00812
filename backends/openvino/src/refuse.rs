//! ONNX models that OpenVINO is known to answer wrongly, refused by name; the table is in `rules`.

use infer_core::{Error, ErrorKind, Result};

use crate::onnx::Model;
use crate::rules::{Facts, RULES};

/// Checks every node of a model, those inside of nodes and functions too.
///
/// # Errors
/// `UnsupportedOperation` for the first that a rule applies to, with the operator and what about it.
pub(crate) fn check(model: &Model) -> Result<()> {
    model.for_each_graph(&mut |scope| {
        scope
            .nodes
            .iter()
            .try_for_each(|node| check_node(Facts { node, scope }))
    })
}

fn check_node(facts: Facts<'_>) -> Result<()> {
    let operator = facts.node.operator.as_str();
    if !matches!(facts.node.domain.as_str(), "" | "ai.onnx") {
        return Ok(());
    }
    let found = RULES
        .iter()
        .find(|rule| rule.operators.contains(&operator) && (rule.applies)(&facts));
    match found {
        None => Ok(()),
        Some(rule) => Err(Error::new(
            ErrorKind::UnsupportedOperation,
            format!("OpenVINO would run `{operator}` wrongly: {}", rule.what),
        )
        .with_hint("another backend may run this model")),
    }
}
