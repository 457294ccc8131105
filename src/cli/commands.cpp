// The table of commands.
#include "cli/commands.h"

#include "cli/help.h"
#include "cli/terminal.h"
#include "cli/values.h"

namespace mlxlm::cli {

std::span<const Command> commands() {
  static const std::vector<Command> table = {
      {"generate",
       "answer one prompt",
       "",
       {"mlxlm generate --prompt \"Why is the sky blue?\"",
        "git diff | mlxlm generate --system-prompt \"Review this.\" -p -"},
       run_generate},
      {"chat",
       "talk with a model; /help lists what can be typed",
       "",
       {"mlxlm chat --system-prompt \"Be brief.\" --temp 0.7"},
       run_chat},
      {"serve",
       "answer over HTTP, as OpenAI does",
       "",
       {"mlxlm serve --model smollm2 --port 8080",
        "mlxlm serve --host 0.0.0.0 --api-key-file keys.txt"},
       run_serve},
      {"convert",
       "make an MLX folder of a checkpoint, quantized or not",
       "",
       {"mlxlm convert --model org/name -q --mlx-path name-4bit"},
       run_convert},
      {"cache-prompt",
       "read a prompt once, for generate --prompt-cache-file",
       "cache-prompt --prompt P --prompt-cache-file FILE [OPTIONS]",
       {"mlxlm cache-prompt -p - --prompt-cache-file book.safetensors < book.txt"},
       run_cache_prompt},
      {"bench",
       "measure the speed on random tokens",
       "",
       {"mlxlm bench -p 512 -g 128 -b 8 -n 3 --json"},
       run_bench},
      {"perplexity",
       "how well a model predicts a text",
       "",
       {"mlxlm perplexity --file book.txt --json"},
       run_perplexity},
      {"inspect",
       "what a checkpoint holds and needs",
       "",
       {"mlxlm inspect smollm2",
        "mlxlm inspect --model ./folder --json",
        "mlxlm inspect smollm2 --measure 2048"},
       run_inspect},
      {"models",
       "list, pull, rm, verify: the models on this machine",
       "models (list | pull MODEL | rm MODEL | verify MODEL) [OPTIONS]",
       {"mlxlm models pull mlx-community/Qwen3-0.6B-4bit",
        "mlxlm models pull org/name-GGUF:Q4_K_M@main",
        "mlxlm models list --json",
        "mlxlm models --supported"},
       run_models},
      {"tokenize",
       "text to a JSON list of token ids",
       "",
       {"printf 'Hello' | mlxlm tokenize --model smollm2"},
       run_tokenize},
      {"detokenize",
       "a JSON list of token ids to text",
       "",
       {"echo '[19556]' | mlxlm detokenize --model smollm2"},
       run_detokenize},
      {"template",
       "render a chat template, byte for byte",
       "template (--template FILE | --model M) --messages FILE [OPTIONS]",
       {"mlxlm template --model smollm2 --messages chat.json"},
       run_template},
      {"settings",
       "every setting of every command as JSON",
       "",
       {},
       run_settings},
      {"completion",
       "shell completion",
       "completion (bash | zsh | fish)",
       {"source <(mlxlm completion bash)"},
       run_completion},
      {"man",
       "the manual page, for man -l -",
       "",
       {"mlxlm man | man -l -"},
       run_man},
  };
  return table;
}

int run_settings(const Values&) {
  print(settings_json());
  return 0;
}

int run_completion(const Values& values) {
  if (!values.has("SHELL"))
    throw UsageError("completion: expected bash, zsh or fish");
  print(completion(values.text("SHELL")));
  return 0;
}

int run_man(const Values&) {
  print(man_page());
  return 0;
}

} // namespace mlxlm::cli
