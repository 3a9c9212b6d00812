//! From a model's output to ranked classes with names.

use crate::PictureModel;
use infer_guest::{Code, DType, Error, Output, Result, Scores, softmax, top};

/// How the scores of a model are read: what they are, and what the classes are called.
pub struct Classes {
    scores: Option<Scores>,
    labels: Vec<String>,
}

/// A class and how sure the model is of it.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Class {
    /// The class index.
    pub index: usize,
    /// What it is called, or `class N`.
    pub label: String,
    /// From 0 to 1.
    pub probability: f32,
}

impl Classes {
    /// Labels are those given, else the host's.
    pub fn of(model: &PictureModel, labels: Option<Vec<String>>) -> Classes {
        let info = model.output_info();
        Classes {
            scores: info.and_then(|info| info.scores),
            labels: labels
                .or(info.map(|info| info.labels.clone()))
                .unwrap_or_default(),
        }
    }

    /// The best classes of one output, best first.
    ///
    /// # Errors
    /// [`InvalidArgument`](Code::InvalidArgument) when the output is not of f32 or f64,
    /// [`RuntimeError`](Code::RuntimeError) when a score is no number.
    pub fn rank(&self, output: &Output, count: usize) -> Result<Vec<Class>> {
        let mut scores = read_scores(output)?;
        if let Some(index) = scores.iter().position(|score| score.is_nan()) {
            return Err(Error::new(
                Code::RuntimeError,
                format!("the score of class {index} is no number"),
            ));
        }
        if self.scores.unwrap_or_else(|| guess(&scores)) == Scores::Logits {
            softmax(&mut scores);
        }
        let ranked = top(&scores, count).into_iter();
        Ok(ranked
            .map(|(index, probability)| Class {
                index,
                label: self.label(index),
                probability,
            })
            .collect())
    }

    fn label(&self, index: usize) -> String {
        self.labels
            .get(index)
            .cloned()
            .unwrap_or_else(|| format!("class {index}"))
    }
}

fn read_scores(output: &Output) -> Result<Vec<f32>> {
    match output.dtype() {
        Some(DType::F64) => Ok(output
            .values::<f64>()?
            .iter()
            .map(|score| *score as f32)
            .collect()),
        _ => Ok(output.values::<f32>()?.into_owned()),
    }
}

/// Scores that are all positive and add up to 1 are probabilities; anything else gets a softmax.
fn guess(scores: &[f32]) -> Scores {
    let sum: f32 = scores.iter().sum();
    let are_probabilities = scores.iter().all(|score| *score >= 0.0) && (sum - 1.0).abs() < 0.01;
    if are_probabilities {
        Scores::Probabilities
    } else {
        Scores::Logits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_scores_are_is_guessed_from_their_sum() {
        assert_eq!(guess(&[0.25, 0.75]), Scores::Probabilities);
        assert_eq!(guess(&[2.0, -1.0]), Scores::Logits);
        assert_eq!(guess(&[0.9, 0.9]), Scores::Logits);
    }

    #[test]
    fn a_class_without_a_label_is_called_by_its_number() {
        let classes = Classes {
            scores: None,
            labels: vec!["cup".into()],
        };
        assert_eq!(
            (classes.label(0), classes.label(7)),
            ("cup".into(), "class 7".into())
        );
    }
}
