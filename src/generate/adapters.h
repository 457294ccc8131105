// Adapters of single requests: several beside one another over one model, in
// the same passes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "mlxlm/model.h"
#include "weights/adapter_bank.h"

namespace mlxlm {

// The factors are in memory for as long as somebody holds it.
class LoadedAdapter {
 public:
  LoadedAdapter(std::shared_ptr<AdapterBank> bank, int id, std::uint64_t key)
      : bank_(std::move(bank)), id_(id), key_(key), bytes_(bank_->bytes(id)) {}
  ~LoadedAdapter() {
    bank_->release(id_);
  }
  LoadedAdapter(const LoadedAdapter&) = delete;
  LoadedAdapter& operator=(const LoadedAdapter&) = delete;

  int id() const {
    return id_;
  }
  // Of what sequences with it remember.
  std::uint64_t key() const {
    return key_;
  }
  std::size_t bytes() const {
    return bytes_;
  }

 private:
  const std::shared_ptr<AdapterBank> bank_;
  const int id_;
  const std::uint64_t key_;
  const std::size_t bytes_;
};
using LoadedAdapterPtr = std::shared_ptr<const LoadedAdapter>;

// Null where it cannot stand beside others (AdapterBank::obstacle); then the
// model has to be loaded with it (LoadOptions::adapter_path). Throws as load.
LoadedAdapterPtr load_adapter(ModelContainer& model, const std::string& path);
// As ModelContainer::generate, with an adapter of the same model or null.
GenerationPtr generate_with(
    ModelContainer& model,
    const LoadedAdapterPtr& adapter,
    std::vector<int> prompt,
    const GenerateParameters& parameters);

} // namespace mlxlm
