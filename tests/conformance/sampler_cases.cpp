// samplers: logits in, processed logits, distributions and greedy tokens out,
// through the sampler that generation uses.
#include <algorithm>
#include <cmath>

#include "conformance.h"
#include "core/strings.h"
#include "generate/sampling/sampler.h"
#include "golden.h"
#include "mlxlm/generate.h"

namespace mlxlm::conformance {
namespace {

// Parameters as mlx-lm's Python functions name them.
SamplingParameters parameters_from(const Json& json) {
  GenerateParameters p;
  p.sampling.temperature = 1;
  for (const auto& [key, value] : json.items()) {
    if (key == "temp") {
      p.sampling.temperature = value.get<double>();
    } else if (key == "xtc_special_tokens") {
      p.sampling.xtc_special_tokens = value.get<std::vector<int>>();
    } else if (key == "logit_bias") {
      for (const auto& [id, bias] : value.items())
        p.sampling.logit_bias.emplace_back(std::stoi(id), bias.get<float>());
    } else {
      set(p, key, value.dump());
    }
  }
  validate(p);
  return p.sampling;
}

std::vector<float> distribution(
    const SamplingParameters& parameters,
    std::span<const int> history,
    std::span<const float> logits) {
  Sampler sampler(parameters, 0, history);
  std::vector<float> result(logits.size());
  for (auto [token, p] : sampler.probabilities(logits))
    result[token] = static_cast<float>(p);
  return result;
}

std::span<const float> row_of(const std::vector<float>& v) {
  return v;
}

// Counts rows, remembers the worst figure and the first one that failed.
struct Counts {
  int rows = 0, passed = 0;
  double worst = 0;
  std::string first;
  void add(bool ok, double error, const std::string& what) {
    ++rows;
    passed += ok;
    worst = std::max(worst, error);
    if (!ok && first.empty()) first = what;
  }
  Outcome outcome(double limit) const {
    auto figure = fmt::format(
        "{} of {} rows, worst {:.1e} of {:.0e}", passed, rows, worst, limit);
    if (!first.empty()) figure += ", first wrong: " + first;
    return judge(passed == rows && rows > 0, figure);
  }
};

std::size_t zeros(const std::vector<float>& v) {
  return std::count(v.begin(), v.end(), 0.0f);
}

bool same_zeros(const std::vector<float>& a, const std::vector<float>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), [](float x, float y) {
    return (x == 0) == (y == 0);
  });
}

// Rows of samplers and chains: `sampler` parameters, maybe processors and a
// history.
Outcome distributions(
    const Case& c,
    const Golden& golden,
    const Json& cases,
    double limit) {
  Counts tally;
  for (const auto& row : cases) {
    auto merged =
        row.contains("sampler") ? row.at("sampler") : row.at("params");
    std::vector<int> history;
    if (row.contains("processors")) {
      merged.update(row.at("processors"));
      history = row.at("tokens").get<std::vector<int>>();
    }
    auto logits =
        golden["logits." + row.at("logits").get<std::string>()].floats();
    auto want = golden[row.at("probs").get<std::string>()].floats();
    auto found = distribution(parameters_from(merged), history, logits);
    bool exchange = row.value("ambiguous_tie", false);
    bool ok = exchange ? zeros(want) == zeros(found) : same_zeros(want, found);
    if (exchange) {
      std::sort(want.begin(), want.end());
      std::sort(found.begin(), found.end());
    }
    auto error = max_abs(row_of(want), row_of(found));
    tally.add(ok && error <= limit, error, row.dump());
  }
  return tally.outcome(limit);
}

Outcome processed_logits(
    const Case& c,
    const Golden& golden,
    const Json& cases,
    double limit) {
  Counts tally;
  for (const auto& row : cases) {
    auto logits =
        golden["logits." + row.at("logits").get<std::string>()].floats();
    auto want = golden[row.at("out").get<std::string>()].floats();
    auto history = row.at("tokens").get<std::vector<int>>();
    Sampler sampler(parameters_from(row.at("params")), 0, history);
    auto found = sampler.processed(logits);
    double error = 0;
    for (std::size_t i = 0; i < want.size(); ++i)
      if (want[i] != found[i])
        error = std::max<double>(error, std::abs(want[i] - found[i]));
    tally.add(error <= limit, error, row.dump());
  }
  return tally.outcome(limit);
}

// "top_k = V", "min_p > 1", "xtc_threshold 0.6": a combination that must be
// refused, or for top_k >= V at least do nothing.
bool refused(const std::string& what, int vocab) {
  auto space = what.find(' ');
  auto name = what.substr(0, space), rest = what.substr(space + 1);
  if (rest == "= V" || rest == "> V") {
    auto k = std::to_string(vocab + (rest == "> V"));
    std::vector<float> flat(vocab, 0.0f);
    auto found = distribution(
        parameters_from(Json{{"temp", 1}, {name, std::stoi(k)}}), {}, flat);
    return zeros(found) == 0;
  }
  if (rest == "negative") rest = "-1";
  if (starts_with(rest, "> ") || starts_with(rest, "< "))
    rest =
        std::to_string(std::stod(rest.substr(2)) + (rest[0] == '>' ? 1 : -1));
  try {
    GenerateParameters p;
    set(p, name, rest);
    validate(p);
  } catch (const Error&) {
    return true;
  }
  return false;
}

Outcome greedy_and_errors(const Golden& golden, const Json& cases) {
  Counts tally;
  int vocab = 0;
  for (const auto& row : cases.at("greedy")) {
    auto logits =
        golden["logits." + row.at("logits").get<std::string>()].floats();
    vocab = static_cast<int>(logits.size());
    Sampler sampler(parameters_from(row.at("params")), 0, {});
    tally.add(
        sampler.next(logits).token == row.at("token").get<int>(),
        0,
        row.dump());
  }
  for (const auto& row : cases.at("errors"))
    tally.add(refused(row.at("what").get<std::string>(), vocab), 0, row.dump());
  return tally.outcome(0);
}

} // namespace

Outcome sampler_case(const Case& c) {
  auto cases = read_json(c.path("cases.json"));
  if (c.name == "greedy_and_errors")
    return greedy_and_errors(Golden(c.path("logits.safetensors")), cases);
  Golden golden(c.path(c.name + ".safetensors"));
  auto tolerance = c.json.sub("tolerance");
  if (c.name == "processors")
    return processed_logits(c, golden, cases, tolerance.req<double>("max_abs"));
  return distributions(
      c, golden, cases, tolerance.req<double>("probs_max_abs"));
}

} // namespace mlxlm::conformance
