//! How a model wants its pictures, and making them so.
//!
//! What is known comes, in this order, from the command line, from the host's `image` data of the input, from
//! the input's dimensions and element type, and at last from assumptions, each of which is written down for the
//! person to read.

use crate::flags::Flags;
use image::imageops::{self, FilterType};
use image::{Luma, Pixel, Rgb, RgbImage};
use infer_guest::{Code, Color, DType, Error, Filter, Input, Layout, Resize, Result, Tensor};

/// The side that is assumed when nothing says another, in pixels.
const USUAL_SIDE: u32 = 224;
/// The part of the largest centred crop that is kept when nothing says another.
const USUAL_CROP: f32 = 0.875;

/// How a picture becomes an input: `value = (pixel - mean) / std`, pixels from 0 to 255.
#[derive(Clone, Debug, PartialEq)]
pub struct Preparation {
    dtype: DType,
    batched: bool,
    layout: Layout,
    color: Color,
    width: u32,
    height: u32,
    resize: Resize,
    crop: f32,
    filter: Filter,
    mean: Vec<f32>,
    std: Vec<f32>,
    assumptions: Vec<String>,
}

/// What an input's dimensions say about pictures.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Signature {
    batched: bool,
    layout: Layout,
    channels: u32,
    size: Option<(u32, u32)>,
}

impl Preparation {
    /// Puts together how pictures are prepared for this input, as far as the host describes it.
    ///
    /// # Errors
    /// [`UnsupportedOperation`](Code::UnsupportedOperation) when the input cannot be a picture, or has an
    /// element type other than f32 and u8; [`InvalidArgument`](Code::InvalidArgument) when `--mean` or `--std`
    /// has another number of channels.
    pub fn resolve(input: Option<&Input>, flags: &Flags) -> Result<Preparation> {
        let mut assumptions = Vec::new();
        let mut assume = |what: String| assumptions.push(what);
        let signature = input.map(read_signature).transpose()?;
        let image = input.and_then(|input| input.image.as_ref());
        let dtype = input.map_or(Ok(DType::F32), picture_dtype)?;

        let layout = flags
            .layout
            .or(image.map(|image| image.layout))
            .or(signature.map(|it| it.layout));
        let layout = layout.unwrap_or_else(|| {
            assume("layout nchw (--layout)".into());
            Layout::Nchw
        });
        let size = flags
            .size
            .or(image.map(|image| (image.width, image.height)))
            .or(signature.and_then(|it| it.size));
        let (width, height) = size.unwrap_or_else(|| {
            assume(format!("size {USUAL_SIDE}x{USUAL_SIDE} (--size)"));
            (USUAL_SIDE, USUAL_SIDE)
        });
        let color = flags
            .color
            .or(image.map(|image| image.color))
            .unwrap_or_else(|| match signature {
                Some(Signature { channels: 1, .. }) => Color::Gray,
                _ => {
                    assume("color rgb (--color)".into());
                    Color::Rgb
                }
            });
        let resize = flags
            .resize
            .or(image.map(|image| image.resize))
            .unwrap_or_else(|| {
                assume(format!(
                    "resize center-crop of {USUAL_CROP} (--resize, --crop)"
                ));
                Resize::CenterCrop
            });
        let crop = flags
            .crop
            .or(image.and_then(|image| image.crop_fraction))
            .unwrap_or(USUAL_CROP);
        let filter = flags
            .filter
            .or(image.map(|image| image.filter))
            .unwrap_or(Filter::Bicubic);

        let says_how = flags.scale.is_some() || flags.mean.is_some() || flags.std.is_some();
        let (mean, std) = match image {
            // In the host's units, the pixels'; a scale would change these, and so replaces both.
            Some(image) if flags.scale.is_none() => (
                flags.mean.clone().unwrap_or_else(|| image.mean.clone()),
                flags.std.clone().unwrap_or_else(|| image.std.clone()),
            ),
            _ if !says_how && dtype == DType::U8 => (vec![0.0], vec![1.0]),
            _ => {
                if !says_how {
                    assume("values from 0 to 1 (--scale, --mean, --std)".into());
                }
                normalisation(flags)
            }
        };
        Ok(Preparation {
            dtype,
            batched: signature.is_none_or(|it| it.batched),
            layout,
            color,
            width,
            height,
            resize,
            crop,
            filter,
            mean: per_channel(mean, color)?,
            std: per_channel(std, color)?,
            assumptions,
        })
    }

    /// What nobody said and was therefore assumed, each with the flags that say otherwise.
    pub fn assumptions(&self) -> &[String] {
        &self.assumptions
    }

    /// Makes the input: crops, scales, orders and normalises.
    ///
    /// # Errors
    /// None for a preparation that [`Preparation::resolve`] made; the tensor checks its own length.
    pub fn tensor(&self, picture: &RgbImage) -> Result<Tensor> {
        let picture = self.resized(picture);
        let values = match self.color {
            Color::Rgb => self.ordered(&picture, |pixel| pixel.0),
            Color::Bgr => self.ordered(&picture, |Rgb([red, green, blue])| [*blue, *green, *red]),
            Color::Gray => self.ordered(&picture, |pixel| {
                let Luma([value]) = pixel.to_luma();
                [value]
            }),
        };
        match self.dtype {
            DType::U8 => {
                let bytes = values
                    .into_iter()
                    .map(|value| value.round() as u8)
                    .collect();
                Tensor::new::<u8>(&self.dimensions(), bytes)
            }
            _ => Tensor::new(&self.dimensions(), values),
        }
    }

    fn dimensions(&self) -> Vec<u32> {
        let channels = self.color.channels() as u32;
        let picture = match self.layout {
            Layout::Nchw => [channels, self.height, self.width],
            Layout::Nhwc => [self.height, self.width, channels],
        };
        let batch = self.batched.then_some(1);
        batch.into_iter().chain(picture).collect()
    }

    fn resized(&self, picture: &RgbImage) -> RgbImage {
        let filter = match self.filter {
            Filter::Bicubic => FilterType::CatmullRom,
            Filter::Bilinear => FilterType::Triangle,
        };
        let scaled =
            |picture: &RgbImage| imageops::resize(picture, self.width, self.height, filter);
        match self.resize {
            Resize::Stretch => scaled(picture),
            Resize::CenterCrop => {
                let (x, y, width, height) = self.crop_of(picture.width(), picture.height());
                scaled(&imageops::crop_imm(picture, x, y, width, height).to_image())
            }
        }
    }

    /// The centred crop of a picture of this size: left, top, width and height.
    fn crop_of(&self, width: u32, height: u32) -> (u32, u32, u32, u32) {
        let (wide, high) = (f64::from(self.width), f64::from(self.height));
        let unit = (f64::from(width) / wide).min(f64::from(height) / high) * f64::from(self.crop);
        let side =
            |wanted: f64, available: u32| ((unit * wanted).round() as u32).clamp(1, available);
        let (crop_width, crop_height) = (side(wide, width), side(high, height));
        (
            (width - crop_width) / 2,
            (height - crop_height) / 2,
            crop_width,
            crop_height,
        )
    }

    /// Normalised values in the model's order; `channels` picks them from a pixel.
    fn ordered<const N: usize>(
        &self,
        picture: &RgbImage,
        channels: impl Fn(&Rgb<u8>) -> [u8; N],
    ) -> Vec<f32> {
        let normal =
            |channel: usize, value: u8| (f32::from(value) - self.mean[channel]) / self.std[channel];
        let area = picture.width() as usize * picture.height() as usize;
        let mut values = vec![0.0; area * N];
        for (place, pixel) in picture.pixels().enumerate() {
            for (channel, value) in channels(pixel).into_iter().enumerate() {
                let index = match self.layout {
                    Layout::Nchw => channel * area + place,
                    Layout::Nhwc => place * N + channel,
                };
                values[index] = normal(channel, value);
            }
        }
        values
    }
}

/// Mean and standard deviation in pixel units, from the three flags.
fn normalisation(flags: &Flags) -> (Vec<f32>, Vec<f32>) {
    let alone = flags.mean.is_none() && flags.std.is_none();
    let in_pixels = |values: &Option<Vec<f32>>, usual: f32| -> Vec<f32> {
        let values = values.clone().unwrap_or_else(|| vec![usual]);
        match flags.scale {
            Some(scale) => values.into_iter().map(|value| value / scale).collect(),
            None if alone => values.into_iter().map(|value| value * 255.0).collect(),
            None => values,
        }
    };
    (in_pixels(&flags.mean, 0.0), in_pixels(&flags.std, 1.0))
}

fn per_channel(values: Vec<f32>, color: Color) -> Result<Vec<f32>> {
    match (values.as_slice(), color.channels()) {
        (&[value], channels) => Ok(vec![value; channels]),
        (values, channels) if values.len() == channels => Ok(values.to_vec()),
        (values, channels) => Err(Error::new(
            Code::InvalidArgument,
            format!(
                "expected a mean and a std for {channels} channels, got {}",
                values.len()
            ),
        )),
    }
}

fn picture_dtype(input: &Input) -> Result<DType> {
    input
        .dtype()
        .filter(|dtype| matches!(dtype, DType::F32 | DType::U8))
        .ok_or_else(|| {
            let message = format!(
                "input `{}`: expected elements of FP32 or U8 for a picture",
                input.name
            );
            Error::new(Code::UnsupportedOperation, message)
        })
}

/// Reads an input's dimensions as a picture's: 3 or 4 of them, channels first or last.
fn read_signature(input: &Input) -> Result<Signature> {
    let no_picture = || {
        let message = format!(
            "input `{}` {:?} is no picture of 1 or 3 channels",
            input.name, input.dimensions
        );
        Error::new(Code::UnsupportedOperation, message)
    };
    let (batched, picture) = match input.dimensions.as_slice() {
        [Some(1) | None, picture @ ..] if picture.len() == 3 => (true, picture),
        picture if picture.len() == 3 => (false, picture),
        _ => return Err(no_picture()),
    };
    let known_layout = input.image.as_ref().map(|image| image.layout);
    let (layout, channels, height, width) = match (known_layout, picture) {
        (Some(Layout::Nchw) | None, &[Some(channels @ (1 | 3)), height, width]) => {
            (Layout::Nchw, channels, height, width)
        }
        (Some(Layout::Nhwc) | None, &[height, width, Some(channels @ (1 | 3))]) => {
            (Layout::Nhwc, channels, height, width)
        }
        _ => return Err(no_picture()),
    };
    Ok(Signature {
        batched,
        layout,
        channels,
        size: width.zip(height),
    })
}

#[cfg(test)]
mod tests;
