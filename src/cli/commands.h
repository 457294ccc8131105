// One function a command; each returns the exit code.
#pragma once

#include "cli/values.h"

namespace mlxlm::cli {

int run_generate(const Values&);
int run_chat(const Values&);
int run_serve(const Values&);
int run_bench(const Values&);
int run_convert(const Values&);
int run_cache_prompt(const Values&);
int run_perplexity(const Values&);
int run_inspect(const Values&);
int run_tokenize(const Values&);
int run_detokenize(const Values&);
int run_template(const Values&);
int run_models(const Values&);
void print_supported(bool json); // models --supported
int run_settings(const Values&);
int run_completion(const Values&);
int run_man(const Values&);

} // namespace mlxlm::cli
