//! The models, and how their inputs are made.

use crate::{lines, spelling};
use image::RgbImage;
use infer_guest::transform::{Failure, HostTensor, Tensors};
use infer_guest::{Color, Filter, Layout, Model, Resize, Result};
use infer_imaging::{Flags, Preparation};

/// The height of a line for the models that look at one, in pixels.
const LINE: u32 = 48;
/// The width of a line for the model that says whether it is turned, in pixels.
const TURNED_WIDTH: u32 = 192;
/// The widest line that is read, in pixels of that height.
const WIDEST: u32 = 4096;

/// All that it takes to read a page.
pub(crate) struct Reader {
    find: Model,
    turn: Model,
    read: Model,
    best: Model,
    characters: Vec<String>,
}

impl Reader {
    /// Opens the models by the names that `infer models` knows them by, and `argmax`.
    pub(crate) fn open() -> std::result::Result<Reader, Failure> {
        let read = Model::open("pp-ocrv4-rec")?;
        let output = read.info().and_then(|info| info.outputs.first());
        let characters = output
            .map(|output| output.labels.clone())
            .unwrap_or_default();
        if characters.is_empty() {
            return Err("the host does not say what characters `pp-ocrv4-rec` knows".into());
        }
        Ok(Reader {
            find: Model::open("pp-ocrv4-det")?,
            turn: Model::open("pp-ocrv4-cls")?,
            read,
            best: Model::open("argmax")?,
            characters,
        })
    }

    /// How likely each pixel is text, of the page scaled to the size that is answered too.
    pub(crate) fn text_in(&mut self, page: &RgbImage) -> Result<((u32, u32), Vec<f32>)> {
        const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
        const STD: [f32; 3] = [0.229, 0.224, 0.225];
        let size = lines::scaled(page.dimensions());
        let mut found = self.find.run_on_host(input(page, size, (MEAN, STD))?)?;
        Ok((size, found.take("sigmoid_0.tmp_0")?.values()?))
    }

    /// How likely a line is upside down.
    pub(crate) fn turned(&mut self, line: &RgbImage) -> Result<f32> {
        let input = input(line, (TURNED_WIDTH, LINE), ([0.5; 3], [0.5; 3]))?;
        let mut scores = self.turn.run_on_host(input)?;
        let scores: Vec<f32> = scores.take("save_infer_model/scale_0.tmp_1")?.values()?;
        Ok(scores.get(1).copied().unwrap_or(0.0))
    }

    /// What a line says, and how sure the model is of it.
    pub(crate) fn read(&mut self, line: &RgbImage) -> Result<(String, f32)> {
        let width = f64::from(LINE * line.width()) / f64::from(line.height());
        let width = (width.round() as u32).clamp(LINE / 2, WIDEST);
        let input = input(line, (width, LINE), ([0.5; 3], [0.5; 3]))?;
        let scores = self.read.run_on_host(input)?.take("softmax_11.tmp_0")?;
        // From model to model, on the host.
        let mut best = self
            .best
            .run_on_host(Tensors::new().with("scores", scores))?;
        let (places, values) = (best.take("place")?.values()?, best.take("value")?.values()?);
        Ok(spelling::spell(&places, &values, &self.characters))
    }
}

/// A picture as all three want it: blue first, scaled whole, with a mean and a deviation in parts of the greatest value.
fn input(
    picture: &RgbImage,
    size: (u32, u32),
    (mean, std): ([f32; 3], [f32; 3]),
) -> Result<Tensors> {
    let flags = Flags {
        size: Some(size),
        layout: Some(Layout::Nchw),
        color: Some(Color::Bgr),
        resize: Some(Resize::Stretch),
        filter: Some(Filter::Bilinear),
        mean: Some(mean.map(|it| it * 255.0).to_vec()),
        std: Some(std.map(|it| it * 255.0).to_vec()),
        ..Flags::default()
    };
    let tensor = Preparation::resolve(None, &flags)?.tensor(picture)?;
    Ok(Tensors::new().with("x", HostTensor::of(&tensor)?))
}
