// From what a checkpoint holds to the tasks that write its converted form, and
// config.json.
#pragma once

#include <vector>

#include "convert/tasks.h"
#include "core/json.h"
#include "models/load.h"

namespace mlxlm::converting {

struct Plan {
  std::vector<Task> tasks; // in the order of the model's parts
  Json config;
  std::size_t parameters = 0; // as mlx-lm counts them
};
Plan make_plan(const ModelInventory& model, const ConvertOptions& options);

} // namespace mlxlm::converting
