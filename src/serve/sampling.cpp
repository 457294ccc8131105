#include "serve/sampling.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

namespace mlxlm::serve {
namespace {

constexpr std::int64_t int_max = std::numeric_limits<int>::max();

constexpr std::int64_t most_tokens = std::int64_t{1} << 40; // then cut
using Seeds = std::numeric_limits<std::int64_t>;

// Where HTTP has bounds of its own.
struct OwnBounds {
  std::string_view name;
  Bounds bounds;
};
constexpr OwnBounds own_bounds[] = {
    {"temperature", {0, 2}},
    {"repetition_penalty", {1e-3, 100}},
    {"presence_penalty", {-2, 2}},
    {"frequency_penalty", {-2, 2}},
    {"max_tokens", {1, double(most_tokens)}},
    {"seed", {double(Seeds::min()), double(Seeds::max())}},
};

void read_row(Body& body, const Setting& row, GenerateParameters& out) {
  auto [low, high] = bounds_of(row);
  if (row.type == SettingType::real) {
    if (auto value = body.number(row.name, low, high))
      set(out, row.name, fmt::format("{}", *value));
  } else if (row.type == SettingType::integer) {
    if (auto value =
            body.integer(row.name, std::int64_t(low), std::int64_t(high)))
      set(out, row.name, std::to_string(*value));
  } else if (row.type == SettingType::choice) {
    if (auto value = body.text(row.name, 64)) set(out, row.name, *value);
  }
}

// A text or a list of texts; each is one `set` of the row.
void read_texts(
    Body& body,
    const std::string& name,
    std::size_t most,
    GenerateParameters& out) {
  const auto* value = body.any(name);
  if (!value) return;
  if (value->is_string()) return set(out, name, value->get<std::string>());
  if (!value->is_array() || value->empty() || value->size() > most)
    wrong_value(body.path(name), fmt::format("1 to {} texts", most), *value);
  for (const auto& text : *value) {
    if (!text.is_string()) wrong_value(body.path(name), "texts", text);
    set(out, name, text.get<std::string>());
  }
}

// What llama-server and Ollama call otherwise.
void read_other_names(Body& body, GenerateParameters& out) {
  auto& p = out.sampling;
  if (auto penalty = body.number("repeat_penalty", 1e-3, 100))
    p.repetition_penalty = static_cast<float>(*penalty);
  if (auto last = body.integer("repeat_last_n", -1, int_max))
    p.repetition_context_size = p.presence_context_size =
        p.frequency_context_size =
            *last < 0 ? int(int_max) : static_cast<int>(*last);
  if (auto keep = body.integer("min_keep", 0, int_max))
    p.min_tokens_to_keep = std::max(1, static_cast<int>(*keep));
}

void read_bias(Body& body, const Limits& limits, GenerateParameters& out) {
  const auto* bias = body.object("logit_bias");
  if (!bias) return;
  if (bias->size() > static_cast<std::size_t>(limits.logit_bias_entries))
    wrong_value(
        "logit_bias",
        fmt::format("at most {} tokens", limits.logit_bias_entries),
        Json(bias->size()));
  out.sampling.logit_bias.clear();
  for (const auto& [key, value] : bias->items()) {
    int id = -1;
    auto [end, error] =
        std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc{} || end != key.data() + key.size() || id < 0)
      wrong_value("logit_bias", "token ids as names", Json(key));
    double x = value.is_number() ? value.get<double>() : NAN;
    if (!(x >= -100 && x <= 100))
      wrong_value("logit_bias", "values from -100 to 100", value);
    out.sampling.logit_bias.emplace_back(id, static_cast<float>(x));
  }
}

} // namespace

Bounds bounds_of(const Setting& row) {
  for (const auto& own : own_bounds)
    if (own.name == row.name) return own.bounds;
  bool whole = row.type == SettingType::integer;
  return {row.low, whole ? std::min(row.high, double(int_max)) : row.high};
}

std::vector<std::string> read_stop(
    Body& body,
    std::string_view name,
    const Limits& limits) {
  std::vector<std::string> out;
  const auto* value = body.any(name);
  if (!value) return out;
  auto where = body.path(name);
  auto add = [&](const Json& text) {
    if (!text.is_string() || text.get_ref<const std::string&>().empty())
      wrong_value(where, "texts that are not empty", text);
    out.push_back(text.get<std::string>());
    if (out.back().size() > static_cast<std::size_t>(limits.stop_bytes))
      bad_request(
          where,
          fmt::format(
              "{}: expected texts of at most {} bytes, found {}",
              where,
              limits.stop_bytes,
              out.back().size()));
  };
  if (!value->is_array()) {
    add(*value);
    return out;
  }
  if (value->size() > static_cast<std::size_t>(limits.stop_texts))
    wrong_value(
        where, fmt::format("at most {} texts", limits.stop_texts), *value);
  for (const auto& text : *value)
    add(text);
  return out;
}

GenerateParameters read_sampling(
    Body& body,
    const GenerateParameters& defaults,
    const Limits& limits,
    int least) {
  auto out = defaults;
  for (const auto& row : generation_settings()) {
    if (row.name == "max_tokens" || row.name == "seed") continue;
    read_row(body, row, out);
  }
  // What a request names replaces what the server was started with.
  if (body.has("samplers")) out.sampling.chain.clear();
  read_texts(body, "samplers", 32, out);
  if (const auto* texts = body.any("dry_sequence_breakers")) {
    out.sampling.dry_sequence_breakers.emplace();
    if (!texts->is_array() || !texts->empty())
      read_texts(body, "dry_sequence_breakers", 32, out);
  }
  read_other_names(body, out);
  // 0 leaves the one best token, as with an infinitely small mass.
  if (auto p = body.number("top_p", 0, 1); p && *p == 0) out.sampling.top_k = 1;
  if (auto seed = body.integer("seed", Seeds::min(), Seeds::max()))
    out.seed = static_cast<std::uint64_t>(*seed);
  read_bias(body, limits, out);
  if (body.has("stop")) out.stop = read_stop(body, "stop", limits);
  body.accept({"stop"});
  auto limit = body.integer("max_tokens", least, most_tokens);
  if (auto later = body.integer("max_completion_tokens", least, most_tokens))
    limit = later;
  if (limit) out.max_tokens = static_cast<int>(std::min(*limit, int_max));
  for (const char* name : {"reasoning_budget", "thinking_budget"})
    if (auto budget = body.integer(name, 0, int_max))
      out.reasoning_budget = static_cast<int>(*budget);
  out.ignore_eos = body.boolean("ignore_eos").value_or(defaults.ignore_eos);
  return out;
}

} // namespace mlxlm::serve
