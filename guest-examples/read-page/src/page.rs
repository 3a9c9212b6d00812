//! The exported model.

use crate::lines::{self, Line};
use crate::reader::Reader;
use image::imageops;
use infer_guest::transform::{DataType, Failure, HostTensor, ModelInfo, Tensors, Transform};

/// From which probability on a line is turned.
const SURELY_TURNED: f32 = 0.9;

struct Page;

infer_guest::export_model!(Page);

impl Transform for Page {
    fn describe() -> Result<ModelInfo, Failure> {
        // A server without one of the models learns of it now, not from its first caller.
        Reader::open()?;
        Ok(ModelInfo::new()
            .input("image", DataType::String, &[Some(1)])
            .output("text", DataType::String, &[None])
            .output("confidence", DataType::F32, &[None])
            .output("box", DataType::I32, &[None, Some(4)]))
    }

    fn transform(mut inputs: Tensors) -> Result<Tensors, Failure> {
        let image = inputs.take("image")?.strings()?;
        let page = infer_imaging::decode(image.first()?)?;
        let mut reader = Reader::open()?;
        let (mut texts, mut confidences, mut boxes) = (Vec::new(), Vec::new(), Vec::new());
        let (size, probabilities) = reader.text_in(&page)?;
        for line in lines::find(&probabilities, size, page.dimensions()) {
            let Line {
                left,
                top,
                right,
                bottom,
            } = line;
            let cut = imageops::crop_imm(&page, left, top, right - left, bottom - top);
            let mut cut = cut.to_image();
            if reader.turned(&cut)? >= SURELY_TURNED {
                imageops::rotate180_in_place(&mut cut);
            }
            let (text, confidence) = reader.read(&cut)?;
            texts.push(text);
            confidences.push(confidence);
            boxes.extend([left, top, right, bottom].map(|place| place as i32));
        }
        let count = texts.len() as u32;
        Ok(Tensors::new()
            .with("text", HostTensor::of_strings(&texts)?)
            .with("confidence", HostTensor::new(&[count], confidences)?)
            .with("box", HostTensor::new(&[count, 4], boxes)?))
    }
}
