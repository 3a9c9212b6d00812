//! Models that take pictures as their manifests prepare them.

use infer_core::{Result, Tensor};
use serde::Deserialize;

use super::Class;
use crate::engines::{Loaded, floats};
use crate::known::Entry;
use crate::pictures::{picture, prepared};

#[derive(Deserialize)]
struct Embedding {
    first_values: Vec<f64>,
    length: f64,
}

/// Classes of photos: one by one, and where the model takes any batch, all at once besides.
pub(crate) fn classes(entry: &Entry, loaded: &mut Loaded) -> Result<Vec<Vec<f32>>> {
    let input = loaded.input();
    let how = loaded.model.manifest.inputs[0].image.clone();
    let how = how.expect("a picture");
    let output = loaded.model.manifest.outputs[0].name.clone();
    let mut scores = Vec::new();
    let mut photos = Vec::new();
    for class in entry.answers::<Class>() {
        let photo = prepared(&picture(&class.input), &how);
        photos.push(photo.clone());
        let answer = loaded.run(&[(&input, photo)])?.floats(&output);
        class.check(&loaded.what, loaded.model, &answer);
        scores.push(answer);
    }
    if loaded.inputs()[0].dimensions[0].is_none() {
        let batch = loaded.run(&[(&input, stacked(&photos))])?;
        let what = format!("{} in a batch", loaded.what);
        entry.agree((&what, &batch.rows(&output)), (&loaded.what, &scores));
    }
    Ok(scores)
}

/// The embedding of a picture that is a pattern of numbers.
pub(crate) fn embedding(entry: &Entry, loaded: &mut Loaded) -> Result<Vec<Vec<f32>>> {
    const SHAPE: [usize; 4] = [1, 3, 224, 224];
    let values: Vec<f32> = (0..SHAPE.iter().product())
        .map(|n: usize| (n % 251) as f32 / 125.0 - 1.0)
        .collect();
    let input = loaded.input();
    let answer = loaded.run(&[(&input, floats(&SHAPE, &values))])?;
    assert_eq!(answer.tensor("embedding").shape(), [1, 768]);
    let embedding = answer.floats("embedding");
    for expected in entry.answers::<Embedding>() {
        entry.begin(&loaded.what, &embedding, &expected.first_values);
        let squares = embedding.iter().map(|&value| f64::from(value).powi(2));
        let length = squares.sum::<f64>().sqrt();
        entry.near(&format!("{}, length", loaded.what), length, expected.length);
    }
    Ok(vec![embedding])
}

/// A batch of what are batches of one.
fn stacked(ones: &[Tensor]) -> Tensor {
    let mut shape = ones[0].shape().to_vec();
    shape[0] = ones.len();
    let bytes: Vec<u8> = ones
        .iter()
        .flat_map(|one| one.host().expect("in host memory"))
        .collect();
    Tensor::copied_from(ones[0].dtype(), shape, &bytes).expect("a valid tensor")
}
