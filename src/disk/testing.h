// Folders and entries for tests.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <random>
#include <string>

#include "disk/store.h"

namespace mlxlm::disk {

// A folder of its own, gone at the end.
class Folder {
 public:
  Folder() {
    auto pattern = std::filesystem::temp_directory_path() / "mlxlm-XXXXXX";
    path_ = pattern.string();
    if (!mkdtemp(path_.data())) throw std::runtime_error("mkdtemp");
  }
  ~Folder() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  const std::string& path() const {
    return path_;
  }
  // The entries' files.
  std::vector<std::string> entries() const {
    std::vector<std::string> out;
    for (const auto& file : std::filesystem::directory_iterator(path_))
      if (file.path().extension() == ".entry") out.push_back(file.path());
    return out;
  }

 private:
  std::string path_;
};

inline Key key_of(int number) {
  Key key{};
  for (std::size_t i = 0; i < 4; ++i)
    key[i] = static_cast<std::byte>(number >> (8 * i) & 255);
  return key;
}

// What the entry of that number holds: known from the number alone.
inline Store::Bytes payload_of(int number, std::size_t bytes) {
  std::mt19937 random(number);
  Store::Bytes payload(bytes);
  for (auto& byte : payload)
    byte = static_cast<std::byte>(random() & 255);
  return payload;
}

} // namespace mlxlm::disk
