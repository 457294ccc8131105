#include "page/static_file.h"

#include <algorithm>
#include <utility>

namespace mlxlm::page {

const StaticFile* find_file(std::string_view path) {
  if (path == "/") path = "/index.html";
  auto files = static_files();
  auto found =
      std::find_if(files.begin(), files.end(), [&](const StaticFile& file) {
        return file.path == path;
      });
  return found == files.end() ? nullptr : &*found;
}

std::string_view media_type(std::string_view path) {
  constexpr std::pair<std::string_view, std::string_view> types[] = {
      {".html", "text/html; charset=utf-8"},
      {".js", "text/javascript; charset=utf-8"},
      {".css", "text/css; charset=utf-8"},
      {".svg", "image/svg+xml"},
      {".md", "text/plain; charset=utf-8"},
  };
  for (const auto& [ending, type] : types)
    if (path.size() > ending.size() &&
        path.substr(path.size() - ending.size()) == ending)
      return type;
  return "application/octet-stream";
}

} // namespace mlxlm::page
