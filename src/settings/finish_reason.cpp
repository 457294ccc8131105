// The words for how an answer ended, as statistics and logs have them.
#include "mlxlm/generate.h"

namespace mlxlm {

std::string_view to_string(FinishReason reason) {
  switch (reason) {
    case FinishReason::stop:
      return "stop";
    case FinishReason::length:
      return "length";
    case FinishReason::cancelled:
      return "cancelled";
    case FinishReason::error:
      return "error";
  }
  return "";
}

} // namespace mlxlm
