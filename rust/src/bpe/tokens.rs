//! The token strings of a vocabulary, found by text and by id.
use super::NONE;
use ahash::RandomState;

/// Ids above this are refused: they index arrays.
const MAX_ID: u32 = 1 << 24;

/// One arena, spans by id, and a hash table from string to id.
pub struct Tokens {
    arena: String,
    spans: Vec<(u32, u32)>,
    table: Vec<(u32, u32)>, // (part of the hash, id), NONE where empty
    count: usize,
    hasher: RandomState,
}

impl Tokens {
    pub fn with_capacity(tokens: usize, bytes: usize) -> Self {
        let slots = (tokens.max(8) * 2).next_power_of_two();
        Tokens {
            arena: String::with_capacity(bytes),
            spans: Vec::with_capacity(tokens),
            table: vec![(0, NONE); slots],
            count: 0,
            hasher: RandomState::new(),
        }
    }

    /// A string seen twice keeps its last id.
    pub fn insert(&mut self, text: &str, id: u32) -> std::result::Result<(), String> {
        if id >= MAX_ID {
            return Err(format!("vocabulary: expected ids below {MAX_ID}, found {id}"));
        }
        if self.arena.len() + text.len() > u32::MAX as usize {
            return Err("vocabulary: expected at most 4 GiB of tokens".into());
        }
        if (self.count + 1) * 2 > self.table.len() {
            self.grow();
        }
        if self.spans.len() <= id as usize {
            self.spans.resize(id as usize + 1, (NONE, 0));
        }
        self.spans[id as usize] = (self.arena.len() as u32, text.len() as u32);
        self.arena.push_str(text);
        let hash = self.hasher.hash_one(text);
        let slot = self.slot(text, hash);
        if self.table[slot].1 == NONE {
            self.count += 1;
        }
        self.table[slot] = ((hash >> 32) as u32, id);
        Ok(())
    }

    fn grow(&mut self) {
        let slots = self.table.len() * 2;
        let old = std::mem::replace(&mut self.table, vec![(0, NONE); slots]);
        for (_, id) in old.into_iter().filter(|&(_, id)| id != NONE) {
            let hash = self.hasher.hash_one(self.text(id));
            let mut slot = hash as usize & (slots - 1);
            while self.table[slot].1 != NONE {
                slot = (slot + 1) & (slots - 1);
            }
            self.table[slot] = ((hash >> 32) as u32, id);
        }
    }

    /// The slot that holds `text`, or the empty one where it belongs.
    fn slot(&self, text: &str, hash: u64) -> usize {
        let mask = self.table.len() - 1;
        let mut slot = hash as usize & mask;
        loop {
            let (part, id) = self.table[slot];
            if id == NONE || (part == (hash >> 32) as u32 && self.text(id) == text) {
                return slot;
            }
            slot = (slot + 1) & mask;
        }
    }

    fn text(&self, id: u32) -> &str {
        let (start, size) = self.spans[id as usize];
        &self.arena[start as usize..(start + size) as usize]
    }

    pub fn get(&self, id: u32) -> Option<&str> {
        match self.spans.get(id as usize) {
            Some(&(start, _)) if start != NONE => Some(self.text(id)),
            _ => None,
        }
    }

    pub fn find(&self, text: &str) -> Option<u32> {
        let id = self.table[self.slot(text, self.hasher.hash_one(text))].1;
        (id != NONE).then_some(id)
    }

    /// Number of different strings.
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        self.table.iter().filter(|(_, id)| *id != NONE).map(|&(_, id)| (self.text(id), id))
    }
}
