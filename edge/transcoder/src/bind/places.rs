//! Which parts of a message are bound.

use std::collections::HashMap;
use std::ops::Range;

use smallvec::SmallVec;

/// The message itself, as the parent of what is at its top.
pub(super) const ROOT: usize = usize::MAX;

/// The place of the message around, and an index in that message: of a field, or the number of fields plus that of a oneof.
pub(super) type Key = (usize, usize);

/// What is bound at a place.
#[derive(Debug)]
pub(super) enum Place {
    /// A message that has something bound inside.
    Around,
    /// A oneof, by the index of the member that is bound.
    Member(usize),
    /// A singular field.
    Value {
        /// Where in the wire bytes the field is, with the messages around it.
        occurrence: Range<usize>,
        /// Where its value is.
        value: Range<usize>,
        /// Whether the query named it.
        queried: bool,
    },
}

/// More than this many places are found by a hash: fewer are looked through faster.
pub(super) const FEW: usize = 8;

/// A tree of places, each told from the others by its parent.
#[derive(Debug, Default)]
pub(super) struct Places {
    all: SmallVec<[(Key, Place); 2]>,
    /// Of every place, once there are more than [`FEW`].
    index: HashMap<Key, usize>,
    /// How many places have been looked at.
    #[cfg(test)]
    steps: std::sync::atomic::AtomicUsize,
}

#[cfg(test)]
impl Places {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn steps(&self) -> usize {
        self.steps.load(std::sync::atomic::Ordering::Relaxed)
    }
}

impl Places {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn find(&self, key: Key) -> Option<(usize, &Place)> {
        let at = self.position(key)?;
        Some((at, &self.all[at].1))
    }

    pub(super) fn find_mut(&mut self, key: Key) -> Option<&mut Place> {
        let at = self.position(key)?;
        Some(&mut self.all[at].1)
    }

    fn position(&self, key: Key) -> Option<usize> {
        if self.all.len() > FEW {
            self.count(1);
            return self.index.get(&key).copied();
        }
        let found = self.all.iter().position(|(known, _)| *known == key);
        self.count(found.map_or(self.all.len(), |at| at + 1));
        found
    }

    #[cfg(test)]
    fn count(&self, steps: usize) {
        self.steps.fetch_add(steps, std::sync::atomic::Ordering::Relaxed);
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "tests count")]
    fn count(&self, _steps: usize) {}

    /// Adds a place that is not there yet, and says which it is.
    pub(super) fn add(&mut self, key: Key, place: Place) -> usize {
        let at = self.all.len();
        self.all.push((key, place));
        if self.all.len() > FEW {
            let begin = if self.index.is_empty() { 0 } else { at };
            self.index.extend(self.all[begin..].iter().zip(begin..).map(|((key, _), at)| (*key, at)));
        }
        at
    }

    /// The fields that lead to a place.
    pub(super) fn path(&self, mut place: usize) -> impl Iterator<Item = usize> {
        let mut path: SmallVec<[usize; 4]> = SmallVec::new();
        while place != ROOT {
            let (parent, index) = self.all[place].0;
            path.push(index);
            place = parent;
        }
        path.into_iter().rev()
    }
}
