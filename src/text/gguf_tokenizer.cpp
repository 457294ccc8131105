#include "text/gguf_tokenizer.h"

#include <algorithm>
#include <array>
#include <utility>

#include "core/check.h"
#include "core/strings.h"
#include "text/pre_tokenizers.h"
#include "text/rust.h"

namespace mlxlm {
namespace {

// tokenizer.ggml.token_type
enum TokenType { unknown = 2, control = 3, user_defined = 4 };

constexpr std::string_view space_mark = "\xE2\x96\x81"; // "▁"

// Control tokens that end a turn in some family, whatever the file calls its
// EOS: chat-tuned models end their answers with these.
constexpr std::array<std::string_view, 9> turn_ends = {
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eom_id|>",
    "<\xEF\xBD\x9C"
    "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>",
    "<end_of_utterance>"};

class Assembler {
 public:
  Assembler(const GgufTokenizer& gguf, std::string_view where)
      : gguf_(gguf), where_(where) {
    check_arrays();
    if (gguf_.model == "gpt2") {
      byte_level();
    } else if (gguf_.model == "llama") {
      sentence_piece();
    } else {
      fail(
          ErrorKind::text,
          where_,
          "tokenizer.ggml.model: expected gpt2 or llama, found \"{}\"",
          printable(gguf_.model));
    }
    shell_["added_tokens"] = added_tokens();
    shell_["post_processor"] = post_processor();
  }

  GgufTokenizerShell shell() && {
    return {std::move(shell_), bpe_.ignore_merges != 0, bpe_.unknown};
  }

  TokenizerPtr build() {
    auto slices = [](const std::vector<std::string_view>& texts) {
      std::vector<mlxlm_slice> result;
      result.reserve(texts.size());
      for (auto text : texts) {
        result.push_back(text::slice(text));
      }
      return result;
    };
    auto tokens = slices(gguf_.tokens);
    auto merges = slices(gguf_.merges);
    bpe_.tokens = tokens.data();
    bpe_.token_count = tokens.size();
    bpe_.merges = merges.data();
    bpe_.merge_count = merges.size();
    auto shell = shell_.dump();
    mlxlm_tokenizer* handle = nullptr;
    text::RustBuffer error;
    int ok = mlxlm_tokenizer_from_bpe(
        text::slice(shell), &bpe_, &handle, error.out());
    text::check_rust(ok, where_, error);
    return std::make_shared<Tokenizer>(handle, where_, info());
  }

 private:
  void check_arrays() const {
    auto count = gguf_.tokens.size();
    auto check = [&](const char* key, std::size_t size, bool needed) {
      if (size != count && (needed || size != 0)) {
        fail(
            ErrorKind::text,
            where_,
            "tokenizer.ggml.{}: expected {} entries, one a token, found {}",
            key,
            count,
            size);
      }
    };
    check("token_type", gguf_.token_type.size(), false);
    check("scores", gguf_.scores.size(), gguf_.model == "llama");
    if (count == 0) {
      fail(
          ErrorKind::text,
          where_,
          "tokenizer.ggml.tokens: expected some, found none");
    }
    for (const auto& [name, id] : gguf_.ids) {
      if (id < 0 || static_cast<std::size_t>(id) >= count) {
        fail(
            ErrorKind::text,
            where_,
            "tokenizer.ggml.{}_token_id: expected an id below {}, found {}",
            name,
            count,
            id);
      }
    }
  }

  void check_utf8(std::string_view token) const {
    if (!valid_utf8(token)) {
      fail(
          ErrorKind::text,
          where_,
          "tokenizer.ggml.tokens: expected UTF-8, found {}",
          printable(token));
    }
  }

  void byte_level() {
    const auto& pre = text::pre_tokenizer(
        gguf_.pre.empty() ? "default" : std::string_view(gguf_.pre), where_);
    auto steps = Json::array();
    for (auto pattern : pre.patterns) {
      steps.push_back(
          {{"type", "Split"},
           {"pattern", {{"Regex", pattern}}},
           {"behavior", "Isolated"},
           {"invert", false}});
    }
    Json bytes = {
        {"type", "ByteLevel"},
        {"add_prefix_space", gguf_.add_space_prefix.value_or(false)},
        {"trim_offsets", true},
        {"use_regex", false}};
    steps.push_back(bytes);
    shell_["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", steps}};
    shell_["decoder"] = bytes;
    if (pre.nfc) {
      shell_["normalizer"] = {{"type", "NFC"}};
    }
    bpe_.ignore_merges = pre.ignore_merges;
    add_bos_ = pre.add_bos;
  }

  void sentence_piece() {
    bool prefix = gguf_.add_space_prefix.value_or(true);
    Json spaces = {
        {"type", "Replace"},
        {"pattern", {{"String", " "}}},
        {"content", space_mark}};
    Json marks = {
        {"type", "Replace"},
        {"pattern", {{"String", space_mark}}},
        {"content", " "}};
    auto normalizers = Json::array();
    auto decoders =
        Json::array({marks, {{"type", "ByteFallback"}}, {{"type", "Fuse"}}});
    if (prefix) {
      normalizers.push_back({{"type", "Prepend"}, {"prepend", space_mark}});
      decoders.push_back(
          {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
    }
    normalizers.push_back(spaces);
    shell_["normalizer"] = {{"type", "Sequence"}, {"normalizers", normalizers}};
    shell_["decoder"] = {{"type", "Sequence"}, {"decoders", decoders}};
    bpe_.scores = gguf_.scores.data();
    bpe_.byte_fallback = 1;
    bpe_.unknown = id("unknown").value_or(0);
    add_bos_ = true;
  }

  Json added_tokens() const {
    auto result = Json::array();
    for (std::size_t i = 0; i < gguf_.token_type.size(); ++i) {
      int type = gguf_.token_type[i];
      if (type < unknown || type > user_defined || gguf_.tokens[i].empty()) {
        continue;
      }
      check_utf8(gguf_.tokens[i]);
      result.push_back(
          {{"content", gguf_.tokens[i]},
           {"single_word", false},
           {"lstrip", false},
           {"rstrip", false},
           {"normalized", false},
           {"special", type != user_defined}});
    }
    return result;
  }

  // BOS and EOS around a text and around each of a pair.
  Json post_processor() const {
    auto bos = id("bos"), eos = id("eos");
    bool with_bos = gguf_.add_bos_token.value_or(add_bos_) && bos;
    bool with_eos = gguf_.add_eos_token.value_or(false) && eos;
    if (!with_bos && !with_eos) {
      return nullptr;
    }
    auto tokens = Json::object();
    auto part = [&](int id, int type) -> Json {
      auto text = std::string(gguf_.tokens[static_cast<std::size_t>(id)]);
      check_utf8(text);
      tokens[text] = {
          {"id", text},
          {"ids", Json::array({id})},
          {"tokens", Json::array({text})}};
      return {{"SpecialToken", {{"id", text}, {"type_id", type}}}};
    };
    auto around = [&](const char* sequence, int type) {
      auto parts = Json::array();
      if (with_bos) {
        parts.push_back(part(*bos, type));
      }
      parts.push_back({{"Sequence", {{"id", sequence}, {"type_id", type}}}});
      if (with_eos) {
        parts.push_back(part(*eos, type));
      }
      return parts;
    };
    auto single = around("A", 0);
    auto pair = single;
    for (auto& piece : around("B", 1)) {
      pair.push_back(piece);
    }
    return {
        {"type", "TemplateProcessing"},
        {"single", single},
        {"pair", pair},
        {"special_tokens", tokens}};
  }

  TokenizerInfo info() const {
    TokenizerInfo info;
    info.chat_templates = gguf_.chat_templates;
    constexpr std::pair<const char*, const char*> names[] = {
        {"bos", "bos_token"},
        {"eos", "eos_token"},
        {"unknown", "unk_token"},
        {"separator", "sep_token"},
        {"padding", "pad_token"},
        {"mask", "mask_token"}};
    for (auto [key, name] : names) {
      if (auto found = id(key)) {
        info.special_tokens[name] =
            std::string(gguf_.tokens[static_cast<std::size_t>(*found)]);
      }
    }
    for (const char* key : {"eos", "eot", "eom"}) {
      if (auto found = id(key)) {
        info.eos_ids.insert(*found);
      }
    }
    for (std::size_t i = 0; i < gguf_.token_type.size(); ++i) {
      if (gguf_.token_type[i] == control &&
          std::find(turn_ends.begin(), turn_ends.end(), gguf_.tokens[i]) !=
              turn_ends.end()) {
        info.eos_ids.insert(static_cast<int>(i));
      }
    }
    info.bos_before_chat =
        gguf_.add_bos_token.value_or(add_bos_) && id("bos").has_value();
    return info;
  }

  // The file's id, or what SentencePiece models have without saying.
  std::optional<int> id(const std::string& name) const {
    if (auto found = gguf_.ids.find(name); found != gguf_.ids.end()) {
      return found->second;
    }
    if (gguf_.model == "llama" && gguf_.tokens.size() > 2) {
      if (name == "unknown") {
        return 0;
      }
      if (name == "bos") {
        return 1;
      }
      if (name == "eos") {
        return 2;
      }
    }
    return std::nullopt;
  }

  const GgufTokenizer& gguf_;
  std::string where_;
  Json shell_ = Json::object();
  mlxlm_bpe bpe_{nullptr, 0, nullptr, 0, nullptr, 0, 0, -1};
  bool add_bos_ = false; // when the file does not say
};

} // namespace

TokenizerPtr tokenizer_from_gguf(
    const GgufTokenizer& gguf,
    std::string_view where) {
  return Assembler(gguf, where).build();
}

GgufTokenizerShell gguf_tokenizer_shell(
    const GgufTokenizer& gguf,
    std::string_view where) {
  return Assembler(gguf, where).shell();
}

} // namespace mlxlm
