#include "serve/service.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/strings.h"
#include "serve/body.h"
#include "serve/stamps.h"
#include "serve/waiting.h"

namespace mlxlm::serve {
namespace {

// The client's own id, when it is one that may stand in a log.
std::string request_id(const HttpRequest& request) {
  const auto* given = request.header("x-request-id");
  if (!given || given->empty() || given->size() > 128) return random_id();
  for (char c : *given)
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '-' && c != '_' &&
        c != '.')
      return random_id();
  return *given;
}

// Adds what every response has to an answer of any kind.
class Decorated final : public Reply {
 public:
  Decorated(ReplyPtr inner, Headers headers, Statistics& statistics)
      : inner_(std::move(inner)),
        headers_(std::move(headers)),
        statistics_(statistics) {}
  void poll(Outgoing& out) override {
    inner_->poll(out);
    if (!out.head) return;
    statistics_.request(out.head->status);
    for (auto& header : headers_)
      out.head->headers.push_back(std::move(header));
  }
  void stop(std::string_view why) override {
    inner_->stop(why);
  }
  std::string note() const override {
    return inner_->note();
  }

 private:
  ReplyPtr inner_;
  Headers headers_;
  Statistics& statistics_;
};

bool matches(const Route& route, const std::string& path, std::string& tail) {
  auto pattern = route.path;
  if (!ends_with(pattern, "*")) return pattern == path;
  pattern.remove_suffix(1);
  if (!starts_with(path, pattern) || path.size() == pattern.size())
    return false;
  tail = path.substr(pattern.size());
  return true;
}

// Without its parameters: "text/html" of "Text/HTML; charset=utf-8".
std::string type_without_parameters(std::string_view header) {
  auto type = lower_ascii(header.substr(0, header.find(';')));
  type.erase(type.find_last_not_of(" \t") + 1);
  return type;
}

bool changes_state(const HttpRequest& request) {
  return request.method != "GET" && request.method != "HEAD" &&
      request.method != "OPTIONS";
}

ReplyPtr ready(Response response) {
  return std::make_unique<Ready>(std::move(response));
}

} // namespace

// ---- places ----------------------------------------------------------------
std::vector<Gate::PlacePtr> Service::admit(
    Context& context,
    int count,
    int priority) {
  const auto& facts = context.engine->facts();
  const auto& request = context.request;
  std::string reason;
  std::vector<Gate::PlacePtr> places;
  {
    std::lock_guard lock(gates_mutex_);
    int held = count;
    for (const auto& [name, gate] : gates_)
      held += gate->places_of(request.client);
    auto& gate = gates_[facts.model];
    if (!gate) gate = std::make_shared<Gate>();
    if (request.answers > 0 && held > request.answers)
      reason = "answers of the key";
    else
      places = gate->enter(
          request.client,
          count,
          priority,
          {facts.slots, limits().queue, limits().queue_per_client},
          context.wake,
          reason);
  }
  if (!places.empty()) return places;
  statistics_.refused(reason);
  throw ApiError{
      429,
      fmt::format("Too many requests are waiting ({}).", reason),
      {},
      "queue_full",
      2};
}

int Service::admitted() const {
  std::lock_guard lock(gates_mutex_);
  int out = 0;
  for (const auto& [name, gate] : gates_)
    out += gate->ready() + gate->waiting();
  return out;
}

void Service::start(
    Context& context,
    Answer& answer,
    Answer::Choice choice,
    Gate::PlacePtr place,
    Job job) {
  Activity activity;
  activity.request = context.request.id;
  activity.client = context.request.client;
  activity.prompt_tokens = static_cast<int>(job.prompt.size());
  choice.prompt_tokens = activity.prompt_tokens;
  choice.place = std::move(place);
  choice.job = std::move(job);
  choice.activity = statistics_.begin(std::move(activity));
  auto id = choice.activity;
  try {
    answer.add(std::move(choice), context.engine, context.wake);
  } catch (...) {
    statistics_.abandoned(id);
    throw;
  }
}

// ---- the model -------------------------------------------------------------
Service::Service(ServiceOptions options)
    : options_(std::move(options)),
      keys_(std::make_shared<const std::vector<Key>>()) {
  set_keys(options_.keys);
}

void Service::set_models(ModelsPtr models) {
  std::lock_guard lock(mutex_);
  models_ = std::move(models);
}

void Service::set_engine(EnginePtr engine) {
  set_models(Models::of(std::move(engine), options_.any_model));
}

ModelsPtr Service::models() const {
  std::lock_guard lock(mutex_);
  if (models_) return models_;
  throw ApiError{503, "Loading model", {}, "loading", 1};
}

void Service::set_keys(std::vector<Key> keys) {
  std::lock_guard lock(mutex_);
  name_keys(keys, *keys_, last_key_);
  keys_ = std::make_shared<const std::vector<Key>>(std::move(keys));
}

std::string Service::trouble() const {
  if (draining_) return "The server is shutting down.";
  auto limit = static_cast<double>(limits().watchdog_seconds);
  if (limit > 0 && statistics_.stalled_seconds() > limit)
    return "The model has not moved for too long.";
  return {};
}

// ---- a request -------------------------------------------------------------
ReplyPtr Service::handle(HttpRequest& request, const Wake& wake) {
  if (request.id.empty()) request.id = request_id(request);
  auto held = std::exchange(request.held, nullptr); // until it has begun
  request.client = request.peer;
  Context context{*this, request, wake};
  auto style = style_of(request.target);
  const bool was_streaming = request.streaming;
  ReplyPtr reply;
  auto complain = [&](const std::string& what) {
    if (options_.log)
      options_.log(fmt::format("request {}: {}", request.id, what));
  };
  try {
    reply = dispatch(context);
  } catch (const NotLoaded& model) {
    reply = waiting(model.loading, request, style, limits().ping_seconds);
  } catch (const ApiError& error) {
    reply = ready(error_response(error, style));
  } catch (const Error& error) {
    auto seen = from_error(error);
    if (seen.status >= 500) complain(error.what());
    reply = ready(error_response(seen, style));
  } catch (const std::bad_alloc&) {
    complain("out of memory");
    reply = ready(error_response(
        {503, "Not enough memory.", {}, "insufficient_memory", 5}, style));
  } catch (const std::exception& error) {
    complain(error.what());
    reply = ready(
        error_response({500, "The server failed; its log says why."}, style));
  }
  if (was_streaming) reply = continued(std::move(reply), style);
  context.headers.emplace_back("x-request-id", request.id);
  context.headers.emplace_back("x-content-type-options", "nosniff");
  return std::make_unique<Decorated>(
      std::move(reply), std::move(context.headers), statistics_);
}

ReplyPtr Service::refuse(int status, std::string_view message) {
  statistics_.request(status);
  auto response = error_response(
      {status, std::string(message), {}, "bad_http"}, Style::openai);
  response.close = true;
  return ready(std::move(response));
}

ReplyPtr Service::dispatch(Context& context) {
  auto& request = context.request;
  auto path = normalize_path(request.target);
  if (!path) throw ApiError{400, "The path is not one that is served."};
  request.path = *path;
  request.query = query_of(request.target);
  check_host(request);
  for (auto& header : check_origin(request))
    context.headers.push_back(std::move(header));
  if (request.method == "OPTIONS") return preflight(context);
  return run_route(context);
}

void Service::check_host(const HttpRequest& request) const {
  if (request.count("host") > 1 ||
      (request.count("host") == 0 && !request.http10))
    throw ApiError{400, "Expected one Host header."};
  if (options_.any_host || request.count("host") == 0) return;
  auto name = host_name(*request.header("host"));
  if (is_loopback_name(name)) return;
  for (const auto& host : options_.hosts)
    if (name == host) return;
  throw ApiError{
      403,
      "The name in the Host header is not one of this server (--allowed-hosts).",
      {},
      "host_not_allowed"};
}

bool Service::allowed_origin(
    const HttpRequest& request,
    const std::string& origin) const {
  for (const auto& allowed : options_.origins)
    if (allowed == "*" || allowed == origin) return true;
  const auto* host = request.header("host");
  return host && (origin == "http://" + *host || origin == "https://" + *host);
}

Headers Service::check_origin(const HttpRequest& request) const {
  const auto* origin = request.header("origin");
  if (!origin) return {{"vary", "Origin"}};
  if (!allowed_origin(request, *origin)) {
    if (changes_state(request))
      throw ApiError{
          403,
          "Pages of this origin may not use the server (--allowed-origins).",
          {},
          "origin_not_allowed"};
    return {{"vary", "Origin"}};
  }
  if (changes_state(request)) {
    // A page can send other types without asking first.
    const auto* type = request.header("content-type");
    if (!type || type_without_parameters(*type) != "application/json")
      throw ApiError{415, "Expected content-type application/json."};
  }
  return {
      {"vary", "Origin"},
      {"access-control-allow-origin", header_value(*origin)},
      {"access-control-expose-headers",
       "x-request-id, x-unknown-fields, x-ignored-fields"}};
}

ReplyPtr Service::preflight(Context& context) {
  Response response{.status = 204};
  bool allowed = std::any_of(
      context.headers.begin(), context.headers.end(), [](const auto& header) {
        return header.first == "access-control-allow-origin";
      });
  if (allowed) {
    response.headers = {
        {"access-control-allow-methods", "GET, POST, PUT, DELETE, OPTIONS"},
        {"access-control-allow-headers",
         "authorization, content-type, x-api-key, x-request-id"},
        {"access-control-max-age", "600"}};
  }
  return ready(std::move(response));
}

void Service::check_key(HttpRequest& request, bool open) {
  std::shared_ptr<const std::vector<Key>> keys;
  {
    std::lock_guard lock(mutex_);
    keys = keys_;
  }
  request.sees_all = keys->empty();
  if (keys->empty()) return;
  const auto* key = find_key(*keys, request);
  if (key && (!key->until || unix_time() < *key->until)) {
    request.client = request.owner = key->name;
    request.answers = key->answers;
    request.sees_all = key->admin;
    request.salt = key->salt;
    return;
  }
  if (open) return;
  statistics_.refused("key");
  throw ApiError{
      401,
      "A valid API key is needed (Authorization: Bearer KEY).",
      {},
      "invalid_api_key"};
}

ReplyPtr Service::run_route(Context& context) {
  auto& request = context.request;
  auto method = request.method == "HEAD" ? "GET" : request.method;
  std::vector<std::string> allowed;
  const Route* found = nullptr;
  bool open = false;
  for (const auto& route : routes()) {
    std::string tail;
    if (!matches(route, request.path, tail)) continue;
    open = open || route.open;
    allowed.emplace_back(route.method);
    if (route.method != method || found) continue;
    found = &route;
    context.tail = tail;
  }
  check_key(request, open);
  if (allowed.empty())
    throw ApiError{
        404,
        fmt::format("There is no {}.", printable(request.path)),
        {},
        "not_found"};
  if (!found) {
    context.headers.emplace_back("allow", join(allowed, ", "));
    throw ApiError{405, "The method is not one of this path."};
  }
  if (draining_ && changes_state(request))
    throw ApiError{503, "The server is shutting down.", {}, "stopped", 5};
  return found->run(context);
}

// ---- for routes ------------------------------------------------------------
void Context::use(const ModelWish& wish) {
  auto taken = service.models()->take(wish, wake);
  if (!taken.engine) throw NotLoaded{std::move(taken.loading)};
  engine = std::move(taken.engine);
}

ReplyPtr Context::json(const Json& value) const {
  Response response;
  response.headers.emplace_back("content-type", "application/json");
  response.body =
      value.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  return ready(std::move(response));
}

void Context::unknown(const std::vector<std::string>& names) {
  unknown_fields.insert(unknown_fields.end(), names.begin(), names.end());
}

void Context::report_unknown() {
  const auto& names = unknown_fields;
  if (names.empty()) return;
  auto list = join(names, ", ");
  if (service.options().strict)
    bad_request(
        names[0],
        fmt::format("unknown fields: {}", printable(list, 400)),
        "unknown_parameter");
  headers.emplace_back("x-unknown-fields", header_value(list, 1000));
}

} // namespace mlxlm::serve
