//! Decoding: JPEG and PNG bytes to an upright RGB picture.
//!
//! Gray, palette, 16-bit and CMYK pictures become 8-bit RGB; transparent ones are laid on white, as a viewer
//! shows them. A picture over [`MAX_PIXELS`] is refused from its header, before memory is taken for it.

use image::{
    DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, Rgb, RgbImage,
};
use std::fmt;
use std::io::Cursor;

/// The largest picture that is decoded, in pixels: 100 megapixels, 300 MB as RGB.
const MAX_PIXELS: u64 = 100_000_000;
/// The most that a decoder may take besides, in bytes.
const MAX_DECODER_BYTES: u64 = 1 << 30;

/// Why a photo cannot be used.
#[derive(Debug)]
pub enum DecodeError {
    /// It is neither JPEG nor PNG.
    Format,
    /// It has too many pixels.
    TooLarge,
    /// It ends too early.
    Cut,
    /// It is damaged, or of a kind that the decoder does not know.
    Damaged(ImageError),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Format => write!(f, "expected a JPEG or PNG picture, got something else"),
            DecodeError::TooLarge => {
                write!(
                    f,
                    "the picture is too large: expected at most {} megapixels",
                    MAX_PIXELS / 1_000_000
                )
            }
            DecodeError::Cut => write!(f, "the picture is cut off"),
            DecodeError::Damaged(error) => write!(f, "cannot decode the picture: {error}"),
        }
    }
}

impl std::error::Error for DecodeError {}

impl From<ImageError> for DecodeError {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::Limits(_) => DecodeError::TooLarge,
            error => DecodeError::Damaged(error),
        }
    }
}

/// Decodes a JPEG or PNG picture, told apart by content, and turns it as its EXIF orientation says.
///
/// # Errors
/// [`DecodeError`], by what is wrong with it.
pub fn decode(bytes: &[u8]) -> Result<RgbImage, DecodeError> {
    let format = image::guess_format(bytes).map_err(|_| DecodeError::Format)?;
    if !matches!(format, ImageFormat::Jpeg | ImageFormat::Png) {
        return Err(DecodeError::Format);
    }
    if format == ImageFormat::Jpeg && is_cut(bytes) {
        return Err(DecodeError::Cut);
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_DECODER_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(DecodeError::TooLarge);
    }
    let orientation = decoder.orientation()?;
    let mut picture = DynamicImage::from_decoder(decoder)?;
    picture.apply_orientation(orientation);
    Ok(opaque(picture))
}

/// Whether a JPEG lacks its end marker (FF D9) after its last scan (FF DA). The decoder would fill in gray.
fn is_cut(jpeg: &[u8]) -> bool {
    let last = |code: u8| jpeg.windows(2).rposition(|pair| pair == [0xFF, code]);
    last(0xD9) < last(0xDA)
}

/// Lays a picture on white and drops its alpha channel.
fn opaque(picture: DynamicImage) -> RgbImage {
    if !picture.color().has_alpha() {
        return picture.into_rgb8();
    }
    let picture = picture.into_rgba8();
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let [red, green, blue, alpha] = picture.get_pixel(x, y).0.map(u32::from);
        Rgb([red, green, blue]
            .map(|value| ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GrayImage, ImageBuffer, Luma, Rgba, RgbaImage};

    fn png(picture: impl Into<DynamicImage>) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture
            .into()
            .write_to(&mut bytes, ImageFormat::Png)
            .expect("encodes");
        bytes.into_inner()
    }

    #[test]
    fn every_kind_of_pixel_becomes_rgb() {
        let gray = png(GrayImage::from_pixel(2, 1, Luma([77])));
        assert_eq!(decode(&gray).expect("gray").get_pixel(1, 0).0, [77; 3]);
        let deep: ImageBuffer<Luma<u16>, _> = ImageBuffer::from_pixel(1, 1, Luma([65535u16]));
        assert_eq!(
            decode(&png(deep)).expect("16 bits").get_pixel(0, 0).0,
            [255; 3]
        );
        let clear = png(RgbaImage::from_pixel(1, 1, Rgba([0, 0, 0, 0])));
        assert_eq!(
            decode(&clear).expect("transparent").get_pixel(0, 0).0,
            [255; 3]
        );
        let solid = png(RgbaImage::from_pixel(1, 1, Rgba([9, 8, 7, 255])));
        assert_eq!(decode(&solid).expect("opaque").get_pixel(0, 0).0, [9, 8, 7]);
    }

    #[test]
    fn what_is_no_picture_is_said_to_be_none() {
        assert!(matches!(
            decode(b"hello, this is text"),
            Err(DecodeError::Format)
        ));
        assert!(matches!(decode(b""), Err(DecodeError::Format)));
        assert!(matches!(
            decode(b"GIF89a\x01\x00\x01\x00"),
            Err(DecodeError::Format)
        ));
        let mut cut = png(RgbImage::new(8, 8));
        cut.truncate(40);
        assert!(matches!(decode(&cut), Err(DecodeError::Damaged(_))));
        let mut bytes = Cursor::new(Vec::new());
        RgbImage::new(64, 64)
            .write_to(&mut bytes, ImageFormat::Jpeg)
            .expect("encodes");
        let jpeg = bytes.into_inner();
        assert!(decode(&jpeg).is_ok());
        assert!(matches!(
            decode(&jpeg[..jpeg.len() - 20]),
            Err(DecodeError::Cut)
        ));
    }

    #[test]
    fn a_bomb_is_refused_by_its_header() {
        // A PNG of one pixel whose header claims 60,000 x 60,000, with the checksum to match.
        let mut bomb = png(GrayImage::new(1, 1));
        bomb[16..24].copy_from_slice(&[0, 0, 0xEA, 0x60, 0, 0, 0xEA, 0x60]);
        let checksum = crc32(&bomb[12..29]);
        bomb[29..33].copy_from_slice(&checksum.to_be_bytes());
        let error = decode(&bomb).expect_err("too large");
        assert!(matches!(error, DecodeError::TooLarge), "{error}");
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                (crc >> 1) ^ (0xEDB8_8320 * (crc & 1))
            })
        })
    }
}
