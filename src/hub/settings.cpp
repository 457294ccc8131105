// The variables that Hugging Face's own tools read.
#include <charconv>

#include "core/check.h"
#include "core/env.h"
#include "core/files.h"
#include "core/strings.h"
#include "hub/resolve.h"
#include "mlxlm/hub.h"

namespace mlxlm {
namespace {

std::string home() {
  return env::get("HOME").value_or("");
}

// "~/x" and "~", as the shell has them.
std::string expanded(std::string path) {
  if (path == "~" || starts_with(path, "~/")) path.replace(0, 1, home());
  return path;
}

std::string hf_home() {
  if (auto hf = env::get("HF_HOME")) return expanded(*hf);
  auto cache = env::get("XDG_CACHE_HOME").value_or(home() + "/.cache");
  return expanded(cache) + "/huggingface";
}

std::string hub_cache() {
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"})
    if (auto cache = env::get(name)) return expanded(*cache);
  return hf_home() + "/hub";
}

std::string trimmed(std::string text) {
  auto space = " \t\r\n";
  text.erase(text.find_last_not_of(space) + 1);
  text.erase(0, std::min(text.find_first_not_of(space), text.size()));
  return text;
}

// A token goes into a header: nothing but visible ASCII. The message must not
// show it.
std::string checked_token(std::string token, std::string_view where) {
  token = trimmed(std::move(token));
  for (char c : token)
    if (c <= 0x20 || c >= 0x7f)
      fail(
          ErrorKind::request,
          where,
          "expected a token of visible ASCII characters, found others in it");
  return token;
}

std::string token() {
  if (env::flag("HF_HUB_DISABLE_IMPLICIT_TOKEN")) return "";
  for (const char* name : {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"})
    if (auto value = env::get(name)) return checked_token(*value, name);
  auto path = hf_home() + "/token";
  if (auto other = env::get("HF_TOKEN_PATH")) path = expanded(*other);
  if (!is_file(path)) return "";
  return checked_token(read_file(path, 64 << 10), path);
}

double seconds(const char* name, double fallback) {
  auto text = env::get(name);
  if (!text) return fallback;
  int value = 0;
  auto end = text->data() + text->size();
  auto [at, error] = std::from_chars(text->data(), end, value);
  if (error != std::errc() || at != end || value < 1 || value > 86400)
    fail(
        ErrorKind::request,
        name,
        "expected seconds from 1 to 86400, found \"{}\"",
        printable(*text));
  return value;
}

} // namespace

HubOptions hub_options_from_environment() {
  HubOptions out;
  out.cache = hub_cache();
  if (auto endpoint = env::get("HF_ENDPOINT")) out.endpoint = *endpoint;
  out.offline =
      env::flag("HF_HUB_OFFLINE") || env::flag("TRANSFORMERS_OFFLINE");
  out.symlinks = !env::flag("HF_HUB_DISABLE_SYMLINKS");
  out.metadata_timeout = seconds("HF_HUB_ETAG_TIMEOUT", out.metadata_timeout);
  out.download_timeout =
      seconds("HF_HUB_DOWNLOAD_TIMEOUT", out.download_timeout);
  for (const char* name : {"CURL_CA_BUNDLE", "SSL_CERT_FILE"})
    if (auto file = env::get(name); file && out.certificates.empty())
      out.certificates = *file;
  // Read only where something may be sent.
  if (!out.offline) out.token = token();
  return out;
}

std::string hub::cache_from_environment() {
  return hub_cache();
}

} // namespace mlxlm
