// Lines a person types: edited and remembered on a terminal, read plainly from
// a pipe.
#pragma once

#include <memory>
#include <string>

namespace mlxlm::cli {

class LineReader {
 public:
  enum class Status { line, end, interrupted };
  virtual ~LineReader() = default;
  // `line` receives the line without its end.
  virtual Status read(const std::string& prompt, std::string& line) = 0;
};

std::unique_ptr<LineReader> make_line_reader();

} // namespace mlxlm::cli
