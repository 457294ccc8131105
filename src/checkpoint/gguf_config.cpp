#include "checkpoint/gguf_config.h"

#include <algorithm>
#include <cmath>

#include "checkpoint/values.h"
#include "core/check.h"
#include "core/strings.h"

namespace mlxlm {

std::optional<std::int64_t> GgufConfig::find_size(
    std::string_view name,
    std::int64_t low,
    std::int64_t high) const {
  auto full = key(name);
  if (!metadata_.has(full)) return std::nullopt;
  std::int64_t value;
  if (metadata_.is_list(full)) {
    auto list = metadata_.integers(full);
    if (list.empty() ||
        std::count(list.begin(), list.end(), list[0]) !=
            static_cast<std::int64_t>(list.size()))
      fail(
          ErrorKind::weights,
          metadata_.where(full),
          "expected one value for all layers, found a list of {} that differ",
          list.size());
    value = list[0];
  } else {
    value = metadata_.req<std::int64_t>(full);
  }
  if (value < low || value > high)
    fail(
        ErrorKind::weights,
        metadata_.where(full),
        "expected an integer from {} to {}, found {}",
        low,
        high,
        value);
  return value;
}

std::int64_t GgufConfig::size(
    std::string_view name,
    std::int64_t low,
    std::int64_t high) const {
  auto value = find_size(name, low, high);
  if (!value)
    fail(
        ErrorKind::weights,
        metadata_.where(key(name)),
        "expected an integer, found nothing");
  return *value;
}

std::optional<double> GgufConfig::number(std::string_view name) const {
  return metadata_.get<double>(key(name));
}

bool GgufConfig::flag(std::string_view name) const {
  return metadata_.get<bool>(key(name)).value_or(false);
}

std::vector<double> GgufConfig::floats(std::string_view name) const {
  const auto* view = file_.find(name);
  if (view == nullptr) return {};
  if (view->elements() > 65'536)
    fail(
        ErrorKind::weights,
        view->where(),
        "expected at most 65536 values, found {}",
        view->elements());
  auto values =
      read_floats(RowTensor(std::make_shared<const TensorView>(*view)));
  for (float v : values)
    if (!std::isfinite(v) || v == 0)
      fail(
          ErrorKind::weights,
          view->where(),
          "expected finite factors, found {}",
          v);
  return {values.begin(), values.end()};
}

Json GgufConfig::common() const {
  Json config = Json::object();
  add_sizes(config);
  add_rope(config);
  add_tokens(config);
  return config;
}

void GgufConfig::add_sizes(Json& config) const {
  const auto hidden = size("embedding_length");
  const auto heads = size("attention.head_count", 1, 65'536);
  const auto kv_heads =
      find_size("attention.head_count_kv", 1, heads).value_or(heads);
  auto head_dim = find_size("attention.key_length", 1, 65'536);
  if (!head_dim && hidden % heads != 0)
    fail(
        ErrorKind::weights,
        metadata_.where(key("attention.head_count")),
        "expected a divisor of {}, found {}",
        hidden,
        heads);
  config["hidden_size"] = hidden;
  config["num_hidden_layers"] = size("block_count", 1, 65'536);
  config["num_attention_heads"] = heads;
  config["num_key_value_heads"] = kv_heads;
  config["head_dim"] = head_dim.value_or(hidden / heads);
  config["intermediate_size"] = find_size("feed_forward_length", 0).value_or(0);
  config["max_position_embeddings"] =
      size("context_length", 1, std::int64_t{1} << 31);
  if (auto eps = number("attention.layer_norm_rms_epsilon"))
    config["rms_norm_eps"] = *eps;
  if (auto eps = number("attention.layer_norm_epsilon"))
    config["layer_norm_eps"] = *eps;
  if (auto window = find_size("attention.sliding_window", 0, INT32_MAX);
      window.value_or(0) > 0)
    config["sliding_window"] = *window;
  config["attention_bias"] =
      has_tensor("blk.0.attn_q.bias") || has_tensor("blk.0.attn_qkv.bias");
  config["mlp_bias"] = has_tensor("blk.0.ffn_up.bias");
  config["tie_word_embeddings"] = !has_tensor("output.weight");
}

void GgufConfig::add_rope(Json& config) const {
  const auto base = number("rope.freq_base").value_or(10'000.0);
  if (!(base > 0))
    fail(
        ErrorKind::weights,
        metadata_.where(key("rope.freq_base")),
        "expected a positive number, found {}",
        base);
  config["rope_theta"] = base;
  const auto head_dim = config["head_dim"].get<std::int64_t>();
  if (auto rotated = find_size("rope.dimension_count", 1, 65'536);
      rotated && *rotated < head_dim)
    config["partial_rotary_factor"] =
        static_cast<double>(*rotated) / static_cast<double>(head_dim);

  auto scaling =
      rope_scaling(config["max_position_embeddings"].get<std::int64_t>());
  if (scaling.contains("original_max_position_embeddings") &&
      scaling["rope_type"] == "longrope")
    config["original_max_position_embeddings"] =
        scaling["original_max_position_embeddings"];
  if (!scaling.empty()) config["rope_scaling"] = std::move(scaling);
}

Json GgufConfig::rope_scaling(std::int64_t length) const {
  const auto original = find_size(
      "rope.scaling.original_context_length", 1, std::int64_t{1} << 31);
  // Llama 3's scaling, worked out per frequency: longrope with the same factors
  // for all lengths.
  if (auto factors = floats("rope_freqs.weight"); !factors.empty())
    return {
        {"rope_type", "longrope"},
        {"factor", 1.0},
        {"attention_factor", 1.0},
        {"original_max_position_embeddings", length},
        {"short_factor", factors},
        {"long_factor", factors}};
  if (auto longs = floats("rope_factors_long.weight"); !longs.empty())
    return {
        {"rope_type", "longrope"},
        {"original_max_position_embeddings", original.value_or(length)},
        {"short_factor", floats("rope_factors_short.weight")},
        {"long_factor", longs}};
  const auto type =
      metadata_.get<std::string_view>(key("rope.scaling.type")).value_or("");
  const bool known = type.empty() || type == "none" || type == "linear" ||
      type == "yarn" || type == "longrope";
  if (!known)
    fail(
        ErrorKind::weights,
        metadata_.where(key("rope.scaling.type")),
        "expected none, linear, yarn or longrope, found \"{}\"",
        printable(type));
  auto factor = number("rope.scaling.factor");
  if (!factor) factor = number("rope.scale_linear");
  if (!(factor.value_or(0) > 0) || *factor == 1) return Json::object();
  if (type == "linear" || type.empty())
    return {{"rope_type", "linear"}, {"factor", *factor}};
  if (type != "yarn") return Json::object();
  Json out = {
      {"rope_type", "yarn"},
      {"factor", *factor},
      {"original_max_position_embeddings", original.value_or(length)}};
  if (auto v = number("rope.scaling.yarn_attn_factor"))
    out["attention_factor"] = *v;
  if (auto v = number("rope.scaling.yarn_beta_fast")) out["beta_fast"] = *v;
  if (auto v = number("rope.scaling.yarn_beta_slow")) out["beta_slow"] = *v;
  return out;
}

// Lists of the tokenizer have an entry per row of the embedding.
void GgufConfig::check_vocabulary(std::int64_t rows) const {
  for (const char* name :
       {"tokenizer.ggml.tokens",
        "tokenizer.ggml.scores",
        "tokenizer.ggml.token_type"}) {
    const auto* value = metadata_.find(name);
    if (value == nullptr) continue;
    const auto* list = std::get_if<GgufArray>(value);
    if (list == nullptr)
      fail(
          ErrorKind::weights,
          metadata_.where(name),
          "expected a list, found {}",
          describe(*value));
    if (list->count != static_cast<std::uint64_t>(rows))
      fail(
          ErrorKind::weights,
          metadata_.where(name),
          "expected {} entries, one per row of token_embd.weight, found {}",
          rows,
          list->count);
  }
}

std::optional<std::int64_t> GgufConfig::token_id(
    std::string_view name,
    std::int64_t vocabulary) const {
  auto full = fmt::format("tokenizer.ggml.{}_token_id", name);
  auto value = metadata_.get<std::int64_t>(full);
  if (!value || *value == UINT32_MAX) return std::nullopt;
  if (*value < 0 || *value >= vocabulary)
    fail(
        ErrorKind::weights,
        metadata_.where(full),
        "expected a token id below {}, found {}",
        vocabulary,
        *value);
  return value;
}

void GgufConfig::add_tokens(Json& config) const {
  const auto* embedding = file_.find("token_embd.weight");
  if (embedding == nullptr || embedding->shape.size() != 2)
    fail(
        ErrorKind::weights,
        file_.metadata().where("token_embd.weight"),
        "expected a matrix, found {}",
        embedding == nullptr ? "nothing" : "another shape");
  const auto vocabulary = embedding->shape[0];
  config["vocab_size"] = vocabulary;
  check_vocabulary(vocabulary);
  auto id = [&](const char* name) { return token_id(name, vocabulary); };
  if (auto bos = id("bos")) config["bos_token_id"] = *bos;
  if (auto pad = id("padding")) config["pad_token_id"] = *pad;
  Json ends = Json::array();
  for (const char* name : {"eos", "eot", "eom"})
    if (auto end = id(name);
        end && std::find(ends.begin(), ends.end(), *end) == ends.end())
      ends.push_back(*end);
  if (ends.size() == 1) config["eos_token_id"] = ends[0];
  if (ends.size() > 1) config["eos_token_id"] = ends;
}

} // namespace mlxlm
