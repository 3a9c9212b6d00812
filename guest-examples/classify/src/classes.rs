//! From a model's output to ranked classes with names.

use infer_guest::{Code, DType, Error, Output, Result, Scores, softmax, top};
use infer_imaging::PictureModel;
use std::fs;

/// How the scores of a model are read: what they are, and what the classes are called.
pub(crate) struct Classes {
    scores: Option<Scores>,
    labels: Vec<String>,
}

/// A class and how sure the model is of it.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub(crate) struct Class {
    /// The class index.
    pub(crate) index: usize,
    /// What it is called, or `class N`.
    pub(crate) label: String,
    /// From 0 to 1.
    pub(crate) probability: f32,
}

impl Classes {
    /// Labels come from the file if there is one, else from the host.
    pub(crate) fn of(
        model: &PictureModel,
        labels: Option<&str>,
    ) -> std::result::Result<Classes, String> {
        let info = model.output_info();
        let labels = match labels {
            Some(path) => {
                let text = fs::read_to_string(path)
                    .map_err(|error| format!("{path}: cannot read: {error}"))?;
                text.lines().map(str::to_owned).collect()
            }
            None => info.map(|info| info.labels.clone()).unwrap_or_default(),
        };
        Ok(Classes {
            scores: info.and_then(|info| info.scores),
            labels,
        })
    }

    /// The best classes of one output, best first.
    pub(crate) fn rank(&self, output: &Output, count: usize) -> Result<Vec<Class>> {
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
