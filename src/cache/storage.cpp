// Schemes by name; see storage.h.
#include "cache/storage.h"

#include <cstdio>
#include <string>

#include "core/check.h"

namespace mlxlm {

namespace {

using kernels::RowCodec;
using Kind = RowCodec::Kind;

[[noreturn]] void refuse(std::string_view scheme) {
  fail(
      ErrorKind::request,
      "kv scheme",
      "expected affine2 to affine8, turbo2 to turbo4, turboKvV (K 0, 2, 3, 4 or "
      "8, V 2 to 4), these with +, quality, balanced or memory, found \"{}\"",
      scheme);
}

RowCodec affine(int bits, int group) {
  bool known = bits >= 2 && bits <= 8 && bits != 7;
  bool grouped = group == 32 || group == 64 || group == 128;
  if (!known || !grouped) {
    fail(
        ErrorKind::request,
        "kv bits",
        "expected 2, 3, 4, 5, 6 or 8 bits in groups of 32, 64 or 128, found {} "
        "bits in groups of {}",
        bits,
        group);
  }
  return {Kind::affine, bits, group};
}

KvStorage turbo(
    std::string_view scheme,
    int keys,
    int values,
    bool sketch,
    int group) {
  auto codebook = [](int bits) { return bits >= 2 && bits <= 4; };
  bool known = (codebook(keys) || keys == 0 || keys == 8) && codebook(values);
  if (!known || (sketch && !codebook(keys))) refuse(scheme);
  KvStorage out;
  if (keys == 8) out.keys = affine(8, group);
  if (codebook(keys)) out.keys = {Kind::turbo, keys, 64, sketch};
  out.values = {Kind::turbo, values};
  return out;
}

KvStorage careful(KvStorage out) {
  out.plain_tokens = 4;
  out.edge_layers = 2;
  return out;
}

// Whether all of `text` is `format` with its numbers.
template <typename... Numbers>
bool reads(const std::string& text, const char* format, Numbers*... numbers) {
  int end = -1;
  std::sscanf(text.c_str(), format, numbers..., &end);
  return end == int(text.size());
}

} // namespace

KvStorage kv_storage(std::string_view scheme, int group) {
  std::string text(scheme);
  int k = 0, v = 0;
  auto preset = [&](int keys, int values) {
    return careful(turbo(scheme, keys, values, false, group));
  };
  if (text.starts_with("turbo") && text.ends_with('+')) {
    text.pop_back();
    if (text.ends_with('+')) refuse(scheme);
    return careful(kv_storage(text, group));
  }
  if (text == "quality") return preset(0, 4);
  if (text == "balanced") return preset(8, 3);
  if (text == "memory") return preset(8, 2);
  if (reads(text, "affine%1d%n", &k)) {
    auto codec = affine(k, group);
    return {.keys = codec, .values = codec};
  }
  if (reads(text, "turbo%1d%n", &k)) return turbo(scheme, k, k, false, group);
  if (reads(text, "turbo%1dv%1d%n", &k, &v) ||
      reads(text, "turboQuant(%1d,%1d)%n", &k, &v))
    return turbo(scheme, k, v, false, group);
  if (reads(text, "turbo%1dv%1dq%n", &k, &v))
    return turbo(scheme, k, v, true, group);
  refuse(scheme);
}

} // namespace mlxlm
