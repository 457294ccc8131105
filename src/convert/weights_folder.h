// The safetensors files of a folder, written in any order at known places, and
// the record of what is done, so that a run that was killed goes on.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "convert/tasks.h"
#include "core/json.h"

namespace mlxlm::converting {

// Where an output lies.
struct Place {
  std::size_t file = 0;
  std::size_t offset = 0; // in the data of its file
};

// The files and where in them every output of every task lies.
struct FilePlan {
  std::vector<std::string> names;
  std::vector<std::string> headers; // length, JSON, padding
  std::vector<std::size_t> data_bytes;
  std::vector<std::vector<Place>> places; // [task][output]
  Json index; // model.safetensors.index.json

  std::size_t bytes() const;
};
// A file holds at most `shard_bytes` unless one tensor alone is larger.
FilePlan plan_files(const std::vector<Task>& tasks, std::size_t shard_bytes);

class WeightsFolder {
 public:
  // `description`: what is being made. A folder that was begun for the same
  // one is gone on with, for another begun anew. Throws Error(io) when another
  // process is at it.
  WeightsFolder(
      std::string folder,
      const FilePlan& plan,
      const std::string& description);
  ~WeightsFolder();
  WeightsFolder(const WeightsFolder&) = delete;
  WeightsFolder& operator=(const WeightsFolder&) = delete;

  bool done(std::size_t task) const {
    return done_.contains(task);
  }
  void write(
      const Place& place,
      std::size_t offset,
      std::span<const std::byte> bytes);
  // All of the task has been written.
  void finish(std::size_t task, std::size_t bytes);
  // Everything is on the disk; the record goes.
  void close();

 private:
  class File;
  void lock();
  void resume(const std::string& description);
  void open_files(bool fresh);
  void flush();

  std::string folder_;
  const FilePlan& plan_;
  std::vector<std::unique_ptr<File>> files_;
  std::unique_ptr<File> lock_, record_;
  std::set<std::size_t> done_;
  std::vector<std::size_t> unrecorded_;
  std::size_t unflushed_ = 0;
};

} // namespace mlxlm::converting
