// What the program knows by name, for callers.
#include "hub/presets.h"
#include "mlxlm/model.h"
#include "models/load.h"

namespace mlxlm {

std::vector<std::string> supported_model_types() {
  return supported_models();
}

std::vector<ModelPreset> model_presets() {
  std::vector<ModelPreset> out;
  for (const auto& p : hub::presets())
    out.push_back(
        {std::string(p.id),
         std::string(p.prompt),
         {p.extra_eos_tokens.begin(), p.extra_eos_tokens.end()}});
  return out;
}

} // namespace mlxlm
