//! Requests that are made up, and what makes an answer right.

use anyhow::{Context, ensure};

/// Values that are looked at together.
const BLOCK: usize = 1024;
const LANES: usize = 16;

/// The place of the largest value; of equal ones the first. `None` where there are none.
pub fn argmax(values: &[f32]) -> Option<usize> {
    let mut best = (0, *values.first()?);
    for (number, block) in values.chunks(BLOCK).enumerate() {
        let largest = largest(block);
        if largest > best.1 {
            best = (number * BLOCK, largest);
        }
    }
    let place = values[best.0..].iter().position(|value| *value == best.1);
    Some(best.0 + place.unwrap_or(0))
}

fn largest(values: &[f32]) -> f32 {
    let (lanes, rest) = values.as_chunks::<LANES>();
    let mut largest = [f32::NEG_INFINITY; LANES];
    for values in lanes {
        for (lane, value) in largest.iter_mut().zip(values) {
            *lane = larger(*lane, *value);
        }
    }
    let all = largest.into_iter().chain(rest.iter().copied());
    all.fold(f32::NEG_INFINITY, larger)
}

/// Not `f32::max`, which must take care of what is no number and of the signs of zeros.
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// As [`argmax`], of values as they are sent: little-endian, at any address.
pub fn argmax_of_bytes(bytes: &[u8]) -> Option<usize> {
    let (values, _) = bytes.as_chunks();
    let values: Vec<f32> = values
        .iter()
        .map(|value| f32::from_le_bytes(*value))
        .collect();
    argmax(&values)
}

/// The values of request number `number`: in -1 to 1, and another order for each number.
pub fn values(number: usize, elements: usize) -> Vec<f32> {
    let value = |place: usize| (place * (2 * number + 1) + 37 * number) % 251;
    (0..elements)
        .map(|place| value(place) as f32 / 125.0 - 1.0)
        .collect()
}

/// Reads `1x3x224x224`.
///
/// # Errors
/// For other text, and for more elements than a `usize` counts.
pub fn shape(text: &str) -> anyhow::Result<Vec<usize>> {
    let sizes = text.split('x').map(str::parse);
    let sizes = sizes.collect::<Result<Vec<usize>, _>>();
    let sizes =
        sizes.with_context(|| format!("expected dimensions as `1x3x224x224`, got `{text}`"))?;
    let elements = sizes
        .iter()
        .try_fold(4usize, |n, size| n.checked_mul(*size));
    ensure!(elements.is_some(), "the dimensions `{text}` are too large");
    Ok(sizes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_largest_is_found() {
        assert_eq!(argmax(&[]), None);
        assert_eq!(argmax(&[-3.0, -1.0, -2.0, -1.0]), Some(1));
        assert_eq!(argmax(&[f32::NEG_INFINITY; 3]), Some(0));
        let mut values = vec![0.0; 3 * BLOCK + 5];
        for place in [3 * BLOCK + 4, 2 * BLOCK, 2 * BLOCK - 1, 17, 16, 0] {
            values[place] = 1.0;
            assert_eq!(argmax(&values), Some(place));
        }
        let bytes: Vec<u8> = [1.0f32, 2.0]
            .into_iter()
            .flat_map(f32::to_le_bytes)
            .collect();
        assert_eq!(argmax_of_bytes(&bytes), Some(1));
    }

    #[test]
    fn requests_differ_in_what_is_right() {
        let places: Vec<_> = (0..4)
            .map(|number| argmax(&values(number, 150_528)))
            .collect();
        for (number, place) in places.iter().enumerate() {
            assert!(
                place.is_some() && !places[..number].contains(place),
                "{places:?}"
            );
        }
    }

    #[test]
    fn dimensions_are_read() {
        assert_eq!(shape("1x3").expect("dimensions"), [1, 3]);
        for text in ["", "1x", "x", "-1", "4294967296x4294967296"] {
            assert!(shape(text).is_err(), "{text}");
        }
    }
}
