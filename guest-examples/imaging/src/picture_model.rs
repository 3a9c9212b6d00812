//! A model that takes one picture: opened once, run for each photo.

use crate::{DecodeError, Flags, Preparation, decode};
use image::RgbImage;
use infer_guest::{Error, Info, Model, Output, OutputInfo, Result};
use std::fmt;

/// The input's name that is assumed where neither the host nor the command line says one.
const USUAL_INPUT: &str = "input";

/// A model, which of its inputs takes the picture, how that is prepared, and which output is read.
pub struct PictureModel {
    model: Model,
    name: String,
    input: String,
    output: Chosen,
    output_info: Option<OutputInfo>,
    preparation: Preparation,
    assumptions: Vec<String>,
}

/// The output that is read, as it is asked for.
enum Chosen {
    Position(usize),
    Name(String),
}

/// Why a photo gave no result.
#[derive(Debug)]
pub enum PhotoError {
    /// It cannot be decoded.
    Picture(DecodeError),
    /// The model did not run on it.
    Model(Error),
}

impl fmt::Display for PhotoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PhotoError::Picture(error) => error.fmt(f),
            PhotoError::Model(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PhotoError {}

impl PictureModel {
    /// Opens the model that the flags name, and settles how its pictures are prepared.
    ///
    /// # Errors
    /// When the host has no such model, or when the model takes no picture.
    pub fn open(flags: &Flags) -> Result<PictureModel> {
        let name = flags.model.clone().unwrap_or_else(|| "default".into());
        let model = Model::open(&name)?;
        let info = if flags.no_info { None } else { model.info() };
        let described = info.and_then(|info| match &flags.input {
            Some(wanted) => info.inputs.iter().find(|input| input.name == *wanted),
            None => info
                .inputs
                .iter()
                .find(|input| input.image.is_some())
                .or(info.inputs.first()),
        });
        let preparation = Preparation::resolve(described, flags)?;
        let mut assumptions = preparation.assumptions().to_vec();
        let input = described
            .map(|input| input.name.clone())
            .or(flags.input.clone())
            .unwrap_or_else(|| {
                assumptions.push(format!("input `{USUAL_INPUT}` (--input)"));
                USUAL_INPUT.into()
            });
        let (output, output_info) = choose_output(info, flags.output.as_deref());
        Ok(PictureModel {
            output,
            output_info,
            name,
            input,
            preparation,
            assumptions,
            model,
        })
    }

    /// The name by which the model was opened.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What nobody said and was therefore assumed, each with the flags that say otherwise.
    pub fn assumptions(&self) -> &[String] {
        &self.assumptions
    }

    /// What the host tells of the output that is read.
    pub fn output_info(&self) -> Option<&OutputInfo> {
        self.output_info.as_ref()
    }

    /// Runs the model on one photo, given as the bytes of its file.
    ///
    /// # Errors
    /// [`PhotoError`]; the next photo can be tried all the same.
    pub fn run(&mut self, photo: &[u8]) -> std::result::Result<Output, PhotoError> {
        let picture = decode(photo).map_err(PhotoError::Picture)?;
        self.run_picture(&picture).map_err(PhotoError::Model)
    }

    fn run_picture(&mut self, picture: &RgbImage) -> Result<Output> {
        let tensor = self.preparation.tensor(picture)?;
        let outputs = self.model.run(&[(&self.input, &tensor)])?;
        match &self.output {
            Chosen::Position(position) => outputs.get(*position),
            Chosen::Name(name) => outputs.get(name.as_str()),
        }
    }
}

/// The output that is read: the one that is named, else the one that scores classes, else the first.
fn choose_output(info: Option<&Info>, wanted: Option<&str>) -> (Chosen, Option<OutputInfo>) {
    let outputs = info.map_or(&[][..], |info| info.outputs.as_slice());
    let scores = |output: &OutputInfo| !output.labels.is_empty() || output.scores.is_some();
    let position = match wanted {
        Some(wanted) => outputs.iter().position(|output| output.name == wanted),
        None => Some(outputs.iter().position(scores).unwrap_or(0)),
    };
    let chosen = match (position, wanted) {
        (Some(position), _) => Chosen::Position(position),
        (None, wanted) => Chosen::Name(wanted.unwrap_or_default().to_owned()),
    };
    (
        chosen,
        position.and_then(|position| outputs.get(position)).cloned(),
    )
}
