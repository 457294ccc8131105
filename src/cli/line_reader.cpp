#include "cli/line_reader.h"

#include <iostream>

#include "cli/terminal.h"

namespace mlxlm::cli {
namespace {

class PlainReader : public LineReader {
 public:
  Status read(const std::string&, std::string& line) override {
    return std::getline(std::cin, line) ? Status::line : Status::end;
  }
};

} // namespace

std::unique_ptr<LineReader> make_line_reader() {
  return std::make_unique<PlainReader>();
}

} // namespace mlxlm::cli
