#include "convert/plan.h"

#include <algorithm>
#include <map>
#include <set>

#include "checkpoint/gguf.h"
#include "convert/folder.h"
#include "convert/recipe.h"
#include "core/check.h"
#include "core/strings.h"
#include "weights/kernels.h"

namespace mlxlm::converting {
namespace {

using Kind = Difference::Kind;

// The type that --dtype or the config asks for; nothing: as stored.
std::optional<mx::Dtype> asked_type(
    const ModelInventory& model,
    const Json& config,
    const ConvertOptions& options) {
  std::string name = options.dtype;
  auto text = [](const Json& from, const char* key) -> std::string {
    if (!from.is_object() || !from.contains(key) || !from[key].is_string())
      return {};
    return from[key].get<std::string>();
  };
  if (name.empty()) name = text(config, "torch_dtype");
  if (name.empty() && config.contains("text_config"))
    name = text(config["text_config"], "dtype");
  if (name == "float16") return mx::float16;
  if (name == "bfloat16") return mx::bfloat16;
  if (name == "float32") return mx::float32;
  // GGUF files mix types; half precision holds what their blocks hold.
  if (model.checkpoint.gguf) return mx::float16;
  return std::nullopt;
}

bool is_float(mx::Dtype type) {
  return mx::issubdtype(type, mx::floating);
}

class Planner {
 public:
  Planner(const ModelInventory& model, const ConvertOptions& options)
      : model_(model),
        options_(options),
        layout_(model.model_type, model.wrapper),
        config_(loaded_config(model.checkpoint)),
        type_(asked_type(model, config_, options)),
        recipe_(
            options,
            layout_,
            model.config.range("num_hidden_layers", 0, 0, 1 << 20),
            config_.contains("quantization") || any_kept()) {}

  Plan make() {
    check_recipe();
    for (const auto& matrix : model_.inventory.matrices)
      add(matrix);
    for (const auto& tensor : model_.inventory.tensors)
      add(tensor);
    sort();
    finish_config();
    plan_.parameters = count();
    return std::move(plan_);
  }

 private:
  // The recipes know layers by their parts' names.
  void check_recipe() const {
    if (options_.recipe.empty()) return;
    for (const auto& m : model_.inventory.matrices)
      if (layout_.name(m.path).find("down_proj") != std::string::npos) return;
    fail(
        ErrorKind::request,
        "quant-predicate",
        "expected a model with modules down_proj for {}, found {} without",
        options_.recipe,
        model_.model_type);
  }
  mx::Dtype type_for(const std::string& name, mx::Dtype stored) const {
    if (!type_ || !is_float(stored) || layout_.is(Kind::keep_type, name))
      return stored;
    return *type_;
  }

  // Packed already, in a way that MLX has. FP8 is unpacked unless its blocks
  // are MXFP8's, as mlx-lm does.
  bool keeps(const Inventory::Matrix& m) const {
    if (options_.dequantize || m.format == "dense" || m.format == "GGUF" ||
        m.format == "JANG gate")
      return false;
    if (m.format == "MLX") return true;
    if (m.format == "BitNet") return !options_.quantize;
    if (m.format == "FP8" && !mxfp8_blocks()) return false;
    return mlx_packing(m.matrix).has_value();
  }
  bool any_kept() const {
    return std::any_of(
        model_.inventory.matrices.begin(),
        model_.inventory.matrices.end(),
        [&](const auto& m) { return keeps(m); });
  }
  bool mxfp8_blocks() const {
    const auto& config = model_.checkpoint.config;
    if (!config.is_object("quantization_config")) return false;
    auto block = config.sub("quantization_config");
    return block.opt("scale_fmt", "") == "ue8m0" &&
        block.opt("weight_block_size", std::vector<int>{}) ==
        std::vector<int>{32, 32};
  }

  static Quantization packing(const Inventory::Matrix& m) {
    auto p = mlx_packing(m.matrix);
    if (p) return {p->bits, p->group, p->mode};
    // MLX has groups of 16 as well in affine checkpoints of its own.
    return {m.matrix.spec.bits, m.matrix.spec.group, "affine"};
  }

  ValuesPtr values_of(const Inventory::Matrix& m) const {
    if (m.format == "dense") return stored_values(m.stored.at("weight"));
    if (m.format == "MLX") {
      auto q = packing(m);
      const auto biases = m.stored.find("biases");
      const auto& scales = m.stored.at("scales");
      const bool affine = biases != m.stored.end();
      return unpacked_values(
          m.stored.at("weight"),
          scales,
          affine ? &biases->second : nullptr,
          q.bits,
          q.group_size,
          q.mode,
          affine ? type_for(m.path, *mlx_type(scales.storage()))
                 : mx::bfloat16);
    }
    auto type = scale_type(m);
    if (model_.checkpoint.gguf) type = *type_;
    if (m.format == "JANG gate") type = mx::float32;
    return decoded_values(m.matrix, type);
  }

  void add(const Inventory::Matrix& m) {
    const auto path = layout_.name(m.path);
    if (layout_.is(Kind::latent, path)) {
      add_latent(path, m);
      return;
    }
    if (keeps(m)) {
      keep(path, m);
      return;
    }
    add_values(path, values_of(m), m.format == "MLX");
  }

  // Packed again when it was packed.
  void add_latent(const std::string& path, const Inventory::Matrix& m) {
    const auto& c = model_.config;
    const auto heads = c.range("num_attention_heads", 1, 1 << 14);
    const auto nope = c.range("qk_nope_head_dim", 1, 1 << 13);
    const auto all = nope + c.range("v_head_dim", 1, 1 << 13);
    const auto base = path.substr(0, path.rfind('.') + 1);
    auto values = values_of(m);
    auto q = head_values(values, heads, 0, nope, true);
    auto out = head_values(values, heads, nope, all, false);
    for (const auto& [name, part] :
         {std::pair(base + "embed_q", q), {base + "unembed_out", out}}) {
      if (keeps(m) && part->cols() % m.matrix.spec.group == 0) {
        plan_.tasks.push_back(packed(
            name, part, type_for(name + ".weight", part->type()), packing(m)));
        kept_.emplace_back(name, packing(m));
      } else {
        add_values(name, part, m.format == "MLX");
      }
    }
  }

  void keep(const std::string& path, const Inventory::Matrix& m) {
    if (m.format == "MLX" || m.format == "BitNet")
      keep_stored(path, m);
    else
      keep_values(path, m);
    if (m.format != "BitNet") kept_.emplace_back(path, packing(m));
  }

  void keep_values(const std::string& path, const Inventory::Matrix& m) {
    plan_.tasks.push_back(repacked(
        path, m.matrix, *mlx_packing(m.matrix), type_for(path, scale_type(m))));
  }

  // Of another library's half-precision scales; else bfloat16.
  static mx::Dtype scale_type(const Inventory::Matrix& m) {
    for (const char* name : {"scales", "weight_scale"})
      if (auto it = m.stored.find(name); it != m.stored.end())
        if (it->second.storage() == Storage::f16) return mx::float16;
    return mx::bfloat16;
  }

  void keep_stored(const std::string& path, const Inventory::Matrix& m) {
    for (const auto& [suffix, tensor] : m.stored) {
      auto name = fmt::format("{}.{}", path, suffix);
      auto stored = mlx_type(tensor.storage());
      const bool weight = suffix == "weight";
      const bool converts = stored && type_for(name, *stored) != *stored;
      plan_.tasks.push_back(
          converts ? cast(name, stored_values(tensor), *type_)
                   : copied(name, tensor));
      if (!weight || m.format == "BitNet") continue;
      plan_.tasks.back().bits = m.matrix.spec.bits;
      auto& out = plan_.tasks.back().outputs[0];
      if (out.storage == Storage::u8) { // the same bytes as MLX's words
        out.storage = Storage::u32;
        out.shape.back() /= 4;
      }
    }
  }

  // `unpacked`: what was packed before keeps the type that unpacking gave.
  void add_values(
      const std::string& path,
      const ValuesPtr& values,
      bool unpacked) {
    const auto name = path + ".weight";
    const auto type =
        unpacked ? values->type() : type_for(name, values->type());
    auto decision = recipe_.decide(path, values->cols());
    if (!decision.entry.is_null()) entries_.emplace_back(path, decision.entry);
    if (decision.how)
      plan_.tasks.push_back(packed(path, values, type, *decision.how));
    else
      plan_.tasks.push_back(cast(name, values, type));
  }

  void add(const RowTensor& as_asked) {
    const auto name = layout_.name(as_asked.name());
    auto stored = mlx_type(as_asked.storage());
    auto shape = as_asked.shape();
    if (layout_.is(Kind::column, name) && shape.size() == 2) shape.push_back(1);
    if (layout_.is(Kind::scalar, name) && as_asked.elements() == 1) shape = {};
    auto tensor =
        layout_.is(Kind::less_one, name) ? as_asked.plus(-1) : as_asked;
    const bool as_it_is =
        !stored || (type_for(name, *stored) == *stored && tensor.offset() == 0);
    plan_.tasks.push_back(
        as_it_is ? copied(name, tensor)
                 : cast(name, stored_values(tensor), type_for(name, *stored)));
    plan_.tasks.back().outputs[0].shape = shape;
  }

  // By name, numbers as numbers: a layer's tensors stay together.
  void sort() {
    auto key = [](const Task& task) {
      std::vector<std::string> out;
      for (auto part : split(task.outputs[0].name, '.')) {
        const bool number = !part.empty() && part.size() < 8 &&
            std::all_of(part.begin(), part.end(), [](char c) {
              return c >= '0' && c <= '9';
            });
        out.push_back(number ? fmt::format("{:0>8}", part) : part);
      }
      return out;
    };
    std::stable_sort(
        plan_.tasks.begin(),
        plan_.tasks.end(),
        [&](const Task& a, const Task& b) { return key(a) < key(b); });
  }

  void finish_config() {
    if (options_.dequantize) {
      config_.erase("quantization");
      config_.erase("quantization_config");
    } else {
      if (options_.quantize && !config_.contains("quantization") &&
          kept_.empty())
        config_["quantization"] = to_json(recipe_.general());
      name_kept();
      drop_stale_block();
      for (const auto& [path, entry] : entries_)
        config_["quantization"][path] = entry;
    }
    plan_.config = saved_config(std::move(config_));
  }

  // What another library says of how it packed, when nothing is packed any
  // more. mlx-lm leaves FP8's.
  void drop_stale_block() {
    if (config_.contains("quantization") ||
        !config_.contains("quantization_config"))
      return;
    const auto& block = config_["quantization_config"];
    auto method = block.is_object() ? block.value("quant_method", "") : "";
    if (method != "fp8" && method != "bitnet")
      config_.erase("quantization_config");
  }

  // config.json says of modules that stay packed how they are.
  void name_kept() {
    if (kept_.empty()) return;
    if (!config_.contains("quantization"))
      config_["quantization"] = to_json(most_common());
    auto& block = config_["quantization"];
    const auto general = parse(block);
    for (const auto& [path, q] : kept_) {
      const bool named = block.contains(path);
      const bool right = named
          ? block[path].is_object() && same(parse(block[path]), q)
          : same(general, q);
      if (!right) block[path] = to_json(q);
    }
  }

  static Quantization parse(const Json& block) {
    Quantization q;
    if (block.contains("bits") && block["bits"].is_number_integer())
      q.bits = block["bits"].get<int>();
    if (block.contains("group_size") && block["group_size"].is_number_integer())
      q.group_size = block["group_size"].get<int>();
    if (block.contains("mode") && block["mode"].is_string())
      q.mode = block["mode"].get<std::string>();
    return q;
  }
  static bool same(const Quantization& a, const Quantization& b) {
    return a.bits == b.bits && a.group_size == b.group_size && a.mode == b.mode;
  }
  Quantization most_common() const {
    std::map<std::tuple<std::string, int, int>, int> count;
    for (const auto& [path, q] : kept_)
      ++count[{q.mode, q.bits, q.group_size}];
    auto best = std::max_element(
        count.begin(), count.end(), [](const auto& a, const auto& b) {
          return a.second < b.second;
        });
    const auto& [mode, bits, group] = best->first;
    return {bits, group, mode};
  }

  // mlx-lm counts what lies in modules without modules below them, packed
  // weights by their codes, and of packed modules the bias besides.
  std::size_t count() const {
    auto parent = [](const std::string& name) {
      auto dot = name.rfind('.');
      return dot == std::string::npos ? std::string() : name.substr(0, dot);
    };
    std::set<std::string> modules, inner, packed_modules;
    for (const auto& task : plan_.tasks)
      for (const auto& out : task.outputs) {
        modules.insert(parent(out.name));
        if (task.bits > 0) packed_modules.insert(parent(task.outputs[0].name));
      }
    for (auto path : modules)
      while (!(path = parent(path)).empty())
        inner.insert(path);
    std::size_t n = 0;
    for (const auto& task : plan_.tasks)
      for (std::size_t i = 0; i < task.outputs.size(); ++i) {
        const auto& out = task.outputs[i];
        const auto module = parent(out.name);
        if (inner.contains(module)) continue;
        if (!packed_modules.contains(module))
          n += out.elements();
        else if (i == 0 && task.bits > 0)
          n += out.elements() * 32 / static_cast<std::size_t>(task.bits);
        else if (ends_with(out.name, ".bias"))
          n += out.elements();
      }
    return n;
  }

  const ModelInventory& model_;
  const ConvertOptions& options_;
  Layout layout_;
  Json config_;
  std::optional<mx::Dtype> type_;
  Recipe recipe_;
  Plan plan_;
  std::vector<std::pair<std::string, Json>> entries_;
  std::vector<std::pair<std::string, Quantization>> kept_;
};

} // namespace

Plan make_plan(const ModelInventory& model, const ConvertOptions& options) {
  return Planner(model, options).make();
}

} // namespace mlxlm::converting
