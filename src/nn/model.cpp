#include "nn/model.h"

#include "core/check.h"

namespace mlxlm {

mx::array Model::hidden(
    const Input&,
    const Step&,
    Memory&,
    const std::vector<int>&) const {
  fail(ErrorKind::internal, "model", "expected one that shows hidden states");
}

mx::array Model::head(const mx::array&) const {
  fail(ErrorKind::internal, "model", "expected one that shows its head");
}

} // namespace mlxlm
