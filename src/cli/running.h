// What the commands that run a model share: loading it with progress, and the
// parameters of a generation from the command line.
#pragma once

#include <memory>

#include "cli/values.h"
#include "mlxlm/model.h"

namespace mlxlm::cli {

// Where a reference leads, downloaded first if need be, with progress. Ctrl-C
// throws Interrupted and leaves what has come for the next time. `weights`
// false: what text commands need.
std::string fetch_model(const std::string& reference, bool weights = true);
// Shows a download in `progress` and lets Ctrl-C end it.
DownloadControl download_control(class Progress& progress);

// How, as the command line has it; a draft model is fetched.
LoadOptions load_options(const Values& values);
// A model that is here.
std::shared_ptr<ModelContainer> load_with_progress(
    const std::string& path,
    const LoadOptions& options);
std::shared_ptr<ModelContainer> load_model(const Values& values);
// `sampling_parameters`: without what needs the vocabulary.
GenerateParameters sampling_parameters(const Values& values);
DraftParameters draft_parameters(const Values& values);
GenerateParameters parameters(const Values& values, const TextCodec& codec);

// The list of --tools as JSON text, or empty.
std::string tools_text(const Values& values);
// What --json-schema and its kin, or --tool-choice, ask for.
ResponseFormat response_format(
    const Values& values,
    const ModelContainer& model);

// Reads a generation, printing its text as it comes and prefill progress;
// Ctrl-C cancels it. Returns the text. Throws Error for a generation that
// failed.
// `model`: reasoning is dimmed where standard output is a terminal; `prompt`:
// the rendered conversation.
std::string stream(
    Generation& generation,
    const ModelContainer& model,
    std::string_view prompt);

// What mlx-lm prints after an answer, on standard error.
void print_statistics(const GenerateInfo& info);

} // namespace mlxlm::cli
