// Addresses: origins, redirects, escaping.
#pragma once

#include <string>
#include <string_view>

namespace mlxlm::hub {

// "https://host:port" in lower case with the port always there; empty when the
// text is no http(s) address or carries a user name.
std::string origin_of(const std::string& url);
// Whether a secret may travel there: https, or plain http to this machine.
bool is_private_enough(const std::string& origin);
// Where a Location header leads from `url`; empty when that is not followed:
// not http(s), with a user name, or from https to http.
std::string redirected(const std::string& url, const std::string& location);
// An address for people: no query, which may hold a signature.
std::string without_query(const std::string& url);
// Percent-encodes all but unreserved characters and, unless `slashes` is false,
// "/".
std::string quote_path(std::string_view path, bool slashes = true);

} // namespace mlxlm::hub
