// Every limit of the server, once: flags of `mlxlm serve`, /props and the code
// that holds to them take it from here.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace mlxlm::serve {

struct Limits {
  // Connections.
  std::int64_t connections = 4096;
  std::int64_t connections_per_address = 256;
  std::int64_t header_bytes = 16 << 10;
  std::int64_t header_fields = 100;
  std::int64_t body_bytes = 16 << 20;
  std::int64_t body_rate = 4096;
  std::int64_t header_seconds = 10;
  std::int64_t body_seconds = 30;
  std::int64_t idle_seconds = 75;
  std::int64_t write_seconds = 30;
  std::int64_t half_closed_seconds = 1;
  std::int64_t drain_seconds = 30;
  // Streams.
  std::int64_t stream_buffer = 1 << 20;
  std::int64_t ping_seconds = 10;
  // Requests.
  std::int64_t queue = 1024;
  std::int64_t queue_per_client = 64;
  std::int64_t request_seconds = 0;
  std::int64_t load_wait_seconds = 30;
  std::int64_t watchdog_seconds = 300;
  std::int64_t json_depth = 64;
  std::int64_t messages = 4096;
  std::int64_t tools = 128;
  std::int64_t schema_bytes = 64 << 10;
  std::int64_t choices = 16;
  std::int64_t prompts = 64;
  std::int64_t stop_texts = 16;
  std::int64_t stop_bytes = 512;
  std::int64_t logit_bias_entries = 1024;
  std::int64_t top_logprobs = 20;
};

struct LimitRow {
  std::string_view name; // "header_bytes"; the flag is "--header-bytes"
  std::int64_t Limits::*member;
  std::int64_t low, high;
  std::string_view help;
};
std::span<const LimitRow> limit_rows();

} // namespace mlxlm::serve
