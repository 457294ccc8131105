//! Byte-pair encoding with tables that are quick to build: a program that answers one
//! question builds its tokenizer every time. The ids are those of the `tokenizers` crate's
//! `BPE` (merges by rank) and of SentencePiece (merges by score); the tests compare.
use ahash::RandomState;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::OnceLock;
use tokenizers::{Result, Token};

const NONE: u32 = u32::MAX;
/// Ids above this are refused: they index arrays.
const MAX_ID: u32 = 1 << 24;
const MAX_MERGES: usize = 1 << 25;
/// Merges asked for before the table of ids is built: about what it costs.
const QUESTIONS: usize = 100_000;
/// Up to here the best pair is searched for; beyond, a heap keeps it.
const SMALL: usize = 24;

/// The token strings: one arena, spans by id, and a hash table from string to id.
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

/// Merges by rank. The first questions are answered from the texts; a program that asks
/// much gets the table of ids, which takes longer to build than a short prompt to encode.
pub struct Ranked {
    rules: Rules,
    asked: AtomicUsize,
    pairs: OnceLock<Pairs>,
}

impl Ranked {
    pub fn new(mut rules: Rules) -> Self {
        rules.index();
        Ranked { rules, asked: AtomicUsize::new(0), pairs: OnceLock::new() }
    }

    fn find(&self, tokens: &Tokens, left: u32, right: u32) -> Option<(u32, u32)> {
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

pub enum Merges {
    /// Lowest rank first.
    ByRank(Ranked),
    /// Highest score first; two neighbours merge when their text together is a token.
    ByScore(Vec<f32>),
}

#[derive(Default)]
pub struct Options {
    pub unknown: Option<String>,
    pub fuse_unknown: bool,
    pub byte_fallback: bool,
    pub ignore_merges: bool,
}

pub struct Bpe {
    pub tokens: Tokens,
    pub merges: Merges,
    pub options: Options,
}

/// A part of the word being encoded: text[start..start + size].
#[derive(Clone, Copy)]
struct Symbol {
    id: u32, // NONE: no token of its own
    start: u32,
    size: u32, // 0: merged away
}

impl Bpe {
    pub fn tokenize(&self, word: &str) -> Result<Vec<Token>> {
        if word.is_empty() {
            return Ok(vec![]);
        }
        if self.options.ignore_merges {
            if let Some(id) = self.tokens.find(word) {
                return Ok(vec![Token::new(id, word.to_string(), (0, word.len()))]);
            }
        }
        if word.len() > u32::MAX as usize {
            return Err("expected a text below 4 GiB".into());
        }
        let mut symbols = match self.merges {
            Merges::ByRank(_) => self.characters(word)?,
            Merges::ByScore(_) => self.loose_characters(word),
        };
        if symbols.len() <= SMALL {
            self.merge_few(word, &mut symbols);
        } else {
            self.merge_many(word, &mut symbols);
        }
        self.to_tokens(word, &symbols)
    }

    fn byte_token(&self, byte: u8) -> Option<u32> {
        self.tokens.find(&format!("<0x{byte:02X}>"))
    }

    fn unknown_id(&self) -> Result<Option<u32>> {
        match &self.options.unknown {
            None => Ok(None),
            Some(token) => match self.tokens.find(token) {
                Some(id) => Ok(Some(id)),
                None => Err(format!("unknown token {token:?} is not in the vocabulary").into()),
            },
        }
    }

    /// One symbol a character; those without a token become bytes or unknown before
    /// anything merges, as in the `tokenizers` crate (which keeps a pending unknown
    /// behind the bytes of the next one).
    fn characters(&self, word: &str) -> Result<Vec<Symbol>> {
        let mut symbols = Vec::with_capacity(word.len());
        let mut pending: Option<(u32, u32)> = None;
        let mut at = 0u32;
        let mut add = |symbols: &mut Vec<Symbol>, id, size| {
            symbols.push(Symbol { id, start: at, size });
            at += size;
        };
        let mut utf8 = [0; 4];
        for c in word.chars() {
            let text: &str = c.encode_utf8(&mut utf8);
            let size = text.len() as u32;
            if let Some(id) = self.tokens.find(text) {
                if let Some((unknown, size)) = pending.take() {
                    add(&mut symbols, unknown, size);
                }
                add(&mut symbols, id, size);
                continue;
            }
            if self.options.byte_fallback {
                let bytes: Option<Vec<u32>> = text.bytes().map(|b| self.byte_token(b)).collect();
                if let Some(bytes) = bytes {
                    bytes.into_iter().for_each(|id| add(&mut symbols, id, 1));
                    continue;
                }
            }
            let Some(unknown) = self.unknown_id()? else { continue };
            pending = Some(match pending {
                Some((id, sum)) if self.options.fuse_unknown => (id, sum + size),
                before => {
                    if let Some((id, size)) = before {
                        add(&mut symbols, id, size);
                    }
                    (unknown, size)
                }
            });
        }
        if let Some((id, size)) = pending {
            add(&mut symbols, id, size);
        }
        Ok(symbols)
    }

    /// One symbol a character, with or without a token: it may still become part of one.
    fn loose_characters(&self, word: &str) -> Vec<Symbol> {
        word.char_indices()
            .map(|(start, c)| {
                let size = c.len_utf8();
                Symbol {
                    id: self.tokens.find(&word[start..start + size]).unwrap_or(NONE),
                    start: start as u32,
                    size: size as u32,
                }
            })
            .collect()
    }

    /// What two neighbours make: (order, id), smallest order first.
    fn merged(&self, word: &str, left: Symbol, right: Symbol) -> Option<(u32, u32)> {
        match &self.merges {
            Merges::ByRank(ranked) => ranked.find(&self.tokens, left.id, right.id),
            Merges::ByScore(scores) => {
                let text = &word[left.start as usize..(right.start + right.size) as usize];
                let id = self.tokens.find(text)?;
                let bits = scores.get(id as usize).copied().unwrap_or(0.0).to_bits();
                // The float's order as an unsigned integer, turned round: best first.
                let ordered = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
                Some(((!ordered).min(NONE - 1), id))
            }
        }
    }

    fn merge_few(&self, word: &str, symbols: &mut Vec<Symbol>) {
        let mut orders = [(NONE, NONE); SMALL];
        for i in 1..symbols.len() {
            orders[i - 1] = self.merged(word, symbols[i - 1], symbols[i]).unwrap_or((NONE, NONE));
        }
        while symbols.len() > 1 {
            let pairs = symbols.len() - 1;
            let mut best = 0;
            for i in 1..pairs {
                if orders[i].0 < orders[best].0 {
                    best = i;
                }
            }
            if orders[best].1 == NONE {
                return;
            }
            symbols[best].id = orders[best].1;
            symbols[best].size += symbols[best + 1].size;
            symbols.remove(best + 1);
            orders.copy_within(best + 1..pairs, best);
            orders[pairs - 1] = (NONE, NONE);
            for i in [best.wrapping_sub(1), best] {
                if i < symbols.len() - 1 {
                    orders[i] =
                        self.merged(word, symbols[i], symbols[i + 1]).unwrap_or((NONE, NONE));
                }
            }
        }
    }

    fn merge_many(&self, word: &str, symbols: &mut Vec<Symbol>) {
        let count = symbols.len();
        let mut next: Vec<u32> = (1..=count as u32).collect();
        let mut before: Vec<u32> = (0..count as u32).map(|i| i.wrapping_sub(1)).collect();
        // (order, left, merged id, size of the whole): a pair whose sizes no longer add
        // up is a stale one.
        let mut heap = BinaryHeap::with_capacity(count);
        let push = |heap: &mut BinaryHeap<_>, symbols: &[Symbol], l: usize, r: usize| {
            if let Some((order, id)) = self.merged(word, symbols[l], symbols[r]) {
                let size = symbols[l].size + symbols[r].size;
                heap.push(Reverse((order, l as u32, id, size)));
            }
        };
        for i in 1..count {
            push(&mut heap, symbols, i - 1, i);
        }
        while let Some(Reverse((_, left, id, size))) = heap.pop() {
            let left = left as usize;
            let right = next[left] as usize;
            if symbols[left].size == 0
                || right >= count
                || symbols[left].size + symbols[right].size != size
            {
                continue;
            }
            // The sizes may match by another pair of the same whole: ask again.
            if self.merged(word, symbols[left], symbols[right]).map(|m| m.1) != Some(id) {
                continue;
            }
            symbols[left].id = id;
            symbols[left].size = size;
            symbols[right].size = 0;
            next[left] = next[right];
            if (next[left] as usize) < count {
                before[next[left] as usize] = left as u32;
                push(&mut heap, symbols, left, next[left] as usize);
            }
            if before[left] != NONE {
                push(&mut heap, symbols, before[left] as usize, left);
            }
        }
        symbols.retain(|s| s.size != 0);
    }

    fn to_tokens(&self, word: &str, symbols: &[Symbol]) -> Result<Vec<Token>> {
        let mut out = Vec::with_capacity(symbols.len());
        for s in symbols {
            let span = (s.start as usize, (s.start + s.size) as usize);
            if s.id != NONE {
                let text = self.tokens.get(s.id).unwrap_or_default();
                out.push(Token::new(s.id, text.to_string(), span));
                continue;
            }
            for (i, byte) in word.as_bytes()[span.0..span.1].iter().enumerate() {
                let id = match self.byte_token(*byte).filter(|_| self.options.byte_fallback) {
                    Some(id) => id,
                    None => match self.unknown_id()? {
                        Some(id) => {
                            let text = self.tokens.get(id).unwrap_or_default().to_string();
                            out.push(Token::new(id, text, span));
                            break;
                        }
                        None => break,
                    },
                };
                let text = self.tokens.get(id).unwrap_or_default().to_string();
                out.push(Token::new(id, text, (span.0 + i, span.0 + i + 1)));
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::models::bpe::BPE;
    use tokenizers::Model;

    /// A small generator of numbers, the same every time.
    struct Random(u64);

    impl Random {
        fn below(&mut self, n: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (self.0 >> 33) as usize % n
        }
    }

    const LETTERS: [char; 6] = ['a', 'b', 'c', 'é', '日', '😀'];

    /// A vocabulary of letters, bytes and random merges, as a trainer would leave it.
    fn vocabulary(random: &mut Random) -> (Vec<String>, Vec<(String, String)>) {
        let mut tokens = vec!["<unk>".to_string()];
        tokens.extend(LETTERS[..4 + random.below(3)].iter().map(char::to_string));
        tokens.extend((0..=255).map(|b| format!("<0x{b:02X}>")).filter(|_| random.below(50) > 0));
        let plain = |t: &String| !t.starts_with('<');
        let mut merges = Vec::new();
        for _ in 0..60 {
            let parts: Vec<_> = tokens.iter().filter(|t| plain(t)).cloned().collect();
            let left = parts[random.below(parts.len())].clone();
            let right = parts[random.below(parts.len())].clone();
            let whole = left.clone() + &right;
            if !merges.contains(&(left.clone(), right.clone())) {
                merges.push((left, right));
            }
            if !tokens.contains(&whole) {
                tokens.push(whole);
            }
        }
        (tokens, merges)
    }

    fn word(random: &mut Random, most: usize) -> String {
        let size = 1 + random.below(most);
        (0..size).map(|_| LETTERS[random.below(LETTERS.len())]).collect()
    }

    fn table(tokens: &[String]) -> Tokens {
        let mut table = Tokens::with_capacity(1, 1);
        for (id, token) in tokens.iter().enumerate() {
            table.insert(token, id as u32).unwrap();
        }
        table
    }

    #[test]
    fn same_as_the_crate() {
        let mut random = Random(1);
        for round in 0..200 {
            let (tokens, merges) = vocabulary(&mut random);
            let (fuse, bytes, whole) =
                (random.below(2) == 0, random.below(2) == 0, random.below(4) == 0);
            let unknown = random.below(3) > 0;
            let ids: ahash::AHashMap<String, u32> =
                tokens.iter().enumerate().map(|(i, t)| (t.clone(), i as u32)).collect();
            let mut builder = BPE::builder()
                .vocab_and_merges(ids, merges.clone())
                .fuse_unk(fuse)
                .byte_fallback(bytes)
                .ignore_merges(whole);
            if unknown {
                builder = builder.unk_token("<unk>".into());
            }
            let theirs = builder.build().unwrap();
            let mut rules = Rules::with_capacity(1, 1);
            merges.iter().for_each(|(l, r)| rules.push(l, r).unwrap());
            let ranked = Ranked::new(rules);
            // Both ways of answering.
            ranked.asked.store(if round % 2 == 0 { 0 } else { QUESTIONS }, Ordering::Relaxed);
            let ours = Bpe {
                tokens: table(&tokens),
                merges: Merges::ByRank(ranked),
                options: Options {
                    unknown: unknown.then(|| "<unk>".to_string()),
                    fuse_unknown: fuse,
                    byte_fallback: bytes,
                    ignore_merges: whole,
                },
            };
            for _ in 0..40 {
                let text = word(&mut random, 60);
                assert_eq!(ours.tokenize(&text).unwrap(), theirs.tokenize(&text).unwrap());
            }
        }
    }

    /// SentencePiece's rule, spelled out: the best neighbours first, the leftmost of equals.
    fn by_score(text: &str, tokens: &Tokens, scores: &[f32]) -> Vec<String> {
        let mut parts: Vec<String> = text.chars().map(String::from).collect();
        loop {
            let mut best: Option<(f32, usize)> = None;
            for i in 1..parts.len() {
                if let Some(id) = tokens.find(&(parts[i - 1].clone() + &parts[i])) {
                    let score = scores[id as usize];
                    if best.is_none_or(|(s, _)| score > s) {
                        best = Some((score, i));
                    }
                }
            }
            let Some((_, i)) = best else { return parts };
            let right = parts.remove(i);
            parts[i - 1] += &right;
        }
    }

    #[test]
    fn best_score_first() {
        let mut random = Random(2);
        for _ in 0..200 {
            let (tokens, _) = vocabulary(&mut random);
            let scores: Vec<f32> =
                tokens.iter().map(|_| random.below(40) as f32 * 0.5 - 10.0).collect();
            let ours = Bpe {
                tokens: table(&tokens),
                merges: Merges::ByScore(scores.clone()),
                options: Options { byte_fallback: true, ..Default::default() },
            };
            for _ in 0..20 {
                let text = word(&mut random, 60);
                let found = ours.tokenize(&text).unwrap();
                let mut wanted = Vec::new();
                for part in by_score(&text, &ours.tokens, &scores) {
                    match ours.tokens.find(&part) {
                        Some(id) => wanted.push(id),
                        None => wanted.extend(part.bytes().map_while(|b| ours.byte_token(b))),
                    }
                }
                assert_eq!(found.iter().map(|t| t.id).collect::<Vec<_>>(), wanted, "{text}");
            }
        }
    }

    #[test]
    fn ids_that_would_need_an_array_of_gigabytes_are_refused() {
        assert!(Tokens::with_capacity(1, 1).insert("a", u32::MAX).is_err());
    }
}
