//! Bodies of the binary tensor data extension: JSON, and behind it the bytes of tensors.
//!
//! A request's body is collected once, placed so that what stands behind the JSON is aligned; tensors are slices of it.
//! A response's body is the JSON and the engine's own buffers, one after the other.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::HeaderMap;
use bytes::{Buf, Bytes};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use infer_core::{Error, ErrorKind, Result};

use crate::serve::guests::too_long;

/// The header that says how long the JSON is.
pub(crate) const JSON_LENGTH: &str = "inference-header-content-length";

/// How tensors are aligned, in bytes.
const ALIGNMENT: usize = 64;

/// The most that is allocated on a client's word, in bytes.
const ON_TRUST: u64 = 4 << 20;

/// The length of the JSON that a body begins with; none where all of it is.
///
/// # Errors
/// `InvalidArgument` for what is no length.
pub(crate) fn json_length(headers: &HeaderMap) -> Result<Option<usize>> {
    let Some(value) = headers.get(JSON_LENGTH) else {
        return Ok(None);
    };
    let length = value
        .to_str()
        .ok()
        .map(str::trim)
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok());
    length.map(Some).ok_or_else(|| {
        let message = format!("expected a number of bytes in `{JSON_LENGTH}`, got {value:?}");
        Error::new(ErrorKind::InvalidArgument, message)
    })
}

/// Collects a body of at most `most` bytes; what stands behind its first `head` bytes is aligned, where the client says
/// the body's length.
///
/// # Errors
/// `TooLarge`; `InvalidArgument` where the client does not send it whole.
pub(crate) async fn collect(mut body: Body, head: usize, most: usize) -> Result<Bytes> {
    let hint = body.size_hint();
    if hint.lower() > most as u64 {
        return Err(too_long(most, Some(hint.lower())));
    }
    let expected = usize::try_from(hint.lower().min(ON_TRUST)).unwrap_or(0);
    let mut collected: Vec<u8> = Vec::with_capacity(expected + ALIGNMENT);
    let start = collected
        .as_ptr()
        .wrapping_add(head)
        .align_offset(ALIGNMENT)
        .min(ALIGNMENT);
    collected.resize(start, 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            let message = "the body ended early";
            Error::new(ErrorKind::InvalidArgument, message).with_source(error)
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if collected.len() - start + data.len() > most {
            return Err(too_long(most, None));
        }
        collected.extend_from_slice(&data);
    }
    Ok(Bytes::from(collected).slice(start..))
}

/// Buffers that are sent one after the other.
pub(crate) struct Parts {
    parts: VecDeque<Bytes>,
    left: u64,
}

impl Parts {
    pub(crate) fn new(parts: impl Iterator<Item = Bytes>) -> Parts {
        let parts: VecDeque<Bytes> = parts.filter(Buf::has_remaining).collect();
        let left = parts.iter().map(|part| part.len() as u64).sum();
        Parts { parts, left }
    }
}

impl http_body::Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Infallible>>> {
        let part = self.parts.pop_front();
        self.left -= part.as_ref().map_or(0, |part| part.len() as u64);
        Poll::Ready(part.map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_stands_behind_the_json_is_aligned() {
        for head in [0, 1, 63, 64, 201] {
            let bytes: Vec<u8> = (0..5000).map(|i| i as u8).collect();
            let body = Body::from(bytes.clone());
            let collected = collect(body, head, 5000).await.expect("it fits");
            assert_eq!(collected, bytes);
            assert!((collected[head..].as_ptr() as usize).is_multiple_of(ALIGNMENT));
        }
        let error = collect(Body::from(vec![0; 11]), 0, 10)
            .await
            .expect_err("too long");
        assert_eq!(error.kind(), ErrorKind::TooLarge);
    }

    #[test]
    fn lengths_are_numbers() {
        let header = |text: &str| {
            let value = text.parse().expect("a value");
            json_length(&HeaderMap::from_iter([(
                JSON_LENGTH.parse().expect("a name"),
                value,
            )]))
        };
        assert_eq!(header("17").expect("valid"), Some(17));
        assert_eq!(json_length(&HeaderMap::new()).expect("valid"), None);
        for wrong in ["", "-1", "+1", "x", "1.5", "99999999999999999999999"] {
            assert!(header(wrong).is_err(), "{wrong}");
        }
    }
}
