//! Whether a model keeps the rows of a batch apart: dimensions do not say it, a run does.
//!
//! Three made-up rows run alone and as one, and once more beside a row of values of another size. A model that mixes
//! rows (a softmax over the batch, say, or a quantisation by the batch's range) answers otherwise in a batch, and must
//! not be batched: one guest's values would show in another's. A model made to pass a trial can still mix rows:
//! batching is for models that are trusted.

use infer_core::{Call, Cancel, Dtype, Error, ErrorKind, Graph, Result, Session, Tensor};

use crate::tune::{Agreement, inputs};

const ROWS: usize = 3;

/// Sizes that are tried for a model's other dynamic dimensions: not every network takes every picture.
const SIZES: [usize; 4] = [16, 224, 64, 1];

/// Fails for a model whose rows do not stand for themselves.
///
/// # Errors
/// `UnsupportedOperation`, with what the trial saw.
pub(crate) fn check(graph: &dyn Graph) -> Result<()> {
    let mut session = graph.session()?;
    let mut failed = None;
    for size in SIZES {
        match try_size(graph, &mut *session, size) {
            Ok(distance) if distance.is_near() => {
                tracing::info!(
                    "in a batch the model answers within {:.1e} of what it answers alone (relative L2)",
                    distance.relative_l2
                );
                return Ok(());
            }
            Ok(distance) => {
                let message = format!(
                    "the model cannot be batched: a row of a batch of {ROWS} got an answer {:.1e} away (relative L2) \
                     from what it gets alone",
                    distance.relative_l2
                );
                return Err(Error::new(ErrorKind::UnsupportedOperation, message)
                    .with_hint("it does not keep the rows of a batch apart, or the engine rounds otherwise there: leave batching off, or try another engine (--backend)"));
            }
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    let message = "the model cannot be batched: a trial with made-up inputs failed";
    let mut error = Error::new(ErrorKind::UnsupportedOperation, message);
    if let Some(cause) = failed {
        error = error.with_source(cause);
    }
    Err(error)
}

/// The largest distance between a row's answer in a batch and alone.
fn try_size(graph: &dyn Graph, session: &mut dyn Session, size: usize) -> Result<Agreement> {
    let signature = graph.signature();
    let shape = |dimensions: &[Option<usize>]| -> Vec<usize> {
        let sizes = dimensions.iter().map(|d| d.unwrap_or(size));
        [ROWS].into_iter().chain(sizes.skip(1)).collect()
    };
    let shapes: Vec<(String, Vec<usize>)> = signature
        .inputs
        .iter()
        .map(|info| (info.name.clone(), shape(&info.dimensions)))
        .collect();
    let batch: Vec<Tensor> = inputs::make(signature, &shapes)?
        .into_iter()
        .map(|(_, tensor)| tensor)
        .collect();
    let together = run(session, batch.clone())?;
    if !together
        .iter()
        .map(Agreement::says_something)
        .collect::<Result<Vec<_>>>()?
        .contains(&true)
    {
        let message = "the outputs for made-up inputs are zeros or no numbers, which shows nothing";
        return Err(Error::new(ErrorKind::UnsupportedOperation, message));
    }
    // The same with other values in the last row, of another size altogether: what the others get must not change.
    let beside = run(session, with_a_wild_row(&batch)?)?;
    let mut worst = Agreement {
        relative_l2: 0.0,
        same_top: true,
    };
    for row in 0..ROWS {
        let row_of = |tensors: &[Tensor]| -> Result<Vec<Tensor>> {
            let rows = tensors.iter().map(|tensor| tensor.rows(row, row + 1, ROWS));
            rows.collect()
        };
        let alone = run(session, row_of(&batch)?)?;
        let others = if row + 1 < ROWS { &beside } else { &together };
        for answers in [&together, others] {
            let one = Agreement::of(&row_of(answers)?, &alone)?;
            worst.relative_l2 = worst.relative_l2.max(one.relative_l2);
        }
    }
    Ok(worst)
}

/// The batch with each number of the last row replaced by one far from all others: floats by -10,000 times theirs,
/// integers are left, since what is in their range is not known.
fn with_a_wild_row(batch: &[Tensor]) -> Result<Vec<Tensor>> {
    batch
        .iter()
        .map(|tensor| {
            let mut bytes = tensor.host()?.to_vec();
            let start = bytes.len() / ROWS * (ROWS - 1);
            if tensor.dtype() == Dtype::F32 {
                for number in bytes[start..].as_chunks_mut().0 {
                    *number = (f32::from_le_bytes(*number) * -1e4).to_le_bytes();
                }
            }
            Tensor::copied_from(tensor.dtype(), tensor.shape().to_vec(), &bytes)
        })
        .collect()
}

fn run(session: &mut dyn Session, inputs: Vec<Tensor>) -> Result<Vec<Tensor>> {
    let mut calls = [Call::new(inputs, Cancel::default())];
    session.run(&mut calls);
    let [call] = calls;
    call.result.unwrap_or_else(|| {
        Err(Error::new(
            ErrorKind::RuntimeError,
            "the engine gave no result",
        ))
    })
}
