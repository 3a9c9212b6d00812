//! Runs of small tensors in memory that stays bound: for a tiny model, making the engine's values and taking an
//! output's memory from the engine take as long as the run.
//!
//! A [`Rerun`] belongs to one session. Once two short runs of small inputs had the same shapes, it makes a value for
//! each input and output and binds them all; from then on a run copies its inputs in, runs, and copies its outputs
//! out. Nothing of one run is seen in another: inputs are written whole, outputs are cleared before each run.
//!
//! Whether a model may be run so is tried, not guessed: the same inputs must get the same bits, in outputs that held
//! other bits before. Where they do not, where a run takes so long that nothing would be gained, or where shapes
//! change, models run as they do without this.
#![allow(unsafe_code, reason = "a C library is called")]

use std::ptr::{self, NonNull};
use std::slice;
use std::time::Duration;

use infer_core::{Dtype, ErrorKind, Result, Tensor};
use ort::session::Session;

use crate::api::{Binding, Few, Names, Status, failed};
use crate::values::Value;

/// The most bytes of an input or output.
const SMALL: usize = 4096;

/// The most inputs and outputs together.
const MOST: usize = 8;

/// The longest run that gains by it.
const SHORT: Duration = Duration::from_micros(100);

/// What a session knows of running again.
#[derive(Default)]
pub(crate) enum Rerun {
    #[default]
    Unknown,
    /// A short run of inputs of these shapes.
    Seen(Few<Few<usize>>),
    Bound(Bound),
    /// The model answers otherwise when it is run so.
    Never,
}

impl Rerun {
    /// The binding, if it is for such inputs.
    pub(crate) fn bound(&mut self, inputs: &[Tensor]) -> Option<&mut Bound> {
        match self {
            Rerun::Bound(bound) if bound.fits(inputs) => Some(bound),
            _ => None,
        }
    }

    /// Whether to tell of a run of these inputs, by [`Rerun::learn`].
    pub(crate) fn wants(&self, inputs: &[Tensor]) -> bool {
        !matches!(self, Rerun::Never) && are_small(inputs)
    }

    /// Takes in that a run of these inputs gave these outputs in this time. `run` runs a binding that is to be tried.
    pub(crate) fn learn(
        &mut self,
        (names, session): (&Names, &Session),
        (inputs, outputs): (&[Tensor], &[Tensor]),
        time: Duration,
        run: impl FnOnce(&Binding) -> Status,
    ) {
        let few = inputs.len() + outputs.len() <= MOST;
        if !few || time > SHORT || !are_small(outputs) {
            return;
        }
        let same = |seen: &Few<Few<usize>>| {
            let shapes = inputs.iter().map(Tensor::shape);
            seen.iter().map(|shape| &shape[..]).eq(shapes)
        };
        *self = match self {
            Rerun::Seen(seen) if same(seen) => {
                match Bound::tried((names, session), (inputs, outputs), run) {
                    Ok(bound) => bound.map_or(Rerun::Never, Rerun::Bound),
                    Err(error) => {
                        tracing::debug!("a model is not run in bound memory: {error}");
                        Rerun::Never
                    }
                }
            }
            _ => Rerun::Seen(inputs.iter().map(|input| input.shape().into()).collect()),
        };
    }
}

fn are_small(tensors: &[Tensor]) -> bool {
    let small = |tensor: &Tensor| {
        tensor.dtype() != Dtype::String && (1..=SMALL).contains(&tensor.byte_length())
    };
    tensors.iter().all(small)
}

/// A binding and what is bound.
pub(crate) struct Bound {
    binding: Binding,
    inputs: Vec<Place>,
    outputs: Vec<Place>,
}

impl Bound {
    /// A binding for such inputs and outputs, if it gives the same.
    fn tried(
        (names, session): (&Names, &Session),
        (inputs, outputs): (&[Tensor], &[Tensor]),
        run: impl FnOnce(&Binding) -> Status,
    ) -> Result<Option<Bound>> {
        let places = |tensors: &[Tensor]| {
            let places = tensors.iter().map(Place::like);
            places.collect::<Result<Vec<Place>>>()
        };
        let places = (places(inputs)?, places(outputs)?);
        let binding = bind((names, session), &places).map_err(|error| {
            let what = "ONNX Runtime could not bind a model's inputs and outputs";
            failed(ErrorKind::RuntimeError, what, error.message())
        })?;
        let mut bound = Bound {
            binding,
            inputs: places.0,
            outputs: places.1,
        };
        bound.write(inputs)?;
        for (place, expected) in bound.outputs.iter_mut().zip(outputs) {
            let other: Vec<u8> = expected.host()?.iter().map(|byte| !byte).collect();
            place.write(&other);
        }
        if run(&bound.binding).is_err() {
            return Ok(None);
        }
        for (place, expected) in bound.outputs.iter().zip(outputs) {
            if place.bytes() != expected.host()? {
                return Ok(None);
            }
        }
        Ok(Some(bound))
    }

    fn fits(&self, inputs: &[Tensor]) -> bool {
        let same = |(place, input): (&Place, &Tensor)| {
            place.dtype == input.dtype() && place.shape[..] == *input.shape()
        };
        self.inputs.len() == inputs.len() && self.inputs.iter().zip(inputs).all(same)
    }

    /// Makes ready for a run of these inputs, which fit; to be followed by one of the binding.
    pub(crate) fn prepare(&mut self, inputs: &[Tensor]) -> Result<&Binding> {
        self.write(inputs)?;
        for place in &mut self.outputs {
            place.clear();
        }
        Ok(&self.binding)
    }

    /// Copies of what the last run gave.
    pub(crate) fn outputs(&self) -> Result<Vec<Tensor>> {
        let copy =
            |place: &Place| Tensor::copied_from(place.dtype, place.shape.to_vec(), place.bytes());
        self.outputs.iter().map(copy).collect()
    }

    fn write(&mut self, inputs: &[Tensor]) -> Result<()> {
        for (place, input) in self.inputs.iter_mut().zip(inputs) {
            place.write(&input.host()?);
        }
        Ok(())
    }
}

fn bind(
    (names, session): (&Names, &Session),
    (inputs, outputs): &(Vec<Place>, Vec<Place>),
) -> std::result::Result<Binding, ort::Error> {
    let binding = Binding::new(session)?;
    for (name, place) in names.inputs.iter().zip(inputs) {
        binding.bind_input(name, &place.value)?;
    }
    for (name, place) in names.outputs.iter().zip(outputs) {
        binding.bind_output(name, &place.value)?;
    }
    Ok(binding)
}

/// A value and its memory, which is the engine's own.
struct Place {
    value: Value,
    first: NonNull<u8>,
    length: usize,
    dtype: Dtype,
    shape: Few<usize>,
}

// SAFETY: the memory belongs to the value, which may be sent.
unsafe impl Send for Place {}

impl Place {
    /// A place for such a tensor.
    fn like(tensor: &Tensor) -> Result<Place> {
        let value = Value::empty(tensor.dtype(), tensor.shape())?;
        let first = value.first()?;
        let mut place = Place {
            value,
            first,
            length: tensor.byte_length(),
            dtype: tensor.dtype(),
            shape: tensor.shape().into(),
        };
        place.clear();
        Ok(place)
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the engine made the memory for a tensor of this length, it was cleared when it was made, and no
        // run writes it meanwhile: a run borrows the `Bound`.
        unsafe { slice::from_raw_parts(self.first.as_ptr(), self.length) }
    }

    /// Writes it whole; `bytes` are as many as it has.
    fn write(&mut self, bytes: &[u8]) {
        debug_assert_eq!(bytes.len(), self.length, "a tensor that fits");
        let length = self.length.min(bytes.len());
        // SAFETY: both have so many bytes, and nobody else has ours.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.first.as_ptr(), length) };
    }

    fn clear(&mut self) {
        // SAFETY: as above.
        unsafe { ptr::write_bytes(self.first.as_ptr(), 0, self.length) };
    }
}
