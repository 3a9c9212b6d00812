//! What a query asks for, and the statuses of what goes wrong.

use infer_guest::Error;
use infer_imaging::{DecodeError, PhotoError};

/// How many classes are answered unless `top` says so.
const USUAL_TOP: usize = 5;

/// A status of HTTP and the text that goes with it.
pub(crate) type Refusal = (u16, String);

/// How many classes a query asks for: `top=N`, at least 1. Other words are other people's.
pub(crate) fn top_of(query: &str) -> Result<usize, Refusal> {
    // The last one counts.
    let mut words = query.rsplit('&').filter_map(|word| word.split_once('='));
    match words.find(|(key, _)| *key == "top") {
        None => Ok(USUAL_TOP),
        Some((_, value)) => match value.parse() {
            Ok(top) if top > 0 => Ok(top),
            _ => Err((
                400,
                format!("expected a number from 1 for `top`, got `{value}`"),
            )),
        },
    }
}

/// Who is to blame for a photo that gave no result.
pub(crate) fn refusal(error: PhotoError) -> Refusal {
    match error {
        PhotoError::Picture(error) => {
            let status = match &error {
                DecodeError::Format => 415,
                DecodeError::TooLarge => 413,
                DecodeError::Cut | DecodeError::Damaged(_) => 400,
            };
            (status, error.to_string())
        }
        PhotoError::Model(error) => failed(error),
    }
}

/// What the host answered: its operator's to mend.
pub(crate) fn failed(error: Error) -> Refusal {
    (500, format!("the model failed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_how_many() {
        for (query, top) in [
            ("", 5),
            ("top=1", 1),
            ("a=b&top=3", 3),
            ("stop=1", 5),
            ("top=2&top=4", 4),
        ] {
            assert_eq!(top_of(query), Ok(top), "{query}");
        }
        for query in ["top=0", "top=", "top=-1", "top=many"] {
            assert_eq!(top_of(query).expect_err(query).0, 400);
        }
    }

    #[test]
    fn what_is_wrong_with_a_photo_has_a_status() {
        let status = |error| refusal(PhotoError::Picture(error)).0;
        assert_eq!(
            [
                status(DecodeError::Format),
                status(DecodeError::TooLarge),
                status(DecodeError::Cut)
            ],
            [415, 413, 400]
        );
    }
}
