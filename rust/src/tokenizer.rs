//! Tokenizers behind the C interface.
use crate::bpe::{Bpe, Merges, Options, Ranked, Rules, Tokens};
use crate::ffi::{caught, guard, items, Buffer, Slice};
use crate::model::{self, Kind, Model};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use std::sync::{Arc, OnceLock};
use tokenizers::{
    AddedToken, DecoderWrapper, EncodeInput, NormalizerWrapper, PostProcessorWrapper,
    PreTokenizerWrapper, TokenizerImpl,
};

const ADD_SPECIAL: u32 = 1;
const SPECIAL_AS_TEXT: u32 = 2;

pub type Inner = TokenizerImpl<
    Model,
    NormalizerWrapper,
    PreTokenizerWrapper,
    PostProcessorWrapper,
    DecoderWrapper,
>;

pub struct Tokenizer {
    parsing: Inner,
    /// Takes special tokens written in a text as text; made when first asked for.
    literal: OnceLock<Inner>,
}

/// A tokenizer.json without its model. Truncation and padding are the caller's.
#[derive(Deserialize)]
struct Shell<'a> {
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: Option<PreTokenizerWrapper>,
    post_processor: Option<PostProcessorWrapper>,
    decoder: Option<DecoderWrapper>,
    #[serde(borrow)]
    model: Option<&'a RawValue>,
}

fn parse_shell(json: &str) -> Result<Shell<'_>, String> {
    serde_json::from_str(json).map_err(|e| e.to_string())
}

impl Tokenizer {
    fn from_json(json: &str) -> Result<Self, String> {
        let shell = parse_shell(json)?;
        let model = shell.model.ok_or("expected a model, found none")?;
        let model = model::from_json(model.get())?;
        Self::assemble(shell, model)
    }

    fn assemble(shell: Shell, model: Model) -> Result<Self, String> {
        let failed = |e: tokenizers::Error| e.to_string();
        let mut inner = Inner::new(model);
        inner
            .with_normalizer(shell.normalizer)
            .map_err(failed)?
            .with_pre_tokenizer(shell.pre_tokenizer)
            .with_post_processor(shell.post_processor)
            .with_decoder(shell.decoder);
        inner.add_tokens(shell.added_tokens).map_err(failed)?;
        Ok(Tokenizer { parsing: inner, literal: OnceLock::new() })
    }

    /// Adds the tokens that are not added tokens yet.
    fn add(&mut self, json: &str) -> Result<(), String> {
        let tokens: Vec<AddedToken> = serde_json::from_str(json).map_err(|e| e.to_string())?;
        let known = self.parsing.get_added_vocabulary().get_vocab();
        let tokens: Vec<_> =
            tokens.into_iter().filter(|t| !known.contains_key(&t.content)).collect();
        self.parsing.add_tokens(tokens).map_err(|e| e.to_string())?;
        self.literal = OnceLock::new();
        Ok(())
    }

    fn inner(&self, flags: u32) -> &Inner {
        if flags & SPECIAL_AS_TEXT == 0 {
            return &self.parsing;
        }
        self.literal.get_or_init(|| {
            let mut literal = self.parsing.clone();
            literal.set_encode_special_tokens(true);
            literal
        })
    }

    /// Takes every text literally.
    pub fn literal(&self) -> &Inner {
        self.inner(SPECIAL_AS_TEXT)
    }

    pub fn parsing(&self) -> &Inner {
        &self.parsing
    }

    fn encode(&self, text: &str, flags: u32) -> Result<Vec<u8>, String> {
        let encoding = self
            .inner(flags)
            .encode_fast(text, flags & ADD_SPECIAL != 0)
            .map_err(|e| e.to_string())?;
        Ok(encoding.get_ids().iter().flat_map(|id| id.to_ne_bytes()).collect())
    }

    fn analyze(&self, text: &str, pair: Option<&str>, flags: u32) -> Result<String, String> {
        let input: EncodeInput = match pair {
            Some(pair) => (text, pair).into(),
            None => text.into(),
        };
        let encoding = self
            .inner(flags)
            .encode_char_offsets(input, flags & ADD_SPECIAL != 0)
            .map_err(|e| e.to_string())?;
        let result = json!({
            "ids": encoding.get_ids(),
            "type_ids": encoding.get_type_ids(),
            "special_mask": encoding.get_special_tokens_mask(),
            "tokens": encoding.get_tokens(),
            "offsets": encoding.get_offsets(),
        });
        Ok(result.to_string())
    }

    fn describe(&self) -> Result<String, String> {
        let decoder =
            serde_json::to_value(self.parsing.get_decoder()).map_err(|e| e.to_string())?;
        let mut added: Vec<_> =
            self.parsing.get_added_vocabulary().get_added_tokens_decoder().iter().collect();
        added.sort_by_key(|(id, _)| **id);
        let added: Vec<_> = added
            .into_iter()
            .map(|(id, t)| json!({"id": id, "content": t.content, "special": t.special}))
            .collect();
        Ok(json!({"decoder": decoder, "added_tokens": added}).to_string())
    }
}

#[repr(C)]
pub struct BpeParts {
    tokens: *const Slice,
    token_count: usize,
    merges: *const Slice,
    merge_count: usize,
    scores: *const f32,
    byte_fallback: i32,
    ignore_merges: i32,
    unknown: i64,
}

impl BpeParts {
    unsafe fn build(&self) -> Result<Bpe, String> {
        let texts = items(self.tokens, self.token_count);
        let bytes = texts.iter().map(|t| t.bytes().len()).sum();
        let mut tokens = Tokens::with_capacity(texts.len(), bytes);
        for (id, text) in texts.iter().enumerate() {
            let text = text.text().map_err(|e| format!("token {id}: {e}"))?;
            tokens.insert(text, id as u32)?;
        }
        let merges = if self.scores.is_null() {
            let merges = items(self.merges, self.merge_count);
            Merges::ByRank(Ranked::new(rules_from(merges)?))
        } else {
            Merges::ByScore(items(self.scores, self.token_count).to_vec())
        };
        let unknown = u32::try_from(self.unknown).ok().and_then(|id| tokens.get(id));
        let options = Options {
            unknown: unknown.map(str::to_string),
            byte_fallback: self.byte_fallback != 0,
            ignore_merges: self.ignore_merges != 0,
            fuse_unknown: true,
        };
        Ok(Bpe { tokens, merges, options })
    }
}

/// "left right": the first space that is not the first character divides.
unsafe fn rules_from(merges: &[Slice]) -> Result<Rules, String> {
    let bytes = merges.iter().map(|m| m.bytes().len()).sum();
    let mut rules = Rules::with_capacity(merges.len(), bytes);
    for (i, merge) in merges.iter().enumerate() {
        let text = merge.text().map_err(|e| format!("merge {i}: {e}"))?;
        let at = text
            .bytes()
            .skip(1)
            .position(|b| b == b' ')
            .ok_or_else(|| format!("merge {i}: expected \"left right\", found {text:?}"))?;
        rules.push(&text[..at + 1], &text[at + 2..])?;
    }
    Ok(rules)
}

/// # Safety
/// See the header; the same holds for every function below.
#[no_mangle]
pub unsafe extern "C" fn mlxlm_tokenizer_from_json(
    json: Slice,
    out: *mut *mut Tokenizer,
    error: *mut Buffer,
) -> i32 {
    guard(out, error, || Tokenizer::from_json(json.text()?).map(|t| Box::into_raw(Box::new(t))))
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn mlxlm_tokenizer_from_bpe(
    shell: Slice,
    parts: *const BpeParts,
    out: *mut *mut Tokenizer,
    error: *mut Buffer,
) -> i32 {
    guard(out, error, || {
        let model = Model(Arc::new(Kind::Quick((*parts).build()?)));
        let tokenizer = Tokenizer::assemble(parse_shell(shell.text()?)?, model)?;
        Ok(Box::into_raw(Box::new(tokenizer)))
    })
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn mlxlm_tokenizer_add(
    tokenizer: *mut Tokenizer,
    json: Slice,
    error: *mut Buffer,
) -> i32 {
    guard(&mut (), error, || (*tokenizer).add(json.text()?))
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn mlxlm_tokenizer_free(tokenizer: *mut Tokenizer) {
    if !tokenizer.is_null() {
        let _ = caught(|| {
            drop(Box::from_raw(tokenizer));
            Ok(())
        });
    }
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn mlxlm_tokenizer_encode(
    tokenizer: *const Tokenizer,
    text: Slice,
    flags: u32,
    ids: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guard(ids, error, || Ok((*tokenizer).encode(text.text()?, flags)?.into()))
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn mlxlm_tokenizer_analyze(
    tokenizer: *const Tokenizer,
    text: Slice,
    pair: *const Slice,
    flags: u32,
    json: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guard(json, error, || {
        let pair = match pair.as_ref() {
            Some(pair) => Some(pair.text()?),
            None => None,
        };
        Ok((*tokenizer).analyze(text.text()?, pair, flags)?.into())
    })
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn mlxlm_tokenizer_decode(
    tokenizer: *const Tokenizer,
    ids: *const u32,
    count: usize,
    skip_special: i32,
    text: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guard(text, error, || {
        (*tokenizer)
            .parsing
            .decode(items(ids, count), skip_special != 0)
            .map(Buffer::from)
            .map_err(|e| e.to_string())
    })
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn mlxlm_tokenizer_token(
    tokenizer: *const Tokenizer,
    id: u32,
    text: *mut Buffer,
) -> i32 {
    match caught(|| Ok((*tokenizer).parsing.id_to_token(id))) {
        Ok(Some(token)) => {
            text.write(token.into());
            1
        }
        _ => 0,
    }
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn mlxlm_tokenizer_id(tokenizer: *const Tokenizer, token: Slice) -> i64 {
    caught(|| Ok((*tokenizer).parsing.token_to_id(token.text()?)))
        .ok()
        .flatten()
        .map_or(-1, i64::from)
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn mlxlm_tokenizer_size(tokenizer: *const Tokenizer) -> usize {
    caught(|| Ok((*tokenizer).parsing.get_vocab_size(true))).unwrap_or(0)
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn mlxlm_tokenizer_describe(
    tokenizer: *const Tokenizer,
    json: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guard(json, error, || Ok((*tokenizer).describe()?.into()))
}
