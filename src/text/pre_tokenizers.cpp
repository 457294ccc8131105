// One row a family. Patterns are those of the families' tokenizer.json; where a
// name stands for several, of the one that llama.cpp's table was made from.
#include "text/pre_tokenizers.h"

#include <algorithm>
#include <string>
#include <vector>

#include "core/check.h"
#include "core/strings.h"

namespace mlxlm::text {
namespace {

using Texts = std::vector<std::string_view>;

#define CONTRACTIONS R"((?i:'s|'t|'re|'ve|'m|'ll|'d))"
#define PUNCTUATION_AND_SPACE \
  R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"
#define CASED_WORDS(end)                                   \
  R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*)"  \
  R"([\p{Ll}\p{Lm}\p{Lo}\p{M}]+)" end                      \
  R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+)" \
  R"([\p{Ll}\p{Lm}\p{Lo}\p{M}]*)" end

constexpr std::string_view gpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view llama3 = CONTRACTIONS
    R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3})" PUNCTUATION_AND_SPACE;
constexpr std::string_view qwen2 =
    CONTRACTIONS R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N})" PUNCTUATION_AND_SPACE;
constexpr std::string_view qwen35 = CONTRACTIONS
    R"(|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view gpt4o = CASED_WORDS(
    CONTRACTIONS
    "?") R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view tekken = CASED_WORDS(
    "") R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view bloom = R"( ?[^(\s|.,!?…。，、।۔،)]+)";
constexpr std::string_view digit = R"(\p{N})";
constexpr std::string_view three_digits = R"(\p{N}{1,3})";
constexpr std::string_view cjk_and_kana = R"([一-龥぀-ゟ゠-ヿ]+)";
constexpr std::string_view cjk_and_hangul = R"([一-龥ࠀ-一가-퟿]+)";
constexpr std::string_view deepseek3 =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+)"
    R"(|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
// Cased letters as DeepSeek LLM lists them.
constexpr std::string_view deepseek_letters =
    R"(\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-Ჺ)"
    R"(Ჽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕ)"
    R"(ℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏)"
    R"(𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+)";

struct Row {
  Texts names, patterns;
  bool ignore_merges = false, add_bos = false, nfc = false;
};

const std::vector<Row>& rows() {
  static const std::vector<Row> table = {
      {{"gpt-2",        "gpt2",        "phi-2",       "mpt",
        "olmo",         "jais",        "trillion",    "jina-es",
        "jina-de",      "jina-v2-es",  "jina-v2-de",  "jina-v1-en",
        "jina-v2-code", "roberta-bpe", "modern-bert", "gigachat",
        "a.x-4.0",      "mellum",      "exaone4",     "granite-docling"},
       {gpt2}},
      {{"smollm",
        "starcoder",
        "refact",
        "command-r",
        "codeshell",
        "exaone",
        "minerva-7b",
        "mellum2"},
       {digit, gpt2}},
      {{"llama-bpe",
        "llama3",
        "llama-v3",
        "falcon3",
        "falcon-h1",
        "pixtral",
        "midm-2.0",
        "lfm2",
        "jina-v5-nano"},
       {llama3},
       true,
       true},
      {{"dbrx", "smaug-bpe", "chatglm-bpe", "glm4", "glm5"}, {llama3}},
      {{"qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "hunyuan"},
       {qwen2},
       false,
       false,
       true},
      {{"stablelm2", "solar-open", "grok-2"}, {qwen2}},
      {{"qwen35"}, {qwen35}, false, false, true},
      {{"gpt-4o", "llama4", "kanana2", "minimax-m2"}, {gpt4o}},
      {{"tekken"}, {tekken}, true, true},
      {{"deepseek-v3", "hunyuan-dense", "joyai-llm"},
       {three_digits, cjk_and_kana, deepseek3}},
      {{"deepseek-llm"},
       {R"([\r\n])",
        deepseek_letters,
        R"(\s?[!-/:-~！-／：-～‘-‟　-。]+)",
        R"(\s+$)",
        cjk_and_hangul,
        R"(\p{N}+)"}},
      {{"deepseek-coder"},
       {R"([\r\n])", R"(\s?\p{L}+)", R"(\s?\p{P}+)", cjk_and_hangul, digit}},
      {{"falcon"}, {R"([\p{P}\$\+<=>\^~\|`]+)", gpt2, R"([0-9][0-9][0-9])"}},
      {{"bloom", "poro-chat", "gpt3-finnish"}, {bloom}},
      {{"viking"}, {bloom, digit}},
      {{"seed-coder"},
       {CONTRACTIONS
        R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+)"
        R"(|\s+(?!\S)|\s+)"}},
      {{"bailingmoe", "bailingmoe2", "llada-moe"},
       {R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N})"
        R"(| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)"}},
      {{"default"},
       {R"([\p{P}\$\+<=>\^~\|]+)", gpt2, R"(\p{N}+)", R"([0-9][0-9][0-9])"}},
  };
  return table;
}

} // namespace

const PreTokenizer& pre_tokenizer(
    std::string_view name,
    std::string_view where) {
  static const auto known = [] {
    std::vector<PreTokenizer> result;
    for (const auto& row : rows()) {
      result.push_back(
          {row.names, row.patterns, row.ignore_merges, row.add_bos, row.nfc});
    }
    return result;
  }();
  std::vector<std::string> names;
  for (const auto& entry : known) {
    for (auto each : entry.names) {
      if (each == name) {
        return entry;
      }
      names.emplace_back(each);
    }
  }
  std::sort(names.begin(), names.end());
  fail(
      ErrorKind::text,
      where,
      "tokenizer.ggml.pre: expected one of {}, found \"{}\"",
      join(names, ", "),
      printable(name));
}

} // namespace mlxlm::text
