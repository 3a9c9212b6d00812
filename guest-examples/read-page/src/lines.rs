//! From how likely each pixel is text to lines of a page.

use std::ops::Range;

/// From which probability on a pixel is text.
const TEXT: f32 = 0.3;
/// Which share of a row must be text.
const SHARE: f32 = 0.03;
/// What is added round a line, as a part of its height.
const MARGIN: f32 = 0.5;
/// The model takes sides that are multiples of this, in pixels.
const STEP: u32 = 32;
/// The longest side that it is given, in pixels.
const LONGEST: u32 = 960;

/// Where a line is on the page, in pixels; right and bottom are one past the last.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) left: u32,
    pub(crate) top: u32,
    pub(crate) right: u32,
    pub(crate) bottom: u32,
}

/// The size, width and height, in which text is looked for on a page of this one.
pub(crate) fn scaled((width, height): (u32, u32)) -> (u32, u32) {
    let longest = width.max(height).max(1);
    let scale = f64::from(longest.min(LONGEST)) / f64::from(longest);
    let side = |side: u32| {
        let steps = f64::from(side) * scale / f64::from(STEP);
        (steps.round() as u32).max(1) * STEP
    };
    (side(width), side(height))
}

/// The lines from top to bottom; the probabilities are those of a picture of the size that [`scaled`] says.
pub(crate) fn find(
    probabilities: &[f32],
    (width, height): (u32, u32),
    page: (u32, u32),
) -> Vec<Line> {
    let rows: Vec<&[f32]> = probabilities.chunks_exact(width as usize).collect();
    let of_text = rows.iter().map(|row| {
        let text = row.iter().filter(|&&it| it > TEXT).count();
        text as f32 > SHARE * width as f32
    });
    let line = |rows_of_line: Range<usize>| {
        let margin = rows_of_line.len() as f32 * MARGIN;
        let mut columns = 0..width as usize;
        let is_text = |&column: &usize| {
            rows[rows_of_line.clone()]
                .iter()
                .any(|row| row[column] > TEXT)
        };
        let first = columns.find(is_text)?;
        let last = columns.rfind(is_text).unwrap_or(first);
        let (left, right) = widened(first..last + 1, margin, (width, page.0));
        let (top, bottom) = widened(rows_of_line.clone(), margin, (height, page.1));
        (left < right && top < bottom).then_some(Line {
            left,
            top,
            right,
            bottom,
        })
    };
    runs(of_text).into_iter().filter_map(line).collect()
}

/// A range with a margin before and after, in a picture of another size.
fn widened(range: Range<usize>, margin: f32, (size, other): (u32, u32)) -> (u32, u32) {
    let place = |place: f32| (place * other as f32 / size as f32).round() as u32;
    let end = place(range.end as f32 + margin).min(other);
    (place((range.start as f32 - margin).max(0.0)), end)
}

/// Where something holds without a break.
fn runs(holds: impl Iterator<Item = bool>) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (index, _) in holds.enumerate().filter(|&(_, holds)| holds) {
        match runs.last_mut() {
            Some(run) if run.end == index => run.end += 1,
            _ => runs.push(index..index + 1),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_looked_at_in_a_size_that_the_model_takes() {
        assert_eq!(scaled((384, 191)), (384, 192));
        assert_eq!(scaled((3000, 1500)), (960, 480));
        assert_eq!(scaled((5, 1)), (32, 32));
    }

    #[test]
    fn lines_are_found_with_a_margin() {
        let (width, height) = (64, 32);
        let mut probabilities = vec![0.0; width * height];
        for row in (4..8).chain(20..24) {
            probabilities[row * width + 10..row * width + 30].fill(0.9);
        }
        let found = find(&probabilities, (64, 32), (128, 64));
        let first = Line {
            left: 16,
            top: 4,
            right: 64,
            bottom: 20,
        };
        assert_eq!(found[0], first);
        assert_eq!((found[1].top, found[1].bottom, found.len()), (36, 52, 2));
    }

    #[test]
    fn a_blank_page_has_no_lines_and_a_margin_ends_with_the_page() {
        assert_eq!(find(&[0.0; 64], (8, 8), (8, 8)), []);
        let whole = find(&[1.0; 64], (8, 8), (8, 8));
        let page = Line {
            left: 0,
            top: 0,
            right: 8,
            bottom: 8,
        };
        assert_eq!(whole, [page]);
    }
}
