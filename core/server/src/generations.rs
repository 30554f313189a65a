//! A map that holds so many bytes and forgets what nobody asked for lately, without an order that every look would have to keep.

use std::{collections::HashMap, hash::Hash};

#[derive(Debug)]
pub(crate) struct Generations<K, V> {
    /// Bytes of each generation.
    most: usize,
    young: HashMap<K, (V, usize)>,
    /// What was young before; gone when the young are too many again, unless somebody asked for it.
    old: HashMap<K, (V, usize)>,
    bytes: usize,
}

impl<K: Eq + Hash + Clone, V: Clone> Generations<K, V> {
    /// Holds `most` bytes, half of them for sure.
    pub(crate) fn new(most: usize) -> Generations<K, V> {
        Generations { most: most / 2, young: HashMap::new(), old: HashMap::new(), bytes: 0 }
    }

    pub(crate) fn get(&mut self, key: &K) -> Option<V> {
        if let Some((value, _)) = self.young.get(key) {
            return Some(value.clone());
        }
        let (value, bytes) = self.old.remove(key)?;
        self.insert(key.clone(), value.clone(), bytes);
        Some(value)
    }

    pub(crate) fn insert(&mut self, key: K, value: V, bytes: usize) {
        if self.bytes + bytes > self.most {
            self.old = std::mem::take(&mut self.young);
            self.bytes = 0;
        }
        self.bytes += bytes;
        if let Some((_, before)) = self.young.insert(key, (value, bytes)) {
            self.bytes -= before;
        }
    }

    /// Of the young: as long as these leave room, nothing is pushed out that is kept for sure.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::Generations;

    #[test]
    fn what_is_asked_for_stays_and_the_rest_goes_when_there_is_no_room() {
        let mut kept = Generations::new(200);
        for number in 0..10 {
            kept.insert(number, number, 10);
        }
        assert_eq!((0..10).filter_map(|number| kept.get(&number)).count(), 10, "half of it is kept for sure");
        kept.insert(10, 10, 10);
        assert_eq!((kept.get(&3), kept.bytes()), (Some(3), 20), "what is asked for is young again");
        for number in 11..20 {
            kept.insert(number, number, 10);
        }
        assert_eq!((kept.get(&3), kept.get(&4)), (Some(3), None));
        let before = kept.bytes();
        kept.insert(3, 33, 10);
        assert_eq!(
            (kept.get(&3), kept.bytes()),
            (Some(33), before),
            "another value in the place of one takes no more room"
        );
        kept.insert(99, 99, 1000);
        assert_eq!(kept.get(&99), Some(99), "also what is too large, until the next comes");
        kept.insert(100, 100, 10);
        kept.insert(101, 101, 100);
        assert_eq!(kept.get(&99), None);
    }
}
