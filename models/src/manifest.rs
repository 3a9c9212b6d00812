//! The manifest of a model, `model.toml`: its files, where it came from, how inputs are prepared and
//! what outputs mean.
//!
//! A manifest is read whole and checked before anything in it is used: an unknown key is an error, a
//! path stays inside the manifest's folder, a size is one that a picture can have.

use std::collections::HashSet;
use std::path::{Component, Path};

use infer_core::{Encoding, Error, ErrorKind, Result, Signature, TensorInfo};
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::{Fetch, check_name, file_error};

const LARGEST_MANIFEST: u64 = 1024 * 1024;
const LARGEST_SIDE: u32 = 16_384;

/// A model's manifest; the default says nothing.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The model's own name: the one that guests see where a path is given without `NAME=`.
    pub name: Option<String>,
    /// One line for people.
    pub description: Option<String>,
    /// How the files are encoded; by their content where absent.
    #[serde(default, deserialize_with = "encoding")]
    pub encoding: Option<Encoding>,
    /// The licence, an SPDX expression.
    #[serde(alias = "licence")]
    pub license: Option<String>,
    /// Where the model came from, for people.
    pub source: Option<String>,
    /// The model's files, in the order that the encoding defines: of an OpenVINO IR the XML first. What
    /// stands behind those that an engine is given, external data of ONNX say, is checked as well.
    #[serde(default)]
    pub files: Vec<ModelFile>,
    /// What is known of inputs.
    #[serde(default)]
    pub inputs: Vec<ModelInput>,
    /// What is known of outputs.
    #[serde(default)]
    pub outputs: Vec<ModelOutput>,
    /// How the model is brought; used for the known models that are built in, ignored elsewhere.
    pub fetch: Option<Fetch>,
}

/// A file of a model, or the folder of a SavedModel.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    /// Relative to the manifest's folder.
    pub path: String,
    /// In hexadecimal; checked when the model is opened. A folder's is that of the list that
    /// `find * -type f | LC_ALL=C sort | xargs sha256sum` writes in it.
    pub sha256: Option<String>,
}

/// What is known of an input.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelInput {
    /// The model's own name for it.
    pub name: String,
    /// How a picture becomes this input; absent where it is no picture.
    pub image: Option<ImagePreparation>,
}

/// What is known of an output.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelOutput {
    /// The model's own name for it.
    pub name: String,
    /// What its numbers are, where they are scores of classes.
    pub scores: Option<Scores>,
    /// A file of labels, relative to the manifest's folder: one per line, by class index.
    pub labels: Option<String>,
}

/// How a picture becomes an input; the same names in JSON.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ImagePreparation {
    /// The order of the dimensions.
    pub layout: Layout,
    /// The channels and their order.
    pub color: Color,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// How the picture comes to that size.
    pub resize: Resize,
    /// The side of the square that is kept, as a part of the short side; with `center-crop` only,
    /// where it is 1 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop_fraction: Option<f32>,
    /// How pixels are interpolated.
    pub filter: Filter,
    /// Taken from each pixel, 0 to 255: one number per channel, in the order of `color`.
    pub mean: Vec<f32>,
    /// Each pixel is divided by this after `mean` was taken: one number per channel.
    pub std: Vec<f32>,
}

/// The order of a picture's dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Batch, channels, height, width.
    Nchw,
    /// Batch, height, width, channels.
    Nhwc,
}

/// A picture's channels and their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Color {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// One channel.
    Gray,
}

/// How a picture comes to the size of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resize {
    /// The central square, `crop_fraction` of the short side, is scaled.
    CenterCrop,
    /// The whole picture is scaled, whatever its aspect ratio.
    Stretch,
}

/// How pixels are interpolated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// Cubic.
    Bicubic,
    /// Linear.
    Bilinear,
}

/// What the numbers of an output are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scores {
    /// 0 to 1, together 1.
    Probabilities,
    /// These need a softmax.
    Logits,
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

impl Manifest {
    /// Reads and checks the manifest in a file.
    ///
    /// # Errors
    /// `NotFound` for a missing file, `TooLarge` over 1 MiB, `InvalidArgument` for what is wrong in it.
    pub fn read(path: &Path) -> Result<Manifest> {
        let length = path
            .metadata()
            .map_err(|error| file_error("read", path, error))?
            .len();
        if length > LARGEST_MANIFEST {
            let message = format!(
                "manifest `{}`: expected at most {LARGEST_MANIFEST} bytes, got {length}",
                path.display()
            );
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        let text =
            std::fs::read_to_string(path).map_err(|error| file_error("read", path, error))?;
        Manifest::parse(&text).map_err(|error| {
            Error::new(error.kind(), format!("manifest `{}`", path.display())).with_source(error)
        })
    }

    /// Reads and checks a manifest's text.
    ///
    /// # Errors
    /// `InvalidArgument` for what is wrong in it, with the line where that is known.
    pub fn parse(text: &str) -> Result<Manifest> {
        let mut manifest: Manifest = toml::from_str(text).map_err(|error| {
            let line = error
                .span()
                .map(|span| 1 + text[..span.start].matches('\n').count());
            let place = line
                .map(|line| format!("line {line}: "))
                .unwrap_or_default();
            invalid(format!("{place}{}", error.message().replace('\n', ", ")))
        })?;
        manifest.check()?;
        for image in manifest
            .inputs
            .iter_mut()
            .filter_map(|input| input.image.as_mut())
        {
            if image.resize == Resize::CenterCrop {
                image.crop_fraction.get_or_insert(1.0);
            }
        }
        Ok(manifest)
    }

    /// How a picture becomes the named input, where that is known.
    pub fn image(&self, input: &str) -> Option<&ImagePreparation> {
        self.inputs
            .iter()
            .find(|known| known.name == input)?
            .image
            .as_ref()
    }

    /// What is known of the named output.
    pub fn output(&self, name: &str) -> Option<&ModelOutput> {
        self.outputs.iter().find(|known| known.name == name)
    }

    /// Checks that a loaded model has the inputs and outputs that the manifest speaks of, and that a
    /// picture fits its input.
    ///
    /// # Errors
    /// `InvalidArgument` with the manifest's name or shape and the model's.
    pub fn check_signature(&self, signature: &Signature) -> Result<()> {
        for input in &self.inputs {
            let info = find("input", &input.name, &signature.inputs)?;
            if let Some(image) = &input.image {
                image.check_dimensions(info)?;
            }
        }
        for output in &self.outputs {
            find("output", &output.name, &signature.outputs)?;
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        if let Some(name) = &self.name {
            check_name(name)?;
        }
        for file in &self.files {
            check_path(&file.path)?;
            if let Some(sha256) = &file.sha256 {
                check_sha256(&file.path, sha256)?;
            }
        }
        unique("input", self.inputs.iter().map(|input| input.name.as_str()))?;
        unique(
            "output",
            self.outputs.iter().map(|output| output.name.as_str()),
        )?;
        self.outputs
            .iter()
            .filter_map(|output| output.labels.as_deref())
            .try_for_each(check_path)?;
        for input in &self.inputs {
            if let Some(image) = &input.image {
                image
                    .check()
                    .map_err(|error| invalid(format!("input `{}`: {error}", input.name)))?;
            }
        }
        self.fetch.as_ref().map_or(Ok(()), Fetch::check)
    }
}

impl ImagePreparation {
    /// The shape of an input that holds one picture, by the layout.
    pub fn shape(&self) -> [usize; 4] {
        let (width, height) = (self.width as usize, self.height as usize);
        match self.layout {
            Layout::Nchw => [1, self.color.channels(), height, width],
            Layout::Nhwc => [1, height, width, self.color.channels()],
        }
    }

    fn check(&self) -> Result<()> {
        for (name, value) in [("width", self.width), ("height", self.height)] {
            if !(1..=LARGEST_SIDE).contains(&value) {
                return Err(invalid(format!(
                    "expected a {name} of 1 to {LARGEST_SIDE} pixels, got {value}"
                )));
            }
        }
        let channels = self.color.channels();
        for (name, values) in [("mean", &self.mean), ("std", &self.std)] {
            if values.len() != channels || values.iter().any(|value| !value.is_finite()) {
                return Err(invalid(format!(
                    "expected {channels} numbers as `{name}`, got {values:?}"
                )));
            }
        }
        if self.std.contains(&0.0) {
            return Err(invalid(format!(
                "expected a `std` without 0, got {:?}",
                self.std
            )));
        }
        match (self.resize, self.crop_fraction) {
            (Resize::CenterCrop, Some(part)) if !(part > 0.0 && part <= 1.0) => Err(invalid(
                format!("expected a `crop_fraction` above 0 and up to 1, got {part}"),
            )),
            (Resize::Stretch, Some(_)) => Err(invalid(
                "`crop_fraction` goes with `resize = \"center-crop\"`, not with `stretch`",
            )),
            _ => Ok(()),
        }
    }

    fn check_dimensions(&self, info: &TensorInfo) -> Result<()> {
        let shape = self.shape();
        let fits = |(expected, got): (&Option<usize>, &usize)| expected.is_none_or(|e| e == *got);
        if info.dimensions.len() == shape.len()
            && info.dimensions.iter().zip(&shape).skip(1).all(fits)
        {
            return Ok(());
        }
        let message = format!(
            "input `{}`: the manifest prepares {shape:?}, the model takes {info}",
            info.name
        );
        Err(invalid(message))
    }
}

fn find<'a>(what: &str, name: &str, infos: &'a [TensorInfo]) -> Result<&'a TensorInfo> {
    infos.iter().find(|info| info.name == name).ok_or_else(|| {
        let known: Vec<String> = infos
            .iter()
            .map(|info| format!("`{}`", info.name))
            .collect();
        invalid(format!(
            "the manifest speaks of {what} `{name}`: the model has {}",
            known.join(", ")
        ))
    })
}

fn unique<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut seen = HashSet::new();
    for name in names {
        if name.is_empty() {
            return Err(invalid(format!(
                "expected a name for each {what}, got an empty one"
            )));
        }
        if !seen.insert(name) {
            return Err(invalid(format!("{what} `{name}` is described twice")));
        }
    }
    Ok(())
}

/// Fails unless the path is relative and stays inside the folder that it is relative to.
///
/// # Errors
/// `InvalidArgument` with the path.
pub fn check_path(path: &str) -> Result<()> {
    let plain = Path::new(path)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if plain && !path.is_empty() && !path.contains(['\\', '\0']) {
        return Ok(());
    }
    let message = format!(
        "expected a path inside the manifest's folder, got `{}`",
        path.escape_debug()
    );
    Err(invalid(message))
}

/// Fails unless the digest is one.
pub(crate) fn check_sha256(path: &str, digest: &str) -> Result<()> {
    if digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(());
    }
    Err(invalid(format!(
        "file `{path}`: expected a sha256 of 64 hexadecimal digits, got `{digest}`"
    )))
}

pub(crate) fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

fn encoding<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<Encoding>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(de::Error::custom)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use infer_core::Dtype;

    const IMAGE: &str = r#"
        [[inputs]]
        name = "input"
        [inputs.image]
        layout = "nchw"
        color = "rgb"
        width = 224
        height = 224
        resize = "center-crop"
        filter = "bicubic"
        mean = [127, 127.5, 127]
        std = [128, 128, 128]
    "#;

    #[test]
    fn a_whole_manifest() {
        let manifest =
            Manifest::parse(include_str!("../known/efficientnet-lite0/model.toml")).unwrap();
        let image = manifest.image("input").unwrap();
        assert_eq!(manifest.encoding, Some(Encoding::Onnx));
        assert_eq!(image.shape(), [1, 3, 224, 224]);
        assert_eq!(
            manifest.output("probabilities").unwrap().labels.as_deref(),
            Some("labels.txt")
        );
        let json = serde_json::to_string(image).unwrap();
        assert_eq!(
            json,
            "{\"layout\":\"nchw\",\"color\":\"rgb\",\"width\":224,\"height\":224,\"resize\":\"center-crop\",\
             \"crop_fraction\":0.875,\"filter\":\"bicubic\",\"mean\":[127.0,127.0,127.0],\"std\":[128.0,128.0,128.0]}"
        );
    }

    #[test]
    fn defaults_and_spellings() {
        assert_eq!(Manifest::parse("").unwrap(), Manifest::default());
        assert_eq!(
            Manifest::parse("licence = \"MIT\"")
                .unwrap()
                .license
                .as_deref(),
            Some("MIT")
        );
        let manifest = Manifest::parse(IMAGE).unwrap();
        assert_eq!(manifest.image("input").unwrap().crop_fraction, Some(1.0));
        assert_eq!(manifest.image("other"), None);
    }

    #[test]
    fn errors_say_what_was_expected() {
        let image = |from: &str, to: &str| IMAGE.replace(from, to);
        let sha = "[[files]]\npath = \"m.onnx\"\nsha256 = \"12\"".to_owned();
        let file = |path: &str| format!("[[files]]\npath = {path:?}");
        let cases = [
            (
                "\nnam = \"x\"".to_owned(),
                "line 2: unknown field `nam`, expected one of `name`",
            ),
            (
                "encoding = \"onxx\"".to_owned(),
                "expected an encoding (openvino, onnx,",
            ),
            ("name = \"a#b\"".to_owned(), "no `#`"),
            (
                "name = 3".to_owned(),
                "line 1: invalid type: integer `3`, expected a string",
            ),
            ("name = ".to_owned(), "line 1: "),
            (
                sha,
                "file `m.onnx`: expected a sha256 of 64 hexadecimal digits, got `12`",
            ),
            (
                file("../m.onnx"),
                "expected a path inside the manifest's folder, got `../m.onnx`",
            ),
            (file("/etc/passwd"), "expected a path inside"),
            (file("a/../../m"), "expected a path inside"),
            (file(""), "expected a path inside"),
            (
                "[[files]]\npath = \"a\\u0000b\"".to_owned(),
                "expected a path inside",
            ),
            (
                "[[outputs]]\nname = \"y\"\nlabels = \"../x\"".to_owned(),
                "expected a path inside",
            ),
            (
                "[[outputs]]\nname = \"y\"\n[[outputs]]\nname = \"y\"".to_owned(),
                "output `y` is described twice",
            ),
            (
                image("\"rgb\"", "\"rbg\""),
                "unknown variant `rbg`, expected one of `rgb`, `bgr`, `gray`",
            ),
            (
                image("\"rgb\"", "\"gray\""),
                "input `input`: expected 1 numbers as `mean`",
            ),
            (
                image("width = 224", "width = 0"),
                "expected a width of 1 to 16384 pixels, got 0",
            ),
            (
                image("height = 224", "height = 70000"),
                "expected a height of 1 to 16384 pixels, got 70000",
            ),
            (
                image("width = 224", "width = -1"),
                "invalid value: integer `-1`",
            ),
            (image("width", "widht"), "unknown field `widht`"),
            (image("127.5", "nan"), "expected 3 numbers as `mean`"),
            (image("[128,", "[0,"), "expected a `std` without 0"),
            (
                image("filter", "crop_fraction = 1.5\nfilter"),
                "expected a `crop_fraction` above 0 and up to 1",
            ),
            (
                image("\"center-crop\"", "\"stretch\"\ncrop_fraction = 1"),
                "not with `stretch`",
            ),
        ];
        for (text, expected) in cases {
            let error = Manifest::parse(&text).expect_err(&text);
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{text}");
            assert!(error.to_string().contains(expected), "{text}\n{error}");
        }
    }

    #[test]
    fn the_model_must_have_what_the_manifest_says() {
        let info = |name: &str, dimensions: &[Option<usize>]| TensorInfo {
            name: name.to_owned(),
            dtype: Dtype::F32,
            dimensions: dimensions.to_vec(),
        };
        let fits = info("input", &[None, Some(3), Some(224), None]);
        let cases = [
            (fits.clone(), None),
            (
                info("input", &[Some(1), Some(224), Some(224), Some(3)]),
                Some("the manifest prepares [1, 3, 224, 224]"),
            ),
            (
                info("input", &[Some(3), Some(224), Some(224)]),
                Some("the model takes"),
            ),
            (
                info("image", &[]),
                Some("the manifest speaks of input `input`: the model has `image`"),
            ),
        ];
        let manifest = Manifest::parse(IMAGE).unwrap();
        for (input, expected) in cases {
            let signature = Signature {
                inputs: vec![input],
                ..Signature::default()
            };
            let got = manifest
                .check_signature(&signature)
                .map_err(|error| error.to_string());
            match expected {
                None => got.unwrap(),
                Some(text) => assert!(got.as_ref().unwrap_err().contains(text), "{got:?}"),
            }
        }
    }
}
