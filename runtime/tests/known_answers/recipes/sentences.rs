//! MiniLM: sentences that mean the same have a large product.

use infer_core::Result;
use serde::Deserialize;

use crate::engines::{Loaded, longs};
use crate::known::Entry;

const OUTPUT: &str = "sentence_embedding";

#[derive(Deserialize)]
struct Pair {
    rows: [usize; 2],
    product: f64,
}

/// The products of sentences in one batch; the first sentence alone gives the same as in the batch.
pub(crate) fn products(entry: &Entry, loaded: &mut Loaded) -> Result<Vec<Vec<f32>>> {
    let sentences: Vec<Vec<i64>> = entry.field("input_ids");
    let batch = embeddings(loaded, &sentences)?;
    let first: Vec<f64> = entry.field("first_values");
    entry.begin(&loaded.what, &batch[0], &first);
    for pair in entry.answers::<Pair>() {
        let [a, b] = pair.rows.map(|row| &batch[row]);
        let products = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b));
        let what = format!("{}, rows {:?}", loaded.what, pair.rows);
        entry.near(&what, products.sum(), pair.product);
    }
    let alone = embeddings(loaded, &sentences[..1])?;
    let what = format!("{}, alone", loaded.what);
    entry.agree((&what, &alone), (&loaded.what, &batch[..1]));
    Ok(batch)
}

/// The embeddings of sentences; those that are shorter than the longest are filled up with 0, which no token is.
fn embeddings(loaded: &mut Loaded, sentences: &[Vec<i64>]) -> Result<Vec<Vec<f32>>> {
    let longest = sentences.iter().map(Vec::len).max().expect("sentences");
    let shape = [sentences.len(), longest];
    let filled = sentences.iter().flat_map(|tokens| {
        let missing = longest - tokens.len();
        tokens
            .iter()
            .copied()
            .chain(std::iter::repeat_n(0, missing))
    });
    let tokens: Vec<i64> = filled.collect();
    let mask: Vec<i64> = tokens.iter().map(|&token| (token != 0).into()).collect();
    let outputs = loaded.run(&[
        ("input_ids", longs(&shape, &tokens)),
        ("attention_mask", longs(&shape, &mask)),
        ("token_type_ids", longs(&shape, &vec![0; tokens.len()])),
    ])?;
    assert_eq!(outputs.tensor(OUTPUT).shape(), [sentences.len(), 384]);
    Ok(outputs.rows(OUTPUT))
}
