//! Byte-pair encoding with tables that are quick to build: a program that answers one
//! question builds its tokenizer every time. The ids are those of the `tokenizers` crate's
//! `BPE` (merges by rank) and of SentencePiece (merges by score); the tests compare.
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use tokenizers::{Result, Token};

mod merges;
mod tokens;

pub use merges::{Merges, Ranked, Rules};
pub use tokens::Tokens;

const NONE: u32 = u32::MAX;
/// Up to here the best pair is searched for; beyond, a heap keeps it.
const SMALL: usize = 24;

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
    use super::merges::QUESTIONS;
    use super::*;
    use std::sync::atomic::Ordering;
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
