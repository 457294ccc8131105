// Which models a server has, from the command line, and how each is loaded.
#pragma once

#include "cli/values.h"
#include "serve/models.h"

namespace mlxlm::cli {

// Looks at every model's headers, fetches those named on the command line and
// loads the first of them. Takes as long as that does.
serve::ModelsPtr served_models(
    const Values& values,
    const std::function<void(const std::string&)>& log);

// "serving a, b at"
std::string names_of(const serve::Models& models);

// Mistakes of the command line that need no file to be seen. Throws UsageError.
void check_models(const Values& values);

} // namespace mlxlm::cli
