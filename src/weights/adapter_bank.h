// Adapters side by side over one model: in one pass each row goes through the
// matrix they all share and then through the low-rank factors of its own
// adapter. Belongs to the engine's thread, but for `release`.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "checkpoint/adapter.h"
#include "weights/scope.h"

namespace mlxlm {

struct AdapterBankOptions {
  bool packed = true; // as LoaderOptions has them
  mx::Dtype type = mx::float32;
};

// The adapters of the rows of x in a pass, whatever part of them a layer gets.
class PassAdapters {
 public:
  // `of_tokens`: an adapter for each token of the pass, 0 for none; `carried`:
  // lists of tokens, one of which is all that a layer gets.
  void begin(
      std::vector<int> of_tokens,
      const std::vector<std::vector<int>>& carried);
  void end();
  bool active() const {
    return active_;
  }
  // Throws Error(internal) where no list has so many rows.
  const std::vector<int>& of_rows(std::size_t rows) const;

 private:
  bool active_ = false;
  std::map<std::size_t, std::vector<int>> lists_; // by their lengths
};

class AdapterBank {
 public:
  AdapterBank(
      std::shared_ptr<const ParameterTable> table,
      AdapterBankOptions options);
  ~AdapterBank();

  // Why it cannot stand beside others: it replaces tensors or lengths of rows,
  // or is for modules that are not only multiplied with. Empty: it can.
  static std::string obstacle(const Adapter& adapter);
  // An id above 0. Throws Error(weights) where the factors do not fit.
  int add(const Adapter& adapter);
  std::size_t bytes(int id) const;
  // No pass with it follows. Any thread; takes effect with the next `add` or
  // `sweep`.
  void release(int id);
  void sweep();

  PassAdapters& pass() {
    return *pass_;
  }

 private:
  class Module;
  Module& module(const Linear& linear);

  std::shared_ptr<const ParameterTable> table_;
  const AdapterBankOptions options_;
  std::shared_ptr<PassAdapters> pass_;
  std::vector<std::shared_ptr<Module>> modules_;
  std::map<int, std::size_t> bytes_;
  int last_ = 0;
  std::mutex mutex_;
  std::vector<int> released_;
};

} // namespace mlxlm
