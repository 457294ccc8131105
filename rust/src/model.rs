//! The model of a tokenizer: our BPE where it applies, else the `tokenizers` crate's; and
//! the reading of both from a tokenizer.json.
use crate::bpe::{Bpe, Merges, Options, Ranked, Rules, Tokens};
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokenizers::models::bpe::BpeTrainer;
use tokenizers::{Model as ModelTrait, ModelWrapper, Result, Token};

pub enum Kind {
    Quick(Bpe),
    Other(ModelWrapper),
}

/// Shared by the tokenizers that differ only in how they treat special tokens.
#[derive(Clone)]
pub struct Model(pub Arc<Kind>);

impl ModelTrait for Model {
    type Trainer = BpeTrainer;

    fn tokenize(&self, sequence: &str) -> Result<Vec<Token>> {
        match &*self.0 {
            Kind::Quick(bpe) => bpe.tokenize(sequence),
            Kind::Other(model) => model.tokenize(sequence),
        }
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        match &*self.0 {
            Kind::Quick(bpe) => bpe.tokens.find(token),
            Kind::Other(model) => model.token_to_id(token),
        }
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        match &*self.0 {
            Kind::Quick(bpe) => bpe.tokens.get(id).map(str::to_string),
            Kind::Other(model) => model.id_to_token(id),
        }
    }

    fn get_vocab(&self) -> HashMap<String, u32> {
        match &*self.0 {
            Kind::Quick(bpe) => bpe.tokens.iter().map(|(t, id)| (t.to_string(), id)).collect(),
            Kind::Other(model) => model.get_vocab(),
        }
    }

    fn get_vocab_size(&self) -> usize {
        match &*self.0 {
            Kind::Quick(bpe) => bpe.tokens.len(),
            Kind::Other(model) => model.get_vocab_size(),
        }
    }

    fn save(&self, _: &Path, _: Option<&str>) -> Result<Vec<PathBuf>> {
        Err("a tokenizer is read, never written".into())
    }

    fn get_trainer(&self) -> BpeTrainer {
        BpeTrainer::default()
    }
}

/// The "model" of a tokenizer.json.
pub fn from_json(json: &str) -> std::result::Result<Model, String> {
    let bpe: BpeJson = parse(json)?;
    let kind = match bpe.build() {
        Some(bpe) => Kind::Quick(bpe),
        None => Kind::Other(parse(json)?),
    };
    Ok(Model(Arc::new(kind)))
}

fn parse<'a, T: Deserialize<'a>>(json: &'a str) -> std::result::Result<T, String> {
    serde_json::from_str(json).map_err(|e| format!("model: {e}"))
}

/// A BPE model; of other kinds only the type is looked at.
#[derive(Deserialize)]
struct BpeJson<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<Cow<'a, str>>,
    dropout: Option<f32>,
    #[serde(borrow)]
    continuing_subword_prefix: Option<Cow<'a, str>>,
    #[serde(borrow)]
    end_of_word_suffix: Option<Cow<'a, str>>,
    #[serde(borrow)]
    unk_token: Option<Cow<'a, str>>,
    fuse_unk: Option<bool>,
    byte_fallback: Option<bool>,
    ignore_merges: Option<bool>,
    vocab: Option<Vocabulary>,
    merges: Option<MergeList>,
}

impl BpeJson<'_> {
    /// Ours, if it is a BPE without the rarer options.
    fn build(self) -> Option<Bpe> {
        let empty = |text: Option<Cow<str>>| text.is_none_or(|t| t.is_empty());
        let ours = self.kind.as_deref() == Some("BPE")
            && self.dropout.is_none_or(|p| p == 0.0)
            && empty(self.continuing_subword_prefix)
            && empty(self.end_of_word_suffix);
        if !ours {
            return None;
        }
        Some(Bpe {
            tokens: self.vocab?.0?,
            merges: Merges::ByRank(Ranked::new(self.merges?.0)),
            options: Options {
                unknown: self.unk_token.map(Cow::into_owned),
                fuse_unknown: self.fuse_unk.unwrap_or(false),
                byte_fallback: self.byte_fallback.unwrap_or(false),
                ignore_merges: self.ignore_merges.unwrap_or(false),
            },
        })
    }
}

/// A map of tokens to ids; nothing when it has another form (Unigram has a list).
struct Vocabulary(Option<Tokens>);

impl<'de> Deserialize<'de> for Vocabulary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Vocabulary;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a map of tokens to ids")
            }
            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Vocabulary, A::Error> {
                let mut tokens = Tokens::with_capacity(1 << 15, 1 << 18);
                while let Some(text) = map.next_key_seed(Text)? {
                    let id = map.next_value()?;
                    tokens.insert(&text, id).map_err(A::Error::custom)?;
                }
                Ok(Vocabulary(Some(tokens)))
            }
            fn visit_seq<A: SeqAccess<'de>>(
                self,
                mut seq: A,
            ) -> std::result::Result<Vocabulary, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Vocabulary(None))
            }
        }
        deserializer.deserialize_any(Entries)
    }
}

/// A string borrowed from the document where it has no escapes.
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Cow<'de, str>;
    fn deserialize<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> std::result::Result<Cow<'de, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;
    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a string")
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> std::result::Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(text))
    }
    fn visit_str<E>(self, text: &str) -> std::result::Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(text.to_string()))
    }
}

/// ["left right", …] or [["left", "right"], …].
struct MergeList(Rules);

impl<'de> Deserialize<'de> for MergeList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = MergeList;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a list of merges")
            }
            fn visit_seq<A: SeqAccess<'de>>(
                self,
                mut seq: A,
            ) -> std::result::Result<MergeList, A::Error> {
                let mut rules = Rules::with_capacity(1 << 15, 1 << 18);
                while let Some(merge) = seq.next_element_seed(MergeEntry)? {
                    if let Some((left, right)) = merge {
                        rules.push(&left, &right).map_err(A::Error::custom)?;
                    }
                }
                Ok(MergeList(rules))
            }
        }
        deserializer.deserialize_seq(List)
    }
}

struct MergeEntry;

impl<'de> DeserializeSeed<'de> for MergeEntry {
    type Value = Option<(Cow<'de, str>, Cow<'de, str>)>;
    fn deserialize<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> std::result::Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for MergeEntry {
    type Value = Option<(Cow<'de, str>, Cow<'de, str>)>;
    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a merge: \"left right\" or [\"left\", \"right\"]")
    }
    fn visit_borrowed_str<E: serde::de::Error>(
        self,
        text: &'de str,
    ) -> std::result::Result<Self::Value, E> {
        split(text).map(|pair| pair.map(|(l, r)| (l.into(), r.into())))
    }
    fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<Self::Value, E> {
        split(text).map(|p| p.map(|(l, r)| (l.to_string().into(), r.to_string().into())))
    }
    fn visit_seq<A: SeqAccess<'de>>(
        self,
        mut seq: A,
    ) -> std::result::Result<Self::Value, A::Error> {
        let short = || A::Error::custom("expected a merge of two tokens");
        let left = seq.next_element_seed(Text)?.ok_or_else(short)?;
        let right = seq.next_element_seed(Text)?.ok_or_else(short)?;
        match seq.next_element::<IgnoredAny>()? {
            None => Ok(Some((left, right))),
            Some(_) => Err(short()),
        }
    }
}

fn split<E: serde::de::Error>(text: &str) -> std::result::Result<Option<(&str, &str)>, E> {
    if text.starts_with("#version") {
        return Ok(None);
    }
    match text.split_once(' ') {
        Some((left, right)) if !right.contains(' ') => Ok(Some((left, right))),
        _ => Err(E::custom(format!("expected a merge \"left right\", found {text:?}"))),
    }
}
