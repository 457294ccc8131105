#include "hub/address.h"

#include <curl/curl.h>
#include <fmt/format.h>

#include <cctype>
#include <memory>

#include "core/strings.h"

namespace mlxlm::hub {
namespace {

class Url {
 public:
  bool set(const std::string& text) {
    return url_ &&
        curl_url_set(
            url_.get(), CURLUPART_URL, text.c_str(), CURLU_DISALLOW_USER) ==
        CURLUE_OK;
  }
  std::string part(CURLUPart which, unsigned flags = 0) const {
    char* text = nullptr;
    if (curl_url_get(url_.get(), which, &text, flags) != CURLUE_OK) return "";
    std::string out = text;
    curl_free(text);
    return out;
  }
  bool is_http() const {
    auto scheme = part(CURLUPART_SCHEME);
    return scheme == "http" || scheme == "https";
  }

 private:
  std::unique_ptr<CURLU, decltype(&curl_url_cleanup)> url_{
      curl_url(),
      &curl_url_cleanup};
};

} // namespace

std::string origin_of(const std::string& text) {
  Url url;
  if (!url.set(text) || !url.is_http()) return "";
  return fmt::format(
      "{}://{}:{}",
      url.part(CURLUPART_SCHEME),
      lower_ascii(url.part(CURLUPART_HOST)),
      url.part(CURLUPART_PORT, CURLU_DEFAULT_PORT));
}

bool is_private_enough(const std::string& origin) {
  if (starts_with(origin, "https://")) return true;
  for (const char* here :
       {"http://localhost:", "http://127.0.0.1:", "http://[::1]:"})
    if (starts_with(origin, here)) return true;
  return false;
}

std::string redirected(const std::string& from, const std::string& location) {
  Url url;
  if (!url.set(from)) return "";
  bool secure = url.part(CURLUPART_SCHEME) == "https";
  if (!url.set(location) || !url.is_http()) return "";
  if (secure && url.part(CURLUPART_SCHEME) != "https") return "";
  return url.part(CURLUPART_URL);
}

std::string without_query(const std::string& url) {
  return url.substr(0, url.find_first_of("?#"));
}

std::string quote_path(std::string_view path, bool slashes) {
  std::string out;
  for (char c : path) {
    auto u = static_cast<unsigned char>(c);
    bool plain = u < 0x80 &&
        (std::isalnum(u) || c == '-' || c == '_' || c == '.' || c == '~' ||
         (c == '/' && slashes));
    if (plain)
      out += c;
    else
      out += fmt::format("%{:02X}", u);
  }
  return out;
}

} // namespace mlxlm::hub
