//! TensorFlow Lite: models of one operator, made here, beside answers worked out by hand; and what is refused.

use flatbuffers::{FlatBufferBuilder, UnionWIPOffset, WIPOffset};
use infer_core::{Backend, Cancel, Device, Encoding, ErrorKind, LoadOptions, LoadRequest, Source};
use tract_tflite::tflite::{
    self, ActivationFunctionType, BuiltinOperator, BuiltinOptions, Conv2DOptionsArgs,
    DepthwiseConv2DOptionsArgs, Padding, Pool2DOptionsArgs, QuantizationParametersArgs, TensorType,
};

use super::values::{run, tensor};
use crate::Tract;

type Builder = FlatBufferBuilder<'static>;
type Options = fn(&mut Builder) -> (BuiltinOptions, WIPOffset<UnionWIPOffset>);

/// A tensor of the file; one of scale is quantised.
struct Part {
    shape: Vec<i32>,
    dtype: TensorType,
    data: Option<Vec<u8>>,
    scale: Option<f32>,
}

impl Part {
    fn computed(shape: &[i32]) -> Part {
        Part {
            shape: shape.to_vec(),
            dtype: TensorType::FLOAT32,
            data: None,
            scale: None,
        }
    }

    fn floats(shape: &[i32], values: &[f32]) -> Part {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        Part {
            data: Some(bytes.collect()),
            ..Part::computed(shape)
        }
    }

    fn integers(values: &[i32]) -> Part {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        Part {
            dtype: TensorType::INT32,
            data: Some(bytes.collect()),
            ..Part::computed(&[values.len() as i32])
        }
    }

    fn scaled(shape: &[i32]) -> Part {
        Part {
            scale: Some(0.5),
            ..Part::computed(shape)
        }
    }
}

/// A file of one operator: the first tensor is the input `x`, the last the output `y`, between them are constants.
fn file(operator: BuiltinOperator, options: Options, parts: &[Part]) -> Vec<u8> {
    let mut fb = FlatBufferBuilder::new();
    let mut buffers = vec![tflite::Buffer::create(&mut fb, &Default::default())];
    let mut tensors = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let buffer = match &part.data {
            None => 0,
            // The same elements again are those of the tensor before.
            Some(data) if index > 0 && parts[index - 1].data.as_ref() == Some(data) => {
                buffers.len() as u32 - 1
            }
            Some(data) => {
                let data = Some(fb.create_vector(data));
                buffers.push(tflite::Buffer::create(
                    &mut fb,
                    &tflite::BufferArgs { data },
                ));
                buffers.len() as u32 - 1
            }
        };
        tensors.push(tensor_of(&mut fb, part, buffer, (index, parts.len())));
    }
    let last = parts.len() as i32 - 1;
    let (builtin_options_type, options) = options(&mut fb);
    let operator_args = tflite::OperatorArgs {
        inputs: Some(fb.create_vector(&(0..last).collect::<Vec<i32>>())),
        outputs: Some(fb.create_vector(&[last])),
        builtin_options_type,
        builtin_options: Some(options),
        ..Default::default()
    };
    let node = tflite::Operator::create(&mut fb, &operator_args);
    let graph_args = tflite::SubGraphArgs {
        tensors: Some(fb.create_vector(&tensors)),
        inputs: Some(fb.create_vector(&[0])),
        outputs: Some(fb.create_vector(&[last])),
        operators: Some(fb.create_vector(&[node])),
        ..Default::default()
    };
    let graph = tflite::SubGraph::create(&mut fb, &graph_args);
    let code_args = tflite::OperatorCodeArgs {
        deprecated_builtin_code: i8::try_from(operator.0).unwrap_or(i8::MAX),
        builtin_code: operator,
        ..Default::default()
    };
    let code = tflite::OperatorCode::create(&mut fb, &code_args);
    let model_args = tflite::ModelArgs {
        version: 3,
        operator_codes: Some(fb.create_vector(&[code])),
        subgraphs: Some(fb.create_vector(&[graph])),
        buffers: Some(fb.create_vector(&buffers)),
        ..Default::default()
    };
    let model = tflite::Model::create(&mut fb, &model_args);
    tflite::finish_model_buffer(&mut fb, model);
    fb.finished_data().to_vec()
}

fn tensor_of(
    fb: &mut Builder,
    part: &Part,
    buffer: u32,
    (index, count): (usize, usize),
) -> WIPOffset<tflite::Tensor<'static>> {
    let name = match index {
        0 => "x".to_owned(),
        _ if index + 1 == count => "y".to_owned(),
        _ => format!("c{index}"),
    };
    let quantization = part.scale.map(|scale| {
        let scale = Some(fb.create_vector(&[scale]));
        let zero_point = Some(fb.create_vector(&[0i64]));
        let args = QuantizationParametersArgs {
            scale,
            zero_point,
            ..Default::default()
        };
        tflite::QuantizationParameters::create(fb, &args)
    });
    let args = tflite::TensorArgs {
        shape: Some(fb.create_vector(&part.shape)),
        type_: part.dtype,
        buffer,
        name: Some(fb.create_string(&name)),
        quantization,
        ..Default::default()
    };
    tflite::Tensor::create(fb, &args)
}

fn mean(fb: &mut Builder) -> (BuiltinOptions, WIPOffset<UnionWIPOffset>) {
    let options = tflite::ReducerOptions::create(fb, &Default::default());
    (BuiltinOptions::ReducerOptions, options.as_union_value())
}

fn add(fb: &mut Builder) -> (BuiltinOptions, WIPOffset<UnionWIPOffset>) {
    let fused_activation_function = ActivationFunctionType::RELU6;
    let args = tflite::AddOptionsArgs {
        fused_activation_function,
        ..Default::default()
    };
    let options = tflite::AddOptions::create(fb, &args);
    (BuiltinOptions::AddOptions, options.as_union_value())
}

fn concatenate(fb: &mut Builder) -> (BuiltinOptions, WIPOffset<UnionWIPOffset>) {
    let options = tflite::ConcatenationOptions::create(fb, &Default::default());
    (
        BuiltinOptions::ConcatenationOptions,
        options.as_union_value(),
    )
}

fn pool(fb: &mut Builder) -> (BuiltinOptions, WIPOffset<UnionWIPOffset>) {
    window(fb, 2)
}

fn endless_pool(fb: &mut Builder) -> (BuiltinOptions, WIPOffset<UnionWIPOffset>) {
    window(fb, i32::MAX)
}

fn window(fb: &mut Builder, filter: i32) -> (BuiltinOptions, WIPOffset<UnionWIPOffset>) {
    let args = Pool2DOptionsArgs {
        padding: Padding::SAME,
        stride_h: 2,
        stride_w: 2,
        filter_height: filter,
        filter_width: filter,
        ..Default::default()
    };
    let options = tflite::Pool2DOptions::create(fb, &args);
    (BuiltinOptions::Pool2DOptions, options.as_union_value())
}

fn convolution(fb: &mut Builder) -> (BuiltinOptions, WIPOffset<UnionWIPOffset>) {
    let args = Conv2DOptionsArgs {
        padding: Padding::SAME,
        stride_h: 2,
        stride_w: 2,
        ..Default::default()
    };
    let options = tflite::Conv2DOptions::create(fb, &args);
    (BuiltinOptions::Conv2DOptions, options.as_union_value())
}

fn depthwise(fb: &mut Builder) -> (BuiltinOptions, WIPOffset<UnionWIPOffset>) {
    let args = DepthwiseConv2DOptionsArgs {
        padding: Padding::VALID,
        stride_h: 1,
        stride_w: 1,
        depth_multiplier: 1,
        ..Default::default()
    };
    let options = tflite::DepthwiseConv2DOptions::create(fb, &args);
    (
        BuiltinOptions::DepthwiseConv2DOptions,
        options.as_union_value(),
    )
}

fn load(bytes: Vec<u8>) -> infer_core::Result<std::sync::Arc<dyn infer_core::Graph>> {
    let request = LoadRequest {
        source: Source::Memory(vec![bytes.into()]),
        encoding: Encoding::TensorFlowLite,
        device: Device::Cpu,
        options: LoadOptions::default(),
    };
    Tract.load(&request, &Cancel::default())
}

/// The file, the input's shape, and the answer for 0.25, 0.5, 0.75 and so on.
type Answer = (&'static str, Vec<u8>, &'static [usize], Vec<f64>);

/// What operators have to give.
fn answers() -> Vec<Answer> {
    use BuiltinOperator as B;
    let (three, nine) = (Part::computed(&[1, 3, 3, 1]), Part::computed(&[1, 2, 2, 1]));
    vec![
        (
            "a mean that is no whole number",
            file(
                B::MEAN,
                mean,
                &[
                    Part::computed(&[1, 2, 2, 2]),
                    Part::integers(&[1, 2]),
                    Part::computed(&[1, 2]),
                ],
            ),
            &[1, 2, 2, 2],
            vec![1.0, 1.25],
        ),
        (
            "an average that leaves padding out",
            file(B::AVERAGE_POOL_2D, pool, &[three, nine]),
            &[1, 3, 3, 1],
            vec![0.75, 1.125, 1.875, 2.25],
        ),
        (
            "a convolution with padding at the end",
            file(
                B::CONV_2D,
                convolution,
                &[
                    Part::computed(&[1, 2, 2, 1]),
                    Part::floats(&[1, 3, 3, 1], &[1.0; 9]),
                    Part::floats(&[1], &[0.5]),
                    Part::computed(&[1, 1, 1, 1]),
                ],
            ),
            &[1, 2, 2, 1],
            vec![3.0],
        ),
        (
            "each channel by its own weights",
            file(
                B::DEPTHWISE_CONV_2D,
                depthwise,
                &[
                    Part::computed(&[1, 1, 2, 2]),
                    Part::floats(&[1, 1, 2, 2], &[1.0, 2.0, 4.0, 8.0]),
                    Part::floats(&[2], &[0.0, 1.0]),
                    Part::computed(&[1, 1, 1, 2]),
                ],
            ),
            &[1, 1, 2, 2],
            vec![3.25, 10.0],
        ),
        (
            "a sum cut off at six",
            file(
                B::ADD,
                add,
                &[
                    Part::computed(&[1, 2]),
                    Part::floats(&[2], &[-1.0, 7.0]),
                    Part::computed(&[1, 2]),
                ],
            ),
            &[1, 2],
            vec![0.0, 6.0],
        ),
    ]
}

#[test]
fn operators_give_what_they_should() {
    for (what, bytes, shape, expected) in answers() {
        let graph = load(bytes).unwrap_or_else(|error| panic!("{what}: {}", error.report()));
        let values: Vec<f32> = (1..=shape.iter().product())
            .map(|step: usize| step as f32 / 4.0)
            .collect();
        let got = run(graph.as_ref(), &[tensor(shape, &values)])
            .unwrap_or_else(|error| panic!("{what}: {}", error.report()));
        assert_eq!(got, expected, "{what}");
    }
}

/// What the refusal says, and a file that it is about.
fn refused() -> Vec<(&'static str, Vec<u8>)> {
    use BuiltinOperator as B;
    let one = || Part::computed(&[1, 2, 2, 2]);
    let weights = |channels: i32| {
        let count = usize::try_from(channels).expect("a few");
        Part::floats(&[1, 1, 1, channels], &vec![1.0; count])
    };
    vec![
        ("the operator `COS`", file(B::COS, add, &[one(), one()])),
        (
            "`x`, which is not of f32",
            file(B::RELU, add, &[Part::scaled(&[1]), Part::computed(&[1])]),
        ),
        (
            "a `MEAN` with these axes",
            file(B::MEAN, mean, &[one(), Part::integers(&[-1]), one()]),
        ),
        (
            "a `MEAN` with these axes",
            file(B::MEAN, mean, &[one(), Part::integers(&[1, 1]), one()]),
        ),
        (
            "a `DEPTHWISE_CONV_2D` with groups",
            file(
                B::DEPTHWISE_CONV_2D,
                depthwise,
                &[
                    one(),
                    weights(4),
                    Part::floats(&[4], &[0.0; 4]),
                    Part::computed(&[1, 2, 2, 4]),
                ],
            ),
        ),
        (
            "a `CONV_2D` with groups",
            file(
                B::CONV_2D,
                convolution,
                &[one(), weights(1), Part::floats(&[1], &[0.0]), one()],
            ),
        ),
        (
            "a `MAX_POOL_2D` with this padding or these sizes",
            file(B::MAX_POOL_2D, endless_pool, &[one(), one()]),
        ),
        (
            "a `CONV_2D` with 2 inputs",
            file(B::CONV_2D, convolution, &[one(), weights(2), one()]),
        ),
        (
            "`y`: expected f32 [1, 1, 1, 1] as the file says",
            file(
                B::MAX_POOL_2D,
                pool,
                &[Part::computed(&[1, 4, 4, 1]), Part::computed(&[1; 4])],
            ),
        ),
    ]
}

#[test]
fn what_has_not_been_tried_is_refused() {
    for (expected, bytes) in refused() {
        let Err(error) = load(bytes) else {
            panic!("{expected}: expected a refusal, got a model")
        };
        let report = error.report();
        assert_eq!(error.kind(), ErrorKind::UnsupportedOperation, "{report}");
        assert!(
            report.contains(expected),
            "expected `{expected}`, got `{report}`"
        );
    }
}

#[test]
fn elements_are_copied_twice_at_most() {
    let concatenation = |count: usize| {
        let mut parts = vec![Part::computed(&[1, 1])];
        parts.extend((0..count).map(|_| Part::floats(&[1000, 1], &[1.0; 1000])));
        parts.push(Part::computed(&[1 + 1000 * count as i32, 1]));
        file(BuiltinOperator::CONCATENATION, concatenate, &parts)
    };
    load(concatenation(2)).expect("loads");
    let error = load(concatenation(10)).err().expect("is refused");
    assert!(error.report().contains("share"), "{}", error.report());
}

#[test]
fn sizes_are_measured_first() {
    let large = || Part::computed(&[1 << 20, 1 << 20]);
    let error = load(file(BuiltinOperator::RELU, add, &[large(), large()])).err();
    assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::TooLarge));
}

#[test]
fn a_damaged_file_is_an_error_or_a_model() {
    let (_, whole, ..) = answers().swap_remove(2);
    for length in 0..whole.len() {
        assert!(load(whole[..length].to_vec()).is_err(), "{length} bytes");
    }
    let mut errors = 0;
    for at in 0..whole.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= change;
            errors += usize::from(load(bytes).is_err());
        }
    }
    assert!(errors > 100, "{errors} of {} changes", 3 * whole.len());
}
