#include "convert/tasks.h"

#include <mlx/ops.h>
#include <mlx/transforms.h>

#include <algorithm>
#include <exception>
#include <mutex>

#include "core/check.h"
#include "runtime/threads.h"

namespace mlxlm::converting {
namespace {

constexpr std::int64_t chunk_elements = std::int64_t{1} << 20;

std::size_t width_of(Storage storage) {
  return static_cast<std::size_t>(info(storage).bytes);
}

// Runs body(i) for i in [0, count) on the kernels' threads and throws what one
// of them threw.
void side_by_side(int count, const std::function<void(int)>& body) {
  std::mutex mutex;
  std::exception_ptr error;
  parallel_for(count, [&](int i) {
    try {
      body(i);
    } catch (...) {
      std::lock_guard lock(mutex);
      error = std::current_exception();
    }
  });
  if (error) std::rethrow_exception(error);
}

// Calls `use(begin, end)` for runs of rows of a few megabytes, several at a
// time. What a call does with MLX it does on its own thread to the end.
void in_chunks(
    const Values& values,
    const std::function<void(std::int64_t, std::int64_t)>& use) {
  const auto rows = values.row_count();
  const auto step = std::max<std::int64_t>(
      1, chunk_elements / std::max<std::int64_t>(1, values.cols()));
  for (std::int64_t at = 0; at < rows;) {
    const auto left = (rows - at + step - 1) / step;
    const auto count =
        static_cast<int>(std::min<std::int64_t>(left, thread_count()));
    auto begin = [&](int i) { return std::min(rows, at + i * step); };
    if (count == 1)
      use(at, begin(1));
    else
      side_by_side(count, [&](int i) { use(begin(i), begin(i + 1)); });
    values.drop(at, begin(count));
    at = begin(count);
  }
}

std::span<const std::byte> bytes_of(const mx::array& a) {
  return {reinterpret_cast<const std::byte*>(a.data<char>()), a.nbytes()};
}

// Rows from `begin` on of output `index`.
void put(
    const Write& write,
    std::size_t index,
    std::int64_t begin,
    const mx::array& rows) {
  const auto row = static_cast<std::size_t>(rows.shape(-1)) * rows.itemsize();
  write(index, static_cast<std::size_t>(begin) * row, bytes_of(rows));
}

Task packed_outputs(
    const std::string& path,
    const Shape64& shape,
    mx::Dtype type,
    const Quantization& q) {
  auto codes = shape, groups = shape;
  codes.back() = codes.back() * q.bits / 32;
  groups.back() /= q.group_size;
  const bool affine = q.mode == "affine";
  const auto scale = affine ? storage_of(type) : Storage::u8;
  Task out;
  out.bits = q.bits;
  out.outputs = {
      {path + ".weight", Storage::u32, codes},
      {path + ".scales", scale, groups}};
  if (affine) out.outputs.push_back({path + ".biases", scale, groups});
  return out;
}

} // namespace

std::size_t Output::elements() const {
  std::size_t n = 1;
  for (auto dim : shape)
    n *= static_cast<std::size_t>(dim);
  return n;
}

std::size_t Output::bytes() const {
  return elements() * width_of(storage);
}

Task copied(std::string name, const RowTensor& tensor) {
  Task out;
  out.outputs = {{std::move(name), tensor.storage(), tensor.shape()}};
  out.run = [tensor](const Write& write) {
    const auto width = tensor.row_bytes();
    const auto step = std::max<std::int64_t>(
        1,
        (4 << 20) / static_cast<std::int64_t>(std::max<std::size_t>(1, width)));
    std::vector<std::byte> scratch(width), block;
    for (std::int64_t at = 0; at < tensor.rows(); at += step) {
      const auto end = std::min(tensor.rows(), at + step);
      block.clear();
      for (auto i = at; i < end; ++i) {
        auto row = tensor.row(i, scratch);
        block.insert(block.end(), row.begin(), row.end());
      }
      write(0, static_cast<std::size_t>(at) * width, block);
      tensor.drop(at, end);
    }
  };
  return out;
}

Task cast(std::string name, ValuesPtr values, mx::Dtype type) {
  Task out;
  out.outputs = {{std::move(name), storage_of(type), values->shape()}};
  out.run = [values, type](const Write& write) {
    in_chunks(*values, [&](std::int64_t begin, std::int64_t end) {
      auto rows = mx::contiguous(mx::astype(values->rows(begin, end), type));
      mx::eval(rows);
      put(write, 0, begin, rows);
    });
  };
  return out;
}

Task packed(
    const std::string& path,
    ValuesPtr values,
    mx::Dtype type,
    const Quantization& q) {
  auto out = packed_outputs(path, values->shape(), type, q);
  out.run = [values, type, q](const Write& write) {
    in_chunks(*values, [&](std::int64_t begin, std::int64_t end) {
      auto parts = mx::quantize(
          mx::contiguous(mx::astype(values->rows(begin, end), type)),
          q.group_size,
          q.bits,
          q.mode);
      for (auto& part : parts)
        part = mx::contiguous(part);
      mx::eval(parts);
      for (std::size_t i = 0; i < parts.size(); ++i)
        put(write, i, begin, parts[i]);
    });
  };
  return out;
}

Task repacked(
    const std::string& path,
    const EncodedMatrix& matrix,
    const MlxPacking& packing,
    mx::Dtype scales) {
  Shape64 shape{matrix.rows, matrix.cols};
  if (matrix.stacked) shape.insert(shape.begin(), matrix.experts);
  auto out = packed_outputs(
      path, shape, scales, {packing.bits, packing.group, packing.mode});
  out.run = [matrix, scales](const Write& write) {
    auto form = mlx_form(matrix);
    MLXLM_CHECK(form.has_value(), "a matrix with a packing has that form");
    auto put_all = [&](std::size_t index, mx::array part) {
      part = mx::contiguous(part);
      mx::eval(part);
      write(index, 0, bytes_of(part));
    };
    put_all(0, form->weight);
    if (!form->biases) return put_all(1, form->scales);
    put_all(1, mx::astype(form->scales, scales));
    put_all(2, mx::astype(*form->biases, scales));
  };
  return out;
}

} // namespace mlxlm::converting
