//! What someone may have meant.

/// Names listed in a hint.
const MAX_LISTED: usize = 12;

/// A hint for a word that is not among `known`: the nearest one, or all of them.
pub(super) fn suggest<'a>(
    word: &str,
    known: impl Iterator<Item = &'a str> + Clone,
    what: &str,
) -> String {
    let plain = plain(word);
    let nearest = known
        .clone()
        .map(|name| (distance(&plain, &self::plain(name)), name))
        .filter(|(distance, name)| *distance <= name.len() / 3)
        .min_by_key(|(distance, _)| *distance);
    if let Some((_, name)) = nearest {
        return format!("did you mean `{name}`?");
    }
    let count = known.clone().count();
    if count == 0 {
        return format!("there are no {what} here");
    }
    let names = known.take(MAX_LISTED).collect::<Vec<_>>().join(", ");
    let more = if count > MAX_LISTED { ", …" } else { "" };
    format!("{what} here: {names}{more}")
}

/// Without what people get wrong most: case, `_` and `-`. Long words are cut, none is that long.
fn plain(word: &str) -> Vec<char> {
    word.chars().filter(|c| !"_-".contains(*c)).flat_map(char::to_lowercase).take(64).collect()
}

/// Edits between two words (Levenshtein).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_meant() {
        let known = ["backendRefs", "matches", "filters"];
        for word in ["backend_refs", "BackendRefs", "backendRef", "backenRefs"] {
            assert_eq!(suggest(word, known.into_iter(), "fields"), "did you mean `backendRefs`?");
        }
        assert_eq!(
            suggest("zzz", known.into_iter(), "fields"),
            "fields here: backendRefs, matches, filters"
        );
    }
}
