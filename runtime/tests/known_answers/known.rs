//! `models/testdata/known-answers.json`: the inputs, what each model must answer, and how nearly.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The file.
#[derive(Deserialize)]
pub(crate) struct Known {
    inputs: BTreeMap<String, Input>,
    pub(crate) models: Vec<Entry>,
    /// Models of which each takes what another gave.
    pub(crate) together: Entry,
}

#[derive(Deserialize)]
struct Input {
    file: String,
    sha256: String,
}

/// Models that answer alike.
#[derive(Deserialize)]
pub(crate) struct Entry {
    pub(crate) models: Vec<String>,
    /// How far a number may be from the one that is written down.
    pub(crate) tolerance: Option<f64>,
    /// How far engines and forms may be from each other, as a part of the numbers' own length.
    #[serde(default)]
    relative_l2: f64,
    /// What only the recipe reads.
    #[serde(flatten)]
    rest: Value,
}

impl Known {
    pub(crate) fn get() -> &'static Known {
        static KNOWN: OnceLock<Known> = OnceLock::new();
        KNOWN.get_or_init(|| {
            let text = read(&root().join("models/testdata/known-answers.json"));
            serde_json::from_slice(&text).expect("known-answers.json")
        })
    }

    /// The bytes of a named input, which is a file of the repository's folder.
    pub(crate) fn input(name: &str) -> Vec<u8> {
        let Input { file, sha256 } = Known::get()
            .inputs
            .get(name)
            .unwrap_or_else(|| panic!("no input `{name}`"));
        let bytes = read(&root().join(file));
        let got: String = Sha256::digest(&bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(&got, sha256, "`{file}`");
        bytes
    }
}

impl Entry {
    /// The entry whose first model is this.
    pub(crate) fn of(first: &str) -> &'static Entry {
        let entries = Known::get().models.iter();
        let mut found = entries.filter(|entry| entry.models[0] == first);
        found
            .next()
            .unwrap_or_else(|| panic!("no answers for `{first}`"))
    }

    /// The field `answers`, in the form that the recipe wants.
    pub(crate) fn answers<T: DeserializeOwned>(&self) -> Vec<T> {
        let answers: Vec<T> = self.field("answers");
        assert!(!answers.is_empty(), "{:?}", self.models);
        answers
    }

    /// A field that only this recipe has.
    pub(crate) fn field<T: DeserializeOwned>(&self, name: &str) -> T {
        serde_json::from_value(self.rest[name].clone())
            .unwrap_or_else(|error| panic!("{:?}, `{name}`: {error}", self.models))
    }

    /// Fails for a number that is farther from the expected one than the entry's tolerance.
    pub(crate) fn near(&self, what: &str, got: f64, expected: f64) {
        let tolerance = self.tolerance.expect("a tolerance");
        assert!(
            (got - expected).abs() <= tolerance,
            "{what}: expected {expected} within {tolerance}, got {got}"
        );
    }

    /// [`Entry::near`] for the first of some numbers.
    pub(crate) fn begin(&self, what: &str, got: &[f32], expected: &[f64]) {
        assert!(
            !expected.is_empty() && got.len() >= expected.len(),
            "{what}"
        );
        for (index, (&got, &expected)) in got.iter().zip(expected).enumerate() {
            self.near(&format!("{what}, number {index}"), got.into(), expected);
        }
    }

    /// Fails where two that answered do not agree.
    pub(crate) fn agree(
        &self,
        (what, got): (&str, &[Vec<f32>]),
        (other, same): (&str, &[Vec<f32>]),
    ) {
        assert_eq!(got.len(), same.len(), "{what}");
        for (index, (got, same)) in got.iter().zip(same).enumerate() {
            assert_eq!(got.len(), same.len(), "{what}");
            let distance = distance(got, same);
            assert!(
                distance <= self.relative_l2,
                "{what} and {other} differ in answer {index} by {distance:.1e} relative L2: expected {:.0e}",
                self.relative_l2
            );
        }
    }
}

/// The relative L2 distance.
pub(crate) fn distance(got: &[f32], same: &[f32]) -> f64 {
    let differences = got.iter().zip(same).map(|(a, b)| f64::from(a - b).powi(2));
    let squares = same.iter().map(|&b| f64::from(b).powi(2));
    (differences.sum::<f64>() / squares.sum::<f64>()).sqrt()
}

/// The index of the greatest value, and the value.
pub(crate) fn greatest(values: &[f32]) -> (usize, f32) {
    let mut indexed = values.iter().copied().enumerate();
    let first = indexed.next().expect("values");
    indexed.fold(first, |best, it| if it.1 > best.1 { it } else { best })
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| {
        panic!(
            "`{}`: {error}\nhint: run scripts/get-photos and scripts/get-speech",
            path.display()
        )
    })
}
