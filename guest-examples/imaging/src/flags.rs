//! The flags by which a person says which model is used and how pictures are prepared for it, shared by the
//! guests that take pictures.

use infer_guest::{Color, Filter, Layout, Resize};
use lexopt::{Parser, ValueExt};

/// The part of a guest's help that describes these flags.
pub const HELP: &str = "\
The model:
  --model NAME         by the name that the host gave it (default)
  --input NAME         its input for the picture (its only one, or `input`)
  --output NAME        its output that is read (the one with labels, or the first)
  --no-info            do not ask the host about the model

How pictures are prepared (each flag replaces what the host tells of the model):
  --size WxH           width and height of the model's input, in pixels
  --layout nchw|nhwc   order of its dimensions
  --color rgb|bgr|gray channels and their order
  --resize center-crop|stretch
                       cut the centre out, or scale without keeping the aspect ratio
  --crop FRACTION      with center-crop: how much of the largest centred crop is kept (0.875)
  --filter bicubic|bilinear
                       how pixels are interpolated
  --scale S            value = (pixel * S - mean) / std, pixels from 0 to 255; a number or a fraction such as
                       1/255, which is what it is when neither --mean nor --std is given (else 1)
  --mean A[,B,C]       see --scale; one number for all channels or one each (0)
  --std A[,B,C]        see --scale; one number for all channels or one each (1)";

/// What the command line says about the model and about preparation; `None` where it says nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flags {
    /// `--model`.
    pub model: Option<String>,
    /// `--input`.
    pub input: Option<String>,
    /// `--output`.
    pub output: Option<String>,
    /// `--no-info`.
    pub no_info: bool,
    /// `--size`: width and height, in pixels.
    pub size: Option<(u32, u32)>,
    /// `--layout`.
    pub layout: Option<Layout>,
    /// `--color`.
    pub color: Option<Color>,
    /// `--resize`.
    pub resize: Option<Resize>,
    /// `--crop`: over 0, at most 1.
    pub crop: Option<f32>,
    /// `--filter`.
    pub filter: Option<Filter>,
    /// `--scale`.
    pub scale: Option<f32>,
    /// `--mean`: one number or one per channel.
    pub mean: Option<Vec<f32>>,
    /// `--std`: one number or one per channel.
    pub std: Option<Vec<f32>>,
}

impl Flags {
    /// Takes a long option if it is one of these, with its value; says whether it was.
    ///
    /// # Errors
    /// When the value is missing or makes no sense.
    pub fn take(&mut self, option: &str, parser: &mut Parser) -> Result<bool, lexopt::Error> {
        match option {
            "model" => self.model = Some(parser.value()?.string()?),
            "input" => self.input = Some(parser.value()?.string()?),
            "output" => self.output = Some(parser.value()?.string()?),
            "no-info" => self.no_info = true,
            "size" => self.size = Some(parser.value()?.parse_with(size)?),
            "layout" => {
                self.layout = Some(choice(
                    parser,
                    &[("nchw", Layout::Nchw), ("nhwc", Layout::Nhwc)],
                )?)
            }
            "color" => {
                let colors = [
                    ("rgb", Color::Rgb),
                    ("bgr", Color::Bgr),
                    ("gray", Color::Gray),
                ];
                self.color = Some(choice(parser, &colors)?);
            }
            "resize" => {
                let ways = [
                    ("center-crop", Resize::CenterCrop),
                    ("stretch", Resize::Stretch),
                ];
                self.resize = Some(choice(parser, &ways)?);
            }
            "crop" => self.crop = Some(parser.value()?.parse_with(fraction)?),
            "filter" => {
                let filters = [("bicubic", Filter::Bicubic), ("bilinear", Filter::Bilinear)];
                self.filter = Some(choice(parser, &filters)?);
            }
            "scale" => self.scale = Some(parser.value()?.parse_with(scale)?),
            "mean" => self.mean = Some(parser.value()?.parse_with(|text| numbers(text, |_| true))?),
            "std" => {
                self.std = Some(
                    parser
                        .value()?
                        .parse_with(|text| numbers(text, |value| value != 0.0))?,
                )
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn choice<T: Copy>(parser: &mut Parser, choices: &[(&str, T)]) -> Result<T, lexopt::Error> {
    let names = || {
        choices
            .iter()
            .map(|(name, _)| *name)
            .collect::<Vec<_>>()
            .join(", ")
    };
    parser.value()?.parse_with(|text| {
        let found = choices.iter().find(|(name, _)| *name == text);
        found
            .map(|(_, value)| *value)
            .ok_or_else(|| format!("expected one of {}", names()))
    })
}

fn size(text: &str) -> Result<(u32, u32), &'static str> {
    let sides = text
        .split_once('x')
        .and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    let fits = |side: u32| (1..=8192).contains(&side);
    sides
        .filter(|(width, height)| fits(*width) && fits(*height))
        .ok_or("expected WxH such as 224x224, up to 8192x8192")
}

fn fraction(text: &str) -> Result<f32, &'static str> {
    let fraction: Option<f32> = text.parse().ok();
    fraction
        .filter(|fraction| *fraction > 0.0 && *fraction <= 1.0)
        .ok_or("expected a number over 0, at most 1")
}

fn scale(text: &str) -> Result<f32, &'static str> {
    let scale = match text.split_once('/') {
        Some((above, below)) => number(above)
            .zip(number(below))
            .map(|(above, below)| above / below),
        None => number(text),
    };
    scale
        .filter(|scale| scale.is_finite() && *scale != 0.0)
        .ok_or("expected a number or a fraction such as 1/255")
}

fn numbers(text: &str, allowed: impl Fn(f32) -> bool) -> Result<Vec<f32>, &'static str> {
    let values: Option<Vec<f32>> = text
        .split(',')
        .map(|text| number(text).filter(|value| allowed(*value)))
        .collect();
    values
        .filter(|values| matches!(values.len(), 1 | 3))
        .ok_or("expected one number or three, separated by commas (a std is never 0)")
}

fn number(text: &str) -> Option<f32> {
    text.trim()
        .parse()
        .ok()
        .filter(|value: &f32| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Flags, lexopt::Error> {
        let mut parser = Parser::from_args(line.split(' '));
        let mut flags = Flags::default();
        while let Some(argument) = parser.next()? {
            let lexopt::Arg::Long(option) = argument else {
                return Err(argument.unexpected());
            };
            let option = option.to_owned();
            assert!(flags.take(&option, &mut parser)?, "`{option}` is known");
        }
        Ok(flags)
    }

    #[test]
    fn every_flag_is_read() {
        let flags = parse(
            "--size 320x240 --layout nhwc --color bgr --resize stretch --crop 0.9 --filter bilinear \
             --scale 1/4 --mean 1,2,3 --std 5 --model m --input x --output y --no-info",
        );
        let expected = Flags {
            model: Some("m".into()),
            input: Some("x".into()),
            output: Some("y".into()),
            no_info: true,
            size: Some((320, 240)),
            layout: Some(Layout::Nhwc),
            color: Some(Color::Bgr),
            resize: Some(Resize::Stretch),
            crop: Some(0.9),
            filter: Some(Filter::Bilinear),
            scale: Some(0.25),
            mean: Some(vec![1.0, 2.0, 3.0]),
            std: Some(vec![5.0]),
        };
        assert_eq!(flags.expect("parses"), expected);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "--size 224",
            "--size 0x5",
            "--size 9000x9000",
            "--layout chw",
            "--crop 0",
            "--crop 1.5",
            "--scale 0",
            "--scale 1/0",
            "--std 0",
            "--std 1,0,1",
            "--mean 1,2",
            "--mean nan",
            "--mean",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
