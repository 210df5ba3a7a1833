//! Finds the routes that a path may match, without looking at the others.

use std::collections::HashMap;

/// Places of routes in their list, lowest first.
type Places = Vec<u32>;

/// What an index knows of a route's condition on the path.
#[derive(Clone, Copy, Debug)]
pub enum IndexedPath<'a> {
    /// Only this path can match.
    Exact(&'a str),
    /// Only paths that begin so can match.
    Prefix(&'a str),
    /// Any path may match.
    Other,
}

/// An index over the paths of a list of routes. It says which routes may match; the first of them
/// whose conditions all hold is the one, as if all had been looked at in their order.
#[derive(Debug, Default)]
pub struct RouteIndex {
    exact: HashMap<Box<str>, Places>,
    /// Distinct prefixes, sorted by bytes.
    prefixes: Vec<Prefix>,
    /// Routes whose paths cannot be looked up.
    others: Places,
}

#[derive(Debug)]
struct Prefix {
    text: Box<str>,
    places: Places,
    /// The longest other prefix that this one begins with.
    parent: Option<usize>,
}

impl RouteIndex {
    /// An index over these paths, in the order of their routes.
    pub fn new<'a>(paths: impl Iterator<Item = IndexedPath<'a>>) -> Self {
        let mut index = Self::default();
        let mut prefixes: HashMap<&str, Places> = HashMap::new();
        for (place, path) in (0..).zip(paths) {
            match path {
                IndexedPath::Exact(text) => {
                    index.exact.entry(text.into()).or_default().push(place);
                }
                IndexedPath::Prefix(text) => prefixes.entry(text).or_default().push(place),
                IndexedPath::Other => index.others.push(place),
            }
        }
        let mut sorted: Vec<(&str, Places)> = prefixes.into_iter().collect();
        sorted.sort_unstable_by_key(|(text, _)| *text);
        for (text, places) in sorted {
            // What a text begins with stands before it, and between the two only texts that begin
            // so as well.
            let mut parent = index.prefixes.len().checked_sub(1);
            while let Some(at) = parent
                && !text.starts_with(&*index.prefixes[at].text)
            {
                parent = index.prefixes[at].parent;
            }
            index.prefixes.push(Prefix { text: text.into(), places, parent });
        }
        index
    }

    /// The lowest place of a route that may match `path` and for which `holds` says that it does.
    pub fn first(&self, path: &str, mut holds: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut best = None;
        let mut look_at = |places: &Places| {
            let before_best = |place: &&u32| best.is_none_or(|best| **place < best);
            let found = places.iter().take_while(before_best).find(|place| holds(**place));
            best = found.copied().or(best);
        };
        if let Some(places) = self.exact.get(path) {
            look_at(places);
        }
        let mut at = self.prefixes.partition_point(|prefix| &*prefix.text <= path).checked_sub(1);
        while let Some(prefix) = at.and_then(|at| self.prefixes.get(at)) {
            if path.starts_with(&*prefix.text) {
                look_at(&prefix.places);
            }
            at = prefix.parent;
        }
        look_at(&self.others);
        best
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Path {
        Exact(String),
        Prefix(String),
        Contains(String),
    }

    impl Path {
        fn indexed(&self) -> IndexedPath<'_> {
            match self {
                Self::Exact(text) => IndexedPath::Exact(text),
                Self::Prefix(text) => IndexedPath::Prefix(text),
                Self::Contains(_) => IndexedPath::Other,
            }
        }

        fn matches(&self, path: &str) -> bool {
            match self {
                Self::Exact(text) => path == text,
                Self::Prefix(text) => path.starts_with(text),
                Self::Contains(text) => path.contains(text),
            }
        }
    }

    fn path() -> impl Strategy<Value = Path> {
        let text = "(|/|/[ab]{1,2}|/[ab]/[ab]{1,2}|/[ab]/)";
        prop_oneof![
            text.prop_map(Path::Exact),
            text.prop_map(Path::Prefix),
            text.prop_map(Path::Contains)
        ]
    }

    proptest! {
        /// The reference: look at all, in their order.
        #[test]
        fn the_first_route_that_holds_is_found(
            routes in prop::collection::vec((path(), any::<bool>()), 0..24),
            path in "/[ab]{0,3}(/[ab]{0,2}){0,2}",
        ) {
            let holds = |(condition, other): &(Path, bool)| condition.matches(&path) && *other;
            let index = RouteIndex::new(routes.iter().map(|(condition, _)| condition.indexed()));
            let found = index.first(&path, |place| holds(&routes[place as usize]));
            prop_assert_eq!(found.map(|at| at as usize), routes.iter().position(holds));
        }
    }

    #[test]
    fn among_ten_thousand_few_are_looked_at() {
        let texts: Vec<String> = (0..10_000).map(|i| format!("/route-{i:05}/")).collect();
        let all = texts.iter().map(String::as_str).chain(["/"]).map(IndexedPath::Prefix);
        let index = RouteIndex::new(all);
        for (path, expected) in [("/route-09999/x", 9_999), ("/route-00000/", 0), ("/x", 10_000)] {
            let mut looked_at = 0;
            let found = index.first(path, |_| {
                looked_at += 1;
                true
            });
            assert_eq!((found, looked_at), (Some(expected), 1), "{path}");
        }
    }
}
