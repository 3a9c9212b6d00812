//! PP-OCRv4: three models that together read text in a picture. The first finds it, the second tells whether it is
//! upside down, the third reads a line.

use image::{RgbImage, imageops};
use infer_core::{Result, Tensor};
use infer_models::{Color, Filter, ImagePreparation, Layout, Resize};
use serde::Deserialize;

use crate::engines::Loaded;
use crate::known::{Entry, greatest};
use crate::pictures::{cut, picture, prepared};

/// From which probability on a pixel is text.
const TEXT: f32 = 0.3;
/// Which share of a row must be text.
const SHARE: f64 = 0.03;
/// The height of a line for the two other models, in pixels.
const LINE: u32 = 48;

#[derive(Deserialize)]
struct Found {
    input: String,
    #[serde(rename = "share_above_0.3")]
    share: f64,
    rows_of_text: Vec<[i64; 2]>,
}

#[derive(Deserialize)]
struct Turned {
    input: String,
    columns: [u32; 2],
    rows: [u32; 2],
    degrees: u32,
    top: usize,
    at_least: f32,
}

#[derive(Deserialize)]
struct Read {
    input: String,
    columns: [u32; 2],
    rows: [u32; 2],
    width: u32,
    text: String,
}

/// Where text is.
pub(crate) fn found(entry: &Entry, loaded: &mut Loaded) -> Result<Vec<Vec<f32>>> {
    let size: [u32; 2] = entry.field("size");
    let mut answers = Vec::new();
    for expected in entry.answers::<Found>() {
        let probabilities = text_in(loaded, &picture(&expected.input), size)?;
        expected.check(entry, &loaded.what, (&probabilities, size[0] as usize));
        answers.push(probabilities);
    }
    Ok(answers)
}

/// Whether a line is upside down.
pub(crate) fn upside_down(entry: &Entry, loaded: &mut Loaded) -> Result<Vec<Vec<f32>>> {
    let mut answers = Vec::new();
    for expected in entry.answers::<Turned>() {
        let mut line = cut(&picture(&expected.input), expected.columns, expected.rows);
        if expected.degrees == 180 {
            imageops::rotate180_in_place(&mut line);
        }
        let scores = turned(loaded, &line)?;
        let (top, score) = greatest(&scores);
        let what = format!("{}, by {} degrees", loaded.what, expected.degrees);
        assert_eq!(top, expected.top, "{what}: {scores:?}");
        assert!(score >= expected.at_least, "{what}: {scores:?}");
        answers.push(scores);
    }
    Ok(answers)
}

/// What a line says.
pub(crate) fn read(entry: &Entry, loaded: &mut Loaded) -> Result<Vec<Vec<f32>>> {
    let mut answers = Vec::new();
    for expected in entry.answers::<Read>() {
        let line = cut(&picture(&expected.input), expected.columns, expected.rows);
        let (text, steps) = text_of(loaded, &line, expected.width)?;
        assert_eq!(text, expected.text, "{}", loaded.what);
        answers.push(steps);
    }
    Ok(answers)
}

/// What a page says, by all three models: lines where the first finds text, and a margin round each; turned where
/// the second is sure that they are upside down; read by the third. Without blanks, which it does not see well.
pub(crate) fn page(entry: &Entry, [find, turn, read]: [&mut Loaded; 3]) -> Result<Vec<String>> {
    let size: [u32; 2] = Entry::of(&find.model.name).field("size");
    let sure: f32 = entry.field("turned_from");
    let page = picture(&entry.field::<String>("input"));
    let probabilities = text_in(find, &page, size)?;
    let mut lines = Vec::new();
    for (columns, rows) in boxes(&probabilities, size[0] as usize) {
        let margin = (rows[1] - rows[0]) as f32 * entry.field::<f32>("margin");
        let columns = widened(columns, margin, [size[0], page.width()]);
        let rows = widened(rows, margin, [size[1], page.height()]);
        let mut line = cut(&page, columns, rows);
        if turned(turn, &line)?[1] >= sure {
            imageops::rotate180_in_place(&mut line);
        }
        let width = (LINE * line.width()) as f32 / line.height() as f32;
        let (text, _) = text_of(read, &line, width.round() as u32)?;
        lines.push(text.replace(' ', ""));
    }
    Ok(lines)
}

/// The first model: how likely each pixel is text.
fn text_in(loaded: &mut Loaded, page: &RgbImage, size: [u32; 2]) -> Result<Vec<f32>> {
    const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
    const STD: [f32; 3] = [0.229, 0.224, 0.225];
    let page = prepared(page, &scaled(size, (MEAN, STD)));
    let outputs = loaded.run(&[("x", page)])?;
    Ok(outputs.floats("sigmoid_0.tmp_0"))
}

/// The second model: how likely a line is upright, and upside down.
fn turned(loaded: &mut Loaded, line: &RgbImage) -> Result<Vec<f32>> {
    let outputs = loaded.run(&[("x", line_of(line, 192))])?;
    Ok(outputs.floats("save_infer_model/scale_0.tmp_1"))
}

/// The third model: a line's text, and the scores of each step.
fn text_of(loaded: &mut Loaded, line: &RgbImage, width: u32) -> Result<(String, Vec<f32>)> {
    const OUTPUT: &str = "softmax_11.tmp_0";
    let labels = loaded.model.labels(OUTPUT)?.expect("labels");
    let outputs = loaded.run(&[("x", line_of(line, width))])?;
    let steps = outputs.floats(OUTPUT);
    let classes: Vec<usize> = steps
        .chunks_exact(labels.len())
        .map(|step| greatest(step).0)
        .collect();
    let repeats = |step: usize| step > 0 && classes[step - 1] == classes[step];
    let characters = classes
        .iter()
        .enumerate()
        .filter(|&(step, &class)| class != 0 && !repeats(step))
        .map(|(_, &class)| labels[class].as_str());
    Ok((characters.collect(), steps))
}

impl Found {
    fn check(&self, entry: &Entry, what: &str, (probabilities, width): (&[f32], usize)) {
        entry.near(
            &format!("{what}, share of text"),
            share(probabilities),
            self.share,
        );
        let tolerance: i64 = entry.field("tolerance_rows");
        let rows: Vec<[i64; 2]> = boxes(probabilities, width)
            .into_iter()
            .map(|(_, rows)| rows)
            .collect();
        let near = |a: &[i64; 2], b: &[i64; 2]| (0..2).all(|i| (a[i] - b[i]).abs() <= tolerance);
        assert!(
            rows.len() == self.rows_of_text.len()
                && rows.iter().zip(&self.rows_of_text).all(|(a, b)| near(a, b)),
            "{what}: expected text in rows {:?}, got {rows:?}",
            self.rows_of_text
        );
    }
}

/// The share of pixels that are text.
fn share(probabilities: &[f32]) -> f64 {
    let text = probabilities.iter().filter(|&&it| it > TEXT).count();
    text as f64 / probabilities.len() as f64
}

/// The columns and rows of each line of text, first and one past the last.
fn boxes(probabilities: &[f32], width: usize) -> Vec<([i64; 2], [i64; 2])> {
    let rows: Vec<&[f32]> = probabilities.chunks_exact(width).collect();
    let lines = runs(rows.iter().map(|row| share(row) > SHARE));
    let columns = |[from, to]: [i64; 2]| {
        let rows = &rows[from as usize..to as usize];
        let is_text = |&column: &usize| rows.iter().any(|row| row[column] > TEXT);
        let first = (0..width).find(is_text).unwrap_or(0);
        let last = (0..width).rfind(is_text).unwrap_or(0);
        [first as i64, last as i64 + 1]
    };
    lines.into_iter().map(|it| (columns(it), it)).collect()
}

/// A range with a margin before and after, in a picture of another size.
fn widened([from, to]: [i64; 2], margin: f32, [size, other]: [u32; 2]) -> [u32; 2] {
    let place = |place: f32| (place * other as f32 / size as f32).round() as u32;
    [
        place(from as f32 - margin),
        place(to as f32 + margin).min(other),
    ]
}

/// Where something holds without a break: first, and one past the last.
fn runs(holds: impl Iterator<Item = bool>) -> Vec<[i64; 2]> {
    let mut runs: Vec<[i64; 2]> = Vec::new();
    for (index, _) in holds.enumerate().filter(|&(_, holds)| holds) {
        let index = index as i64;
        match runs.last_mut() {
            Some(run) if run[1] == index => run[1] += 1,
            _ => runs.push([index, index + 1]),
        }
    }
    runs
}

/// A line for the second and the third model.
fn line_of(line: &RgbImage, width: u32) -> Tensor {
    prepared(line, &scaled([width, LINE], ([0.5; 3], [0.5; 3])))
}

/// Blue first, scaled whole, with a mean and a deviation in parts of the greatest value.
fn scaled([width, height]: [u32; 2], (mean, std): ([f32; 3], [f32; 3])) -> ImagePreparation {
    ImagePreparation {
        layout: Layout::Nchw,
        color: Color::Bgr,
        width,
        height,
        resize: Resize::Stretch,
        crop_fraction: None,
        filter: Filter::Bilinear,
        mean: mean.map(|it| it * 255.0).to_vec(),
        std: std.map(|it| it * 255.0).to_vec(),
    }
}
