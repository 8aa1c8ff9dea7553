//! What has come of a message.

use super::Message;

/// Which fields and oneofs of a message have been seen; on the stack for all but huge messages.
pub(crate) enum Seen {
    Small(u128),
    Large(Vec<u64>),
}

impl Seen {
    pub(crate) fn new(message: &Message) -> Self {
        let bits = message.fields.len() + message.oneofs.len();
        if bits <= 128 { Self::Small(0) } else { Self::Large(vec![0; bits.div_ceil(64)]) }
    }

    /// Marks `bit`; false when it was marked before.
    pub(crate) fn mark(&mut self, bit: usize) -> bool {
        match self {
            Self::Small(bits) => {
                let mask = 1_u128 << bit;
                let fresh = *bits & mask == 0;
                *bits |= mask;
                fresh
            }
            Self::Large(words) => {
                let mask = 1_u64 << (bit % 64);
                let fresh = words[bit / 64] & mask == 0;
                words[bit / 64] |= mask;
                fresh
            }
        }
    }

    pub(crate) fn has(&self, bit: usize) -> bool {
        match self {
            Self::Small(bits) => bits & (1_u128 << bit) != 0,
            Self::Large(words) => words[bit / 64] & (1_u64 << (bit % 64)) != 0,
        }
    }
}
