#include "text/grammar.h"

#include <algorithm>
#include <cstring>

#include "core/strings.h"
#include "text/gbnf.h"
#include "text/json_schema.h"
#include "text/rust.h"

namespace mlxlm {
namespace {

using text::check_rust;
using text::RustBuffer;

std::string_view name_of(GrammarKind kind) {
  switch (kind) {
    case GrammarKind::json_schema:
      return "JSON schema";
    case GrammarKind::regex:
      return "regular expression";
    case GrammarKind::lark:
      return "grammar";
    case GrammarKind::choice:
      return "choice";
  }
  return "";
}

int code_of(GrammarKind kind) {
  switch (kind) {
    case GrammarKind::regex:
      return MLXLM_REGEX;
    case GrammarKind::lark:
      return MLXLM_LARK;
    case GrammarKind::choice:
      return MLXLM_CHOICE;
    case GrammarKind::json_schema:
      break;
  }
  return MLXLM_JSON_SCHEMA;
}

std::vector<std::uint32_t> ids(std::span<const int> tokens) {
  return {tokens.begin(), tokens.end()};
}

// What the compiler says of a schema, with the place where it can be told.
std::string complaint(std::string_view error, const std::string& schema) {
  std::string keyword;
  constexpr std::string_view unknown = "Unimplemented keys: [\"";
  if (starts_with(error, unknown)) {
    auto rest = error.substr(unknown.size());
    keyword = rest.substr(0, rest.find('"'));
  } else if (starts_with(error, "oneOf constraints")) {
    keyword = "oneOf";
    error = "expected alternatives of which each excludes the others";
  }
  auto json = Json::parse(schema, nullptr, false);
  auto place = keyword.empty() ? "" : place_of_keyword(json, keyword);
  if (place.empty()) return std::string(error);
  return fmt::format("{}/{}: {}", place, keyword, error);
}

// What Rust compiles. A schema is parsed here, where depth is bounded.
std::string compiled_text(
    const GrammarSource& source,
    const GrammarLimits& limits) {
  bool lark = source.kind == GrammarKind::lark;
  if (lark && source.text.size() <= limits.source_bytes && is_gbnf(source.text))
    return lark_of_gbnf(source.text);
  if (source.kind != GrammarKind::json_schema) return source.text;
  auto schema = parse_json(
      source.text,
      name_of(source.kind),
      ErrorKind::request,
      {.depth = 256, .bytes = limits.source_bytes});
  return schema_with_options(std::move(schema)).dump();
}

} // namespace

Json schema_with_options(Json schema) {
  schema = without_one_of(std::move(schema));
  if (schema.is_object() && !schema.contains("x-guidance"))
    schema["x-guidance"] = {
        {"whitespace_pattern", "[ \\t]|\\r?\\n[ \\t]{0,32}"}};
  return schema;
}

void GrammarVocabulary::Free::operator()(mlxlm_vocabulary* handle) const {
  mlxlm_vocabulary_free(handle);
}

void Grammar::Free::operator()(mlxlm_matcher* handle) const {
  mlxlm_matcher_free(handle);
}

GrammarVocabulary::GrammarVocabulary(
    const Tokenizer& tokenizer,
    int size,
    const std::set<int>& stop)
    : words_(
          (static_cast<std::size_t>(std::max(size, tokenizer.vocab_size())) +
           31) /
          32) {
  std::vector<std::uint32_t> ends(stop.begin(), stop.end());
  mlxlm_vocabulary* handle = nullptr;
  RustBuffer error;
  check_rust(
      mlxlm_vocabulary_new(
          tokenizer.handle(),
          static_cast<std::uint32_t>(size),
          ends.data(),
          ends.size(),
          &handle,
          error.out()),
      "vocabulary of grammars",
      error);
  handle_.reset(handle);
}

namespace {

using MatcherPtr =
    std::unique_ptr<mlxlm_matcher, decltype(&mlxlm_matcher_free)>;

// Null, and what the compiler says, where it does not compile. `begins`: 0
// where no token can be the first; null: not asked.
MatcherPtr compiled(
    const GrammarVocabulary& vocabulary,
    GrammarKind kind,
    const std::string& text,
    const GrammarLimits& limits,
    RustBuffer& error,
    std::int32_t* begins = nullptr) {
  // The options that were put in count for nothing.
  mlxlm_grammar_limits bounds{
      limits.source_bytes + 256, limits.memory_bytes, limits.steps};
  mlxlm_matcher* handle = nullptr;
  bool done = mlxlm_matcher_new(
      vocabulary.handle(),
      code_of(kind),
      text::slice(text),
      &bounds,
      &handle,
      begins,
      error.out());
  return {done ? handle : nullptr, &mlxlm_matcher_free};
}

// The innermost part of a schema that does not compile by itself, and why;
// empty: there is none, or it would take too long to find.
std::string failing_part(
    const GrammarVocabulary& vocabulary,
    const Json& schema,
    const GrammarLimits& limits) {
  constexpr int most_parts = 64;
  int parts = 0;
  std::string found;
  for_each_schema(schema, [&](const Json& part, const std::string& place) {
    if (place == "#" || ++parts > most_parts) return false;
    auto alone = part;
    for (const char* name : {"$defs", "definitions"})
      if (part.is_object() && schema.contains(name)) alone[name] = schema[name];
    RustBuffer error;
    auto text = schema_with_options(std::move(alone)).dump();
    if (compiled(vocabulary, GrammarKind::json_schema, text, limits, error))
      return true;
    found = fmt::format("{}: {}", place, error.view());
    return false;
  });
  return found;
}

// The same of the schemas in a grammar, one a line.
std::string failing_schema(
    const GrammarVocabulary& vocabulary,
    const std::string& lark,
    const GrammarLimits& limits) {
  for (const auto& line : split(lark, '\n')) {
    constexpr std::string_view mark = ": %json ";
    auto at = line.find(mark);
    if (at == line.npos) continue;
    auto text = line.substr(at + mark.size());
    auto schema = Json::parse(text, nullptr, false);
    RustBuffer error;
    if (schema.is_discarded() ||
        compiled(vocabulary, GrammarKind::json_schema, text, limits, error))
      continue;
    auto part = failing_part(vocabulary, schema, limits);
    return part.empty() ? std::string(error.view()) : part;
  }
  return "";
}

} // namespace

Grammar::Grammar(
    GrammarVocabularyPtr vocabulary,
    const GrammarSource& source,
    const GrammarLimits& limits)
    : vocabulary_(std::move(vocabulary)) {
  auto text = compiled_text(source, limits);
  RustBuffer error;
  std::int32_t begins = 1;
  handle_.reset(
      compiled(*vocabulary_, source.kind, text, limits, error, &begins)
          .release());
  if (handle_ && begins == 0)
    fail(
        ErrorKind::request,
        "response_format", // as clients know it
        "expected what the tokens of this model can write, found a beginning "
        "that none of them has");
  if (handle_) return;
  std::string said(error.view()), part;
  if (source.kind == GrammarKind::json_schema) {
    said = complaint(error.view(), text);
    if (!starts_with(said, "#"))
      part =
          failing_part(*vocabulary_, Json::parse(text, nullptr, false), limits);
  } else if (source.kind == GrammarKind::lark) {
    part = failing_schema(*vocabulary_, text, limits);
  }
  fail(
      ErrorKind::request,
      name_of(source.kind),
      "{}",
      part.empty() ? said : part);
}

Grammar::Grammar(const Grammar& other) : vocabulary_(other.vocabulary_) {
  mlxlm_matcher* handle = nullptr;
  RustBuffer error;
  check_rust(
      mlxlm_matcher_copy(other.handle_.get(), &handle, error.out()),
      "grammar",
      error);
  handle_.reset(handle);
}

Grammar& Grammar::operator=(const Grammar& other) {
  return *this = Grammar(other);
}

std::span<const std::uint32_t> Grammar::mask() {
  mask_.resize(vocabulary_->words());
  RustBuffer error;
  check_rust(
      mlxlm_matcher_mask(
          handle_.get(), mask_.data(), mask_.size(), error.out()),
      "grammar",
      error);
  return mask_;
}

bool Grammar::accept(int token) {
  return accept(std::span(&token, 1)) == 1;
}

std::size_t Grammar::accept(std::span<const int> tokens) {
  auto list = ids(tokens);
  std::size_t accepted = 0;
  RustBuffer error;
  check_rust(
      mlxlm_matcher_accept(
          handle_.get(), list.data(), list.size(), &accepted, error.out()),
      "grammar",
      error);
  return accepted;
}

void Grammar::rollback(std::size_t tokens) {
  RustBuffer error;
  check_rust(
      mlxlm_matcher_rollback(handle_.get(), tokens, error.out()),
      "grammar",
      error);
}

std::vector<int> Grammar::forced() {
  RustBuffer list, error;
  check_rust(
      mlxlm_matcher_forced(handle_.get(), list.out(), error.out()),
      "grammar",
      error);
  std::vector<std::uint32_t> out(list.view().size() / sizeof(std::uint32_t));
  if (!out.empty())
    std::memcpy(out.data(), list.view().data(), list.view().size());
  return {out.begin(), out.end()};
}

int Grammar::state() {
  int32_t state = MLXLM_OPEN;
  RustBuffer error;
  check_rust(
      mlxlm_matcher_state(handle_.get(), &state, error.out()),
      "grammar",
      error);
  return state;
}

bool Grammar::may_end() {
  return state() != MLXLM_OPEN;
}

bool Grammar::ended() {
  return state() == MLXLM_ENDED;
}

} // namespace mlxlm
