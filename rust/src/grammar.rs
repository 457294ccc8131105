//! Grammars behind the C interface: which tokens may come next in a text that a JSON
//! schema, a regular expression or a Lark grammar describes.
use crate::ffi::{caught, guard, items, Buffer, Slice};
use crate::meter::metered;
use crate::tokenizer::{Inner, Tokenizer};
use llguidance::api::{ParserLimits, StopReason, TopLevelGrammar};
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{
    InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv,
};
use llguidance::{Matcher, ParserFactory, TokenParser};
use std::collections::HashMap;
use std::sync::Arc;

const REGEX: i32 = 1;
const LARK: i32 = 2;
const CHOICE: i32 = 3;

struct Env {
    trie: TokTrie,
    /// How texts are really cut into tokens; nothing when that depends on what stands
    /// before them.
    canonical: Option<Inner>,
}

impl TokenizerEnv for Env {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        let Some(tokenizer) = &self.canonical else {
            return self.trie.greedy_tokenize(bytes);
        };
        self.trie.tokenize_with_greedy_fallback(bytes, |text| {
            tokenizer.encode_fast(text, false).map_or(Vec::new(), |e| e.get_ids().to_vec())
        })
    }

    fn tokenize_is_canonical(&self) -> bool {
        self.canonical.is_some()
    }
}

pub struct Vocabulary {
    factory: ParserFactory,
    /// What can be forced where texts are cut into tokens in one way only.
    capabilities: InferenceCapabilities,
}

/// The bytes that a byte-level vocabulary spells as characters.
fn byte_level() -> HashMap<char, u8> {
    let itself = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let own = (0..=255u8).filter(|&b| itself(b)).map(|b| (char::from(b), b));
    let others = (0..=255u8).filter(|&b| !itself(b)).zip(256..);
    own.chain(others.map(|(b, code)| (char::from_u32(code).unwrap_or_default(), b))).collect()
}

/// "<0x0A>".
fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// Every token's bytes; those of special tokens behind the trie's marker.
fn token_bytes(tokenizer: &Inner, byte_level_decoder: bool, size: usize) -> Vec<Vec<u8>> {
    let map = byte_level();
    let added = tokenizer.get_added_vocabulary().get_added_tokens_decoder().clone();
    let plain = |token: &str| -> Vec<u8> {
        if byte_level_decoder {
            let bytes: Option<Vec<u8>> = token.chars().map(|c| map.get(&c).copied()).collect();
            return bytes.unwrap_or_else(|| token.as_bytes().to_vec());
        }
        match fallback_byte(token) {
            Some(byte) => vec![byte],
            None => token.replace('▁', " ").replace("</w>", " ").into_bytes(),
        }
    };
    (0..size as u32)
        .map(|id| match (added.get(&id), tokenizer.id_to_token(id)) {
            (Some(token), _) if token.special => {
                [&[TokTrie::SPECIAL_TOKEN_MARKER], token.content.as_bytes()].concat()
            }
            (Some(token), _) => token.content.clone().into_bytes(),
            (None, Some(token)) => plain(&token),
            (None, None) => Vec::new(),
        })
        .collect()
}

fn spelled(part: &impl serde::Serialize) -> String {
    serde_json::to_string(part).unwrap_or_default()
}

impl Vocabulary {
    fn new(tokenizer: &Tokenizer, size: usize, eos: &[u32]) -> Result<Self, String> {
        let size = size.max(tokenizer.parsing().get_vocab_size(true));
        if let Some(bad) = eos.iter().find(|&&id| id as usize >= size) {
            return Err(format!("expected ids below {size} that end a text, found {bad}"));
        }
        if eos.is_empty() {
            return Err("expected an id that ends a text, found none".into());
        }
        let bytes = spelled(&tokenizer.parsing().get_decoder()).contains("\"ByteLevel\"");
        let prefixed =
            spelled(&tokenizer.parsing().get_pre_tokenizer()).contains("\"add_prefix_space\":true");
        let words = token_bytes(tokenizer.parsing(), bytes, size);
        let trie = TokTrie::from(&TokRxInfo::new(size as u32, eos[0]), &words).with_eos_tokens(eos);
        let canonical = (bytes && !prefixed).then(|| tokenizer.literal().clone());
        let env: TokEnv = Arc::new(Env { trie, canonical });
        let ff_tokens = env.tokenize_is_canonical();
        let capabilities = InferenceCapabilities { ff_tokens, ..Default::default() };
        let slices = SlicedBiasComputer::general_slices();
        let mut factory = ParserFactory::new(&env, capabilities.clone(), &slices)
            .map_err(|e| line(&e.to_string()))?;
        factory.quiet();
        factory.limits_mut().verbose_errors = false;
        Ok(Vocabulary { factory, capabilities })
    }

    fn compile(
        &self,
        kind: i32,
        source: &str,
        limits: &Limits,
        begins: Option<&mut i32>,
    ) -> Result<Matcher, String> {
        if source.len() > limits.source_bytes {
            return Err(format!(
                "expected at most {} bytes, found {}",
                limits.source_bytes,
                source.len()
            ));
        }
        let grammar = match kind {
            REGEX => TopLevelGrammar::from_regex(source),
            LARK => TopLevelGrammar::from_lark(source.to_string()),
            CHOICE => TopLevelGrammar::from_lark(choice(source)?),
            _ => TopLevelGrammar::from_json_schema(
                serde_json::from_str(source).map_err(|e| format!("expected JSON, found {e}"))?,
            ),
        };
        let limits = ParserLimits {
            initial_lexer_fuel: limits.steps,
            verbose_errors: false,
            ..self.factory.limits().clone()
        };
        let parser = self.factory.create_parser_from_init_ext(
            llguidance::api::GrammarInit::Serialized(grammar),
            llguidance::Logger::new(0, 0),
            self.capabilities.clone(),
            limits,
        );
        if let (Some(begins), Ok(parser)) = (begins, &parser) {
            *begins = i32::from(can_begin(parser.deep_clone())?);
        }
        let matcher = Matcher::new(parser);
        match matcher.get_error() {
            Some(error) => Err(line(&error)),
            None => Ok(matcher),
        }
    }
}

/// Whether any token may come first: small vocabularies cannot write everything.
fn can_begin(mut parser: TokenParser) -> Result<bool, String> {
    if parser.is_fresh() {
        parser.start_without_prompt();
    }
    if parser.stopped() {
        return Ok(true);
    }
    match parser.compute_mask() {
        Ok(_) => Ok(true),
        Err(_) if parser.stop_reason() == StopReason::NoExtensionBias => Ok(false),
        Err(error) => Err(line(&error.to_string())),
    }
}

/// A Lark grammar of one of some strings.
fn choice(source: &str) -> Result<String, String> {
    let choices: Vec<String> = serde_json::from_str(source)
        .map_err(|e| format!("expected a JSON list of strings, found {e}"))?;
    if choices.is_empty() {
        return Err("expected at least one choice, found none".into());
    }
    let spelled: Vec<_> = choices.iter().map(spelled).collect();
    Ok(format!("start: {}", spelled.join(" | ")))
}

/// The first line that says something, without a trace of what the crate was doing.
fn line(text: &str) -> String {
    let text = text.split("<backtrace>").next().unwrap_or(text).trim();
    if text.contains("non-string panic") {
        return "expected a smaller grammar, found one that needs too much memory".into();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[repr(C)]
pub struct Limits {
    source_bytes: usize,
    memory_bytes: usize,
    steps: u64,
}

/// # Safety
/// See the header; the same holds for every function below.
#[no_mangle]
pub unsafe extern "C" fn mlxlm_vocabulary_new(
    tokenizer: *const Tokenizer,
    size: u32,
    eos: *const u32,
    eos_count: usize,
    out: *mut *mut Vocabulary,
    error: *mut Buffer,
) -> i32 {
    guard(out, error, || {
        Vocabulary::new(&*tokenizer, size as usize, items(eos, eos_count))
            .map(|v| Box::into_raw(Box::new(v)))
    })
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn mlxlm_vocabulary_free(vocabulary: *mut Vocabulary) {
    if !vocabulary.is_null() {
        let _ = caught(|| {
            drop(Box::from_raw(vocabulary));
            Ok(())
        });
    }
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn mlxlm_matcher_new(
    vocabulary: *const Vocabulary,
    kind: i32,
    source: Slice,
    limits: *const Limits,
    out: *mut *mut Matcher,
    begins: *mut i32,
    error: *mut Buffer,
) -> i32 {
    guard(out, error, || {
        let source = source.text()?;
        let limits = &*limits;
        let matcher = metered(limits.memory_bytes, || {
            (*vocabulary).compile(kind, source, limits, begins.as_mut())
        })?;
        Ok(Box::into_raw(Box::new(matcher)))
    })
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn mlxlm_matcher_copy(
    matcher: *const Matcher,
    out: *mut *mut Matcher,
    error: *mut Buffer,
) -> i32 {
    guard(out, error, || Ok(Box::into_raw(Box::new((*matcher).deep_clone()))))
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn mlxlm_matcher_free(matcher: *mut Matcher) {
    if !matcher.is_null() {
        let _ = caught(|| {
            drop(Box::from_raw(matcher));
            Ok(())
        });
    }
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn mlxlm_matcher_mask(
    matcher: *mut Matcher,
    mask: *mut u32,
    words: usize,
    error: *mut Buffer,
) -> i32 {
    guard(&mut (), error, || {
        let found = (*matcher).compute_mask_or_eos().map_err(|e| line(&e.to_string()))?;
        let bits = found.as_slice();
        let out = std::slice::from_raw_parts_mut(mask, words);
        for (i, word) in out.iter_mut().enumerate() {
            *word = bits.get(i).copied().unwrap_or(0);
        }
        Ok(())
    })
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn mlxlm_matcher_accept(
    matcher: *mut Matcher,
    ids: *const u32,
    count: usize,
    accepted: *mut usize,
    error: *mut Buffer,
) -> i32 {
    guard(accepted, error, || {
        (*matcher).try_consume_tokens(items(ids, count)).map_err(|e| line(&e.to_string()))
    })
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn mlxlm_matcher_rollback(
    matcher: *mut Matcher,
    count: usize,
    error: *mut Buffer,
) -> i32 {
    guard(&mut (), error, || (*matcher).rollback(count).map_err(|e| line(&e.to_string())))
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn mlxlm_matcher_forced(
    matcher: *mut Matcher,
    ids: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guard(ids, error, || {
        let forced = (*matcher).compute_ff_tokens();
        Ok(forced.iter().flat_map(|id| id.to_ne_bytes()).collect::<Vec<u8>>().into())
    })
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn mlxlm_matcher_state(
    matcher: *mut Matcher,
    state: *mut i32,
    error: *mut Buffer,
) -> i32 {
    guard(state, error, || {
        if (*matcher).is_stopped() {
            return Ok(2);
        }
        Ok(i32::from((*matcher).is_accepting().map_err(|e| line(&e.to_string()))?))
    })
}
