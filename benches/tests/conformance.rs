//! A fixed part of ONNX's backend tests through a component, on every backend that is there: what passed must
//! go on passing, and nothing may be wrong.
//!
//! `scripts/conformance` runs all of them, by every route.

use std::path::{Path, PathBuf};

use infer::{Backends, EngineLibraries};
use infer_benches::conformance::judge::judge;
use infer_benches::conformance::wasm::Wasm;
use infer_benches::conformance::{Case, Route, Verdict};
use infer_core::testing::engine_is_there;

/// Small tests of many operators and dtypes.
const CASES: &[&str] = &[
    "node/test_abs",
    "node/test_add_bcast",
    "node/test_argmax_default_axis_example",
    "node/test_averagepool_2d_default",
    "node/test_basic_conv_with_padding",
    "node/test_batchnorm_example",
    "node/test_cast_FLOAT16_to_DOUBLE",
    "node/test_cast_FLOAT_to_FLOAT16",
    "node/test_ceil",
    "node/test_clip",
    "node/test_concat_2d_axis_0",
    "node/test_constant",
    "node/test_convtranspose",
    "node/test_cumsum_1d",
    "node/test_depthtospace_example",
    "node/test_dequantizelinear",
    "node/test_einsum_transpose",
    "node/test_elu",
    "node/test_erf",
    "node/test_exp",
    "node/test_expand_dim_changed",
    "node/test_flatten_axis1",
    "node/test_gather_0",
    "node/test_gather_elements_0",
    "node/test_gemm_default_vector_bias",
    "node/test_globalaveragepool",
    "node/test_gru_defaults",
    "node/test_identity",
    "node/test_instancenorm_example",
    "node/test_layer_normalization_2d_axis0",
    "node/test_leakyrelu",
    "node/test_logsoftmax_axis_1",
    "node/test_lstm_defaults",
    "node/test_matmul_2d",
    "node/test_matmulinteger",
    "node/test_max_float32",
    "node/test_maxpool_2d_default",
    "node/test_maxpool_2d_uint8",
    "node/test_mul_uint8",
    "node/test_onehot_without_axis",
    "node/test_pow",
    "node/test_prelu_broadcast",
    "node/test_quantizelinear",
    "node/test_reshape_reordered_all_dims",
    "node/test_resize_upsample_scales_nearest",
    "node/test_reversesequence_batch",
    "node/test_scatter_elements_with_axis",
    "node/test_shape",
    "node/test_sigmoid",
    "node/test_slice",
    "node/test_softmax_axis_0",
    "node/test_split_equal_parts_1d_opset13",
    "node/test_sqrt",
    "node/test_squeeze",
    "node/test_sum_example",
    "node/test_tanh",
    "node/test_tile",
    "node/test_top_k",
    "node/test_transpose_default",
    "node/test_unsqueeze_axis_0",
    "light/test_shufflenet",
    "pytorch-converted/test_Conv2d",
    "pytorch-operator/test_operator_add_broadcast",
    "simple/test_sign_model",
];

/// What a backend refuses of these: backend, case.
const REFUSED: &[(&str, &str)] = &[
    (
        "onnxruntime",
        "pytorch-operator/test_operator_add_broadcast",
    ),
    ("openvino", "node/test_cast_FLOAT16_to_DOUBLE"),
    ("openvino", "node/test_cumsum_1d"),
    ("openvino", "node/test_einsum_transpose"),
    ("openvino", "node/test_mul_uint8"),
    ("openvino", "node/test_tile"),
    ("openvino", "node/test_top_k"),
    ("openvino", "node/test_unsqueeze_axis_0"),
    ("openvino", "pytorch-operator/test_operator_add_broadcast"),
    ("tract", "node/test_batchnorm_example"),
    ("tract", "node/test_cumsum_1d"),
    ("tract", "node/test_dequantizelinear"),
    ("tract", "node/test_expand_dim_changed"),
    ("tract", "node/test_onehot_without_axis"),
    ("tract", "node/test_quantizelinear"),
    ("tract", "node/test_reshape_reordered_all_dims"),
    ("tract", "node/test_resize_upsample_scales_nearest"),
    ("tract", "node/test_reversesequence_batch"),
    ("tract", "node/test_slice"),
    ("tract", "node/test_squeeze"),
    ("tract", "node/test_tile"),
    ("tract", "node/test_unsqueeze_axis_0"),
];

#[test]
fn every_backend_passes_what_it_passed() {
    let root = root();
    let data = root.join("target/conformance/onnx-1.22.0");
    let there = data.is_dir();
    assert!(
        there,
        "`{}` is missing\nhint: run scripts/get-conformance-data",
        data.display()
    );
    for backend in Backends::of_machine(&EngineLibraries::default())
        .expect("the engines")
        .all()
    {
        let name = backend.name();
        if !engine_is_there(backend.as_ref()) {
            continue;
        }
        let guests = root.join("guest-examples/target");
        let wasm = Wasm::new(Route::WasmComponent, name, &guests).expect("a built guest");
        for case in CASES {
            let outcome = judge(&wasm, &Case::at(&data, case));
            let expected = match REFUSED.contains(&(name, case)) {
                true => Verdict::Unsupported,
                false => Verdict::Passed,
            };
            assert_eq!(
                outcome.verdict, expected,
                "{name} {case}: {}",
                outcome.detail
            );
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
