#include "checkpoint/adapter.h"

#include <array>
#include <cmath>
#include <span>

#include "checkpoint/safetensors.h"
#include "core/check.h"
#include "core/fields.h"
#include "core/strings.h"

namespace mlxlm {
namespace {

// The tensors of one module as the file has them.
struct Parts {
  std::optional<RowTensor> a, b, magnitude;
  bool table = false; // of an embedding, as its names say
};
using Modules = std::map<std::string, Parts, std::less<>>;

struct Suffix {
  std::string_view end;
  std::optional<RowTensor> Parts::*part;
  bool table = false;
};
constexpr std::array mlx_suffixes = {
    Suffix{".lora_a", &Parts::a},
    Suffix{".lora_b", &Parts::b},
    Suffix{".m", &Parts::magnitude}};
constexpr std::array peft_suffixes = {
    Suffix{".lora_A.weight", &Parts::a},
    Suffix{".lora_B.weight", &Parts::b},
    Suffix{".lora_A.default.weight", &Parts::a},
    Suffix{".lora_B.default.weight", &Parts::b},
    Suffix{".lora_embedding_A", &Parts::a, true},
    Suffix{".lora_embedding_B", &Parts::b, true},
    Suffix{".lora_magnitude_vector", &Parts::magnitude},
    Suffix{".lora_magnitude_vector.weight", &Parts::magnitude}};

RowTensor tensor(const TensorSource& source, const std::string& name) {
  return RowTensor(std::make_shared<const TensorView>(*source.find(name)));
}

Modules modules_of(
    const TensorSource& source,
    std::span<const Suffix> suffixes,
    std::string_view prefix) {
  Modules out;
  for (const auto& name : source.names()) {
    const Suffix* found = nullptr;
    for (const auto& suffix : suffixes)
      if (ends_with(name, suffix.end)) found = &suffix;
    auto t = tensor(source, name);
    if (found == nullptr || !starts_with(name, prefix))
      fail(
          ErrorKind::weights,
          t.where(),
          "expected a factor of an adapted module ({}*{}, {}), found another tensor",
          prefix,
          suffixes[0].end,
          suffixes[1].end);
    auto path = name.substr(
        prefix.size(), name.size() - prefix.size() - found->end.size());
    auto& parts = out[path];
    parts.*(found->part) = std::move(t);
    parts.table = parts.table || found->table;
  }
  for (const auto& [path, parts] : out)
    if (!parts.a || !parts.b)
      fail(
          ErrorKind::weights,
          path,
          "expected two factors in the adapter, found {}",
          parts.a       ? "the first alone"
              : parts.b ? "the second alone"
                        : "a magnitude alone");
  return out;
}

[[noreturn]] void misshapen(const RowTensor& t, std::string_view expected) {
  fail(
      ErrorKind::weights,
      t.where(),
      "expected {}, found [{}]",
      expected,
      fmt::join(t.shape(), ", "));
}

// Whether a module that is adapted by a [*, rank] and b [rank, *] is a table of
// embeddings, whose a has a row each token.
bool is_table(
    const TensorSource& base,
    const std::string& path,
    const Parts& parts) {
  const auto* weight = base.find(path + ".weight");
  const auto first = parts.a->shape()[0], last = parts.b->shape()[1];
  if (weight != nullptr && weight->shape.size() == 2 && first != last) {
    if (first == weight->shape[0]) return true;
    if (last == weight->shape[0]) return false;
  }
  for (std::string_view name : {"embed", "wte"})
    if (path.find(name) != std::string::npos) return true;
  return false;
}

RowTensor turned(const RowTensor& t) {
  return t.permute({1, 0});
}

// mlx-lm: [in, rank] and [rank, out]; of a table [out, rank] and [rank, in]; of
// experts [experts, rank, in] and [experts, out, rank].
LowRank from_mlx(
    const TensorSource& base,
    const std::string& path,
    const Parts& parts) {
  const auto &a = *parts.a, &b = *parts.b;
  const auto dimensions = a.shape().size();
  if (dimensions < 2 || dimensions > 3) misshapen(a, "a matrix or a stack");
  if (b.shape().size() != dimensions)
    misshapen(b, fmt::format("{} dimensions like {}", dimensions, a.name()));
  if (dimensions == 3) return {a, b, parts.magnitude};
  if (is_table(base, path, parts)) return {b, a, parts.magnitude};
  return {turned(a), turned(b), parts.magnitude};
}

// PEFT: [rank, in] and [out, rank]; of a table [rank, out] and [in, rank].
LowRank from_peft(const Parts& parts) {
  for (const auto* t : {&*parts.a, &*parts.b})
    if (t->shape().size() != 2) misshapen(*t, "a matrix");
  if (parts.table) return {turned(*parts.b), turned(*parts.a), parts.magnitude};
  return {*parts.a, *parts.b, parts.magnitude};
}

void check_rank(const LowRank& m) {
  const auto &down = m.down.shape(), &up = m.up.shape();
  const auto rank = down[down.size() - 2];
  if (rank == 0 || up.back() != rank)
    misshapen(m.up, fmt::format("rank {} like {}", rank, m.down.name()));
  if (m.magnitude && m.magnitude->elements() != up[up.size() - 2])
    misshapen(*m.magnitude, fmt::format("[{}]", up[up.size() - 2]));
}

// What the rules do to rows; nothing that is of values or of inputs.
std::vector<Rule> of_rows(const std::vector<Rule>& rules) {
  std::vector<Rule> out;
  for (const auto& rule : rules) {
    const bool other = std::holds_alternative<rewrite::MoveAxis>(rule) ||
        std::holds_alternative<rewrite::MergeAxes>(rule) ||
        std::holds_alternative<rewrite::Offset>(rule) ||
        std::holds_alternative<rewrite::Orient>(rule) ||
        std::holds_alternative<rewrite::FirstRows>(rule);
    if (!other) out.push_back(rule);
  }
  return out;
}

// The modules under the model's names, rows where its matrices have them.
Adapter placed(
    const std::map<std::string, LowRank>& modules,
    const std::vector<Rule>& rules) {
  constexpr std::string_view suffix = ".weight";
  TensorMap ups, magnitudes;
  struct Place {
    const LowRank* module;
    std::string path;
    bool found = false;
  };
  std::map<std::string, Place> by_origin;
  for (const auto& [path, m] : modules) {
    check_rank(m);
    const auto name = path + std::string(suffix);
    ups.emplace(name, m.up);
    by_origin[m.up.origin()] = {&m, path};
    if (m.magnitude)
      magnitudes.emplace(
          name, m.magnitude->reshape({m.magnitude->elements(), 1}));
  }
  const auto rows = of_rows(rules);
  magnitudes = rewritten(std::move(magnitudes), rows);
  Adapter out;
  for (auto& [name, up] : rewritten(std::move(ups), rows)) {
    auto& place = by_origin.at(up.origin());
    place.found = true;
    LowRank here{place.module->down, up, std::nullopt, place.module->scale};
    if (auto it = magnitudes.find(name); it != magnitudes.end())
      here.magnitude = it->second;
    out.modules.emplace(
        name.substr(0, name.size() - suffix.size()), std::move(here));
  }
  for (const auto& [origin, place] : by_origin)
    if (!place.found)
      fail(
          ErrorKind::weights,
          place.module->up.where(),
          "expected a module that the model has, found {}",
          printable(place.path));
  return out;
}

float finite(const Fields& f, std::string_view key, double value) {
  if (!std::isfinite(value))
    fail(ErrorKind::config, f.where(key), "expected a number, found {}", value);
  return static_cast<float>(value);
}

// scale = alpha / rank, or / sqrt(rank) with rslora; patterns have their own.
float peft_scale(const Fields& f, const std::string& path, std::int64_t rank) {
  auto alpha = f.req<double>("lora_alpha");
  auto patterns = f.sub("alpha_pattern");
  for (const auto& [name, value] : patterns.json().items()) {
    if (name.find_first_of("*+?()[]{}|^$\\") != std::string::npos)
      fail(
          ErrorKind::config,
          patterns.where(name),
          "expected the end of a module's name, found a pattern");
    if (path == name || ends_with(path, "." + name))
      alpha = patterns.req<double>(name);
  }
  const auto r = static_cast<double>(rank);
  return finite(
      f, "lora_alpha", alpha / (f.opt("use_rslora", false) ? std::sqrt(r) : r));
}

Adapter open_peft(
    const std::string& folder,
    const Fields& f,
    const std::vector<Rule>& rules) {
  auto type = f.req<std::string>("peft_type");
  if (type != "LORA")
    fail(
        ErrorKind::config,
        f.where("peft_type"),
        "expected \"LORA\", found \"{}\"",
        printable(type));
  SafetensorsSource source({join_path(folder, "adapter_model.safetensors")});
  std::map<std::string, LowRank> modules;
  for (const auto& [path, parts] :
       modules_of(source, peft_suffixes, "base_model.model.")) {
    auto m = from_peft(parts);
    m.scale = peft_scale(f, path, m.down.shape()[0]);
    modules.emplace(path, std::move(m));
  }
  return placed(modules, rules);
}

} // namespace

Adapter open_adapter(
    const std::string& folder,
    const TensorSource& base,
    const std::vector<Rule>& rules) {
  Fields f(
      read_json(join_path(folder, "adapter_config.json")),
      "adapter_config.json");
  if (f.has("peft_type")) return open_peft(folder, f, rules);
  const auto type = f.opt("fine_tune_type", "lora");
  if (type != "lora" && type != "dora" && type != "full")
    fail(
        ErrorKind::config,
        f.where("fine_tune_type"),
        "expected lora, dora or full, found \"{}\"",
        printable(type));
  SafetensorsSource source({join_path(folder, "adapters.safetensors")});
  if (type == "full") return {{}, rewritten(source, rules)};
  auto parameters = f.sub("lora_parameters");
  const auto scale =
      finite(parameters, "scale", parameters.req<double>("scale"));
  std::optional<int> rank;
  if (parameters.has("rank")) rank = parameters.range("rank", 1, 1 << 16);
  std::map<std::string, LowRank> modules;
  for (const auto& [path, parts] : modules_of(source, mlx_suffixes, "")) {
    if (parts.magnitude.has_value() != (type == "dora"))
      fail(
          ErrorKind::weights,
          parts.a->where(),
          "expected {} as fine_tune_type \"{}\" has, found {}",
          type == "dora" ? "a magnitude" : "no magnitude",
          type,
          type == "dora" ? "none" : "one");
    auto m = from_mlx(base, path, parts);
    check_rank(m);
    if (rank && m.up.shape().back() != *rank)
      misshapen(*parts.a, fmt::format("rank {} as {} says", *rank, f.where()));
    if (type == "dora" && m.up.shape().size() != 2)
      misshapen(*parts.a, "a matrix, as DoRA is not for experts");
    m.scale = scale;
    modules.emplace(path, std::move(m));
  }
  return placed(modules, rules);
}

} // namespace mlxlm
