//! What is done with each model, as `known-answers.json` says in words: a function for each of its entries.

pub(crate) mod files;
pub(crate) mod notes;
pub(crate) mod photos;
pub(crate) mod sentences;
pub(crate) mod speech;
pub(crate) mod text;

use infer_models::Model;
use serde::Deserialize;

use crate::known::greatest;

/// A class that must come first.
#[derive(Deserialize)]
pub(crate) struct Class {
    pub(crate) input: String,
    /// Its index, where the label is not enough.
    top: Option<usize>,
    label: String,
    at_least: f32,
}

impl Class {
    /// Fails unless the scores say so; the labels are those of the model's first output.
    fn check(&self, what: &str, model: &Model, scores: &[f32]) {
        let output = &model.manifest.outputs[0].name;
        let labels = model.labels(output).expect("readable").expect("labels");
        let (top, score) = greatest(scores);
        assert_eq!(top, self.top.unwrap_or(top), "{what}, {}", self.input);
        assert_eq!(labels[top], self.label, "{what}, {}", self.input);
        assert!(
            score >= self.at_least && score <= 1.001,
            "{what}, {}: expected a score of {} to 1, got {score}",
            self.input,
            self.at_least
        );
    }
}
