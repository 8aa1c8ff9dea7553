//! Settings that are lists of tables, such as `[[upstream]]`: put together from one value at a time, whatever source each comes from.

use std::collections::BTreeMap;

use figment::value::{Dict, Value};

use super::{Configuration, is_known};

/// The most elements that a list may have.
const ELEMENTS_MAX: usize = 1000;

/// The lists of one configuration, as far as they have been read.
pub(super) struct Lists {
    lists: Vec<List>,
}

struct List {
    name: &'static str,
    /// An element of which nothing is set.
    element: Value,
    /// What is set of each element.
    elements: BTreeMap<usize, Dict>,
}

/// A setting within an element.
pub(super) struct Position {
    list: usize,
    element: usize,
    /// The setting's name within the element.
    key: String,
}

impl Lists {
    pub(super) fn of<C: Configuration>() -> Self {
        let list = |(name, element)| List { name, element, elements: BTreeMap::new() };
        Self { lists: C::lists().into_iter().map(list).collect() }
    }

    /// Where a setting such as `upstream.0.address` belongs; `None` when it is not within a list.
    pub(super) fn position(&self, key: &str) -> Option<Position> {
        self.lists.iter().enumerate().find_map(|(list, known)| {
            let (element, key) = key.strip_prefix(known.name)?.strip_prefix('.')?.split_once('.')?;
            let element = element.parse().ok().filter(|element| *element < ELEMENTS_MAX)?;
            Some(Position { list, element, key: key.to_owned() })
        })
    }

    pub(super) fn knows(&self, position: &Position) -> bool {
        is_known(&self.lists[position.list].element, &position.key)
    }

    /// The configuration with only this value set, to see whether it fits.
    pub(super) fn alone(&self, position: &Position, value: Value) -> Dict {
        let list = &self.lists[position.list];
        let one = figment::util::nest(&position.key, value).into_dict().unwrap_or_default();
        Dict::from([(list.name.to_owned(), Value::from(vec![list.filled(&one)]))])
    }

    pub(super) fn set(&mut self, position: &Position, value: Value) {
        let set = self.lists[position.list].elements.entry(position.element).or_default();
        let one = figment::util::nest(&position.key, value).into_dict().unwrap_or_default();
        merge(set, one);
    }

    /// Counts the element as there, though what was said of it is wrong.
    pub(super) fn mention(&mut self, position: &Position) {
        self.lists[position.list].elements.entry(position.element).or_default();
    }

    /// All lists that anything is set of.
    ///
    /// # Errors
    ///
    /// A sentence, when elements are not counted from 0 without a gap.
    pub(super) fn whole(self) -> Result<Dict, String> {
        let mut whole = Dict::new();
        for list in self.lists {
            let gap = list.elements.keys().enumerate().find(|(index, element)| index != *element);
            if let Some((missing, _)) = gap {
                return Err(format!("`{}.{missing}` is missing: elements are counted from 0", list.name));
            }
            if !list.elements.is_empty() {
                let elements: Vec<Value> = list.elements.values().map(|set| list.filled(set)).collect();
                whole.insert(list.name.to_owned(), Value::from(elements));
            }
        }
        Ok(whole)
    }
}

impl List {
    /// An element with this set, and else as when nothing is.
    fn filled(&self, set: &Dict) -> Value {
        let mut element = self.element.as_dict().cloned().unwrap_or_default();
        merge(&mut element, set.clone());
        Value::from(element)
    }
}

fn merge(into: &mut Dict, from: Dict) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Dict(_, nested)), Value::Dict(_, more)) => merge(nested, more),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}
