//! What a path asks for, and the largest of many values.

/// Values that are looked at together.
const BLOCK: usize = 1024;

/// What a path asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Order<'path> {
    pub(crate) model: &'path str,
    pub(crate) input: &'path str,
    pub(crate) dimensions: Vec<u32>,
}

/// Reads `/MODEL/INPUT/1x3x224x224`.
pub(crate) fn parse(path: &str) -> Option<Order<'_>> {
    let mut words = path.strip_prefix('/')?.split('/');
    let (model, input, dimensions) = (words.next()?, words.next()?, words.next()?);
    let dimensions = dimensions.split('x').map(|size| size.parse().ok());
    let order = Order {
        model,
        input,
        dimensions: dimensions.collect::<Option<_>>()?,
    };
    words.next().is_none().then_some(order)
}

/// The place of the largest of these values, little-endian f32; of equal ones the first. `None` where there are none.
pub(crate) fn argmax(bytes: &[u8]) -> Option<usize> {
    let (values, _) = bytes.as_chunks::<4>();
    let mut best = (0, *values.first()?);
    for (number, block) in values.chunks(BLOCK).enumerate() {
        let largest = largest(block);
        if largest > f32::from_le_bytes(best.1) {
            best = (number * BLOCK, largest.to_le_bytes());
        }
    }
    let wanted = f32::from_le_bytes(best.1);
    let rest = &values[best.0..];
    let place = rest
        .iter()
        .position(|value| f32::from_le_bytes(*value) == wanted);
    Some(best.0 + place.unwrap_or(0))
}

/// The largest, in four lanes at a time where there are vectors.
#[cfg_attr(target_arch = "wasm32", target_feature(enable = "simd128"))]
fn largest(values: &[[u8; 4]]) -> f32 {
    const LANES: usize = 16;
    let (lanes, rest) = values.as_chunks::<LANES>();
    let mut largest = [f32::NEG_INFINITY; LANES];
    for values in lanes {
        for (lane, value) in largest.iter_mut().zip(values) {
            *lane = larger(*lane, f32::from_le_bytes(*value));
        }
    }
    let rest = rest.iter().map(|value| f32::from_le_bytes(*value));
    largest
        .into_iter()
        .chain(rest)
        .fold(f32::NEG_INFINITY, larger)
}

/// Not `f32::max`, which must take care of what is no number and of the signs of zeros.
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(values: &[f32]) -> Vec<u8> {
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    }

    #[test]
    fn paths_are_read() {
        let order = Order {
            model: "m",
            input: "x",
            dimensions: vec![1, 3],
        };
        assert_eq!(parse("/m/x/1x3"), Some(order));
        for path in [
            "", "/", "/m", "/m/x", "/m/x/", "/m/x/1x", "/m/x/-1", "/m/x/1/1", "m/x/1",
        ] {
            assert_eq!(parse(path), None, "{path}");
        }
    }

    #[test]
    fn the_first_of_the_largest_is_found() {
        assert_eq!(argmax(&[]), None);
        assert_eq!(argmax(&bytes(&[-3.0])), Some(0));
        assert_eq!(argmax(&bytes(&[-3.0, -1.0, -2.0, -1.0])), Some(1));
        assert_eq!(argmax(&bytes(&[f32::NEG_INFINITY; 3])), Some(0));
        let mut values = vec![0.0; 3 * BLOCK + 5];
        for place in [3 * BLOCK + 4, 2 * BLOCK, 2 * BLOCK - 1, 17, 16, 0] {
            values[place] = 1.0;
            assert_eq!(argmax(&bytes(&values)), Some(place));
        }
    }
}
