//! Tests of preparation: what is known from where, and the values that come out.

use super::*;

fn input(dtype: &str, dimensions: &str, image: &str) -> Input {
    let json = format!(r#"{{"name":"x","dtype":"{dtype}","dimensions":{dimensions}{image}}}"#);
    serde_json::from_str(&json).expect("an input")
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor
        .bytes()
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect()
}

const IMAGE: &str = r#","image":{"layout":"nchw","color":"bgr","width":2,"height":1,"resize":"stretch",
    "filter":"bilinear","mean":[10,20,30],"std":[1,2,4]}"#;

#[test]
fn what_the_host_says_is_used_as_it_is() {
    let preparation =
        Preparation::resolve(Some(&input("FP32", "[1,3,1,2]", IMAGE)), &Flags::default());
    let preparation = preparation.expect("resolves");
    assert!(preparation.assumptions().is_empty());
    let mut picture = RgbImage::new(2, 1);
    picture.put_pixel(0, 0, Rgb([1, 2, 3]));
    picture.put_pixel(1, 0, Rgb([4, 5, 6]));
    let tensor = preparation.tensor(&picture).expect("fits");
    assert_eq!(tensor.dimensions(), [1, 3, 1, 2]);
    assert_eq!(values(&tensor), [-7.0, -4.0, -9.0, -7.5, -7.25, -6.5]);
}

#[test]
fn the_signature_gives_layout_and_size() {
    let input = input("FP32", "[null,32,48,3]", "");
    let preparation = Preparation::resolve(Some(&input), &Flags::default()).expect("resolves");
    assert_eq!(preparation.dimensions(), [1, 32, 48, 3]);
    assert_eq!(
        preparation.assumptions().len(),
        3,
        "{:?}",
        preparation.assumptions()
    );
    let white = preparation
        .tensor(&RgbImage::from_pixel(5, 5, Rgb([255; 3])))
        .expect("fits");
    assert!(values(&white).iter().all(|value| *value == 1.0));
}

#[test]
fn with_nothing_known_everything_is_assumed_and_said() {
    let preparation = Preparation::resolve(None, &Flags::default()).expect("resolves");
    assert_eq!(preparation.dimensions(), [1, 3, 224, 224]);
    assert_eq!(preparation.assumptions().len(), 5);
}

#[test]
fn the_command_line_goes_first() {
    let flags = Flags {
        mean: Some(vec![127.0]),
        std: Some(vec![128.0]),
        color: Some(Color::Rgb),
        ..Flags::default()
    };
    let preparation =
        Preparation::resolve(Some(&input("FP32", "[1,3,1,2]", IMAGE)), &flags).expect("resolves");
    let tensor = preparation
        .tensor(&RgbImage::from_pixel(1, 1, Rgb([255; 3])))
        .expect("fits");
    assert_eq!(values(&tensor), [1.0; 6]);
}

#[test]
fn the_usual_ways_of_saying_a_normalisation_mean_the_same() {
    let pixels = Flags {
        mean: Some(vec![127.5]),
        std: Some(vec![127.5]),
        ..Flags::default()
    };
    let fractions = Flags {
        scale: Some(1.0 / 255.0),
        mean: Some(vec![0.5]),
        std: Some(vec![0.5]),
        ..Flags::default()
    };
    let (mean, std) = normalisation(&fractions);
    assert!((mean[0] - 127.5).abs() < 1e-4 && (std[0] - 127.5).abs() < 1e-4);
    assert_eq!(normalisation(&pixels), (vec![127.5], vec![127.5]));
    assert_eq!(normalisation(&Flags::default()), (vec![0.0], vec![255.0]));
}

#[test]
fn gray_and_bytes_are_served() {
    let preparation = Preparation::resolve(Some(&input("U8", "[1,28,28]", "")), &Flags::default())
        .expect("resolves");
    let tensor = preparation
        .tensor(&RgbImage::from_pixel(3, 3, Rgb([200; 3])))
        .expect("fits");
    assert_eq!(
        (tensor.dtype(), tensor.dimensions()),
        (DType::U8, [1, 28, 28].as_slice())
    );
    assert!(tensor.bytes().iter().all(|value| *value == 200));
}

#[test]
fn what_is_no_picture_is_refused() {
    for (dtype, dimensions) in [
        ("FP32", "[1,1000]"),
        ("I64", "[1,3,8,8]"),
        ("FP32", "[8,3,8,8]"),
        ("FP32", "[1,7,8,8]"),
    ] {
        assert!(
            Preparation::resolve(Some(&input(dtype, dimensions, "")), &Flags::default()).is_err(),
            "{dimensions}"
        );
    }
}

#[test]
fn crops_are_centred_and_never_empty() {
    let flags = Flags {
        size: Some((224, 224)),
        ..Flags::default()
    };
    let square = Preparation::resolve(None, &flags).expect("resolves");
    assert_eq!(square.crop_of(600, 400), (125, 25, 350, 350));
    assert_eq!(square.crop_of(1, 1), (0, 0, 1, 1));
    assert_eq!(square.crop_of(1, 5000), (0, 2499, 1, 1));
    let flags = Flags {
        size: Some((200, 100)),
        crop: Some(1.0),
        ..Flags::default()
    };
    let wide = Preparation::resolve(None, &flags).expect("resolves");
    assert_eq!(wide.crop_of(400, 400), (0, 100, 400, 200));
}
