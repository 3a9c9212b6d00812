//! Sound, in samples from -1 to 1.

use std::f64::consts::TAU;

use crate::known::Known;

/// The rate of speech, in samples a second.
pub(crate) const SPEECH_RATE: i64 = 16_000;

/// What stands before the samples in a sound file of 16 bits and one channel, in bytes.
const HEAD: usize = 44;

/// A named input as sound.
pub(crate) fn speech(name: &str) -> Vec<f32> {
    let file = Known::input(name);
    let (head, samples) = file.split_at(HEAD);
    let number = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("4 bytes"));
    assert_eq!((&head[..4], &head[36..40]), (&b"RIFF"[..], &b"data"[..]));
    assert_eq!(i64::from(number(24)), SPEECH_RATE, "samples a second");
    samples[..number(40) as usize]
        .chunks_exact(2)
        .map(|bytes| f32::from(i16::from_le_bytes([bytes[0], bytes[1]])) / 32768.0)
        .collect()
}

/// A sine of half the greatest loudness: its frequency and rate, a second, and the number of samples.
pub(crate) fn sine(frequency: f64, rate: f64, samples: usize) -> Vec<f32> {
    (0..samples)
        .map(|n| (0.5 * (TAU * frequency * n as f64 / rate).sin()) as f32)
        .collect()
}
