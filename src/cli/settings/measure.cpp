// bench, perplexity, and what inspect measures.
#include "cli/settings/tables.h"

namespace mlxlm::cli {

Settings measure_settings() {
  return {
      {.name = "measure",
       .kind = Kind::integer,
       .value = "N",
       .commands = "inspect",
       .help = "load it, read N random tokens and say what memory that took",
       .low = 1,
       .high = 1 << 20},
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
  };
}

} // namespace mlxlm::cli
