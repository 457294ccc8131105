#include "text/grammar.h"

#include <algorithm>
#include <cstring>

#include "core/strings.h"
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

Grammar::Grammar(
    GrammarVocabularyPtr vocabulary,
    const GrammarSource& source,
    const GrammarLimits& limits)
    : vocabulary_(std::move(vocabulary)) {
  auto text = compiled_text(source, limits);
  // The options that were put in count for nothing.
  mlxlm_grammar_limits bounds{
      limits.source_bytes + 256, limits.memory_bytes, limits.steps};
  mlxlm_matcher* handle = nullptr;
  RustBuffer error;
  if (!mlxlm_matcher_new(
          vocabulary_->handle(),
          code_of(source.kind),
          text::slice(text),
          &bounds,
          &handle,
          error.out()))
    fail(
        ErrorKind::request,
        name_of(source.kind),
        "{}",
        source.kind == GrammarKind::json_schema ? complaint(error.view(), text)
                                                : std::string(error.view()));
  handle_.reset(handle);
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
