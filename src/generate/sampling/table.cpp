// The stages of sampling in the order they run. To add a sampler: its function
// in a file of its own, a row here, and a row in settings/generation.cpp for
// each of its parameters.
#include "generate/sampling/stages.h"
#include "mlxlm/generate.h"

namespace mlxlm {
namespace {

bool set_and_nonzero(const std::optional<float>& x, int context) {
  return x && *x != 0 && context > 0;
}

using P = const SamplingParameters&;

constexpr Processor processor_table[] = {
    {"logit_bias", [](P p) { return !p.logit_bias.empty(); }, logit_bias},
    {"repetition_penalty",
     [](P p) {
       return set_and_nonzero(p.repetition_penalty, p.repetition_context_size);
     },
     repetition_penalty},
    {"presence_penalty",
     [](P p) {
       return set_and_nonzero(p.presence_penalty, p.presence_context_size);
     },
     presence_penalty},
    {"frequency_penalty",
     [](P p) {
       return set_and_nonzero(p.frequency_penalty, p.frequency_context_size);
     },
     frequency_penalty},
};

constexpr Filter filter_table[] = {
    {"top_p", [](P p) { return p.top_p > 0 && p.top_p < 1; }, top_p},
    {"min_p", [](P p) { return p.min_p > 0; }, min_p},
    {"xtc", [](P p) { return p.xtc_probability > 0; }, xtc},
    {"top_k", [](P p) { return p.top_k > 0; }, top_k},
};

} // namespace

std::span<const Processor> processors() {
  return processor_table;
}

std::span<const Filter> filters() {
  return filter_table;
}

} // namespace mlxlm
