//! Made-up inputs for a model: the same for each run, whoever runs it.

use half::{bf16, f16};
use infer_core::{
    Dtype, Error, ErrorKind, Result, Signature, Tensor, TensorInfo, byte_length, clip,
    display_shape,
};

/// The most that the inputs may take together, in bytes.
const LARGEST: usize = 4 << 30;

/// Inputs by name: floats in 0 to 1, without 1; integers and bools 0 or 1. A dynamic dimension is 1 unless `shapes`
/// says the input's shape.
///
/// # Errors
/// `UnsupportedOperation` for an input of strings; `InvalidArgument` for a shape that does not fit, or of an input that
/// is not there; `TooLarge` for more than 4 GiB.
pub(crate) fn make(
    signature: &Signature,
    shapes: &[(String, Vec<usize>)],
) -> Result<Vec<(String, Tensor)>> {
    check_names(signature, shapes)?;
    let (mut named, mut sum) = (Vec::new(), 0);
    for (info, seed) in signature.inputs.iter().zip(0..) {
        let asked = shapes.iter().find(|(name, _)| *name == info.name);
        let shape = match asked {
            Some((_, shape)) => shape.clone(),
            None => info.dimensions.iter().map(|d| d.unwrap_or(1)).collect(),
        };
        check_shape(info, &shape)?;
        let length = byte_length(info.dtype, &shape).filter(|length| *length <= LARGEST - sum);
        sum += length.ok_or_else(|| {
            let (name, shown) = (clip(&info.name), display_shape(&shape));
            let message = format!(
                "input `{name}` of {} {shown}: expected inputs of at most {LARGEST} bytes",
                info.dtype
            );
            Error::new(ErrorKind::TooLarge, message)
        })?;
        named.push((info.name.clone(), tensor(info.dtype, shape, seed)?));
    }
    Ok(named)
}

fn check_names(signature: &Signature, shapes: &[(String, Vec<usize>)]) -> Result<()> {
    let inputs = &signature.inputs;
    let mut names = shapes.iter().map(|(name, _)| name).enumerate();
    if let Some((_, name)) = names.find(|(before, name)| {
        let mut earlier = shapes[..*before].iter();
        earlier.any(|(earlier, _)| earlier == *name)
    }) {
        let message = format!("input `{}` is given two shapes: expected one", clip(name));
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    let unknown = |name: &&String| inputs.iter().all(|input| input.name != **name);
    let Some(name) = shapes.iter().map(|(name, _)| name).find(unknown) else {
        return Ok(());
    };
    let known: Vec<String> = inputs
        .iter()
        .map(|input| format!("`{}`", clip(&input.name)))
        .collect();
    let message = format!(
        "a shape of the unknown input `{}`: expected {}",
        clip(name),
        known.join(", ")
    );
    Err(Error::new(ErrorKind::InvalidArgument, message))
}

fn check_shape(info: &TensorInfo, shape: &[usize]) -> Result<()> {
    let name = clip(&info.name);
    if info.dtype == Dtype::String {
        let message = format!("input `{name}` takes strings, which cannot be made up");
        return Err(Error::new(ErrorKind::UnsupportedOperation, message)
            .with_hint("time such a model in the guest that uses it"));
    }
    match info.accepts(info.dtype, shape) {
        true => Ok(()),
        false => {
            let (dtype, shown) = (info.dtype, display_shape(shape));
            let message = format!("input `{name}`: expected {info}, got {dtype} {shown}");
            Err(Error::new(ErrorKind::InvalidArgument, message))
        }
    }
}

fn tensor(dtype: Dtype, shape: Vec<usize>, seed: u64) -> Result<Tensor> {
    let mut random = Random(seed);
    let mut bytes = vec![0; byte_length(dtype, &shape).unwrap_or(0)];
    for element in bytes.chunks_exact_mut(dtype.size().unwrap_or(1)) {
        let random = random.next();
        match dtype {
            // The upper bits are exact in each type, so that no value is rounded to 1.
            Dtype::F16 => {
                let value = f16::from_f32((random >> 54) as f32 / 1024.0);
                element.copy_from_slice(&value.to_le_bytes());
            }
            Dtype::BF16 => {
                let value = bf16::from_f32((random >> 57) as f32 / 128.0);
                element.copy_from_slice(&value.to_le_bytes());
            }
            Dtype::F32 => {
                let value = (random >> 40) as f32 / 16_777_216.0;
                element.copy_from_slice(&value.to_le_bytes());
            }
            Dtype::F64 => {
                let value = (random >> 11) as f64 / 9_007_199_254_740_992.0;
                element.copy_from_slice(&value.to_le_bytes());
            }
            // Small and never negative, so that an index into nearly any table is in it.
            _ => element[0] = (random >> 63) as u8,
        }
    }
    Tensor::copied_from(dtype, shape, &bytes)
}

/// Sebastiano Vigna's SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(inputs: &[(&str, Dtype, &[Option<usize>])]) -> Signature {
        let info = |&(name, dtype, dimensions): &(&str, Dtype, &[Option<usize>])| TensorInfo {
            name: name.to_owned(),
            dtype,
            dimensions: dimensions.to_vec(),
        };
        Signature {
            inputs: inputs.iter().map(info).collect(),
            ..Signature::default()
        }
    }

    #[test]
    fn inputs_are_small_varied_and_always_the_same() {
        for dtype in Dtype::WASI_NN.into_iter().chain([Dtype::Bool, Dtype::U64]) {
            let signature = signature(&[("x", dtype, &[Some(1000)])]);
            let made = make(&signature, &[]).expect("makes them");
            let again = make(&signature, &[]).expect("makes them");
            let bytes = made[0].1.host().expect("here");
            assert_eq!(bytes, again[0].1.host().expect("here"), "{dtype}");
            let ones = bytes.iter().filter(|byte| **byte == 1).count();
            match dtype {
                Dtype::F32 => {
                    let values: Vec<f32> = bytes
                        .as_chunks()
                        .0
                        .iter()
                        .map(|bytes| f32::from_le_bytes(*bytes))
                        .collect();
                    let mean = values.iter().sum::<f32>() / 1000.0;
                    assert!(
                        values.iter().all(|v| (0.0..1.0).contains(v)) && (0.4..0.6).contains(&mean)
                    );
                }
                Dtype::F16 | Dtype::BF16 | Dtype::F64 => {}
                _ => {
                    assert!(bytes.iter().all(|byte| *byte <= 1), "{dtype}");
                    assert!((400..600).contains(&ones), "{dtype}: {ones}");
                }
            }
        }
    }

    #[test]
    fn shapes_are_ones_unless_said() {
        let signature = signature(&[("a", Dtype::F32, &[None, Some(3)]), ("b", Dtype::I64, &[])]);
        type Shown = std::result::Result<Vec<Vec<usize>>, String>;
        let shapes = |shapes: &[(&str, &[usize])]| -> Shown {
            let shapes: Vec<(String, Vec<usize>)> = shapes
                .iter()
                .map(|(name, shape)| ((*name).to_owned(), shape.to_vec()))
                .collect();
            let made = make(&signature, &shapes).map_err(|error| error.to_string())?;
            Ok(made.iter().map(|(_, t)| t.shape().to_vec()).collect())
        };
        let made = shapes(&[]);
        assert_eq!(made, Ok(vec![vec![1, 3], vec![]]));
        assert_eq!(shapes(&[("a", &[8, 3])]), Ok(vec![vec![8, 3], vec![]]));
        let twice = shapes(&[("a", &[8, 3]), ("a", &[9, 3])]);
        let two = "input `a` is given two shapes: expected one";
        assert_eq!(twice, Err(two.to_owned()));
        let wrong: [(&str, &[usize], &str); 4] = [
            (
                "c",
                &[1],
                "a shape of the unknown input `c`: expected `a`, `b`",
            ),
            (
                "a",
                &[8, 4],
                "input `a`: expected f32 [?, 3], got f32 [8, 4]",
            ),
            ("b", &[1], "input `b`: expected i64 [], got i64 [1]"),
            (
                "a",
                &[1 << 40, 3],
                "input `a` of f32 [1099511627776, 3]: expected inputs of at most 4294967296 bytes",
            ),
        ];
        for (name, shape, message) in wrong {
            assert_eq!(shapes(&[(name, shape)]), Err(message.to_owned()));
        }
    }

    #[test]
    fn strings_are_refused() {
        let error =
            make(&signature(&[("text", Dtype::String, &[None])]), &[]).expect_err("strings");
        assert_eq!(error.kind(), ErrorKind::UnsupportedOperation);
        assert_eq!(
            error.to_string(),
            "input `text` takes strings, which cannot be made up"
        );
    }
}
