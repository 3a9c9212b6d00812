//! What the host tells of a model: the JSON that `load-by-name("NAME#info")` gives.
//!
//! `NAME#info` is a model like any other, with no inputs and one U8 output, `info`: standard calls only, so a
//! guest that asks for it still instantiates on every host, and goes on without where the answer is an error.
//! Fields that a later host adds are ignored; a document of another major version counts as absent.

use crate::tensor::DType;
use serde::Deserialize;

/// The version of the document that this library reads.
const VERSION: u32 = 1;

/// A model as the host describes it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Info {
    version: u32,
    /// The model's own name, also when it was opened as `default`.
    pub name: String,
    /// Its encoding, such as `onnx`.
    pub encoding: String,
    /// The engine that runs it, such as `tract`.
    pub backend: String,
    /// The device that it runs on, such as `cpu`.
    pub device: String,
    /// Inputs, in the order of the model's signature.
    pub inputs: Vec<Input>,
    /// Outputs, in the order of the model's signature.
    pub outputs: Vec<Output>,
}

/// An input of a model.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Input {
    /// The name by which it is set.
    pub name: String,
    #[serde(rename = "dtype")]
    element: String,
    /// The size of each dimension in elements; `None` where the caller chooses.
    pub dimensions: Vec<Option<u32>>,
    /// How a picture becomes this input, when it is one.
    pub image: Option<Image>,
}

/// An output of a model.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Output {
    /// The name by which it is found.
    pub name: String,
    #[serde(rename = "dtype")]
    element: String,
    /// The size of each dimension in elements; `None` where it depends on the inputs.
    pub dimensions: Vec<Option<u32>>,
    /// What its numbers are, when it scores classes.
    pub scores: Option<Scores>,
    /// What each class is called, by class index; empty when the host does not know.
    #[serde(default)]
    pub labels: Vec<String>,
}

/// How a picture becomes an input: `value = (pixel - mean) / std`, pixels from 0 to 255.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Image {
    /// The order of the dimensions.
    pub layout: Layout,
    /// The order of the channels.
    pub color: Color,
    /// Columns, in pixels.
    pub width: u32,
    /// Rows, in pixels.
    pub height: u32,
    /// What is done about another aspect ratio.
    pub resize: Resize,
    /// With [`Resize::CenterCrop`]: how much of the largest centred crop is kept, over 0, at most 1.
    pub crop_fraction: Option<f32>,
    /// How pixels are interpolated.
    pub filter: Filter,
    /// What is subtracted, per channel in `color`'s order.
    pub mean: Vec<f32>,
    /// What the difference is divided by, per channel in `color`'s order.
    pub std: Vec<f32>,
}

/// The order of a picture's dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Batch, channel, row, column.
    Nchw,
    /// Batch, row, column, channel.
    Nhwc,
}

/// The channels of a picture and their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Color {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// Brightness alone.
    Gray,
}

impl Color {
    /// How many channels there are.
    pub fn channels(self) -> usize {
        match self {
            Color::Rgb | Color::Bgr => 3,
            Color::Gray => 1,
        }
    }
}

/// How a picture of another aspect ratio is made to fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resize {
    /// Its centre is cut out, in the ratio that is wanted, and scaled.
    CenterCrop,
    /// It is scaled without keeping its ratio.
    Stretch,
}

/// How pixels are interpolated; both average over the source when the picture shrinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// Catmull-Rom.
    Bicubic,
    /// Triangle.
    Bilinear,
}

/// What the numbers of a classifier's output are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scores {
    /// They add up to 1.
    Probabilities,
    /// They need a [`softmax`](crate::softmax).
    Logits,
}

impl Input {
    /// The host's name of the element type, such as `FP32` or, beyond wasi-nn's own, `BOOL`.
    pub fn dtype_name(&self) -> &str {
        &self.element
    }

    /// The element type; `None` when wasi-nn cannot carry it.
    pub fn dtype(&self) -> Option<DType> {
        DType::from_name(&self.element)
    }
}

impl Output {
    /// The host's name of the element type, such as `FP32` or, beyond wasi-nn's own, `BOOL`.
    pub fn dtype_name(&self) -> &str {
        &self.element
    }

    /// The element type; `None` when wasi-nn cannot carry it.
    pub fn dtype(&self) -> Option<DType> {
        DType::from_name(&self.element)
    }
}

impl Info {
    /// Reads the document; `None` when it is no such document, or of another version.
    pub(crate) fn parse(json: &[u8]) -> Option<Info> {
        let info: Info = serde_json::from_slice(json).ok()?;
        (info.version == VERSION).then_some(info)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLASSIFIER: &str = r#"{"version":1,"name":"efficientnet-lite0","encoding":"onnx","backend":"tract",
        "device":"cpu","later":"ignored","inputs":[{"name":"input","dtype":"FP32","dimensions":[1,3,224,224],
        "image":{"layout":"nchw","color":"rgb","width":224,"height":224,"resize":"center-crop",
        "crop_fraction":0.875,"filter":"bicubic","mean":[127,127,127],"std":[128,128,128]}}],
        "outputs":[{"name":"probabilities","dtype":"FP32","dimensions":[1,1000],"scores":"probabilities",
        "labels":["tench","goldfish"]}]}"#;

    #[test]
    fn a_classifier_is_read() {
        let info = Info::parse(CLASSIFIER.as_bytes()).expect("a document");
        let image = info.inputs[0].image.as_ref().expect("image data");
        assert_eq!(
            (image.layout, image.resize, image.filter),
            (Layout::Nchw, Resize::CenterCrop, Filter::Bicubic)
        );
        assert_eq!(info.inputs[0].dtype(), Some(DType::F32));
        assert_eq!(info.outputs[0].labels[1], "goldfish");
        assert_eq!(info.outputs[0].scores, Some(Scores::Probabilities));
    }

    #[test]
    fn what_a_manifest_did_not_say_is_absent() {
        let info = Info::parse(
            br#"{"version":1,"name":"m","encoding":"onnx","backend":"tract","device":"cpu",
                "inputs":[{"name":"bytes","dtype":"I32","dimensions":[null,2048]}],
                "outputs":[{"name":"flag","dtype":"BOOL","dimensions":[]}]}"#,
        )
        .expect("a document");
        assert_eq!(info.inputs[0].dimensions, [None, Some(2048)]);
        assert_eq!(info.inputs[0].image, None);
        assert_eq!(info.outputs[0].dtype(), None);
        assert!(info.outputs[0].labels.is_empty());
    }

    #[test]
    fn another_version_or_no_json_counts_as_absent() {
        assert_eq!(
            Info::parse(
                CLASSIFIER
                    .replace("\"version\":1", "\"version\":2")
                    .as_bytes()
            ),
            None
        );
        assert_eq!(Info::parse(b"not json"), None);
    }
}
