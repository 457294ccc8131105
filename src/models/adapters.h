// An adapter as a model of its own checkpoint takes it.
#pragma once

#include <string>

#include "checkpoint/adapter.h"

namespace mlxlm {

// For the modules of the checkpoint at `path`, as load_model names them. Reads
// headers only. Throws Error(io | config | weights).
Adapter open_model_adapter(
    const std::string& path,
    const std::string& adapter_path,
    bool prediction);

} // namespace mlxlm
