//! What a power cut leaves of what was not synced: decided by a seed, by file and by page.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// The choices of one power cut.
#[derive(Debug)]
pub(crate) struct Fate {
    rng: StdRng,
    mood: Mood,
    /// How likely a page of the present file survives.
    pages: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    /// Nothing that was not synced survives.
    Nothing,
    /// Each name survives with this likelihood, each page with one of its file.
    Some(f64),
    /// All survives, as when only processes die.
    Everything,
}

/// What remains of a page that was written and not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Old,
    New,
    /// Torn: the sectors whose bit is set are old.
    Torn(u8),
}

impl Fate {
    /// The fate that a seed decides.
    pub(crate) fn of(seed: u64) -> Fate {
        let mut rng = StdRng::seed_from_u64(seed);
        let mood = match rng.random_range(0..10) {
            0..4 => Mood::Nothing,
            4..9 => Mood::Some(rng.random_range(0.05..0.95)),
            _ => Mood::Everything,
        };
        Fate::with(rng, mood)
    }

    /// Nothing that was not synced survives.
    #[cfg(test)]
    pub(crate) fn nothing() -> Fate {
        Fate::with(StdRng::seed_from_u64(0), Mood::Nothing)
    }

    /// Everything survives.
    #[cfg(test)]
    pub(crate) fn everything() -> Fate {
        Fate::with(StdRng::seed_from_u64(0), Mood::Everything)
    }

    fn with(rng: StdRng, mood: Mood) -> Fate {
        Fate {
            rng,
            mood,
            pages: 0.0,
        }
    }

    /// In words.
    pub(crate) fn name(&self) -> &'static str {
        match self.mood {
            Mood::Nothing => "nothing unsynced survives",
            Mood::Some(_) => "some survives",
            Mood::Everything => "all survives",
        }
    }

    /// Whether a change of a name, or a truncation, survives.
    pub(super) fn keeps(&mut self) -> bool {
        match self.mood {
            Mood::Nothing => false,
            Mood::Some(likelihood) => self.rng.random_bool(likelihood),
            Mood::Everything => true,
        }
    }

    /// Turns to another file.
    pub(super) fn next_file(&mut self) {
        self.pages = match self.mood {
            Mood::Nothing => 0.0,
            Mood::Everything => 1.0,
            Mood::Some(_) => match self.rng.random_range(0..4) {
                0 => 0.0,
                1 => 1.0,
                _ => self.rng.random_range(0.05..0.95),
            },
        };
    }

    /// What remains of the next page of the file.
    pub(super) fn page(&mut self) -> Page {
        if matches!(self.mood, Mood::Some(_)) && self.rng.random_ratio(1, 16) {
            return Page::Torn(self.rng.random());
        }
        match self.rng.random_bool(self.pages) {
            true => Page::New,
            false => Page::Old,
        }
    }

    /// The length of a file that was `low` when it was synced and is `high` now.
    pub(super) fn length(&mut self, low: u64, high: u64) -> u64 {
        match self.mood {
            Mood::Nothing => low,
            Mood::Everything => high,
            Mood::Some(_) => match self.rng.random_range(0..4) {
                0 => low,
                1 => self.rng.random_range(low..=high),
                _ => high,
            },
        }
    }
}
