//! Which neighbours merge, and in what order.
use super::{Tokens, NONE};
use ahash::RandomState;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::OnceLock;

const MAX_MERGES: usize = 1 << 25;
/// Merges asked for before the table of ids is built: about what it costs.
pub(super) const QUESTIONS: usize = 100_000;

pub enum Merges {
    /// Lowest rank first.
    ByRank(Ranked),
    /// Highest score first; two neighbours merge when their text together is a token.
    ByScore(Vec<f32>),
}

/// Merges by rank. The first questions are answered from the texts; a program that asks
/// much gets the table of ids, which takes longer to build than a short prompt to encode.
pub struct Ranked {
    rules: Rules,
    pub(super) asked: AtomicUsize,
    pairs: OnceLock<Pairs>,
}

impl Ranked {
    pub fn new(mut rules: Rules) -> Self {
        rules.index();
        Ranked { rules, asked: AtomicUsize::new(0), pairs: OnceLock::new() }
    }

    pub(super) fn find(&self, tokens: &Tokens, left: u32, right: u32) -> Option<(u32, u32)> {
        if let Some(pairs) = self.pairs.get() {
            return pairs.find(left, right);
        }
        if self.asked.fetch_add(1, Ordering::Relaxed) >= QUESTIONS {
            let pairs = self.pairs.get_or_init(|| Pairs::new(&self.rules, tokens));
            return pairs.find(left, right);
        }
        let rank = self.rules.find(tokens.get(left)?, tokens.get(right)?)?;
        let (start, _, end) = self.rules.spans[rank as usize];
        let whole = &self.rules.arena[start as usize..end as usize];
        Some((rank, tokens.find(whole)?))
    }
}

/// The merges as texts, best first, and a hash table over them. Quick to fill: nothing
/// is looked up in the vocabulary.
pub struct Rules {
    arena: String,
    spans: Vec<(u32, u32, u32)>, // start, end of left, end of right
    table: Vec<(u32, u32)>,      // (part of the hash, rank), NONE where empty
    hasher: RandomState,
}

impl Rules {
    pub fn with_capacity(merges: usize, bytes: usize) -> Self {
        Rules {
            arena: String::with_capacity(bytes),
            spans: Vec::with_capacity(merges),
            table: Vec::new(),
            hasher: RandomState::new(),
        }
    }

    pub fn push(&mut self, left: &str, right: &str) -> std::result::Result<(), String> {
        let start = self.arena.len();
        if start + left.len() + right.len() > u32::MAX as usize || self.spans.len() >= MAX_MERGES {
            return Err("merges: expected at most 4 GiB of them".into());
        }
        self.arena.push_str(left);
        let middle = self.arena.len();
        self.arena.push_str(right);
        self.spans.push((start as u32, middle as u32, self.arena.len() as u32));
        Ok(())
    }

    /// After the last push. A pair given twice keeps its last rank.
    fn index(&mut self) {
        let slots = (self.spans.len().max(8) * 2).next_power_of_two();
        self.table = vec![(0, NONE); slots];
        for rank in 0..self.spans.len() {
            let (left, right) = self.texts(rank as u32);
            let hash = self.hash(left, right);
            let slot = self.slot(left, right, hash);
            self.table[slot] = ((hash >> 32) as u32, rank as u32);
        }
    }

    fn texts(&self, rank: u32) -> (&str, &str) {
        let (start, middle, end) = self.spans[rank as usize];
        let text = &self.arena[start as usize..end as usize];
        text.split_at((middle - start) as usize)
    }

    fn hash(&self, left: &str, right: &str) -> u64 {
        self.hasher.hash_one((left, right))
    }

    fn slot(&self, left: &str, right: &str, hash: u64) -> usize {
        let mask = self.table.len() - 1;
        let mut slot = hash as usize & mask;
        loop {
            let (part, rank) = self.table[slot];
            if rank == NONE || (part == (hash >> 32) as u32 && self.texts(rank) == (left, right)) {
                return slot;
            }
            slot = (slot + 1) & mask;
        }
    }

    fn find(&self, left: &str, right: &str) -> Option<u32> {
        let rank = self.table[self.slot(left, right, self.hash(left, right))].1;
        (rank != NONE).then_some(rank)
    }
}

/// (left, right) -> (rank, merged), open addressing.
struct Pairs {
    slots: Vec<(u32, u32, u32, u32)>, // left, right, rank, merged; merged NONE where empty
    shift: u32,
}

impl Pairs {
    /// Looks up the two parts and the whole of every merge; one whose tokens are not in
    /// the vocabulary never happens.
    fn new(rules: &Rules, tokens: &Tokens) -> Self {
        let count = rules.spans.len();
        let slots = (count.max(8) * 2).next_power_of_two();
        let mut pairs =
            Pairs { slots: vec![(0, 0, 0, NONE); slots], shift: 64 - slots.trailing_zeros() };
        for rank in 0..count as u32 {
            let (left, right) = rules.texts(rank);
            let (start, _, end) = rules.spans[rank as usize];
            let whole = &rules.arena[start as usize..end as usize];
            let ids = (tokens.find(left), tokens.find(right), tokens.find(whole));
            if let (Some(left), Some(right), Some(merged)) = ids {
                let slot = pairs.slot(left, right);
                pairs.slots[slot] = (left, right, rank, merged);
            }
        }
        pairs
    }

    fn slot(&self, left: u32, right: u32) -> usize {
        let key = u64::from(left) << 32 | u64::from(right);
        let mut slot = (key ^ key >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift;
        loop {
            let at = &self.slots[slot as usize];
            if at.3 == NONE || (at.0 == left && at.1 == right) {
                return slot as usize;
            }
            slot = (slot + 1) & (self.slots.len() as u64 - 1);
        }
    }

    fn find(&self, left: u32, right: u32) -> Option<(u32, u32)> {
        let at = &self.slots[self.slot(left, right)];
        (at.3 != NONE).then_some((at.2, at.3))
    }
}
