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
    {"logit_bias", true, [](P p) { return !p.logit_bias.empty(); }, logit_bias},
    {"min_tokens", true, [](P p) { return p.min_tokens > 0; }, min_tokens},
    {"repetition_penalty",
     false,
     [](P p) {
       return set_and_nonzero(p.repetition_penalty, p.repetition_context_size);
     },
     repetition_penalty},
    {"presence_penalty",
     false,
     [](P p) {
       return set_and_nonzero(p.presence_penalty, p.presence_context_size);
     },
     presence_penalty},
    {"frequency_penalty",
     false,
     [](P p) {
       return set_and_nonzero(p.frequency_penalty, p.frequency_context_size);
     },
     frequency_penalty},
    {"dry",
     false,
     [](P p) { return p.dry_multiplier > 0 && p.dry_penalty_last_n != 0; },
     dry},
};

constexpr Filter filter_table[] = {
    {"top_n_sigma", [](P p) { return p.top_n_sigma > 0; }, top_n_sigma},
    {"typical_p",
     [](P p) { return p.typical_p > 0 && p.typical_p < 1; },
     typical_p},
    {"top_p", [](P p) { return p.top_p > 0 && p.top_p < 1; }, top_p},
    {"min_p", [](P p) { return p.min_p > 0; }, min_p},
    {"xtc", [](P p) { return p.xtc_probability > 0; }, xtc},
    {"top_k", [](P p) { return p.top_k > 0; }, top_k},
    {"mirostat", [](P p) { return p.mirostat > 0; }, mirostat},
};

} // namespace

std::span<const Processor> processors() {
  return processor_table;
}

std::span<const Filter> filters() {
  return filter_table;
}

} // namespace mlxlm
