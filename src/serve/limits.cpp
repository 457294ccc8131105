#include "serve/limits.h"

namespace mlxlm::serve {
namespace {

using L = Limits;
constexpr std::int64_t day = 86400;
constexpr std::int64_t gib = std::int64_t{1} << 30;

// clang-format off
constexpr LimitRow rows[] = {
    {"connections", &L::connections, 1, 1 << 20, "open connections"},
    {"connections_per_address", &L::connections_per_address, 1, 1 << 20,
     "of them from one address that is not this machine's"},
    {"header_bytes", &L::header_bytes, 256, 1 << 20, "request line and headers"},
    {"header_fields", &L::header_fields, 1, 10000, "headers of a request"},
    {"body_bytes", &L::body_bytes, 1, gib, "body of a request"},
    {"body_rate", &L::body_rate, 1, gib, "slowest body, in bytes a second"},
    {"header_seconds", &L::header_seconds, 1, day, "time for the headers to arrive"},
    {"body_seconds", &L::body_seconds, 1, day, "time for a body, beside what its rate allows"},
    {"idle_seconds", &L::idle_seconds, 1, day, "how long an idle connection is kept"},
    {"write_seconds", &L::write_seconds, 1, day, "how long a reader may take nothing"},
    {"half_closed_seconds", &L::half_closed_seconds, 0, day,
     "how long a client that has closed its side is still served"},
    {"drain_seconds", &L::drain_seconds, 0, day, "how long running answers may go on after SIGTERM"},
    {"stream_buffer", &L::stream_buffer, 1024, gib, "bytes kept for a slow reader"},
    {"ping_seconds", &L::ping_seconds, 1, day, "longest silence of a stream"},
    {"queue", &L::queue, 0, 1 << 20, "requests that wait; more are refused"},
    {"queue_per_client", &L::queue_per_client, 0, 1 << 20, "of them from one key or address"},
    {"request_seconds", &L::request_seconds, 0, day, "longest time of a request; 0: no limit"},
    {"load_wait_seconds", &L::load_wait_seconds, 0, day,
     "for models in use to be let go, where there is no room for another"},
    {"watchdog_seconds", &L::watchdog_seconds, 0, day,
     "a model that does nothing for so long with work at hand is unhealthy; 0: off"},
    {"json_depth", &L::json_depth, 1, 256, "nesting of a request's JSON"},
    {"messages", &L::messages, 1, 1 << 20, "messages of a conversation"},
    {"tools", &L::tools, 0, 1 << 16, "tools of a request"},
    {"schema_bytes", &L::schema_bytes, 2, 1 << 24, "JSON schema of a tool"},
    {"choices", &L::choices, 1, 1024, "answers to one request (n)"},
    {"prompts", &L::prompts, 1, 1 << 16, "prompts of one completion request"},
    {"stop_texts", &L::stop_texts, 0, 1024, "stop texts of a request"},
    {"stop_bytes", &L::stop_bytes, 1, 1 << 16, "length of a stop text"},
    {"logit_bias_entries", &L::logit_bias_entries, 0, 1 << 20, "tokens in logit_bias"},
    {"top_logprobs", &L::top_logprobs, 0, 20, "alternatives for each token"},
};
// clang-format on

} // namespace

std::span<const LimitRow> limit_rows() {
  return rows;
}

} // namespace mlxlm::serve
