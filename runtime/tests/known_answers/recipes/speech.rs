//! Silero VAD: how likely each piece of a sound is speech, with the state carried from piece to piece.

use infer_core::{Result, Tensor};
use serde::Deserialize;

use crate::engines::{Loaded, floats, longs};
use crate::known::Entry;
use crate::sound::{SPEECH_RATE, sine, speech};

/// A piece: samples that came before, then new ones.
const BEFORE: usize = 64;
const NEW: usize = 512;
const PIECE: usize = BEFORE + NEW;

#[derive(Deserialize)]
struct Sound {
    input: String,
    #[serde(default)]
    samples: usize,
    #[serde(default)]
    f: f64,
    pieces: usize,
    above_half: usize,
    mean: f64,
    first: Vec<f64>,
}

/// The probabilities of speech in three sounds.
pub(crate) fn probabilities(entry: &Entry, loaded: &mut Loaded) -> Result<Vec<Vec<f32>>> {
    let mut answers = Vec::new();
    for sound in entry.answers::<Sound>() {
        let pieces = pieces(&sound.samples());
        let probabilities = match loaded.inputs().iter().any(|input| input.name == "h") {
            true => at_once(loaded, &pieces)?,
            false => one_by_one(loaded, &pieces)?,
        };
        sound.check(entry, &loaded.what, &probabilities);
        answers.push(probabilities);
    }
    Ok(answers)
}

impl Sound {
    fn samples(&self) -> Vec<f32> {
        match self.input.as_str() {
            "zeros" => vec![0.0; self.samples],
            "sine" => sine(self.f, SPEECH_RATE as f64, self.samples),
            name => speech(name),
        }
    }

    fn check(&self, entry: &Entry, what: &str, probabilities: &[f32]) {
        let what = format!("{what}, {}", self.input);
        assert_eq!(probabilities.len(), self.pieces, "{what}");
        entry.begin(&what, probabilities, &self.first);
        let above = probabilities.iter().filter(|&&it| it > 0.5).count();
        assert_eq!(above, self.above_half, "{what}");
        let sum: f64 = probabilities.iter().map(|&it| f64::from(it)).sum();
        let mean = sum / self.pieces as f64;
        entry.near(&format!("{what}, mean"), mean, self.mean);
    }
}

/// Every piece of a sound, as long as there are whole ones.
fn pieces(samples: &[f32]) -> Vec<Vec<f32>> {
    let sound = [&[0.0; BEFORE], samples].concat();
    let pieces = sound.windows(PIECE).step_by(NEW);
    pieces.map(<[f32]>::to_vec).collect()
}

/// A call for each piece, with the state of the call before.
fn one_by_one(loaded: &mut Loaded, pieces: &[Vec<f32>]) -> Result<Vec<f32>> {
    let has_rate = loaded.inputs().iter().any(|input| input.name == "sr");
    let mut state = zeros(&[2, 1, 128]);
    let mut probabilities = Vec::new();
    for piece in pieces {
        let mut inputs = vec![("input", floats(&[1, PIECE], piece)), ("state", state)];
        if has_rate {
            inputs.push(("sr", longs(&[], &[SPEECH_RATE])));
        }
        let outputs = loaded.run(&inputs)?;
        probabilities.extend(outputs.floats("output"));
        state = outputs.tensor("stateN").clone();
    }
    Ok(probabilities)
}

/// One call for the first half of the pieces and one for the others, with the state of the first.
fn at_once(loaded: &mut Loaded, pieces: &[Vec<f32>]) -> Result<Vec<f32>> {
    let (mut h, mut c) = (zeros(&[1, 1, 128]), zeros(&[1, 1, 128]));
    let mut probabilities = Vec::new();
    for part in pieces.chunks(pieces.len().div_ceil(2)) {
        let input = floats(&[part.len(), PIECE], &part.concat());
        let outputs = loaded.run(&[("input", input), ("h", h), ("c", c)])?;
        probabilities.extend(outputs.floats("speech_probs"));
        h = outputs.tensor("hn").clone();
        c = outputs.tensor("cn").clone();
    }
    Ok(probabilities)
}

fn zeros(shape: &[usize]) -> Tensor {
    floats(shape, &vec![0.0; shape.iter().product()])
}
