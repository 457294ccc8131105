// The tokenizer of a GGUF file as a tokenizer.json: what its assembler makes,
// with the vocabulary and the merges written out.
#include <algorithm>
#include <unordered_map>

#include "core/check.h"
#include "core/json.h"
#include "core/strings.h"
#include "text/gguf_tokenizer.h"

namespace mlxlm {
namespace {

using Ids = std::unordered_map<std::string_view, int>;

Ids ids_of(const GgufTokenizer& gguf) {
  Ids out;
  for (std::size_t i = 0; i < gguf.tokens.size(); ++i)
    out.emplace(gguf.tokens[i], static_cast<int>(i)); // the first of equals
  return out;
}

struct Merge {
  std::string_view left, right;
  float score;
  int left_id, right_id;
};

// Every way to put a token together from two others.
void add_merges(
    std::string_view token,
    float score,
    const Ids& ids,
    std::vector<Merge>& out) {
  const auto first = out.size();
  for (std::size_t i = 1; i < token.size(); ++i) {
    if ((static_cast<unsigned char>(token[i]) & 0xc0) == 0x80) continue;
    auto left = ids.find(token.substr(0, i));
    auto right = ids.find(token.substr(i));
    if (left != ids.end() && right != ids.end())
      out.push_back(
          {left->first, right->first, score, left->second, right->second});
  }
  std::sort(
      out.begin() + static_cast<std::ptrdiff_t>(first),
      out.end(),
      [](const Merge& a, const Merge& b) {
        return std::pair(a.left_id, a.right_id) <
            std::pair(b.left_id, b.right_id);
      });
}

// Merges in the order of SentencePiece's scores, as transformers derives them.
Json merges_by_score(const GgufTokenizer& gguf, const Ids& ids) {
  std::vector<Merge> merges;
  for (std::size_t i = 0; i < gguf.tokens.size(); ++i)
    add_merges(gguf.tokens[i], gguf.scores[i], ids, merges);
  std::stable_sort(
      merges.begin(), merges.end(), [](const Merge& a, const Merge& b) {
        return a.score > b.score;
      });
  auto out = Json::array();
  for (const auto& merge : merges)
    out.push_back({merge.left, merge.right});
  return out;
}

Json merges_by_rank(const GgufTokenizer& gguf, std::string_view where) {
  auto out = Json::array();
  for (auto merge : gguf.merges) {
    auto space = merge.find(' ');
    if (space == std::string_view::npos || !valid_utf8(merge))
      fail(
          ErrorKind::text,
          where,
          "tokenizer.ggml.merges: expected \"left right\", found {}",
          printable(merge));
    out.push_back({merge.substr(0, space), merge.substr(space + 1)});
  }
  return out;
}

Json vocabulary(
    const GgufTokenizer& gguf,
    const Ids& ids,
    std::string_view where) {
  Json out = Json::object();
  // Not key by key: each would be looked for among all before it.
  Json::object_t::Container& entries = out.get_ref<Json::object_t&>();
  entries.reserve(gguf.tokens.size());
  for (std::size_t i = 0; i < gguf.tokens.size(); ++i) {
    if (!valid_utf8(gguf.tokens[i]))
      fail(
          ErrorKind::text,
          where,
          "tokenizer.ggml.tokens: expected UTF-8, found {}",
          printable(gguf.tokens[i]));
    if (ids.at(gguf.tokens[i]) == static_cast<int>(i))
      entries.emplace_back(std::string(gguf.tokens[i]), i);
  }
  return out;
}

} // namespace

std::string tokenizer_json_from_gguf(
    const GgufTokenizer& gguf,
    std::string_view where) {
  auto shell = gguf_tokenizer_shell(gguf, where);
  const auto ids = ids_of(gguf);
  const bool scored = gguf.model == "llama";
  auto added = Json::array();
  for (auto& token : shell.json["added_tokens"]) {
    Json entry = {{"id", ids.at(token["content"].get<std::string>())}};
    entry.update(token);
    added.push_back(std::move(entry));
  }
  auto part = [&](const char* key) {
    return shell.json.contains(key) ? shell.json[key] : Json();
  };
  Json unknown;
  if (scored && shell.unknown >= 0)
    unknown = gguf.tokens[static_cast<std::size_t>(shell.unknown)];
  Json out = {
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens", std::move(added)},
      {"normalizer", part("normalizer")},
      {"pre_tokenizer", part("pre_tokenizer")},
      {"post_processor", part("post_processor")},
      {"decoder", part("decoder")},
      {"model",
       {{"type", "BPE"},
        {"dropout", nullptr},
        {"unk_token", unknown},
        {"continuing_subword_prefix", nullptr},
        {"end_of_word_suffix", nullptr},
        {"fuse_unk", scored},
        {"byte_fallback", scored},
        {"ignore_merges", shell.ignore_merges},
        {"vocab", vocabulary(gguf, ids, where)},
        {"merges",
         scored ? merges_by_score(gguf, ids) : merges_by_rank(gguf, where)}}}};
  return out.dump(2);
}

} // namespace mlxlm
