//! How messages of gRPC are read: not before it is known of how many parts they are, since an empty one takes two bytes
//! here and hundreds in memory.

use bytes::Buf;
use prost::Message;
use prost::encoding::{DecodeContext, decode_key, skip_field};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// The most that a message may have of one field, inputs say.
const MOST: u32 = 1024;

/// Fields of higher numbers are counted together.
const FIELDS: usize = 16;

/// Protocol buffers, bounded.
pub(crate) struct Bounded<T, U>(ProstCodec<T, U>);

impl<T, U> Default for Bounded<T, U> {
    fn default() -> Bounded<T, U> {
        Bounded(ProstCodec::default())
    }
}

impl<T, U> Codec for Bounded<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> ProstEncoder<T> {
        self.0.encoder()
    }

    fn decoder(&mut self) -> BoundedDecoder<U> {
        BoundedDecoder(self.0.decoder())
    }
}

/// Reads what has few enough parts.
pub(crate) struct BoundedDecoder<U>(ProstDecoder<U>);

impl<U: Message + Default> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // The message lies in one piece.
        check(buffer.chunk())?;
        let message = self.0.decode(buffer);
        message.map_err(|status| Status::invalid_argument(status.message()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}

fn check(mut message: &[u8]) -> Result<(), Status> {
    let mut counts = [0; FIELDS + 1];
    while !message.is_empty() {
        // What is wrong with a message is found, and said, when it is read.
        let Ok((field, kind)) = decode_key(&mut message) else {
            return Ok(());
        };
        let count: &mut u32 = &mut counts[(field as usize).min(FIELDS)];
        *count += 1;
        if *count > MOST {
            let why = format!("expected at most {MOST} of field {field} in a message, got more");
            return Err(Status::invalid_argument(why));
        }
        if skip_field(kind, field, &mut message, DecodeContext::default()).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_too_many_parts_is_refused() {
        // An empty input each.
        let inputs = |number: usize| [(5 << 3) | 2, 0].repeat(number);
        assert!(check(&inputs(1024)).is_ok());
        let status = check(&inputs(1025)).expect_err("too many");
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert!(status.message().contains("field 5"), "{status}");
        // A large tensor is one part; what ends early is for the reader to say.
        let mut raw = vec![(7 << 3) | 2, 0x80, 0x80, 0x04];
        raw.extend(vec![(5 << 3) | 2; 65_536]);
        assert!(check(&raw).is_ok());
        assert!(check(&raw[..100]).is_ok());
        assert!(check(&[0xff; 20]).is_ok());
    }
}
