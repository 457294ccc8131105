#include "models/load.h"

#include <mlx/device.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "core/check.h"
#include "core/strings.h"
#include "models/adapters.h"
#include "models/families.h"
#include "quant/formats.h"
#include "weights/loader.h"

namespace mlxlm {

namespace {

using models::Family;

// What is built, and from which part of the config.
struct Target {
  const Family* family;
  Fields config;
  bool wrapped; // the text tower of a multimodal checkpoint
};

[[noreturn]] void unknown(const Fields& config, const std::string& type) {
  auto known = supported_models();
  auto close = nearest(type, known, 3);
  fail(
      ErrorKind::config,
      config.where("model_type"),
      "expected a supported architecture, found \"{}\"; nearest: {}",
      printable(type),
      join(close.empty() ? known : close, ", "));
}

Target target(const Fields& config) {
  auto type = config.req<std::string>("model_type");
  if (const auto* family = models::find_family(type))
    return {family, config, false};
  if (const auto* assistant = models::find_assistant(type))
    return {assistant, config, false};
  const auto* wrapper = models::find_wrapper(type);
  if (!wrapper) unknown(config, type);
  // Files of a text tower alone may keep the wrapper's name.
  bool nested = config.has("text_config");
  auto text = nested ? config.sub("text_config") : config;
  std::string text_type(wrapper->text_type);
  if (nested) text_type = text.opt("model_type", text_type.c_str());
  const auto* family = models::find_family(text_type);
  if (!family) unknown(text, text_type);
  // The head's tying may be said outside only.
  if (!text.has("tie_word_embeddings") && config.has("tie_word_embeddings"))
    text = text.with(
        {{"tie_word_embeddings", config.req<bool>("tie_word_embeddings")}});
  return {family, text, true};
}

// So that the family's rules find what they would drop under other names.
std::vector<Rule> prediction_rules(const Target& t) {
  if (!t.family->prediction)
    fail(
        ErrorKind::request,
        t.config.where("model_type"),
        "expected a family whose prediction of further tokens is built, found "
        "\"{}\"",
        t.family->model_type);
  return t.family->prediction(t.config).rules;
}

void check_prediction(const Target& t, const Model& model) {
  if (model.prediction()) return;
  fail(
      ErrorKind::weights,
      t.family->prediction(t.config).first,
      "expected tensors that predict further tokens, found none; load without "
      "mtp");
}

// From published names to the family's.
std::vector<Rule> family_rules(
    const Target& t,
    const Checkpoint& c,
    bool prediction = false) {
  std::vector<Rule> rules;
  auto add = [&](std::vector<Rule> more) {
    for (auto& r : more)
      rules.push_back(std::move(r));
  };
  if (t.wrapped)
    add(
        {rename("model.language_model.*", "model.*"),
         rename("language_model.model.*", "model.*"),
         rename("language_model.lm_head.*", "lm_head.*"),
         drop("*vision_tower.*"),
         drop("*visual.*"),
         drop("*vision_model.*"),
         drop("*mm_projector.*"),
         drop("*multi_modal_projector.*")});
  add({drop("*.rotary_emb.inv_freq")});
  if (prediction) add(prediction_rules(t));
  if (t.family->rules) add(t.family->rules(t.config, *c.tensors));
  return rules;
}

std::vector<Rule> rules_of(
    const Target& t,
    const Checkpoint& c,
    bool prediction = false) {
  auto rules = c.rules;
  auto more = family_rules(t, c, prediction);
  rules.insert(rules.end(), more.begin(), more.end());
  return rules;
}

// JANG's mixtures of experts are made for bfloat16, whatever type their
// parameters are stored in.
bool jang_mixture(const Checkpoint& c) {
  if (!c.jang) return false;
  for (const auto& name : c.tensors->names())
    for (const char* glob : {"*switch_mlp*", "*switch_glu*", "*.gate.weight"})
      if (glob_match(glob, name)) return true;
  return false;
}

// The type most of the checkpoint's plain floating-point bytes have.
mx::Dtype stored_type(const TensorSource& tensors) {
  std::map<Storage, std::size_t> bytes;
  for (const auto& name : tensors.names()) {
    const auto* view = tensors.find(name);
    auto s = view->storage;
    if (s == Storage::f32 || s == Storage::f16 || s == Storage::bf16)
      bytes[s] += view->bytes.size();
  }
  auto most = Storage::f32;
  for (const auto& [storage, count] : bytes)
    if (count > bytes[most]) most = storage;
  return most == Storage::f16 ? mx::float16
      : most == Storage::bf16 ? mx::bfloat16
                              : mx::float32;
}

// The format that most of the weights have; empty when plain.
std::string quantization(const ParameterTable& table) {
  std::map<std::string, std::size_t> bytes;
  for (const auto& entry : table.entries()) {
    const auto* l = std::get_if<Linear>(&entry.handle);
    if (l) bytes[l->kernel().format()] += l->kernel().bytes();
  }
  std::string most;
  std::size_t count = 0;
  for (const auto& [format, size] : bytes)
    if (size > count) {
      most = format;
      count = size;
    }
  auto plain = lower_ascii(most);
  if (plain == "f32" || plain == "f16" || plain == "bf16") return "";
  return most;
}

// A number or a list of them, each of the model's vocabulary.
std::vector<int> token_ids(const Fields& f, std::string_view key, int vocab) {
  if (!f.has(key)) return {};
  auto ids = f.req<Json>(key).is_array() ? f.req<std::vector<int>>(key)
                                         : std::vector<int>{f.req<int>(key)};
  for (int id : ids)
    if (id < 0 || id >= vocab)
      fail(
          ErrorKind::config,
          f.where(key),
          "expected token ids below {}, found {}",
          vocab,
          id);
  return ids;
}

std::vector<int> end_tokens(
    const std::string& path,
    const Fields& config,
    int vocab) {
  auto file = std::filesystem::path(path) / "generation_config.json";
  std::error_code ignored;
  if (std::filesystem::is_regular_file(file, ignored)) {
    // Settings of sampling, which are not read, may be NaN.
    Fields generation(
        read_json(file.string(), {.nonfinite = true}),
        "generation_config.json");
    auto ids = token_ids(generation, "eos_token_id", vocab);
    if (!ids.empty()) return ids;
  }
  auto ids = token_ids(config, "eos_token_id", vocab);
  if (ids.empty() && config.is_object("text_config"))
    ids = token_ids(config.sub("text_config"), "eos_token_id", vocab);
  return ids;
}

// What may be there although the model does not ask for it.
std::vector<std::string> ignored_tensors(const Target& t) {
  if (t.config.opt("tie_word_embeddings", true)) return {"lm_head.*"};
  return {};
}

} // namespace

int context_length(const Fields& config) {
  for (auto key : {"max_position_embeddings", "n_positions", "block_size"})
    if (config.has(key)) return config.range(key, 1, 1 << 30);
  return 0;
}

Adapter open_model_adapter(
    const std::string& path,
    const std::string& adapter_path,
    bool prediction) {
  auto checkpoint = open_checkpoint(path);
  auto t = target(checkpoint.config);
  return open_adapter(
      adapter_path,
      *checkpoint.tensors,
      family_rules(t, checkpoint, prediction));
}

LoadedModel load_model(const std::string& path, const ModelOptions& options) {
  auto checkpoint = open_checkpoint(path);
  auto t = target(checkpoint.config);
  bool cpu = mx::default_device() == mx::Device::cpu;
  auto stored = jang_mixture(checkpoint) ? mx::bfloat16
                                         : stored_type(*checkpoint.tensors);
  LoaderOptions load;
  load.type = options.dtype.value_or(cpu ? mx::float32 : stored);
  load.packed = cpu;
  load.activations = options.quantize_activations ? kernels::Activations::int8
                                                  : kernels::Activations::exact;
  load.progress = options.progress;
  if (!options.adapter_path.empty())
    load.adapter = std::make_shared<Adapter>(open_adapter(
        options.adapter_path,
        *checkpoint.tensors,
        family_rules(t, checkpoint, options.prediction)));

  auto loader = Loader::open(
      *checkpoint.tensors,
      rules_of(t, checkpoint, options.prediction),
      quant::formats(checkpoint.config, checkpoint.jang),
      load);
  auto model = t.family->build(t.config, loader->root());
  if (options.prediction) check_prediction(t, *model);
  loader->finish(ignored_tensors(t));
  auto table = std::make_shared<ParameterTable>(loader->take_table());
  auto summary = quantization(*table);
  auto ends = end_tokens(path, checkpoint.config, model->vocab());
  return {
      .config = checkpoint.config,
      .model_type = std::string(t.family->model_type),
      .model = std::move(model),
      .parameters = std::move(table),
      .compute_type = load.type,
      .stored_type = stored,
      .quantization = summary,
      .max_positions = context_length(t.config),
      .eos_tokens = std::move(ends),
      .assistant = models::find_assistant(t.family->model_type) != nullptr};
}

bool predicts(const Checkpoint& checkpoint) {
  auto type = checkpoint.config.opt("model_type", "");
  if (!models::find_family(type) && !models::find_wrapper(type)) return false;
  auto t = target(checkpoint.config);
  if (!t.family->prediction) return false;
  auto rules = rules_of(t, checkpoint, true);
  auto names = checkpoint.tensors->names();
  return std::any_of(names.begin(), names.end(), [&](const auto& name) {
    return renamed(name, rules) == "prediction.token_norm.weight";
  });
}

std::vector<CacheSpec> remembered(const Checkpoint& checkpoint) {
  auto t = target(checkpoint.config);
  LoaderOptions outline;
  outline.outline = true;
  auto loader = Loader::open(
      *checkpoint.tensors,
      rules_of(t, checkpoint),
      quant::formats(checkpoint.config, checkpoint.jang),
      outline);
  auto caches = t.family->build(t.config, loader->root())->caches();
  loader->finish(ignored_tensors(t));
  return caches;
}

ModelInventory take_inventory(const std::string& path) {
  auto checkpoint = open_checkpoint(path);
  auto t = target(checkpoint.config);
  auto stored = stored_type(*checkpoint.tensors);
  LoaderOptions load;
  load.type = stored;
  load.outline = true;
  load.inventory = std::make_shared<Inventory>();
  auto loader = Loader::open(
      *checkpoint.tensors,
      rules_of(t, checkpoint),
      quant::formats(checkpoint.config, checkpoint.jang),
      load);
  t.family->build(t.config, loader->root());
  loader->finish(ignored_tensors(t));
  auto wrapper = t.wrapped ? checkpoint.config.req<std::string>("model_type")
                           : std::string();
  return {
      .checkpoint = std::move(checkpoint),
      .model_type = std::string(t.family->model_type),
      .wrapper = std::move(wrapper),
      .config = t.config,
      .stored_type = stored,
      .inventory = std::move(*load.inventory)};
}

std::vector<std::string> supported_models() {
  std::vector<std::string> out;
  for (const auto& f : models::families())
    out.emplace_back(f.model_type);
  for (const auto& w : models::wrappers())
    out.emplace_back(w.model_type);
  std::sort(out.begin(), out.end());
  return out;
}

} // namespace mlxlm
