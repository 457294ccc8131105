// The stages of sampling, one file each; table.cpp says in which order they
// run.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "generate/sampling/distribution.h"
#include "mlxlm/sampling.h"

namespace mlxlm {

// What a stage may look at besides its parameters.
struct StageContext {
  std::span<const int> history; // prompt and answer so far, latest last
  std::uint64_t seed = 0;
  std::uint32_t sample = 0; // which answer of the request
  std::uint32_t position = 0; // of the token that is drawn, in its sequence
};

// Changes logits in place, before the log-softmax.
struct Processor {
  std::string_view name;
  bool (*active)(const SamplingParameters&);
  void (*apply)(
      std::span<float> row,
      const SamplingParameters&,
      const StageContext&);
};
// Narrows the distribution, after the log-softmax and before the temperature.
struct Filter {
  std::string_view name;
  bool (*active)(const SamplingParameters&);
  void (*apply)(Distribution&, const SamplingParameters&, const StageContext&);
};

// In the order they run.
std::span<const Processor> processors();
std::span<const Filter> filters();

void logit_bias(
    std::span<float> row,
    const SamplingParameters&,
    const StageContext&);
void repetition_penalty(
    std::span<float> row,
    const SamplingParameters&,
    const StageContext&);
void presence_penalty(
    std::span<float> row,
    const SamplingParameters&,
    const StageContext&);
void frequency_penalty(
    std::span<float> row,
    const SamplingParameters&,
    const StageContext&);

void top_p(Distribution&, const SamplingParameters&, const StageContext&);
void min_p(Distribution&, const SamplingParameters&, const StageContext&);
void xtc(Distribution&, const SamplingParameters&, const StageContext&);
void top_k(Distribution&, const SamplingParameters&, const StageContext&);

} // namespace mlxlm
