//! Magika: what type a file is of.

use infer_core::Result;

use super::Class;
use crate::engines::{Loaded, ints};
use crate::known::{Entry, Known};

/// How many bytes of each end the model sees.
const SIDE: usize = 1024;

/// The types of files: one by one, and where the model takes any batch, all at once besides.
pub(crate) fn types(entry: &Entry, loaded: &mut Loaded) -> Result<Vec<Vec<f32>>> {
    let (mut scores, mut files) = (Vec::new(), Vec::new());
    for class in entry.answers::<Class>() {
        let ends = ends(&Known::input(&class.input));
        let outputs = loaded.run(&[("bytes", ints(&[1, 2 * SIDE], &ends))])?;
        files.extend(ends);
        let answer = outputs.floats("target_label");
        class.check(&loaded.what, loaded.model, &answer);
        scores.push(answer);
    }
    if loaded.inputs()[0].dimensions[0].is_none() {
        let batch = ints(&[scores.len(), 2 * SIDE], &files);
        let batch = loaded.run(&[("bytes", batch)])?.rows("target_label");
        let what = format!("{} in a batch", loaded.what);
        entry.agree((&what, &batch), (&loaded.what, &scores));
    }
    Ok(scores)
}

/// The first and the last bytes of a file that is long enough and has no white space at its ends.
fn ends(file: &[u8]) -> Vec<i32> {
    let (first, last) = (&file[..SIDE], &file[file.len() - SIDE..]);
    let blank = |byte: &u8| byte.is_ascii_whitespace();
    assert!(!blank(&first[0]) && !blank(&last[SIDE - 1]));
    first.iter().chain(last).map(|&it| i32::from(it)).collect()
}
