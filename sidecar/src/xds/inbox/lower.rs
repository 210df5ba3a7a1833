//! Marks below the revision that requests run on, and when they are believed.
//!
//! Of several control planes one may lag behind the others for a while: a sidecar that comes to it
//! does not go back. Where none of them offers more, a store was put back on purpose, and then that
//! is what there is.

use segue_shared::ids::Revision;

/// How many control planes in a row had nothing newer.
#[derive(Debug, Default)]
pub(crate) struct LowerMarks {
    /// How many streams ended since the first lower mark, that one's included; 0: there was none.
    ended: usize,
    /// The one of this stream, which ends for it.
    refused: Option<Lower>,
}

/// A mark that is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lower {
    pub offered: Revision,
    /// What requests run on.
    pub running: Revision,
    /// Whether it is the first in a row.
    pub first: bool,
}

impl LowerMarks {
    /// Whether a mark is taken. `control_planes` is how many there are: all of them have had their
    /// turn before a lower one is.
    pub fn takes(
        &mut self,
        offered: Revision,
        running: Option<Revision>,
        control_planes: usize,
    ) -> bool {
        let lower = running.filter(|running| offered < *running);
        match lower {
            Some(running) if self.ended < control_planes => {
                let first = self.ended == 0 && self.refused.is_none();
                self.refused = Some(Lower { offered, running, first });
                false
            }
            _ => {
                *self = Self::default();
                true
            }
        }
    }

    /// The mark for which the stream is to end.
    pub fn refused(&self) -> Option<Lower> {
        self.refused
    }

    /// A stream is over, whether it was opened or only tried.
    pub fn stream_ended(&mut self) {
        if self.refused.take().is_some() || self.ended > 0 {
            self.ended += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNNING: Option<Revision> = Some(Revision(7));

    #[test]
    fn what_is_not_lower_is_taken_at_once() {
        let mut lower = LowerMarks::default();
        assert!(lower.takes(Revision(7), RUNNING, 3));
        assert!(lower.takes(Revision(8), RUNNING, 3));
        assert!(lower.takes(Revision(1), None, 3), "nothing runs yet");
        lower.stream_ended();
        assert!(!lower.takes(Revision(6), RUNNING, 3), "streams that end without one do not count");
    }

    #[test]
    fn a_lower_one_is_taken_after_every_control_plane_had_its_turn() {
        for control_planes in 1..4 {
            let mut lower = LowerMarks::default();
            for turn in 0..control_planes {
                // One in three cannot even be reached.
                if turn % 3 != 1 {
                    assert!(!lower.takes(Revision(6), RUNNING, control_planes));
                    assert_eq!(lower.refused().unwrap().first, turn == 0);
                }
                lower.stream_ended();
                assert_eq!(lower.refused(), None);
            }
            assert!(lower.takes(Revision(6), RUNNING, control_planes), "{control_planes}");
            assert!(!lower.takes(Revision(5), Some(Revision(6)), control_planes), "a new round");
        }
    }

    #[test]
    fn one_that_is_up_to_date_begins_the_round_anew() {
        let mut lower = LowerMarks::default();
        assert!(!lower.takes(Revision(6), RUNNING, 2));
        lower.stream_ended();
        assert!(lower.takes(Revision(7), RUNNING, 2));
        lower.stream_ended();
        assert!(!lower.takes(Revision(6), RUNNING, 2));
    }
}
