#include "hub/http.h"

#include <curl/curl.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <exception>
#include <mutex>

#include "core/check.h"
#include "core/strings.h"
#include "hub/address.h"

namespace mlxlm::hub {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int most_redirects = 8;
constexpr std::size_t most_header_bytes = 256 << 10;
constexpr std::size_t most_ignored_bytes = 1 << 20;

void start_curl() {
  static std::once_flag once;
  std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
}

struct Headers {
  curl_slist* list = nullptr;
  ~Headers() {
    curl_slist_free_all(list);
  }
  void add(const std::string& line) {
    list = curl_slist_append(list, line.c_str());
  }
};

bool is_redirect(long status) {
  return status == 301 || status == 302 || status == 303 || status == 307 ||
      status == 308;
}

template <typename T>
void set(CURL* curl, CURLoption option, T value) {
  if (curl_easy_setopt(curl, option, value) != CURLE_OK)
    fail(ErrorKind::internal, "curl", "option {} is not known", int(option));
}

void only_http(CURL* curl) {
#if LIBCURL_VERSION_NUM >= 0x075500
  set(curl, CURLOPT_PROTOCOLS_STR, "http,https");
#else
  set(curl, CURLOPT_PROTOCOLS, long(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
}

// Failures that another try does not mend.
bool is_permanent(CURLcode code) {
  return code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_URL_MALFORMAT ||
      code == CURLE_PEER_FAILED_VERIFICATION ||
      code == CURLE_SSL_CACERT_BADFILE || code == CURLE_SSL_CERTPROBLEM;
}

std::string trimmed(std::string_view text) {
  while (!text.empty() &&
         std::isspace(static_cast<unsigned char>(text.front())))
    text.remove_prefix(1);
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())))
    text.remove_suffix(1);
  return std::string(text);
}

} // namespace

void throw_interrupted() {
  throw Interrupted(
      ErrorKind::io,
      "the download was interrupted; the same command goes on from there");
}

std::string Answer::header(std::string_view name) const {
  auto found = headers.find(std::string(name));
  return found == headers.end() ? "" : found->second;
}

struct HttpClient::State {
  HubOptions options;
  std::function<bool()> stopped;
  std::string home; // the endpoint's origin
  CURL* curl = nullptr;
  char error[CURL_ERROR_SIZE] = {};

  // Of the hop that is running.
  Answer answer;
  BodySink* sink = nullptr;
  bool begun = false;
  std::size_t header_bytes = 0;
  std::size_t ignored_bytes = 0; // of a body that nobody wants
  std::exception_ptr thrown;
  // curl's own limit looks at five seconds at a time.
  Clock::time_point last_sign; // of life
  double timeout = 0;
  bool silent = false; // for longer than `timeout`

  bool wanted() const {
    return answer.status == 200 || answer.status == 206;
  }
  void begin() {
    if (begun) return;
    begun = true;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &answer.status);
    if (wanted()) sink->begin(answer);
  }
  bool take(std::span<const std::byte> bytes) {
    begin();
    if (wanted())
      sink->write(bytes);
    else
      ignored_bytes += bytes.size();
    return ignored_bytes <= most_ignored_bytes;
  }
  // Runs what may throw; C code must not see an exception.
  template <typename Function>
  bool guarded(Function&& function) {
    try {
      function();
      return true;
    } catch (...) {
      thrown = std::current_exception();
      return false;
    }
  }
  void add_header(std::string_view line);
  CURLcode hop(const HttpRequest& request, const std::string& url);
  std::string describe(CURLcode code, const HttpRequest& request) const;

  static std::size_t on_header(
      char* data,
      std::size_t,
      std::size_t size,
      void* self) {
    auto& state = *static_cast<State*>(self);
    state.header_bytes += size;
    state.last_sign = Clock::now();
    if (state.header_bytes > most_header_bytes) return 0;
    return state.guarded([&] { state.add_header({data, size}); }) ? size : 0;
  }
  static std::size_t on_body(
      char* data,
      std::size_t,
      std::size_t size,
      void* self) {
    auto& state = *static_cast<State*>(self);
    bool more = false;
    state.guarded(
        [&] { more = state.take(std::as_bytes(std::span(data, size))); });
    state.last_sign = Clock::now();
    return more ? size : 0;
  }
  static int on_progress(
      void* self,
      curl_off_t,
      curl_off_t,
      curl_off_t,
      curl_off_t) {
    auto& state = *static_cast<State*>(self);
    std::chrono::duration<double> since = Clock::now() - state.last_sign;
    state.silent = since.count() > state.timeout;
    return state.silent || (state.stopped && state.stopped()) ? 1 : 0;
  }
};

void HttpClient::State::add_header(std::string_view line) {
  if (starts_with(line, "HTTP/")) { // also after "100 Continue"
    answer.headers.clear();
    return;
  }
  auto colon = line.find(':');
  if (colon == std::string_view::npos) return;
  answer.headers[lower_ascii(line.substr(0, colon))] =
      trimmed(line.substr(colon + 1));
}

CURLcode HttpClient::State::hop(
    const HttpRequest& request,
    const std::string& url) {
  answer = {.hub = std::move(answer.hub), .url = without_query(url)};
  begun = false;
  header_bytes = ignored_bytes = 0;
  error[0] = '\0';
  Headers headers;
  headers.add("Accept-Encoding: identity");
  auto origin = origin_of(url);
  if (!options.token.empty() && origin == home && is_private_enough(origin))
    headers.add("Authorization: Bearer " + options.token);
  if (request.from > 0) {
    headers.add(fmt::format("Range: bytes={}-", request.from));
    if (!request.if_range.empty()) headers.add("If-Range: " + request.if_range);
  }
  auto seconds = std::max(1L, long(request.timeout));
  set(curl, CURLOPT_URL, url.c_str());
  set(curl, CURLOPT_HTTPHEADER, headers.list);
  set(curl, CURLOPT_CONNECTTIMEOUT, seconds);
  timeout = request.timeout;
  last_sign = Clock::now();
  silent = false;
  auto code = curl_easy_perform(curl);
  set(curl, CURLOPT_HTTPHEADER, static_cast<curl_slist*>(nullptr));
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &answer.status);
  return ignored_bytes > most_ignored_bytes ? CURLE_OK : code;
}

std::string HttpClient::State::describe(
    CURLcode code,
    const HttpRequest& request) const {
  auto host = origin_of(answer.url);
  if (code == CURLE_OPERATION_TIMEDOUT || silent)
    return fmt::format("{} sent nothing for {} s", host, request.timeout);
  if (code == CURLE_PARTIAL_FILE || code == CURLE_RECV_ERROR ||
      code == CURLE_GOT_NOTHING)
    return fmt::format("{} broke the connection", host);
  auto what = error[0] != '\0' ? error : curl_easy_strerror(code);
  return fmt::format("{}: {}", host, printable(what, 200));
}

HttpClient::HttpClient(const HubOptions& options, std::function<bool()> stopped)
    : state_(std::make_unique<State>()) {
  start_curl();
  auto& s = *state_;
  s.options = options;
  s.stopped = std::move(stopped);
  s.home = origin_of(options.endpoint);
  s.curl = curl_easy_init();
  MLXLM_CHECK(s.curl != nullptr, "curl cannot start");
  only_http(s.curl);
  set(s.curl, CURLOPT_NOSIGNAL, 1L);
  set(s.curl, CURLOPT_FOLLOWLOCATION, 0L);
  set(s.curl, CURLOPT_NETRC, long(CURL_NETRC_IGNORED));
  set(s.curl, CURLOPT_USERAGENT, "mlxlm");
  set(s.curl, CURLOPT_ERRORBUFFER, s.error);
  set(s.curl, CURLOPT_BUFFERSIZE, 256L << 10);
  set(s.curl, CURLOPT_HEADERFUNCTION, &State::on_header);
  set(s.curl, CURLOPT_HEADERDATA, state_.get());
  set(s.curl, CURLOPT_WRITEFUNCTION, &State::on_body);
  set(s.curl, CURLOPT_WRITEDATA, state_.get());
  set(s.curl, CURLOPT_NOPROGRESS, 0L);
  set(s.curl, CURLOPT_XFERINFOFUNCTION, &State::on_progress);
  set(s.curl, CURLOPT_XFERINFODATA, state_.get());
  if (!options.certificates.empty())
    set(s.curl, CURLOPT_CAINFO, options.certificates.c_str());
}

HttpClient::~HttpClient() {
  curl_easy_cleanup(state_->curl);
}

Answer HttpClient::get(const HttpRequest& request, BodySink& sink) {
  auto& s = *state_;
  s.sink = &sink;
  s.thrown = nullptr;
  s.answer = {};
  auto url = request.url;
  for (int hops = 0;; ++hops) {
    auto code = s.hop(request, url);
    if (s.thrown) std::rethrow_exception(s.thrown);
    if (code == CURLE_ABORTED_BY_CALLBACK && !s.silent) throw_interrupted();
    if (origin_of(url) == s.home)
      for (const auto& [name, value] : s.answer.headers)
        s.answer.hub[name] = value;
    if (code != CURLE_OK) {
      s.answer.problem = s.describe(code, request);
      s.answer.permanent = is_permanent(code);
      return s.answer;
    }
    auto location = s.answer.header("location");
    if (!is_redirect(s.answer.status) || location.empty()) {
      s.begin(); // a body without a byte
      return s.answer;
    }
    auto next = redirected(url, location);
    if (next.empty() || hops == most_redirects) {
      s.answer.problem = next.empty()
          ? fmt::format(
                "{} leads to an address that is not followed", origin_of(url))
          : fmt::format("{} redirects without end", origin_of(url));
      s.answer.permanent = true;
      return s.answer;
    }
    url = next;
  }
}

namespace {

class TextSink final : public BodySink {
 public:
  TextSink(std::string& text, std::size_t most) : text_(text), most_(most) {}
  void begin(const Answer&) override {
    text_.clear();
  }
  void write(std::span<const std::byte> bytes) override {
    if (text_.size() + bytes.size() > most_)
      fail(
          ErrorKind::io,
          "the hub's answer",
          "expected at most {}, found more",
          human_bytes(most_));
    text_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }

 private:
  std::string& text_;
  std::size_t most_;
};

} // namespace

Answer HttpClient::get_text(
    const HttpRequest& request,
    std::size_t most_bytes,
    std::string& body) {
  TextSink sink(body, most_bytes);
  return get(request, sink);
}

} // namespace mlxlm::hub
