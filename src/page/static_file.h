// The files of the web page, which are part of the program.
#pragma once

#include <span>
#include <string_view>

namespace mlxlm::page {

struct StaticFile {
  std::string_view path; // "/index.html"
  std::span<const unsigned char> bytes;
  std::string_view etag; // quoted, of the contents
};

// All of web/dist, by path.
std::span<const StaticFile> static_files();

// What a path shows ("/" the page itself), or null.
const StaticFile* find_file(std::string_view path);

// By the name's ending: "text/html; charset=utf-8".
std::string_view media_type(std::string_view path);

// The policy under which the page runs. Nothing is loaded from elsewhere, no
// text becomes markup or script.
inline constexpr std::string_view content_security_policy =
    "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'; "
    "frame-ancestors 'none'";

} // namespace mlxlm::page
