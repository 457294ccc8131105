// How each module of a model is packed.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "convert/layout.h"
#include "core/json.h"
#include "mlxlm/convert.h"

namespace mlxlm::converting {

// With the mode's own bits and group where they are zero. Throws Error(request)
// for what MLX does not have; `where` names the option.
Quantization completed(const Quantization& q, std::string_view where);

Json to_json(const Quantization& q); // as config.json has it

// Throws Error(request) for options that contradict each other.
void check(const ConvertOptions& options);

struct Decision {
  std::optional<Quantization> how; // nothing: not packed
  Json entry; // what config.json says of this module; null: nothing
};

class Recipe {
 public:
  // `layers`: the model's depth. `partly`: the checkpoint holds packed modules,
  // so that config.json has to name every one that is packed besides.
  Recipe(
      const ConvertOptions& options,
      const Layout& layout,
      int layers,
      bool partly);
  const Quantization& general() const {
    return general_;
  }
  // `path` as the folder has it, `in` the matrix's inputs.
  Decision decide(std::string_view path, std::int64_t in) const;

 private:
  Decision own(std::string_view path, std::int64_t in) const;
  Quantization mixed(std::string_view path) const;

  const ConvertOptions& options_;
  const Layout& layout_;
  Quantization general_;
  int layers_;
  bool partly_;
};

} // namespace mlxlm::converting
