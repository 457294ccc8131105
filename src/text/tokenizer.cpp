// Tokenizer over the C interface of the Rust library.
#include "text/tokenizer.h"

#include <cstring>

#include "core/check.h"
#include "text/rust.h"

namespace mlxlm {

using text::check_rust;
using text::RustBuffer;
using text::slice;

namespace {

std::uint32_t flags_of(const EncodeOptions& options) {
  std::uint32_t flags = 0;
  if (options.add_special) {
    flags |= MLXLM_ADD_SPECIAL;
  }
  if (!options.parse_special) {
    flags |= MLXLM_SPECIAL_AS_TEXT;
  }
  return flags;
}

} // namespace

void Tokenizer::Free::operator()(mlxlm_tokenizer* handle) const {
  mlxlm_tokenizer_free(handle);
}

TokenizerPtr Tokenizer::from_json(
    std::string_view json,
    std::string_view where,
    TokenizerInfo info) {
  mlxlm_tokenizer* handle = nullptr;
  RustBuffer error;
  int ok = mlxlm_tokenizer_from_json(slice(json), &handle, error.out());
  check_rust(ok, where, error);
  return std::make_shared<Tokenizer>(
      handle, std::string(where), std::move(info));
}

Tokenizer::Tokenizer(
    mlxlm_tokenizer* handle,
    std::string where,
    TokenizerInfo info)
    : handle_(handle), where_(std::move(where)), info_(std::move(info)) {
  RustBuffer text, error;
  int ok = mlxlm_tokenizer_describe(handle_.get(), text.out(), error.out());
  check_rust(ok, where_, error);
  JsonLimits limits;
  limits.duplicate_keys = true;
  auto parts = parse_json(text.view(), where_, ErrorKind::text, limits);
  decoder_ = std::move(parts["decoder"]);
  for (const auto& token : parts["added_tokens"]) {
    if (token["special"].get<bool>()) {
      special_ids_.insert(token["id"].get<int>());
    }
  }
  vocab_size_ = static_cast<int>(mlxlm_tokenizer_size(handle_.get()));
}

Tokenizer::~Tokenizer() = default;

void Tokenizer::check_text(std::string_view text, const EncodeOptions& options)
    const {
  if (text.size() > options.max_bytes) {
    fail(
        ErrorKind::text,
        "tokenizer",
        "expected at most {} bytes of text, found {}",
        options.max_bytes,
        text.size());
  }
}

std::vector<int> Tokenizer::encode(
    std::string_view text,
    const EncodeOptions& options) const {
  check_text(text, options);
  RustBuffer ids, error;
  int ok = mlxlm_tokenizer_encode(
      handle_.get(), slice(text), flags_of(options), ids.out(), error.out());
  check_rust(ok, "tokenizer", error);
  static_assert(sizeof(int) == sizeof(std::uint32_t));
  std::vector<int> result(ids.view().size() / sizeof(int));
  if (!result.empty()) {
    std::memcpy(result.data(), ids.view().data(), ids.view().size());
  }
  return result;
}

Encoding Tokenizer::analyze(std::string_view text, const EncodeOptions& options)
    const {
  return analyze(text, nullptr, options);
}

Encoding Tokenizer::analyze(
    std::string_view text,
    std::string_view pair,
    const EncodeOptions& options) const {
  return analyze(text, &pair, options);
}

Encoding Tokenizer::analyze(
    std::string_view text,
    const std::string_view* pair,
    const EncodeOptions& options) const {
  check_text(text, options);
  mlxlm_slice second{nullptr, 0};
  if (pair) {
    check_text(*pair, options);
    second = slice(*pair);
  }
  RustBuffer json, error;
  int ok = mlxlm_tokenizer_analyze(
      handle_.get(),
      slice(text),
      pair ? &second : nullptr,
      flags_of(options),
      json.out(),
      error.out());
  check_rust(ok, "tokenizer", error);
  JsonLimits limits;
  limits.bytes = std::size_t{1} << 32;
  auto parts = parse_json(json.view(), "tokenizer", ErrorKind::text, limits);
  Encoding result;
  parts["ids"].get_to(result.ids);
  parts["type_ids"].get_to(result.type_ids);
  parts["special_mask"].get_to(result.special_mask);
  parts["tokens"].get_to(result.tokens);
  parts["offsets"].get_to(result.offsets);
  return result;
}

std::string Tokenizer::decode(std::span<const int> ids, bool skip_special)
    const {
  std::vector<std::uint32_t> values;
  values.reserve(ids.size());
  for (int id : ids) {
    if (id < 0) {
      fail(
          ErrorKind::request,
          "tokenizer",
          "expected token ids from 0, found {}",
          id);
    }
    values.push_back(static_cast<std::uint32_t>(id));
  }
  RustBuffer text, error;
  int ok = mlxlm_tokenizer_decode(
      handle_.get(),
      values.data(),
      values.size(),
      skip_special,
      text.out(),
      error.out());
  check_rust(ok, "tokenizer", error);
  return text.str();
}

std::optional<std::string> Tokenizer::token(int id) const {
  RustBuffer text;
  if (id < 0 ||
      !mlxlm_tokenizer_token(
          handle_.get(), static_cast<std::uint32_t>(id), text.out())) {
    return std::nullopt;
  }
  return text.str();
}

int Tokenizer::id_of(std::string_view token) const {
  return static_cast<int>(mlxlm_tokenizer_id(handle_.get(), slice(token)));
}

bool Tokenizer::is_special(int id) const {
  return special_ids_.count(id) != 0;
}

int Tokenizer::vocab_size() const {
  return vocab_size_;
}

std::string_view Tokenizer::special_token(std::string_view name) const {
  auto found = info_.special_tokens.find(std::string(name));
  return found == info_.special_tokens.end() ? std::string_view{}
                                             : found->second;
}

} // namespace mlxlm
