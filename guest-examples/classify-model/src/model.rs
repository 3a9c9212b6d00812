//! The exported model.

use infer_guest::transform::{DataType, Failure, HostTensor, ModelInfo, Tensors, Transform};
use infer_imaging::{Classes, Flags, PictureModel};

/// How many classes are answered, at most.
const TOP: usize = 5;

struct Classify;

infer_guest::export_model!(Classify);

impl Transform for Classify {
    fn describe() -> Result<ModelInfo, Failure> {
        // A server without the classifier learns of it now, not from its first caller.
        PictureModel::open(&Flags::default())?;
        Ok(ModelInfo::new()
            .input("image", DataType::String, &[Some(1)])
            .output("labels", DataType::String, &[None])
            .output("scores", DataType::F32, &[None]))
    }

    fn transform(mut inputs: Tensors) -> Result<Tensors, Failure> {
        let image = inputs.take("image")?.strings()?;
        let mut model = PictureModel::open(&Flags::default())?;
        let output = model.run(image.first()?)?;
        let best = Classes::of(&model, None).rank(&output, TOP)?;
        let labels: Vec<&str> = best.iter().map(|class| class.label.as_str()).collect();
        let scores: Vec<f32> = best.iter().map(|class| class.probability).collect();
        Ok(Tensors::new()
            .with("labels", HostTensor::of_strings(&labels)?)
            .with("scores", HostTensor::new(&[scores.len() as u32], scores)?))
    }
}
