//! Which field a member of a JSON object is.

use super::Field;

/// Open-addressed hash of the JSON and proto names of one message, at most half full.
#[derive(Debug)]
pub(super) struct KeyIndex {
    slots: Box<[Slot]>,
}

/// One name. The JSON name of a field may be the proto name of another, so a slot is for one of the two.
#[derive(Clone, Copy, Debug)]
enum Slot {
    Free,
    Json(u32),
    Proto(u32),
}

impl KeyIndex {
    pub(super) fn build(fields: &[Field]) -> Self {
        let size = (fields.len() * 4).next_power_of_two().max(4);
        let mut index = Self { slots: vec![Slot::Free; size].into() };
        for (at, field) in fields.iter().enumerate() {
            index.insert(&field.json_name, Slot::Json(narrow(at)), fields);
        }
        for (at, field) in fields.iter().enumerate() {
            index.insert(&field.name, Slot::Proto(narrow(at)), fields);
        }
        index
    }

    fn insert(&mut self, key: &str, entry: Slot, fields: &[Field]) {
        // The JSON name, inserted first, wins.
        if self.find(key, fields).is_some() {
            return;
        }
        let mask = self.slots.len() - 1;
        let mut slot = hash(key) & mask;
        while !matches!(self.slots[slot], Slot::Free) {
            slot = (slot + 1) & mask;
        }
        self.slots[slot] = entry;
    }

    pub(super) fn find(&self, key: &str, fields: &[Field]) -> Option<usize> {
        let mask = self.slots.len() - 1;
        let mut slot = hash(key) & mask;
        loop {
            let (at, name) = match self.slots[slot] {
                Slot::Free => return None,
                Slot::Json(at) => (wide(at), &fields[wide(at)].json_name),
                Slot::Proto(at) => (wide(at), &fields[wide(at)].name),
            };
            if **name == *key {
                return Some(at);
            }
            slot = (slot + 1) & mask;
        }
    }
}

fn narrow(index: usize) -> u32 {
    u32::try_from(index).expect("field numbers have 29 bits, so there are fewer fields")
}

fn wide(index: u32) -> usize {
    usize::try_from(index).expect("usize has at least 32 bits")
}

/// FNV-1a over at most the first 32 bytes, with the length mixed in. The keys are the descriptor's, so a client cannot grow a chain.
fn hash(key: &str) -> usize {
    let mut state = 0xcbf2_9ce4_u32 ^ u32::try_from(key.len()).unwrap_or(u32::MAX);
    for &byte in key.as_bytes().iter().take(32) {
        state = (state ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    usize::try_from(state ^ (state >> 15)).unwrap_or(0)
}
