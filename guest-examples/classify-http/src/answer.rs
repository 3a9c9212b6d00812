//! From a query and a body to an answer, without HTTP.

use infer_guest::Error;
use infer_imaging::{Class, Classes, DecodeError, Flags, PhotoError, PictureModel};

/// How many classes are answered unless `top` says so.
const USUAL_TOP: usize = 5;

/// A status of HTTP and the text that goes with it.
pub(crate) type Refusal = (u16, String);

/// The document that is answered.
#[derive(serde::Serialize)]
struct Document {
    version: u32,
    model: String,
    classes: Vec<Class>,
}

/// How many classes a query asks for: `top=N`, at least 1. Other words are other people's.
pub(crate) fn top_of(query: &str) -> Result<usize, Refusal> {
    let words = query.split('&').filter_map(|word| word.split_once('='));
    match words.filter(|(key, _)| *key == "top").last() {
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

/// The JSON for a photo.
pub(crate) fn classify(photo: &[u8], top: usize) -> Result<String, Refusal> {
    let mut model = PictureModel::open(&Flags::default()).map_err(failed)?;
    let classes = Classes::of(&model, None);
    let output = model.run(photo).map_err(refusal)?;
    let document = Document {
        version: 1,
        model: model.name().to_owned(),
        classes: classes.rank(&output, top).map_err(failed)?,
    };
    let json = serde_json::to_string_pretty(&document);
    json.map(|json| json + "\n")
        .map_err(|error| (500, error.to_string()))
}

/// Who is to blame for a photo that gave no result.
fn refusal(error: PhotoError) -> Refusal {
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
fn failed(error: Error) -> Refusal {
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
