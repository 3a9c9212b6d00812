//! The exported model.

use infer_guest::Model;
use infer_guest::transform::{DataType, Failure, HostTensor, ModelInfo, Tensors, Transform};

struct Misfit;

infer_guest::export_model!(Misfit);

impl Transform for Misfit {
    fn describe() -> Result<ModelInfo, Failure> {
        let info = ModelInfo::new()
            .input("do", DataType::String, &[Some(1)])
            .input("x", DataType::F32, &[None])
            .output("y", DataType::F32, &[None])
            .output("note", DataType::String, &[Some(1)]);
        match std::env::var("MISFIT").as_deref() {
            Ok("refuse") => Err("it does not feel like it".into()),
            Ok("twice") => Ok(info.output("y", DataType::F32, &[])),
            Ok("trap") => panic!("asked to"),
            _ => Ok(info),
        }
    }

    fn transform(mut inputs: Tensors) -> Result<Tensors, Failure> {
        let what = inputs.take("do")?.strings()?;
        let what = String::from_utf8(what.first()?.to_vec())?;
        let x = inputs.take("x")?;
        let note = || HostTensor::of_strings(&[&what]);
        let well = |y| Ok(Tensors::new().with("y", y).with("note", note()?));
        match what.split_once(' ') {
            // The tensor that was given, as it is.
            None if what == "pass" => well(x),
            // Through two models, each of which gives `y` for `x`.
            Some(("through", models)) => {
                let mut y = x;
                for name in models.split(' ') {
                    let mut model = Model::open(name)?;
                    y = model.run_on_host(Tensors::new().with("x", y))?.take("y")?;
                }
                well(y)
            }
            None if what == "refuse" => Err("the inputs are not to its liking".into()),
            None if what == "trap" => panic!("asked to"),
            None if what == "loop" => loop {
                std::hint::black_box(());
            },
            None if what == "hog" => {
                let mut held = Vec::new();
                loop {
                    held.push(vec![1u8; 1 << 20]);
                }
            }
            None if what == "another-type" => well(HostTensor::new(&[2], vec![1u8, 2])?),
            None if what == "another-rank" => well(HostTensor::new(&[1, 1], vec![1.0f32])?),
            None if what == "missing" => Ok(Tensors::new().with("y", x)),
            None if what == "unknown" => Ok(well(x)?.with("z", note()?)),
            None if what == "twice" => Ok(well(x)?.with("note", note()?)),
            _ => Err(format!("it cannot `{what}`").into()),
        }
    }
}
