//! Pictures, and the inputs that are made of them.

use image::RgbImage;
use image::imageops::{self, FilterType};
use infer_core::Tensor;
use infer_models::{Color, Filter, ImagePreparation, Layout, Resize};

use crate::engines::floats;
use crate::known::Known;

/// A named input as a picture; grey is in all three channels.
pub(crate) fn picture(name: &str) -> RgbImage {
    let picture = image::load_from_memory(&Known::input(name));
    picture.expect("a picture").into_rgb8()
}

/// The part of a picture in these columns and rows, first and one past the last.
pub(crate) fn cut(picture: &RgbImage, columns: [u32; 2], rows: [u32; 2]) -> RgbImage {
    let (width, height) = (columns[1] - columns[0], rows[1] - rows[0]);
    imageops::crop_imm(picture, columns[0], rows[0], width, height).to_image()
}

/// A batch of one picture, made as a manifest says.
pub(crate) fn prepared(picture: &RgbImage, how: &ImagePreparation) -> Tensor {
    let picture = resized(picture, how);
    let (width, height) = (how.width as usize, how.height as usize);
    let mut values = vec![0.0; 3 * width * height];
    for (place, pixel) in picture.pixels().enumerate() {
        let [red, green, blue] = pixel.0;
        let channels = match how.color {
            Color::Rgb => [red, green, blue],
            Color::Bgr => [blue, green, red],
            Color::Gray => panic!("no known model takes grey pictures"),
        };
        for (channel, value) in channels.into_iter().enumerate() {
            let index = match how.layout {
                Layout::Nchw => channel * width * height + place,
                Layout::Nhwc => place * 3 + channel,
            };
            values[index] = (f32::from(value) - how.mean[channel]) / how.std[channel];
        }
    }
    match how.layout {
        Layout::Nchw => floats(&[1, 3, height, width], &values),
        Layout::Nhwc => floats(&[1, height, width, 3], &values),
    }
}

fn resized(picture: &RgbImage, how: &ImagePreparation) -> RgbImage {
    let filter = match how.filter {
        Filter::Bicubic => FilterType::CatmullRom,
        Filter::Bilinear => FilterType::Triangle,
    };
    let scaled = |picture: &RgbImage| imageops::resize(picture, how.width, how.height, filter);
    match how.resize {
        Resize::Stretch => scaled(picture),
        Resize::CenterCrop => {
            let (width, height) = picture.dimensions();
            let part = how.crop_fraction.unwrap_or(1.0);
            let side = (width.min(height) as f32 * part).round() as u32;
            let (left, top) = ((width - side) / 2, (height - side) / 2);
            scaled(&cut(picture, [left, left + side], [top, top + side]))
        }
    }
}
