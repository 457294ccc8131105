#include "generate/adapters.h"

#include <functional>

#include "core/check.h"
#include "generate/container.h"
#include "generate/model_identity.h"
#include "models/adapters.h"

namespace mlxlm {

Container& container_of(ModelContainer& model) {
  auto* container = dynamic_cast<Container*>(&model);
  MLXLM_CHECK(container, "a model of this library");
  return *container;
}

LoadedAdapterPtr Container::load_adapter(const std::string& path) {
  auto adapter = open_model_adapter(path_, path, mtp_);
  if (!AdapterBank::obstacle(adapter).empty()) return nullptr;
  auto key = std::hash<std::string>()(weights_identity(path));
  LoadedAdapterPtr out;
  perform([&] {
    auto& bank = state_->adapters;
    out = std::make_shared<LoadedAdapter>(
        bank, bank->add(adapter), key == 0 ? 1 : key);
  });
  return out;
}

GenerationPtr Container::generate_with(
    const LoadedAdapterPtr& adapter,
    std::vector<int> prompt,
    const GenerateParameters& parameters) {
  std::vector<Request> requests;
  requests.push_back(request(std::move(prompt), parameters));
  requests[0].adapter = adapter;
  return std::move(submit(std::move(requests), parameters)[0]);
}

LoadedAdapterPtr load_adapter(ModelContainer& model, const std::string& path) {
  return container_of(model).load_adapter(path);
}

GenerationPtr generate_with(
    ModelContainer& model,
    const LoadedAdapterPtr& adapter,
    std::vector<int> prompt,
    const GenerateParameters& parameters) {
  return container_of(model).generate_with(
      adapter, std::move(prompt), parameters);
}

} // namespace mlxlm
