// Bytes from the network: whatever comes, requests are read or refused, and
// what their bodies ask of a model is served or a 4xx that says why. The whole
// input is a connection's bytes; what follows "\0" is a body for every route.
#include "fuzz.h"
#include "serve/request_reader.h"
#include "serve/service.h"
#include "serve/testing.h"

using namespace mlxlm;
using namespace mlxlm::serve;

namespace {

Service& service() {
  static Service& one = *[] {
    ServiceOptions options;
    options.any_model = true;
    auto* made = new Service(options);
    made->set_engine(
        std::make_shared<testing::FakeEngine>(std::chrono::microseconds(50)));
    return made;
  }();
  return one;
}

void serve_one(HttpRequest request) {
  auto reply = service().handle(request, [] {});
  Outgoing out;
  reply->poll(out);
  if (out.head) fuzz::hold(out.head->status >= 200 && out.head->status < 500);
  for (const auto& [name, value] : out.head ? out.head->headers : Headers{})
    fuzz::hold(value.find_first_of("\r\n") == value.npos);
}

void read_connection(std::string_view text) {
  Limits limits;
  limits.header_bytes = 4096;
  limits.body_bytes = 1 << 16;
  std::string input(text);
  for (int i = 0; i < 8 && !input.empty(); ++i) {
    RequestReader reader(limits);
    input.erase(0, reader.feed(input));
    if (reader.state() == RequestReader::State::refused)
      fuzz::hold(reader.status() >= 400 && reader.status() < 500);
    if (reader.state() != RequestReader::State::done) return;
    serve_one(reader.take());
  }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, size_t size) {
  auto input = fuzz::text(data, size);
  auto end = input.find('\0');
  read_connection(input.substr(0, end));
  if (end == input.npos) return 0;
  for (const auto& route : routes()) {
    if (route.method != "POST") continue;
    HttpRequest request;
    request.method = "POST";
    request.target = route.path;
    request.headers = {{"host", "localhost"}};
    request.body = input.substr(end + 1);
    serve_one(std::move(request));
  }
  return 0;
}
