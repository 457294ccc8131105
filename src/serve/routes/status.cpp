// How the server is: /health, /metrics, /props, /slots, /timeline.
#include "serve/routes/routes.h"

#include <cmath>

namespace mlxlm::serve {
namespace {

Json default_settings(const GenerateParameters& defaults) {
  const auto& s = defaults.sampling;
  auto or_null = [](auto value) { return value ? Json(*value) : Json(); };
  return {
      {"max_tokens", or_null(defaults.max_tokens)},
      {"temperature", s.temperature},
      {"top_p", s.top_p},
      {"top_k", s.top_k},
      {"min_p", s.min_p},
      {"repetition_penalty", or_null(s.repetition_penalty)},
      {"presence_penalty", or_null(s.presence_penalty)},
      {"frequency_penalty", or_null(s.frequency_penalty)},
      {"seed", or_null(defaults.seed)}};
}

// With several keys each sees its own requests; of others', that they are.
bool may_see(const HttpRequest& request, const Activity& activity) {
  return request.sees_all || activity.client == request.client;
}

} // namespace

ReplyPtr health(Context& context) {
  context.service.models(); // 503 while the first loads
  if (auto trouble = context.service.trouble(); !trouble.empty())
    throw ApiError{503, trouble, {}, "unhealthy", 1};
  return context.json({{"status", "ok"}});
}

ReplyPtr metrics(Context& context) {
  MemoryFigures memory;
  WiredStatus tickets; // of the process
  int running = 0;
  for (const auto& engine : context.service.models()->loaded()) {
    auto one = engine->memory();
    one.weights += memory.weights; // what follows is the process's
    one.kv += memory.kv;
    one.workspace += memory.workspace;
    one.pages_in_use += memory.pages_in_use;
    one.pages_kept += memory.pages_kept;
    memory = one;
    tickets = engine->tickets();
    ++running;
  }
  const auto facts = context.service.models()->states().front().facts;
  Response response;
  response.headers.emplace_back("content-type", "text/plain; version=0.0.4");
  response.body = context.service.statistics().prometheus(
      {{"weights_bytes", double(memory.weights)},
       {"kv_bytes", double(memory.kv)},
       {"kv_pages_in_use", double(memory.pages_in_use)},
       {"kv_pages_kept", double(memory.pages_kept)},
       {"workspace_bytes", double(memory.workspace)},
       {"active_bytes", double(memory.active)},
       {"cache_bytes", double(memory.cache)},
       {"resident_bytes", double(memory.resident)},
       {"memory_tickets", double(tickets.active)},
       {"memory_tickets_waiting", double(tickets.waiting)},
       {"memory_tickets_bytes", double(tickets.active_bytes)},
       {"models_loaded", double(running)}},
      facts.slots);
  return std::make_unique<Ready>(std::move(response));
}

ReplyPtr props(Context& context) {
  auto models = context.service.models();
  const auto facts = models->states().front().facts;
  const auto& can = facts.capabilities;
  auto limits = Json::object();
  for (const auto& row : limit_rows())
    limits[std::string(row.name)] = context.service.limits().*row.member;
  auto names = Json::array();
  for (const auto& route : routes())
    names.push_back(std::string(route.method) + " " + std::string(route.path));
  return context.json(
      {{"model_alias", facts.model},
       {"build_info", facts.fingerprint},
       {"total_slots", facts.slots},
       {"n_ctx", facts.context_length},
       {"default_generation_settings",
        default_settings(context.service.options().defaults)},
       {"capabilities",
        {{"chat", can.chat},
         {"tools", can.tools},
         {"reasoning", can.reasoning},
         {"thinking_switch", can.thinking_switch},
         {"vision", can.vision},
         {"audio", can.audio}}},
       {"memory_budget", models->budget()},
       {"limits", std::move(limits)},
       {"routes", std::move(names)}});
}

ReplyPtr slots(Context& context) {
  const auto facts = context.service.models()->states().front().facts;
  auto out = Json::array();
  for (const auto& activity : context.service.statistics().activities()) {
    Json slot = {
        {"is_processing", activity.phase != Activity::Phase::waiting},
        {"phase", to_string(activity.phase)},
        {"n_ctx", facts.context_length},
        {"n_prompt_tokens", activity.prompt_tokens},
        {"n_prompt_tokens_processed", activity.prompt_done},
        {"n_decoded", activity.generated}};
    if (may_see(context.request, activity)) {
      slot["id"] = activity.id;
      slot["request"] = activity.request;
      slot["client"] = activity.client;
    }
    out.push_back(std::move(slot));
  }
  if (context.request.query.find("fail_on_no_slot=1") != std::string::npos &&
      static_cast<int>(out.size()) >= facts.slots)
    throw ApiError{503, "No slot is free.", {}, "no_slot", 1};
  return context.json(out);
}

ReplyPtr timeline(Context& context) {
  auto milliseconds = [](double seconds) {
    return std::round(seconds * 1e4) / 10;
  };
  auto out = Json::array();
  for (const auto& ended : context.service.statistics().ended()) {
    if (!may_see(context.request, ended.activity)) continue;
    out.push_back(
        {{"id", ended.activity.id},
         {"request", ended.activity.request},
         {"client", ended.activity.client},
         {"finish_reason", ended.finish},
         {"ended_unix_ms", ended.unix_ms},
         {"waited_ms", milliseconds(ended.waited)},
         {"prompt_ms", milliseconds(ended.read)},
         {"predicted_ms", milliseconds(ended.answered)},
         {"n_prompt_tokens", ended.activity.prompt_tokens},
         {"n_cached_tokens", ended.cached},
         {"n_decoded", ended.activity.generated}});
  }
  return context.json(out);
}

} // namespace mlxlm::serve
