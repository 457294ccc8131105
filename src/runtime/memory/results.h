// Where the results of our kernels lie. MLX's allocator for a CPU keeps freed
// buffers whole and by their size; as every number of rows has sizes of its
// own, what it keeps is soon of sizes that do not come again. Here pieces of a
// few blocks are cut and joined, so that a process holds about what its passes
// need at one time.
#pragma once

#include <mlx/allocator.h>
#include <mlx/array.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_set>

namespace mlxlm::kernels {

namespace mx = mlx::core;

class ResultMemory : public std::enable_shared_from_this<ResultMemory> {
 public:
  // keep: bytes of blocks that stay while nothing is in them.
  explicit ResultMemory(std::size_t keep) : keep_(keep) {}

  // Gives `x` its data, row after row, until the last who has it lets go.
  void allocate(mx::array& x);
  // All of it is free, whoever still has a piece.
  void start_over();
  // Gives back the blocks that nothing is in.
  void release();

  std::size_t held() const; // bytes of blocks
  std::size_t unused() const; // of them nothing is in

 private:
  struct Block {
    mx::allocator::Data data;
    std::size_t begin; // aligned, in the buffer
    std::size_t size;
    std::map<std::size_t, std::size_t> free = {}; // sizes by place
    bool empty() const {
      return free.size() == 1 && free.begin()->second == size;
    }
  };
  struct Piece {
    int block;
    std::size_t at, size;
    std::uint64_t round;
  };

  Piece take(std::size_t size);
  void grow(std::size_t size);
  void give_back(const Piece& piece);
  void drop_empty(std::size_t keep);

  const std::size_t keep_;
  mutable std::mutex mutex_;
  std::map<int, Block> blocks_;
  int last_block_ = 0;
  std::size_t used_ = 0, held_ = 0;
  std::uint64_t round_ = 0; // times it was started over
};

// The process's.
ResultMemory& results();
// Bytes of all arrays, the process's blocks counted by what is in them.
std::size_t live_arrays();

// Gives `x` its data where this thread's results go.
void allocate(mx::array& x);

// While it lives, what this thread's kernels make goes to `memory`, each piece
// for as long as the kernels after it need it: they wait for one another.
// `lasting`: ids of arrays that go where they always do.
class ResultsGoTo {
 public:
  ResultsGoTo(ResultMemory& memory, std::unordered_set<std::uintptr_t> lasting);
  ~ResultsGoTo();
  ResultsGoTo(const ResultsGoTo&) = delete;
  ResultsGoTo& operator=(const ResultsGoTo&) = delete;

 private:
  friend void allocate(mx::array& x);
  ResultMemory& memory_;
  std::unordered_set<std::uintptr_t> lasting_;
};

} // namespace mlxlm::kernels
