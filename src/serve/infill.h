// Prompts for models that write what is missing between two texts
// ("fill in the middle").
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "mlxlm/tokenizer.h"

namespace mlxlm::serve {

struct InfillFile {
  std::string name, text;
};

struct InfillText {
  std::string before, after;
  std::string begun = {}; // what the missing text begins with
  std::vector<InfillFile> files = {}; // that the model should know of
};

// Ids by the part that a token plays: "fim_pre", "fim_suf", "fim_mid",
// "fim_rep", "fim_sep" as a GGUF file names them. What is not there is looked
// for by the spellings of known families.
using NamedTokens = std::map<std::string, int, std::less<>>;

struct InfillPrompt {
  std::vector<int> ids;
  bool truncated = false; // something did not fit
};

// At most `room` tokens: of the texts what is next to the gap stays (as
// llama-server does it, a quarter of the room for what comes after), of the
// files what comes last. Throws ApiError 400 that names `param` for a model
// whose tokens cannot mark a gap.
InfillPrompt infill_prompt(
    const InfillText& text,
    const TextCodec& codec,
    const NamedTokens& named,
    std::size_t room,
    const char* param);

} // namespace mlxlm::serve
