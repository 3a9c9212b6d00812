//! From the best class of each step to the text of a line.

/// The text, and the mean score of its characters. Class 0 is no character, and a class that repeats the step before is
/// the same character.
pub(crate) fn spell(classes: &[i64], scores: &[f32], characters: &[String]) -> (String, f32) {
    let (mut text, mut sum, mut count) = (String::new(), 0.0, 0u16);
    let mut before = 0;
    for (&class, score) in classes.iter().zip(scores) {
        let character = usize::try_from(class)
            .ok()
            .and_then(|class| characters.get(class));
        if let Some(character) = character.filter(|_| class != 0 && class != before) {
            text.push_str(character);
            sum += score;
            count = count.saturating_add(1);
        }
        before = class;
    }
    (text, sum / f32::from(count.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_one_character_and_blanks_are_none() {
        let characters = ["", "a", "b"].map(str::to_owned);
        let scores = [0.9, 0.5, 0.7, 0.9, 0.9, 0.6, 0.9];
        let spelt = spell(&[0, 1, 1, 0, 1, 2, 9], &scores, &characters);
        assert_eq!(spelt.0, "aab");
        assert!((spelt.1 - 2.0 / 3.0).abs() < 1e-6, "{}", spelt.1);
        assert_eq!(spell(&[], &[], &characters), (String::new(), 0.0));
    }
}
