//! How messages of gRPC are read: not before it is known of how many parts they are, since an empty one takes two bytes
//! here and hundreds in memory.

use bytes::Buf;
use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use tokio::runtime::{Handle, RuntimeFlavor};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// The most that a message may have of one field, inputs say.
const MOST: u32 = 1024;

/// The most dimensions of a tensor here.
const MOST_DIMENSIONS: usize = 64;

/// The most numbers that a message may have in `contents`: each takes a byte at least there and 8 in memory. A string
/// takes two there, and as much in memory as so many numbers.
const HEAVIEST: usize = 8 << 20;
const STRING: usize = 8;

/// More elements, or bytes beside raw contents, are not read on a thread of the network.
pub(crate) const MANY: usize = 16 << 10;
const MUCH: usize = 128 << 10;

/// The field of raw contents.
const RAW: u32 = 7;

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
        let much = beside_raw(buffer.chunk()) > MUCH;
        let read = || {
            check(buffer.chunk())?;
            let message = self.0.decode(buffer);
            message.map_err(|status| Status::invalid_argument(status.message()))
        };
        for_much(much, read)
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}

/// The bytes of a message beside raw contents, which are taken as they are.
fn beside_raw(message: &[u8]) -> usize {
    let parts = fields(message).take(FIELDS * MOST as usize);
    let raw = parts.filter_map(|(field, value)| match value {
        Value::Bytes(raw) if field == RAW => Some(raw.len()),
        _ => None,
    });
    message.len() - raw.sum::<usize>()
}

/// Fails for a message of too many parts.
fn check(message: &[u8]) -> Result<(), Status> {
    let mut counts = Counts::default();
    for (field, value) in fields(message) {
        counts.add("a message", field)?;
        // Inputs and outputs.
        if matches!(field, 5 | 6)
            && let Value::Bytes(tensor) = value
        {
            check_tensor(tensor, &mut counts)?;
        }
    }
    Ok(())
}

/// An input, or an output that is asked for.
fn check_tensor(tensor: &[u8], counts: &mut Counts) -> Result<(), Status> {
    let mut within = Counts::default();
    for (field, value) in fields(tensor) {
        within.add("an input or output", field)?;
        match (field, value) {
            (3, Value::Bytes(shape)) if varints(shape) > MOST_DIMENSIONS => {
                let message = format!("expected at most {MOST_DIMENSIONS} dimensions, got more");
                return Err(Status::invalid_argument(message));
            }
            (5, Value::Bytes(contents)) => {
                for (field, value) in fields(contents) {
                    counts.add_elements(field, value)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// What a message has of what.
#[derive(Default)]
struct Counts {
    fields: [u32; FIELDS + 1],
    /// What elements of `contents` grow to, where they are smaller in a message than in memory.
    weight: usize,
}

impl Counts {
    fn add(&mut self, what: &str, field: u32) -> Result<(), Status> {
        let count = &mut self.fields[(field as usize).min(FIELDS)];
        *count += 1;
        match *count > MOST {
            true => Err(Status::invalid_argument(format!(
                "expected at most {MOST} of field {field} in {what}, got more"
            ))),
            false => Ok(()),
        }
    }

    fn add_elements(&mut self, field: u32, value: Value<'_>) -> Result<(), Status> {
        let weight = match (field, value) {
            (8, _) => STRING,
            // Floats are as large there.
            (6 | 7, Value::Bytes(_)) | (_, Value::Other) => 1,
            (_, Value::Bytes(packed)) => varints(packed).max(1),
        };
        self.weight += weight;
        if self.weight <= HEAVIEST {
            return Ok(());
        }
        let strings = HEAVIEST / STRING;
        Err(Status::invalid_argument(format!(
            "expected at most {HEAVIEST} numbers or {strings} strings in `contents`, got more: send them as `raw_input_contents`"
        )))
    }
}

enum Value<'a> {
    Bytes(&'a [u8]),
    Other,
}

/// The fields of a message. What is wrong with it ends them: that is found, and said, when it is read.
fn fields(mut message: &[u8]) -> impl Iterator<Item = (u32, Value<'_>)> {
    std::iter::from_fn(move || {
        if message.is_empty() {
            return None;
        }
        let (field, kind) = decode_key(&mut message).ok()?;
        if kind == WireType::LengthDelimited {
            let length = usize::try_from(decode_varint(&mut message).ok()?).ok()?;
            let (bytes, rest) = message.split_at_checked(length)?;
            message = rest;
            return Some((field, Value::Bytes(bytes)));
        }
        skip_field(kind, field, &mut message, DecodeContext::default()).ok()?;
        Some((field, Value::Other))
    })
}

/// How many numbers are packed there, of which only the last byte has no flag.
fn varints(packed: &[u8]) -> usize {
    packed.iter().filter(|byte| **byte < 0x80).count()
}

/// Does what is much without keeping the network's thread.
pub(crate) fn for_much<T>(much: bool, work: impl FnOnce() -> T) -> T {
    let runtime = tokio::runtime::Handle::try_current();
    let hands_over = |runtime: Handle| runtime.runtime_flavor() == RuntimeFlavor::MultiThread;
    match much && runtime.is_ok_and(hands_over) {
        true => tokio::task::block_in_place(work),
        false => work(),
    }
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

    #[test]
    fn what_lies_deeper_is_counted_too() {
        let within = |field: u8, bytes: &[u8]| {
            let mut message = vec![(field << 3) | 2];
            prost::encoding::encode_varint(bytes.len() as u64, &mut message);
            message.extend(bytes);
            message
        };
        let of = |field: u8, bytes: &[u8]| within(5, &within(5, &within(field, bytes)));
        // Whole numbers of one byte, and floats.
        assert!(check(&of(3, &[1; 1000])).is_ok());
        assert!(check(&of(3, &vec![1; HEAVIEST + 1])).is_err());
        assert!(check(&of(6, &vec![1; HEAVIEST * 8])).is_ok());
        let strings = |number: usize| within(5, &within(5, &[(8 << 3) | 2, 0].repeat(number)));
        assert!(check(&strings(1000)).is_ok());
        let status = check(&strings(HEAVIEST / STRING + 1)).expect_err("many");
        assert!(status.message().contains("raw_input_contents"), "{status}");
        let empty = |number: usize| within(5, &within(5, &[(6 << 3) | 2, 0].repeat(number)));
        assert!(check(&empty(HEAVIEST + 1)).is_err());
        let raw = [within(7, &[0; 1000]), within(1, b"name")].concat();
        assert_eq!(beside_raw(&raw), raw.len() - 1000);
        assert_eq!(beside_raw(&[0xff; 20]), 20);
        let shape = |rank: usize| within(5, &within(3, &vec![1; rank]));
        assert!(check(&shape(64)).is_ok() && check(&shape(65)).is_err());
        let parameters = |number: usize| within(5, &[(4 << 3) | 2, 0].repeat(number));
        assert!(check(&parameters(1024)).is_ok() && check(&parameters(1025)).is_err());
    }
}
