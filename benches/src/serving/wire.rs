//! The part of the Open Inference Protocol (KServe v2) that one f32 tensor in and one out need: JSON with the binary
//! tensor extension over REST, and the messages of gRPC. What else a peer sends is skipped.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The header with the length in bytes of the JSON that a body begins with.
pub const HEADER_LENGTH: &str = "inference-header-content-length";
/// The protocol's name of the element type.
pub const FP32: &str = "FP32";
/// The method of gRPC.
pub const INFER_METHOD: &str = "/inference.GRPCInferenceService/ModelInfer";

/// The JSON of a request, in as far as a server of one model looks at it.
#[derive(Debug, Deserialize, Serialize)]
pub struct RestRequest {
    /// The tensors that are given.
    pub inputs: Vec<RestTensor>,
    /// What is said of the request besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<RestOptions>,
}

/// The JSON of a response.
#[derive(Debug, Deserialize, Serialize)]
pub struct RestResponse {
    /// The model's name.
    pub model_name: String,
    /// Its outputs.
    pub outputs: Vec<RestTensor>,
}

/// A tensor.
#[derive(Debug, Deserialize, Serialize)]
pub struct RestTensor {
    /// Its name in the model.
    pub name: String,
    /// Its dimensions, in elements.
    pub shape: Vec<usize>,
    /// Its element type.
    pub datatype: String,
    /// What is said of it besides.
    #[serde(default)]
    pub parameters: RestParameters,
    /// Its values, where they are not behind the JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Vec<f32>>,
}

/// Parameters of a request.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct RestOptions {
    /// Whether all outputs are wanted behind the JSON.
    #[serde(default)]
    pub binary_data_output: bool,
}

/// Parameters of a tensor.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct RestParameters {
    /// How many bytes of the tensor are behind the JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binary_data_size: Option<usize>,
}

/// A request by gRPC.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GrpcRequest {
    /// The model's name.
    #[prost(string, tag = "1")]
    pub model_name: String,
    /// Descriptions of the tensors.
    #[prost(message, repeated, tag = "5")]
    pub inputs: Vec<GrpcTensor>,
    /// Their values, little-endian.
    #[prost(bytes = "bytes", repeated, tag = "7")]
    pub raw_input_contents: Vec<Bytes>,
}

/// A response by gRPC.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GrpcResponse {
    /// Descriptions of the tensors.
    #[prost(message, repeated, tag = "5")]
    pub outputs: Vec<GrpcTensor>,
    /// Their values, little-endian.
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub raw_output_contents: Vec<Bytes>,
}

/// A description of a tensor.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GrpcTensor {
    /// Its name in the model.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its element type.
    #[prost(string, tag = "2")]
    pub datatype: String,
    /// Its dimensions, in elements.
    #[prost(int64, repeated, tag = "3")]
    pub shape: Vec<i64>,
}
