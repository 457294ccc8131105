// The stages of sampling, one file each; table.cpp says in which order they
// run.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "generate/sampling/distribution.h"
#include "mlxlm/sampling.h"

namespace mlxlm {

// What a stage may look at besides its parameters.
struct StageContext {
  std::span<const int> history; // prompt and answer so far, latest last
  std::uint64_t seed = 0;
  std::uint32_t sample = 0; // which answer of the request
  std::uint32_t position = 0; // of the token that is drawn, in its sequence
  int drawn = 0; // tokens of the answer so far
  // Of filters: 1 / temperature where it is still to be applied.
  double temper = 1;
  std::size_t vocab = 0;
  double mu = 0; // of mirostat
};

// Changes logits in place, before the log-softmax.
struct Processor {
  std::string_view name;
  bool always; // whatever SamplingParameters::chain says, and first
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

void min_tokens(
    std::span<float> row,
    const SamplingParameters&,
    const StageContext&);
void dry(std::span<float> row, const SamplingParameters&, const StageContext&);
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

void top_n_sigma(Distribution&, const SamplingParameters&, const StageContext&);
void typical_p(Distribution&, const SamplingParameters&, const StageContext&);
void mirostat(Distribution&, const SamplingParameters&, const StageContext&);
void top_p(Distribution&, const SamplingParameters&, const StageContext&);
void min_p(Distribution&, const SamplingParameters&, const StageContext&);
void xtc(Distribution&, const SamplingParameters&, const StageContext&);
void top_k(Distribution&, const SamplingParameters&, const StageContext&);

} // namespace mlxlm
