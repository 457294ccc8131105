#include "cli/settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <optional>

#include "core/strings.h"
#include "mlxlm/generate.h"
#include "serve/limits.h"

namespace mlxlm::cli {
namespace {

constexpr auto long_help = Shown::long_help;

// What every command that runs a model takes.
const std::string running = "generate chat serve bench perplexity cache-prompt";

std::vector<Setting> make_settings() {
  return {
      // What to run.
      {.name = "model",
       .aliases = "--hf-path",
       .value = "MODEL",
       .fallback = "smollm2",
       .commands = "generate chat bench perplexity cache-prompt convert= "
                   "inspect tokenize detokenize template=",
       .help =
           "folder, .gguf file, hub id (org/name[@revision]) or short name"},
      {.name = "model",
       .kind = Kind::list,
       .value = "[NAME=]MODEL",
       .fallback = "smollm2",
       .commands = "serve",
       .help = "folder, .gguf file, hub id or short name; may be repeated"},
      {.name = "models-dir",
       .value = "FOLDER",
       .commands = "serve",
       .help = "every model in it, loaded on demand",
       .shown = long_help},
      {.name = "adapters-dir",
       .value = "FOLDER",
       .commands = "serve",
       .help = "fine-tunings that a request may name (adapters)",
       .shown = long_help},
      {.name = "keep-alive",
       .value = "TIME",
       .fallback = "5m",
       .commands = "serve",
       .help = "until an idle model is unloaded; -1: never, as for one alone",
       .shown = long_help},
      {.name = "memory-budget",
       .kind = Kind::integer,
       .value = "MB",
       .commands = "serve",
       .help = "of all models and their sequences; else nine tenths of what "
               "is free",
       .low = 1,
       .high = 1 << 30,
       .shown = long_help},
      {.name = "MODEL",
       .value = "MODEL",
       .commands = "inspect",
       .help = "the same as --model",
       .positional = true},
      {.name = "adapter-path",
       .value = "FOLDER",
       .commands = running,
       .help = "a fine-tuning of the model: what mlx-lm writes, or a PEFT LoRA",
       .shown = long_help},
      {.name = "prompt",
       .aliases = "-p",
       .value = "TEXT",
       .fallback = "hello",
       .commands = "generate cache-prompt",
       .help = "what to answer; - reads standard input"},
      {.name = "prompt-cache-file",
       .value = "FILE",
       .commands = "generate cache-prompt",
       .help = "a prompt already read: safetensors as mlx-lm and mlx-swift-lm "
               "write it",
       .shown = long_help},
      {.name = "prompt-cache-dir",
       .value = "FOLDER",
       .commands = "generate chat serve",
       .help = "keep what was read here, for prompts that begin alike",
       .shown = long_help},
      {.name = "prompt-cache-dir-size",
       .kind = Kind::integer,
       .value = "MB",
       .fallback = "20000",
       .commands = "generate chat serve",
       .help = "most that the folder holds",
       .low = 1,
       .high = 1 << 30,
       .shown = long_help},
      {.name = "cache-layout",
       .value = "LAYOUT",
       .fallback = "mlx-swift-lm",
       .commands = "cache-prompt",
       .help = "how the file is laid out",
       .choices = "mlx-swift-lm mlx-lm"},
      {.name = "system-prompt",
       .value = "TEXT",
       .commands = "generate chat",
       .help = "instructions before the conversation"},
      {.name = "prefill-response",
       .value = "TEXT",
       .commands = "generate",
       .help = "how the answer begins",
       .shown = long_help},
      {.name = "extra-eos-token",
       .kind = Kind::list,
       .value = "TOKEN",
       .commands = "generate chat serve",
       .help = "more tokens that end the answer",
       .shown = long_help},
      {.name = "ignore-chat-template",
       .kind = Kind::flag,
       .commands = "generate",
       .help = "send the prompt as it is"},
      {.name = "chat-template-config",
       .aliases = "--chat-template-args",
       .kind = Kind::json,
       .value = "JSON",
       .commands = "generate chat serve",
       .help = "variables for the chat template",
       .shown = long_help},
      {.name = "tools",
       .value = "FILE",
       .commands = "generate chat",
       .help = "JSON list of tools that the model may call",
       .shown = long_help},
      {.name = "tool-choice",
       .value = "CHOICE",
       .commands = "generate",
       .help = "auto, none, required, or the name of the tool to call",
       .shown = long_help},

      // What the answer must be.
      {.name = "json-schema",
       .value = "FILE",
       .commands = "generate",
       .help = "the answer is JSON of this schema"},
      {.name = "regex",
       .value = "PATTERN",
       .commands = "generate",
       .help = "the whole answer matches this regular expression",
       .shown = long_help},
      {.name = "choice",
       .kind = Kind::list,
       .value = "TEXT",
       .commands = "generate",
       .help = "the answer is one of these; may be repeated",
       .shown = long_help},
      {.name = "grammar",
       .value = "FILE",
       .commands = "generate",
       .help = "the answer is derived from this Lark grammar",
       .shown = long_help},
      {.name = "reasoning-budget",
       .kind = Kind::integer,
       .value = "N",
       .commands = "generate chat serve",
       .help = "most tokens of reasoning before the answer",
       .low = 0,
       .high = 1 << 24,
       .shown = long_help},

      {.name = "measure",
       .kind = Kind::integer,
       .value = "N",
       .commands = "inspect",
       .help = "load it, read N random tokens and say what memory that took",
       .low = 1,
       .high = 1 << 20},

      // How to run it.
      {.name = "threads",
       .kind = Kind::integer,
       .value = "N",
       .fallback = "0",
       .commands = running,
       .help = "CPU threads; 0: the physical cores this process may use",
       .low = 0,
       .high = 1024},
      {.name = "dtype",
       .value = "TYPE",
       .fallback = "auto",
       .commands = running,
       .help = "type to compute in",
       .choices = "auto float32 bfloat16 float16",
       .shown = long_help},
      {.name = "quantize-activations",
       .aliases = "-qa",
       .kind = Kind::flag,
       .commands = running,
       .help = "8-bit activations: faster, less exact",
       .shown = long_help},
      {.name = "prefill-step-size",
       .kind = Kind::integer,
       .value = "N",
       .fallback = "512",
       .commands = running,
       .help = "prompt tokens read in one pass",
       .low = 1,
       .high = 1 << 20,
       .shown = long_help},
      {.name = "max-kv-size",
       .kind = Kind::integer,
       .value = "N",
       .commands = running,
       .help = "most tokens remembered, the first 4 always among them",
       .low = 5,
       .high = 1 << 24,
       .shown = long_help},
      {.name = "max-kv-memory",
       .kind = Kind::integer,
       .value = "MB",
       .commands = running,
       .help = "most memory for keys and values; default: nine tenths of what "
               "is free",
       .low = 1,
       .high = 1 << 30,
       .shown = long_help},
      {.name = "kv-bits",
       .kind = Kind::integer,
       .value = "N",
       .commands = running,
       .help = "bits of remembered keys and values: 2, 3, 4, 5, 6 or 8",
       .low = 2,
       .high = 8,
       .shown = long_help},
      {.name = "kv-group-size",
       .kind = Kind::integer,
       .value = "N",
       .fallback = "64",
       .commands = running,
       .help = "values that share a scale: 32, 64 or 128",
       .low = 32,
       .high = 128,
       .shown = long_help},
      {.name = "kv-scheme",
       .value = "SCHEME",
       .commands = running,
       .help = "TurboQuant as turbo4v3 (keys of 4 bits, values of 3), affine8 "
               "and the like, quality, balanced or memory",
       .shown = long_help},
      {.name = "quantized-kv-start",
       .kind = Kind::integer,
       .value = "N",
       .fallback = "5000",
       .commands = "generate chat serve cache-prompt bench=0 perplexity=0",
       .help = "tokens remembered before keys and values are quantized",
       .low = 0,
       .high = 1 << 24,
       .shown = long_help},
      {.name = "draft-model",
       .value = "MODEL",
       .commands = "generate chat bench serve",
       .help = "a smaller model of the same vocabulary that guesses ahead",
       .shown = long_help},
      {.name = "verbose",
       .kind = Kind::boolean,
       .value = "BOOL",
       .fallback = "true",
       .commands = "generate",
       .help = "false: only the answer, no statistics",
       .shown = long_help},
      {.name = "trust-remote-code",
       .kind = Kind::flag,
       .commands = running + " convert",
       .help = "accepted and without effect: no code of a model is ever run",
       .shown = long_help},

      // convert
      {.name = "mlx-path",
       .value = "FOLDER",
       .fallback = "mlx_model",
       .commands = "convert",
       .help = "where the result goes; it must not exist"},
      {.name = "quantize",
       .aliases = "-q",
       .kind = Kind::flag,
       .commands = "convert",
       .help = "pack the weights"},
      {.name = "q-bits",
       .kind = Kind::integer,
       .value = "N",
       .commands = "convert",
       .help = "bits a weight, 2 to 8 but 7 (4, mxfp8 8)",
       .low = 2,
       .high = 8},
      {.name = "q-group-size",
       .kind = Kind::integer,
       .value = "N",
       .commands = "convert",
       .help = "weights that share a scale (64, mxfp 32, nvfp4 16)",
       .low = 16,
       .high = 128},
      {.name = "q-mode",
       .value = "MODE",
       .fallback = "affine",
       .commands = "convert",
       .help = "how weights are packed",
       .choices = "affine mxfp4 mxfp8 nvfp4"},
      {.name = "quant-predicate",
       .value = "RECIPE",
       .commands = "convert",
       .help = "more bits where they matter",
       .choices = "mixed_2_6 mixed_3_4 mixed_3_6 mixed_4_6"},
      {.name = "q-layers",
       .value = "JSON",
       .commands = "convert",
       .help =
           "modules of their own, as JSON or a file of it: {\"*.down_proj\": {\"bits\": 6}, \"lm_head\": false}",
       .shown = long_help},
      {.name = "dtype",
       .value = "TYPE",
       .commands = "convert",
       .help = "type of plain tensors",
       .choices = "float16 bfloat16 float32"},
      {.name = "dequantize",
       .aliases = "-d",
       .kind = Kind::flag,
       .commands = "convert",
       .help = "undo the quantization of the model"},
      {.name = "upload-repo",
       .value = "REPO",
       .commands = "convert",
       .help = "refused: mlxlm does not upload",
       .shown = long_help},

      // bench
      {.name = "prompt-tokens",
       .aliases = "-p",
       .kind = Kind::integer,
       .value = "N",
       .fallback = "512",
       .commands = "bench",
       .help = "length of the random prompt",
       .low = 1,
       .high = 1 << 24},
      {.name = "generation-tokens",
       .aliases = "-g",
       .kind = Kind::integer,
       .value = "N",
       .fallback = "1024",
       .commands = "bench",
       .help = "tokens to generate for each sequence",
       .low = 1,
       .high = 1 << 24},
      {.name = "batch-size",
       .aliases = "-b",
       .kind = Kind::integer,
       .value = "N",
       .fallback = "1",
       .commands = "bench",
       .help = "sequences run together",
       .low = 1,
       .high = 4096},
      {.name = "num-trials",
       .aliases = "-n",
       .kind = Kind::integer,
       .value = "N",
       .fallback = "5",
       .commands = "bench",
       .help = "trials counted, after one that is not",
       .low = 1,
       .high = 100000},
      {.name = "delay",
       .kind = Kind::number,
       .value = "SECONDS",
       .fallback = "0",
       .commands = "bench",
       .help = "pause before each trial",
       .low = 0,
       .high = 86400,
       .shown = long_help},

      // perplexity
      {.name = "file",
       .value = "FILE",
       .commands = "perplexity",
       .help = "text to measure; - reads standard input"},

      // serve
      {.name = "host",
       .value = "ADDRESS",
       .fallback = "127.0.0.1",
       .commands = "serve",
       .help = "address to listen at, or unix:PATH"},
      {.name = "port",
       .kind = Kind::integer,
       .value = "N",
       .fallback = "8080",
       .commands = "serve",
       .help = "0: any free one",
       .low = 0,
       .high = 65535},
      {.name = "api-key",
       .kind = Kind::list,
       .value = "KEY",
       .commands = "serve",
       .help = "who may ask: KEY or NAME:KEY"},
      {.name = "api-key-file",
       .value = "FILE",
       .commands = "serve",
       .help = "a file of keys, one a line; SIGHUP reads it again"},
      {.name = "insecure",
       .kind = Kind::flag,
       .commands = "serve",
       .help = "let other machines ask without a key",
       .shown = long_help},
      {.name = "alias",
       .value = "NAME",
       .commands = "serve",
       .help = "what clients call the first model",
       .shown = long_help},
      {.name = "any-model",
       .kind = Kind::flag,
       .commands = "serve",
       .help = "answer whatever model a request names",
       .shown = long_help},
      {.name = "decode-concurrency",
       .aliases = "--parallel -np",
       .kind = Kind::integer,
       .value = "N",
       .fallback = "32",
       .commands = "serve",
       .help = "answers made together",
       .low = 1,
       .high = 4096},
      {.name = "allowed-origins",
       .kind = Kind::list,
       .value = "ORIGIN",
       .commands = "serve",
       .help = "web pages that may ask, besides its own; *: all",
       .shown = long_help},
      {.name = "allowed-hosts",
       .kind = Kind::list,
       .value = "NAME",
       .commands = "serve",
       .help = "names in the Host header, besides localhost; *: all",
       .shown = long_help},
      {.name = "ssl-cert-file",
       .value = "FILE",
       .commands = "serve",
       .help = "PEM certificates: serve https",
       .shown = long_help},
      {.name = "ssl-key-file",
       .value = "FILE",
       .commands = "serve",
       .help = "their PEM key",
       .shown = long_help},
      {.name = "conversations",
       .value = "FILE",
       .commands = "serve",
       .help = "where the web page keeps them; none: in the browser",
       .shown = long_help},
      {.name = "reasoning-field",
       .value = "NAME",
       .fallback = "reasoning_content",
       .commands = "serve",
       .help = "what answers call reasoning",
       .choices = "reasoning_content reasoning both",
       .shown = long_help},
      {.name = "strict",
       .kind = Kind::flag,
       .commands = "serve",
       .help = "unknown fields of a request are an error",
       .shown = long_help},
      {.name = "no-access-log",
       .kind = Kind::flag,
       .commands = "serve",
       .help = "no line for each request",
       .shown = long_help},

      // tokenize, detokenize, template
      {.name = "no-special",
       .kind = Kind::flag,
       .commands = "tokenize",
       .help = "leave out what the post-processor adds (BOS and the like)"},
      {.name = "lines",
       .kind = Kind::flag,
       .commands = "tokenize detokenize",
       .help = "one JSON value a line, in and out"},
      {.name = "template",
       .value = "FILE",
       .commands = "template",
       .help = "the chat template; without it that of --model"},
      {.name = "messages",
       .value = "FILE",
       .commands = "template",
       .help = "JSON list of messages; - reads standard input"},
      {.name = "tools",
       .value = "FILE",
       .commands = "template",
       .help = "JSON list of tools"},
      {.name = "kwargs",
       .kind = Kind::json,
       .value = "JSON",
       .commands = "template",
       .help = "more variables"},
      {.name = "add-generation-prompt",
       .kind = Kind::flag,
       .commands = "template",
       .help = "end with the start of an answer"},
      {.name = "bos",
       .value = "TEXT",
       .commands = "template",
       .help = "the bos_token; without it that of --model"},
      {.name = "eos",
       .value = "TEXT",
       .commands = "template",
       .help = "the eos_token; without it that of --model"},

      // models, completion
      {.name = "ACTION",
       .value = "ACTION",
       .fallback = "list",
       .commands = "models",
       .help = "what to do",
       .choices = "list pull rm verify",
       .positional = true},
      {.name = "MODEL",
       .value = "MODEL",
       .commands = "models",
       .help = "hub id (org/name[:variant][@revision])",
       .positional = true},
      {.name = "include",
       .kind = Kind::list,
       .value = "GLOB",
       .commands = "models",
       .help = "pull: these files instead of what running it needs"},
      {.name = "check",
       .kind = Kind::flag,
       .commands = "models",
       .help = "pull: read what is here, fetch again what is damaged"},
      {.name = "supported",
       .kind = Kind::flag,
       .commands = "models",
       .help = "every architecture, and the models known by name"},
      {.name = "SHELL",
       .value = "SHELL",
       .commands = "completion",
       .help = "the shell to complete for",
       .choices = "bash zsh fish",
       .positional = true},

      // everywhere
      {.name = "json",
       .kind = Kind::flag,
       .commands = "convert bench perplexity inspect models settings",
       .help = "one JSON value on standard output"},
  };
}

// What the command line adds to a row of the library's table of sampling
// settings.
struct Dressing {
  std::string_view flag, aliases, commands;
  std::optional<double> low;
  bool common;
};
constexpr Dressing dressings[] = {
    {"--max-tokens", "-m", "generate chat=256 serve=512", -1, true},
    {"--temp", "--temperature", "generate chat serve", {}, true},
    {"--seed", "", "generate chat serve", {}, true},
    // As llama.cpp has them.
    {"--typical-p", "--typical", "generate chat serve", {}, false},
    {"--top-n-sigma", "--top-nsigma", "generate chat serve", {}, false},
    {"--mirostat-tau", "--mirostat-ent", "generate chat serve", {}, false},
    {"--mirostat-eta", "--mirostat-lr", "generate chat serve", {}, false},
    {"--repetition-penalty",
     "--repeat-penalty",
     "generate chat serve",
     {},
     false},
    {"--draft", "", "generate chat bench serve", {}, false},
    {"--num-draft-tokens", "", "generate chat bench serve", {}, false},
};

Kind kind_of(SettingType type) {
  switch (type) {
    case SettingType::integer:
      return Kind::integer;
    case SettingType::real:
      return Kind::number;
    case SettingType::list:
      return Kind::list;
    case SettingType::map:
    case SettingType::choice:
      return Kind::text;
  }
  return Kind::text;
}

// "Most tokens" -> "most tokens"; "ID:VALUE" stays.
std::string help_of(std::string_view help) {
  std::string out(help);
  if (out.size() > 1 && std::islower(static_cast<unsigned char>(out[1])))
    out[0] = char(std::tolower(static_cast<unsigned char>(out[0])));
  return out;
}

Setting from_library(const mlxlm::Setting& row) {
  Setting out;
  out.name = row.flag.substr(2);
  out.kind = kind_of(row.type);
  out.value = out.kind == Kind::list    ? "TEXT"
      : row.type == SettingType::map    ? "ID:VALUE"
      : row.type == SettingType::choice ? "WORD"
      : out.kind == Kind::integer       ? "N"
                                        : "X";
  out.fallback = row.program;
  out.commands = "generate chat serve";
  out.help = help_of(row.help);
  if (out.kind == Kind::integer || out.kind == Kind::number) {
    out.low = row.low;
    out.high = row.high;
  }
  out.choices = row.choices;
  out.shown = long_help;
  for (auto& d : dressings) {
    if (d.flag != row.flag) continue;
    out.aliases = d.aliases;
    out.commands = d.commands;
    if (d.low) out.low = *d.low;
    if (d.common) out.shown = Shown::short_help;
  }
  if (out.low < 0 && out.name == "max-tokens") out.help += "; -1 for no limit";
  return out;
}

Setting from_limit(const serve::LimitRow& row) {
  return {
      .name = join(split(row.name, '_'), "-"),
      .kind = Kind::integer,
      .value = std::string("N"),
      .fallback = fmt::format("{}", serve::Limits().*row.member),
      .commands = std::string("serve"),
      .help = std::string(row.help),
      .low = static_cast<double>(row.low),
      .high = static_cast<double>(row.high),
      .shown = long_help};
}

// The default a command gives in `commands`: "chat=256" -> "256"; nothing when
// the setting is not for this command.
std::optional<std::string> fallback_for(
    const Setting& setting,
    std::string_view command) {
  for (auto& entry : split(setting.commands, ' ')) {
    auto equals = entry.find('=');
    if (entry.substr(0, equals) != command) continue;
    return equals == std::string::npos ? setting.fallback
                                       : entry.substr(equals + 1);
  }
  return std::nullopt;
}

} // namespace

std::span<const Setting> settings() {
  static const auto table = [] {
    auto out = make_settings();
    auto at = std::find_if(out.begin(), out.end(), [](auto& s) {
      return s.name == "extra-eos-token";
    });
    std::vector<Setting> rows;
    for (auto& row : generation_settings())
      rows.push_back(from_library(row));
    out.insert(at, rows.begin(), rows.end());
    for (auto& row : serve::limit_rows())
      out.push_back(from_limit(row));
    return out;
  }();
  return table;
}

std::vector<Setting> settings_of(std::string_view command) {
  std::vector<Setting> out;
  for (auto& setting : settings()) {
    auto fallback = fallback_for(setting, command);
    if (!fallback) continue;
    out.push_back(setting);
    out.back().fallback = *fallback;
  }
  return out;
}

const Command* find_command(std::string_view name) {
  for (auto& command : commands())
    if (command.name == name) return &command;
  return nullptr;
}

} // namespace mlxlm::cli
