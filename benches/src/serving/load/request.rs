//! Requests in each protocol, and how answers are read.

use std::borrow::Cow;

use anyhow::{Context, ensure};
use bytemuck::cast_slice;
use bytes::Bytes;

use crate::serving::wire::{
    FP32, GrpcRequest, GrpcResponse, GrpcTensor, RestOptions, RestParameters, RestRequest,
    RestResponse, RestTensor,
};
use crate::serving::work::{argmax_of_bytes, values};

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// The values as body, the place of the largest of the output as text.
    Raw,
    /// The Open Inference Protocol over REST, with binary tensors.
    Rest,
    /// The same with tensors in JSON.
    Json,
    /// The same by gRPC, with binary tensors.
    Grpc,
    /// A file as body, to the guest `classify-http`; the input's name is the file's path. The answer is its first class.
    Photo,
}

/// What `classify-http` answers.
#[derive(serde::Deserialize)]
struct Classes {
    classes: Vec<Class>,
}

#[derive(serde::Deserialize)]
struct Class {
    index: usize,
}

/// The model that requests are for.
#[derive(Clone, Debug)]
pub struct Work {
    /// Its name.
    pub model: String,
    /// Its input's name.
    pub input: String,
    /// The input's shape.
    pub shape: Vec<usize>,
}

/// A request, ready to be sent.
#[derive(Clone, Debug)]
pub struct Made {
    pub(super) path: String,
    pub(super) body: Bytes,
    /// How many bytes of the body are JSON before binary tensors.
    pub(super) json: Option<usize>,
    pub(super) message: GrpcRequest,
    values: Bytes,
}

impl Made {
    /// Request number `number`.
    ///
    /// # Errors
    /// For a photo that cannot be read.
    pub fn new(protocol: Protocol, work: &Work, number: usize) -> anyhow::Result<Made> {
        let elements = work.shape.iter().product();
        let given = values(number, elements);
        let bytes: Vec<u8> = given.iter().flat_map(|value| value.to_le_bytes()).collect();
        let values = Bytes::from(bytes);
        let infer = format!("/v2/models/{}/infer", work.model);
        let mut made = Made {
            path: infer,
            body: Bytes::new(),
            json: None,
            message: GrpcRequest::default(),
            values: values.clone(),
        };
        match protocol {
            Protocol::Raw => {
                let sizes: Vec<String> = work.shape.iter().map(usize::to_string).collect();
                made.path = format!("/{}/{}/{}", work.model, work.input, sizes.join("x"));
                made.body = values;
            }
            Protocol::Rest => {
                let mut body = json(work, Some(values.len()), None)?;
                made.json = Some(body.len());
                body.extend_from_slice(&values);
                made.body = body.into();
            }
            Protocol::Json => made.body = json(work, None, Some(given))?.into(),
            Protocol::Grpc => made.message = message(work, values)?,
            Protocol::Photo => {
                let photo = std::fs::read(&work.input);
                made.path = "/".to_owned();
                made.body = photo
                    .with_context(|| format!("cannot read `{}`", work.input))?
                    .into();
            }
        }
        Ok(made)
    }

    /// The input's values, little-endian.
    pub fn values(&self) -> &[u8] {
        &self.values
    }
}

fn json(work: &Work, size: Option<usize>, data: Option<Vec<f32>>) -> anyhow::Result<Vec<u8>> {
    let request = RestRequest {
        inputs: vec![RestTensor {
            name: work.input.clone(),
            shape: work.shape.clone(),
            datatype: FP32.to_owned(),
            parameters: RestParameters {
                binary_data_size: size,
            },
            data,
        }],
        parameters: size.map(|_| RestOptions {
            binary_data_output: true,
        }),
    };
    Ok(serde_json::to_vec(&request)?)
}

fn message(work: &Work, values: Bytes) -> anyhow::Result<GrpcRequest> {
    let shape = work.shape.iter().map(|size| i64::try_from(*size));
    Ok(GrpcRequest {
        model_name: work.model.clone(),
        inputs: vec![GrpcTensor {
            name: work.input.clone(),
            datatype: FP32.to_owned(),
            shape: shape.collect::<Result<_, _>>()?,
        }],
        raw_input_contents: vec![values],
    })
}

/// What a server answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer<'a> {
    /// The place of the largest value.
    Place(usize),
    /// The values of the first output, little-endian.
    Values(Cow<'a, [u8]>),
}

impl Answer<'_> {
    /// Reads a body; `json` is how many of its bytes are JSON, where a header says so.
    ///
    /// # Errors
    /// For a body that is not what the protocol says.
    pub(super) fn of_body(
        protocol: Protocol,
        body: &[u8],
        json: Option<usize>,
    ) -> anyhow::Result<Answer<'_>> {
        if protocol == Protocol::Raw {
            let text = std::str::from_utf8(body).ok();
            let place = text.and_then(|text| text.trim().parse().ok());
            return Ok(Answer::Place(place.context("expected a number")?));
        }
        if protocol == Protocol::Photo {
            let answer: Classes = serde_json::from_slice(body)?;
            let first = answer
                .classes
                .first()
                .context("an answer without classes")?;
            return Ok(Answer::Place(first.index));
        }
        let split = body.split_at_checked(json.unwrap_or(body.len()));
        let (json, binary) = split.context("a header longer than the body")?;
        let response: RestResponse = serde_json::from_slice(json)?;
        let output = response.outputs.into_iter().next();
        let output = output.context("a response without outputs")?;
        ensure!(
            output.datatype == FP32,
            "expected {FP32}, got {}",
            output.datatype
        );
        Ok(Answer::Values(match output.data {
            Some(data) => Cow::Owned(cast_slice(&data).to_vec()),
            None => {
                let size = output.parameters.binary_data_size;
                let values = size.and_then(|size| binary.get(..size));
                Cow::Borrowed(values.context("an output without values")?)
            }
        }))
    }

    /// Reads a message.
    ///
    /// # Errors
    /// Where it has no values.
    pub(super) fn of_message(message: &GrpcResponse) -> anyhow::Result<Answer<'_>> {
        let values = message.raw_output_contents.first();
        let values = values.context("a response without raw contents")?;
        Ok(Answer::Values(Cow::Borrowed(values)))
    }

    /// The place of the largest value.
    pub fn place(&self) -> Option<usize> {
        match self {
            Answer::Place(place) => Some(*place),
            Answer::Values(values) => argmax_of_bytes(values),
        }
    }

    /// The values, where they are there.
    pub fn values(&self) -> Option<&[u8]> {
        match self {
            Answer::Place(_) => None,
            Answer::Values(values) => Some(values),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work() -> Work {
        Work {
            model: "m".to_owned(),
            input: "x".to_owned(),
            shape: vec![1, 2],
        }
    }

    #[test]
    fn requests_carry_their_values() {
        let raw = Made::new(Protocol::Raw, &work(), 1).expect("a request");
        assert_eq!(raw.path, "/m/x/1x2");
        assert_eq!(raw.body.as_ref(), raw.values());
        assert_eq!(raw.values().len(), 8);
        let rest = Made::new(Protocol::Rest, &work(), 1).expect("a request");
        assert_eq!(rest.path, "/v2/models/m/infer");
        let (json, values) = rest.body.split_at(rest.json.expect("a length"));
        assert_eq!(values, raw.values());
        let read: RestRequest = serde_json::from_slice(json).expect("JSON");
        assert_eq!(read.inputs[0].parameters.binary_data_size, Some(8));
        let json = Made::new(Protocol::Json, &work(), 1).expect("a request");
        let read: RestRequest = serde_json::from_slice(&json.body).expect("JSON");
        assert_eq!(read.inputs[0].data, Some(values_of(&raw)));
        let grpc = Made::new(Protocol::Grpc, &work(), 1).expect("a request");
        assert_eq!(grpc.message.raw_input_contents[0], raw.values());
    }

    fn values_of(made: &Made) -> Vec<f32> {
        let (values, _) = made.values().as_chunks();
        values
            .iter()
            .map(|value| f32::from_le_bytes(*value))
            .collect()
    }

    #[test]
    fn answers_are_read() {
        let place = Answer::of_body(Protocol::Raw, b"17\n", None).expect("a place");
        assert_eq!(place.place(), Some(17));
        let classes = br#"{"classes":[{"index":3,"label":"a"},{"index":1,"label":"b"}]}"#;
        let place = Answer::of_body(Protocol::Photo, classes, None).expect("a class");
        assert_eq!(place.place(), Some(3));
        let json =
            r#"{"model_name":"m","id":"1","outputs":[{"name":"y","shape":[2],"datatype":"FP32","#;
        let inside = format!("{json}\"data\":[0.5,1.5]}}]}}");
        let values: Vec<u8> = [0.5f32, 1.5]
            .into_iter()
            .flat_map(f32::to_le_bytes)
            .collect();
        let answer = Answer::of_body(Protocol::Json, inside.as_bytes(), None).expect("values");
        assert_eq!(
            (answer.values(), answer.place()),
            (Some(values.as_slice()), Some(1))
        );
        let head = format!("{json}\"parameters\":{{\"binary_data_size\":8}}}}]}}");
        let behind = [head.as_bytes(), &values].concat();
        let answer = Answer::of_body(Protocol::Rest, &behind, Some(head.len())).expect("values");
        assert_eq!(answer.values(), Some(values.as_slice()));
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for (protocol, body, json) in [
            (Protocol::Raw, &b"none"[..], None),
            (Protocol::Photo, br#"{"classes":[]}"#, None),
            (Protocol::Rest, b"{}", Some(3)),
            (Protocol::Rest, br#"{"model_name":"m","outputs":[]}"#, None),
            (
                Protocol::Rest,
                br#"{"model_name":"m","outputs":[{"name":"y","shape":[2],"datatype":"FP32"}]}"#,
                None,
            ),
        ] {
            assert!(Answer::of_body(protocol, body, json).is_err(), "{body:?}");
        }
    }
}
