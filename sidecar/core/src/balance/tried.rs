//! Where the attempts of a request went.

/// Places of endpoints in their cluster: all of the first 64, of those beyond the last one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    /// A bit for each of the first places.
    first: u64,
    last: Option<u32>,
}

impl Tried {
    /// One more.
    #[must_use]
    pub fn with(self, at: usize) -> Self {
        let bit = u32::try_from(at).ok().and_then(|at| 1_u64.checked_shl(at)).unwrap_or(0);
        Self { first: self.first | bit, last: u32::try_from(at).ok() }
    }

    /// Whether this is the first attempt.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Only the last of them: where all were tried, any other is tried again.
    #[must_use]
    pub fn last_alone(self) -> Self {
        self.last.map_or_else(Self::default, |at| Self::default().with(at as usize))
    }

    /// Whether an attempt went there.
    pub fn holds(self, at: usize) -> bool {
        let Ok(at) = u32::try_from(at) else { return false };
        self.last == Some(at) || self.first.checked_shr(at).is_some_and(|bits| bits & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_are_all_kept_and_the_last_always() {
        let tried = [3, 63, 64, 200].into_iter().fold(Tried::default(), Tried::with);
        let held: Vec<usize> = (0..300).filter(|at| tried.holds(*at)).collect();
        assert_eq!(held, [3, 63, 200]);
        let last: Vec<usize> = (0..300).filter(|at| tried.last_alone().holds(*at)).collect();
        assert_eq!(last, [200]);
    }
}
