//! Buffers that outlive a message. A thread reads or prints one message after the other, so it keeps one set of them, and a
//! message that is no larger than those before it needs no allocation.

use std::cell::Cell;
use std::ops::Range;

/// Larger buffers than this are not kept, in bytes: one huge message should not cost memory for ever.
const KEPT_BYTES_MAX: usize = 64 << 10;

thread_local! {
    static KEPT: Cell<Scratch> = const { Cell::new(Scratch { text: String::new(), keys: Vec::new() }) };
}

#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// The last string that had escapes.
    pub(super) text: String,
    /// Where the keys of the maps now open lie in the output; innermost map last.
    pub(super) keys: Vec<Range<usize>>,
}

impl Scratch {
    /// What the thread has kept. Nothing while somebody else has it.
    pub(super) fn take() -> Self {
        KEPT.take()
    }

    /// Keeps the buffers for the next message.
    pub(super) fn keep(mut self) {
        self.text.clear();
        self.keys.clear();
        let bytes = self.text.capacity() + self.keys.capacity() * size_of::<Range<usize>>();
        if bytes <= KEPT_BYTES_MAX {
            KEPT.set(self);
        }
    }
}

/// Whether two of `keys`, which lie in `bytes`, are the same.
pub(super) fn has_duplicates(keys: &mut [Range<usize>], bytes: &[u8]) -> bool {
    let text = |key: &Range<usize>| &bytes[key.start..key.end];
    match keys {
        [] | [_] => false,
        [first, second] => text(first) == text(second),
        _ => {
            keys.sort_unstable_by(|a, b| text(a).cmp(text(b)));
            keys.windows(2).any(|pair| text(&pair[0]) == text(&pair[1]))
        }
    }
}
