//! Basic Pitch: which note sounds.

use infer_core::Result;
use serde::Deserialize;

use crate::engines::{Loaded, floats};
use crate::known::{Entry, greatest};
use crate::sound::sine;

const RATE: f64 = 22_050.0;
const SAMPLES: usize = 43_844;
const STEPS: usize = 172;
const NOTES: usize = 88;
/// The note of the first number, as MIDI counts.
const LOWEST: usize = 21;

/// The names of the same three outputs, in the SavedModel and in the two other encodings.
const OUTPUTS: [(&str, &str); 3] = [
    ("note", "StatefulPartitionedCall:1"),
    ("onset", "StatefulPartitionedCall:2"),
    ("contour", "StatefulPartitionedCall:0"),
];

#[derive(Deserialize)]
struct Note {
    f: f64,
    midi: usize,
    mean: f64,
    second: f64,
}

/// The note of a sine, by its frequency.
pub(crate) fn pitch(entry: &Entry, loaded: &mut Loaded) -> Result<Vec<Vec<f32>>> {
    let input = loaded.input();
    let own = &loaded.model.manifest.outputs;
    let names = OUTPUTS.map(|(saved, other)| {
        let saves = own.iter().any(|output| output.name == saved);
        if saves { saved } else { other }
    });
    let mut answers = Vec::new();
    for note in entry.answers::<Note>() {
        let sound = floats(&[1, SAMPLES, 1], &sine(note.f, RATE, SAMPLES));
        let outputs = loaded.run(&[(&input, sound)])?;
        assert_eq!(outputs.tensor(names[0]).shape(), [1, STEPS, NOTES]);
        note.check(entry, &loaded.what, &outputs.floats(names[0]));
        answers.extend(names.map(|name| outputs.floats(name)));
    }
    Ok(answers)
}

impl Note {
    fn check(&self, entry: &Entry, what: &str, by_step: &[f32]) {
        let what = format!("{what}, {} Hz", self.f);
        let mut means = vec![0.0; NOTES];
        for step in by_step.chunks_exact(NOTES) {
            for (mean, value) in means.iter_mut().zip(step) {
                *mean += value / STEPS as f32;
            }
        }
        let (top, mean) = greatest(&means);
        assert_eq!(top + LOWEST, self.midi, "{what}");
        entry.near(&format!("{what}, mean"), mean.into(), self.mean);
        means.remove(top);
        let (_, second) = greatest(&means);
        entry.near(&format!("{what}, second"), second.into(), self.second);
    }
}
