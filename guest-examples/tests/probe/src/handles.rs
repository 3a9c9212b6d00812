//! Cases of lifetimes that are right on both ABIs.

use crate::case::{Case, Expected, Failure, Outcome, expect, f32s, fetch, input};
use infer_guest::DType;
use infer_guest::abi::{Context, Graph};

/// The cases of this module.
pub(crate) const CASES: &[Case] = &[
    Case::new(
        "graph-dropped-before-context",
        Expected::Ok,
        "runs a context whose graph is gone",
        |_| {
            let graph = Graph::by_name("identity-f32")?;
            let mut context = graph.context()?;
            graph.close()?;
            runs(&mut context, 1.0)?;
            context.close()?;
            Ok("the context still runs".into())
        },
    ),
    Case::new(
        "context-reused-after-error",
        Expected::Ok,
        "runs a context again after it refused a tensor",
        |_| {
            let graph = Graph::by_name("identity-f32")?;
            let mut context = graph.context()?;
            for round in 0..3 {
                let refused = fetch(&mut context, &[input("x", 0, DType::I32, &[1], &[0; 4])], 1);
                if refused.is_ok() {
                    return Err(Failure::Wrong("i32 was taken for f32".into()));
                }
                runs(&mut context, round as f32)?;
            }
            context.close()?;
            graph.close()?;
            Ok("three times".into())
        },
    ),
    Case::new(
        "many-contexts",
        Expected::Ok,
        "runs COUNT=16 contexts of one graph, all alive",
        |arguments| {
            let count = crate::case::number(arguments, 0, 16)?;
            let graph = Graph::by_name("identity-f32")?;
            let mut contexts = (0..count)
                .map(|_| graph.context())
                .collect::<Result<Vec<_>, _>>()?;
            for (round, context) in contexts.iter_mut().enumerate() {
                runs(context, round as f32)?;
            }
            for (round, context) in contexts.iter_mut().enumerate().rev() {
                runs(context, -(round as f32))?;
            }
            contexts.into_iter().try_for_each(Context::close)?;
            graph.close()?;
            Ok(format!("{count} contexts"))
        },
    ),
    Case::new(
        "open-and-close",
        Expected::Ok,
        "opens and closes a graph and a context COUNT=10000 times",
        |arguments| {
            let count = crate::case::number(arguments, 0, 10_000)?;
            for _ in 0..count {
                let graph = Graph::by_name("identity-f32")?;
                graph.context()?.close()?;
                graph.close()?;
            }
            Ok(format!("{count} times"))
        },
    ),
];

/// Runs `identity-f32` on one value.
fn runs(context: &mut Context, value: f32) -> Outcome {
    let data = f32s(&[value]);
    let outputs = fetch(context, &[input("x", 0, DType::F32, &[1], &data)], 1)?;
    expect(&outputs[0], DType::F32, &[1], &data)?;
    Ok(String::new())
}
