#include "nn/model.h"

#include "core/check.h"

namespace mlxlm {

mx::array Model::operator()(
    const Input& input,
    const Step& step,
    Memory& memory,
    const std::vector<int>& rows) const {
  return head(hidden(input, step, memory, rows));
}

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

mx::array Model::embed(const Input&) const {
  fail(ErrorKind::internal, "model", "expected one that shows its embeddings");
}

} // namespace mlxlm
