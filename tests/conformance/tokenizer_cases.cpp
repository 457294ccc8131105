// tokenizer: ids, decoded text, pairs, token strings, offsets and streamed
// chunks, exactly as the reference.
#include <vector>

#include "conformance.h"
#include "core/files.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"

namespace mlxlm::conformance {
namespace {

// Counts rows and remembers the first one that is wrong.
struct Rows {
  int count = 0, right = 0;
  std::string first;

  template <typename T>
  void check(
      const T& found,
      const T& wanted,
      const Json& row,
      const char* what) {
    ++count;
    if (found == wanted) {
      ++right;
    } else if (first.empty()) {
      first = fmt::format("{} of {}", what, row.dump().substr(0, 300));
    }
  }
};

Json list(const Case& c, const char* file) {
  auto path = c.path(file);
  JsonLimits limits;
  limits.bytes = std::size_t{1} << 30;
  return is_file(path) ? read_json(path, limits) : Json::array();
}

EncodeOptions plain() {
  EncodeOptions options;
  options.add_special = false;
  return options;
}

void strings(const Case& c, const Tokenizer& tokenizer, Rows& rows) {
  for (const auto& row : list(c, "strings.json")) {
    auto text = row.at("text").get<std::string>();
    auto ids = row.at("ids").get<std::vector<int>>();
    auto decoded = row.at("decoded").get<std::string>();
    rows.check(tokenizer.encode(text, plain()), ids, row, "ids");
    auto special = row.contains("ids_with_special")
        ? row.at("ids_with_special").get<std::vector<int>>()
        : ids;
    rows.check(tokenizer.encode(text), special, row, "ids with special tokens");
    // What was decoded: the ids with special tokens, where these differ.
    rows.check(tokenizer.decode(ids), decoded, row, "decoded");
    if (row.contains("decoded_skip_special")) {
      auto wanted = row.at("decoded_skip_special").get<std::string>();
      rows.check(tokenizer.decode(special, true), wanted, row, "skipping");
    }
  }
}

void pairs(const Case& c, const Tokenizer& tokenizer, Rows& rows) {
  for (const auto& row : list(c, "pairs.json")) {
    auto found = tokenizer.analyze(
        row.at("text").get<std::string>(), row.at("pair").get<std::string>());
    auto wanted = [&](const char* key) {
      return row.at(key).get<std::vector<int>>();
    };
    rows.check(found.ids, wanted("ids"), row, "pair ids");
    rows.check(found.type_ids, wanted("type_ids"), row, "pair type ids");
    rows.check(found.special_mask, wanted("special_mask"), row, "pair mask");
  }
}

void tokens(const Case& c, const Tokenizer& tokenizer, Rows& rows) {
  for (const auto& row : list(c, "tokens.json")) {
    auto found = tokenizer.analyze(row.at("text").get<std::string>(), plain());
    auto tokens = row.at("tokens").get<std::vector<std::string>>();
    auto offsets = row.at("offsets").get<std::vector<std::pair<int, int>>>();
    rows.check(found.tokens, tokens, row, "tokens");
    rows.check(found.offsets, offsets, row, "offsets");
  }
}

void streaming(const Case& c, TokenizerPtr tokenizer, Rows& rows) {
  Detokenizer detokenizer(tokenizer);
  for (const auto& row : list(c, "streaming.json")) {
    detokenizer.reset();
    std::vector<std::string> chunks;
    std::string all;
    for (int id : row.at("ids").get<std::vector<int>>()) {
      chunks.push_back(detokenizer.push(id));
      all += chunks.back();
    }
    chunks.push_back(detokenizer.finish());
    all += chunks.back();
    rows.check(all, row.at("decoded").get<std::string>(), row, "streamed");
    if (row.contains("chunks")) {
      auto wanted = row.at("chunks").get<std::vector<std::string>>();
      rows.check(chunks, wanted, row, "chunks");
    }
  }
}

} // namespace

Outcome tokenizer_case(const Case& c) {
  auto tokenizer = Tokenizer::from_directory(c.folder);
  Rows rows;
  strings(c, *tokenizer, rows);
  pairs(c, *tokenizer, rows);
  tokens(c, *tokenizer, rows);
  streaming(c, tokenizer, rows);
  auto figure = fmt::format("{} of {} comparisons", rows.right, rows.count);
  if (!rows.first.empty()) {
    figure += ", first wrong: " + rows.first;
  }
  return judge(rows.right == rows.count && rows.count > 0, figure);
}

} // namespace mlxlm::conformance
