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
constexpr std::string_view bloom =
    R"( ?[^(\s|.,!?\x{2026}\x{3002}\x{FF0C}\x{3001}\x{964}\x{6D4}\x{60C})]+)";
constexpr std::string_view digit = R"(\p{N})";
constexpr std::string_view three_digits = R"(\p{N}{1,3})";
constexpr std::string_view cjk_and_kana =
    R"([\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+)";
constexpr std::string_view cjk_and_hangul =
    R"([\x{4E00}-\x{9FA5}\x{800}-\x{4E00}\x{AC00}-\x{D7FF}]+)";
constexpr std::string_view deepseek3 =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+)"
    R"(|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
// Cased letters as DeepSeek LLM lists them.
constexpr std::string_view deepseek_letters =
    R"(\s?[A-Za-z\x{B5}\x{C0}-\x{D6}\x{D8}-\x{F6}\x{F8}-\x{1BA}\x{1BC}-)"
    R"(\x{1BF}\x{1C4}-\x{293}\x{295}-\x{2AF}\x{370}-\x{373}\x{376}\x{377})"
    R"(\x{37B}-\x{37D}\x{37F}\x{386}\x{388}-\x{38A}\x{38C}\x{38E}-\x{3A1})"
    R"(\x{3A3}-\x{3F5}\x{3F7}-\x{481}\x{48A}-\x{52F}\x{531}-\x{556})"
    R"(\x{10A0}-\x{10C5}\x{13A0}-\x{13F5}\x{13F8}-\x{13FD}\x{1C90}-)"
    R"(\x{1CBA}\x{1CBD}-\x{1CBF}\x{1D00}-\x{1D2B}\x{1D6B}-\x{1D77})"
    R"(\x{1D79}-\x{1D9A}\x{1E00}-\x{1F15}\x{1F18}-\x{1F1D}\x{1F20}-)"
    R"(\x{1F45}\x{1F48}-\x{1F4D}\x{1F50}-\x{1F57}\x{1F59}\x{1F5B}\x{1F5D})"
    R"(\x{1F5F}-\x{1F7D}\x{1F80}-\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE})"
    R"(\x{1FC2}-\x{1FC4}\x{1FC6}-\x{1FCC}\x{1FD0}-\x{1FD3}\x{1FD6}-)"
    R"(\x{1FDB}\x{1FE0}-\x{1FEC}\x{1FF2}-\x{1FF4}\x{1FF6}-\x{1FFC})"
    R"(\x{2102}\x{2107}\x{210A}-\x{2113}\x{2115}\x{2119}-\x{211D}\x{2124})"
    R"(\x{2126}\x{2128}\x{212A}-\x{212D}\x{212F}-\x{2134}\x{2139})"
    R"(\x{213C}-\x{213F}\x{2145}-\x{2149}\x{214E}\x{2183}\x{2184})"
    R"(\x{2C00}-\x{2C7B}\x{2C7E}-\x{2CE4}\x{2CEB}-\x{2CEE}\x{2CF2})"
    R"(\x{2CF3}\x{A640}-\x{A66D}\x{A680}-\x{A69B}\x{A722}-\x{A76F})"
    R"(\x{A771}-\x{A787}\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF}\x{FB00}-)"
    R"(\x{FB06}\x{FB13}-\x{FB17}\x{FF21}-\x{FF3A}\x{FF41}-\x{FF5A})"
    R"(\x{10400}-\x{1044F}\x{104B0}-\x{104D3}\x{104D8}-\x{104FB})"
    R"(\x{10C80}-\x{10CB2}\x{10CC0}-\x{10CF2}\x{118A0}-\x{118DF})"
    R"(\x{1E900}-\x{1E943}]+)";

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
        R"(\s?[!-/:-~\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF5E}\x{2018}-\x{201F}\x{3000}-\x{3002}]+)",
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
