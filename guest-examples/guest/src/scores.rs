//! What every classifier does with its scores: softmax and the best few.

/// Turns logits into probabilities that add up to 1, in place.
pub fn softmax(scores: &mut [f32]) {
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for score in scores.iter_mut() {
        *score = (*score - highest).exp();
    }
    let sum: f32 = scores.iter().sum();
    for score in scores.iter_mut() {
        *score /= sum;
    }
}

/// The `count` highest scores with their class indices, best first; of equal ones the lower index first.
pub fn top(scores: &[f32], count: usize) -> Vec<(usize, f32)> {
    let mut ranked: Vec<(usize, f32)> = scores.iter().copied().enumerate().collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    ranked.truncate(count);
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_adds_up_to_one_even_for_large_logits() {
        let mut scores = [1000.0, 1000.0, -1000.0];
        softmax(&mut scores);
        assert_eq!(scores, [0.5, 0.5, 0.0]);
    }

    #[test]
    fn top_is_sorted_and_stable() {
        assert_eq!(top(&[0.1, 0.7, 0.1, 0.1], 2), [(1, 0.7), (0, 0.1)]);
        assert_eq!(top(&[0.5], 5), [(0, 0.5)]);
        assert!(top(&[], 5).is_empty());
    }
}
