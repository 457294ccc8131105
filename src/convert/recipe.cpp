#include "convert/recipe.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "core/check.h"
#include "core/strings.h"

namespace mlxlm::converting {
namespace {

struct Mode {
  std::string_view name;
  int bits, group;
};
constexpr std::array<Mode, 4> modes = {{
    {"affine", 4, 64},
    {"mxfp4", 4, 32},
    {"mxfp8", 8, 32},
    {"nvfp4", 4, 16},
}};

struct Mixed {
  std::string_view name;
  int low, high; // bits
};
constexpr std::array<Mixed, 4> recipes = {{
    {"mixed_2_6", 2, 6},
    {"mixed_3_4", 3, 4},
    {"mixed_3_6", 3, 6},
    {"mixed_4_6", 4, 6},
}};

const Mixed* find_recipe(std::string_view name) {
  for (const auto& r : recipes)
    if (r.name == name) return &r;
  return nullptr;
}

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

// The number behind "layers." (or whatever comes before the first number).
int layer_index(std::string_view path) {
  for (const auto& part : split(path, '.')) {
    int number = 0;
    const auto* end = part.data() + part.size();
    auto [at, error] = std::from_chars(part.data(), end, number);
    if (error == std::errc() && at == end) return number;
  }
  return 0;
}

// The layers at both ends, and every third of those between.
bool important(int index, int layers) {
  const int eighth = layers / 8;
  return index < eighth || index >= 7 * layers / 8 ||
      (index >= eighth && (index - eighth) % 3 == 2);
}

} // namespace

Quantization completed(const Quantization& q, std::string_view where) {
  const Mode* mode = nullptr;
  for (const auto& m : modes)
    if (m.name == q.mode) mode = &m;
  if (mode == nullptr)
    fail(
        ErrorKind::request,
        where,
        "expected affine, mxfp4, mxfp8 or nvfp4, found \"{}\"",
        printable(q.mode));
  Quantization out = q;
  if (out.bits == 0) out.bits = mode->bits;
  if (out.group_size == 0) out.group_size = mode->group;
  auto one_of = [](int value, std::initializer_list<int> all) {
    return std::find(all.begin(), all.end(), value) != all.end();
  };
  if (q.mode == "affine") {
    if (!one_of(out.bits, {2, 3, 4, 5, 6, 8}))
      fail(
          ErrorKind::request,
          where,
          "expected 2, 3, 4, 5, 6 or 8 bits, found {}",
          out.bits);
    if (!one_of(out.group_size, {32, 64, 128}))
      fail(
          ErrorKind::request,
          where,
          "expected groups of 32, 64 or 128, found {}",
          out.group_size);
  } else if (out.bits != mode->bits || out.group_size != mode->group) {
    fail(
        ErrorKind::request,
        where,
        "expected {} bits in groups of {} for {}, found {} in {}",
        mode->bits,
        mode->group,
        mode->name,
        out.bits,
        out.group_size);
  }
  return out;
}

Json to_json(const Quantization& q) {
  return {{"group_size", q.group_size}, {"bits", q.bits}, {"mode", q.mode}};
}

void check(const ConvertOptions& o) {
  if (o.quantize && o.dequantize)
    fail(
        ErrorKind::request,
        "convert",
        "expected either quantize or dequantize, found both");
  if (!o.quantize && (!o.recipe.empty() || !o.layers.empty()))
    fail(
        ErrorKind::request,
        "convert",
        "expected quantize with a recipe for it, found the recipe alone");
  if (!o.dtype.empty() && o.dtype != "float16" && o.dtype != "bfloat16" &&
      o.dtype != "float32")
    fail(
        ErrorKind::request,
        "dtype",
        "expected float16, bfloat16 or float32, found \"{}\"",
        printable(o.dtype));
  if (o.quantize) completed(o.quantization, "quantization");
  for (const auto& [pattern, q] : o.layers)
    if (q) completed(*q, printable(pattern));
  if (o.recipe.empty()) return;
  if (find_recipe(o.recipe) == nullptr)
    fail(
        ErrorKind::request,
        "quant-predicate",
        "expected mixed_2_6, mixed_3_4, mixed_3_6 or mixed_4_6, found \"{}\"",
        printable(o.recipe));
  if (o.quantization.mode != "affine")
    fail(
        ErrorKind::request,
        "quant-predicate",
        "expected the affine mode with a mixed recipe, found {}",
        printable(o.quantization.mode));
}

Recipe::Recipe(
    const ConvertOptions& options,
    const Layout& layout,
    int layers,
    bool partly)
    : options_(options),
      layout_(layout),
      general_(completed(options.quantization, "quantization")),
      layers_(layers),
      partly_(partly) {}

Quantization Recipe::mixed(std::string_view path) const {
  const auto& recipe = *find_recipe(options_.recipe);
  const bool values = contains(path, "v_proj") || contains(path, "v_a_proj") ||
      contains(path, "v_b_proj");
  const bool high = ((values || contains(path, "down_proj")) &&
                     important(layer_index(path), layers_)) ||
      contains(path, "lm_head");
  return {high ? recipe.high : recipe.low, general_.group_size, "affine"};
}

// What the family's own rule says, as mlx-lm's `quant_predicate`.
Decision Recipe::own(std::string_view path, std::int64_t in) const {
  if (layout_.is(Difference::Kind::never, path)) return {};
  if (layout_.is(Difference::Kind::eight_bits, path)) {
    if (in % 64 != 0) return {};
    return {Quantization{8, 64, "affine"}, {{"group_size", 64}, {"bits", 8}}};
  }
  return {general_, partly_ ? to_json(general_) : Json()};
}

Decision Recipe::decide(std::string_view path, std::int64_t in) const {
  if (!options_.quantize || layout_.is(Difference::Kind::bare, path)) return {};
  for (const auto& [pattern, asked] : options_.layers) {
    if (!glob_match(pattern, path)) continue;
    if (!asked) return {std::nullopt, false};
    auto q = completed(*asked, path);
    if (in % q.group_size != 0) return {};
    return {q, to_json(q)};
  }
  if (in % general_.group_size != 0) return {};
  if (options_.recipe.empty()) return own(path, in);
  auto q = mixed(path);
  return {q, to_json(q)};
}

} // namespace mlxlm::converting
