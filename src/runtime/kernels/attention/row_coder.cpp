// Plain MLX codecs; see row_coder.h.
#include "runtime/kernels/attention/row_coder.h"

#include <mlx/ops.h>

#include <cmath>

namespace mlxlm::kernels::reference {

namespace {

using Kind = RowCodec::Kind;

mx::Shape with_last(const mx::array& x, std::initializer_list<int> last) {
  auto shape = x.shape();
  shape.pop_back();
  for (int n : last)
    shape.push_back(n);
  return shape;
}

mx::array pad_last(const mx::array& x, int size) {
  if (x.shape(-1) == size) return x;
  auto zeros = mx::zeros(with_last(x, {size - x.shape(-1)}), x.dtype());
  return mx::concatenate({x, zeros}, -1);
}

mx::array first_of_last(const mx::array& x, int size) {
  if (x.shape(-1) == size) return x;
  auto stop = x.shape();
  stop.back() = size;
  return mx::slice(x, mx::Shape(x.ndim(), 0), stop);
}

mx::array as_array(const std::vector<float>& x, mx::Shape shape) {
  return mx::array(x.data(), std::move(shape), mx::float32);
}

// Row i: what the unit vector i becomes.
mx::array matrix(const Rotation& rotation) {
  int n = rotation.dim();
  std::vector<float> rows(std::size_t(n) * n);
  for (int i = 0; i < n; ++i) {
    rows[std::size_t(i) * n + i] = 1;
    rotation.apply(rows.data() + std::size_t(i) * n);
  }
  return as_array(rows, {n, n});
}

mx::array norm_of(const mx::array& x) {
  return mx::sqrt(mx::sum(mx::square(x), -1, true));
}

mx::array half(const mx::array& x) {
  return mx::astype(mx::minimum(x, mx::array(65504.0f)), mx::float16);
}

mx::array direction(const mx::array& x, const mx::array& norm) {
  return x / (norm + mx::array(1e-8f));
}

mx::array widened(const mx::array& x) {
  return mx::astype(x, mx::float32);
}

} // namespace

RowCoder::RowCoder(
    const RowCodec& codec,
    int dim,
    mx::Dtype type,
    std::uint32_t seed)
    : codec_(codec),
      dim_(dim),
      padded_(dim),
      type_(type),
      rotation_(mx::array(0.0f)) {
  if (codec.kind == Kind::affine)
    padded_ = (dim + codec.group - 1) / codec.group * codec.group;
  if (codec.kind != Kind::turbo) return;
  turbo_ = std::make_shared<TurboState>(dim, codec.bits, seed, codec.sketch);
  rotation_ = matrix(turbo_->rotation);
}

int RowCoder::arrays() const {
  if (codec_.kind == Kind::floats) return 1;
  if (codec_.kind == Kind::affine) return 3;
  return codec_.sketch ? 4 : 2;
}

std::vector<mx::array> RowCoder::encode(const mx::array& x) const {
  switch (codec_.kind) {
    case Kind::affine:
      return encode_affine(x);
    case Kind::turbo:
      return encode_rotated(rotated(x), TurboNorm::least);
    case Kind::floats:
      break;
  }
  if (type_ != mx::float16) return {mx::astype(x, type_)};
  auto most = mx::array(65504.0f, x.dtype());
  return {mx::astype(mx::clip(x, mx::negative(most), most), type_)};
}

mx::array RowCoder::decode(const std::vector<mx::array>& coded) const {
  switch (codec_.kind) {
    case Kind::affine:
      return decode_affine(coded);
    case Kind::turbo:
      return widened(coded[1]) * turned_back(decode_direction(coded));
    case Kind::floats:
      break;
  }
  return widened(coded[0]);
}

std::vector<mx::array> RowCoder::encode_affine(const mx::array& x) const {
  auto rows = pad_last(widened(x), padded_);
  // A padded group must not change its own range: repeat the last value.
  if (padded_ != dim_) {
    auto start = mx::Shape(x.ndim(), 0);
    start.back() = dim_ - 1;
    auto last = mx::slice(widened(x), start, x.shape());
    auto fill = mx::broadcast_to(last, with_last(x, {padded_ - dim_}));
    rows = mx::concatenate({widened(x), fill}, -1);
  }
  auto flat = mx::reshape(rows, {-1, padded_});
  auto done = mx::quantize(flat, codec_.group, codec_.bits);
  auto shaped = [&](const mx::array& part) {
    return mx::reshape(part, with_last(x, {part.shape(-1)}));
  };
  return {
      shaped(done[0]),
      mx::astype(shaped(done[1]), type_),
      mx::astype(shaped(done[2]), type_)};
}

mx::array RowCoder::decode_affine(const std::vector<mx::array>& coded) const {
  auto flat = [](const mx::array& x) {
    return mx::reshape(x, {-1, x.shape(-1)});
  };
  auto rows = mx::dequantize(
      flat(coded[0]),
      widened(flat(coded[1])),
      widened(flat(coded[2])),
      codec_.group,
      codec_.bits);
  rows = mx::reshape(rows, with_last(coded[0], {padded_}));
  return first_of_last(rows, dim_);
}

mx::array RowCoder::rotated(const mx::array& x) const {
  return mx::matmul(widened(x), rotation_);
}

mx::array RowCoder::turned_back(const mx::array& y) const {
  return mx::matmul(y, mx::transpose(rotation_));
}

// See turbo_encode_rotated.
std::vector<mx::array> RowCoder::codes_of_rotated(
    const mx::array& y,
    TurboNorm kind) const {
  auto norm = norm_of(y);
  auto unit = direction(y, norm);
  if (codec_.sketch) return sketched(unit, norm);
  int lengths = int(turbo_lengths.size());
  mx::array each(turbo_lengths.data(), {lengths, 1}, mx::float32);
  auto all = codes_of(mx::expand_dims(unit, -2) * each); // [..., lengths, dim]
  auto said = centroids_of(all);
  auto share = mx::sum(mx::expand_dims(unit, -2) * said, -1);
  auto square = mx::sum(mx::square(said), -1);
  auto best = mx::argmax(mx::square(share) / square, -1, true);
  auto codes =
      mx::squeeze(mx::take_along_axis(all, mx::expand_dims(best, -1), -2), -2);
  share = mx::take_along_axis(share, best, -1);
  square = mx::take_along_axis(square, best, -1);
  auto fit = kind == TurboNorm::least ? norm * share / square : norm / share;
  auto longer = mx::where(mx::greater(share, mx::array(0.0f)), fit, norm);
  return {codes, half(longer)};
}

std::vector<mx::array> RowCoder::packed(std::vector<mx::array> codes) const {
  codes[0] = pack_bits(codes[0], code_bits());
  if (codec_.sketch) codes[2] = pack_bits(codes[2], 1);
  return codes;
}

std::vector<mx::array> RowCoder::encode_rotated(
    const mx::array& y,
    TurboNorm kind) const {
  return packed(codes_of_rotated(y, kind));
}

mx::array RowCoder::decode_rotated(const std::vector<mx::array>& coded) const {
  return widened(coded[1]) * decode_direction(coded);
}

std::vector<mx::array> RowCoder::sketched(
    const mx::array& y,
    const mx::array& norm) const {
  auto codes = codes_of(y);
  auto rest = y - centroids_of(codes);
  auto s = as_array(turbo_->projection, {dim_, dim_});
  auto signs =
      mx::greater_equal(mx::matmul(rest, mx::transpose(s)), mx::array(0.0f));
  return {
      codes,
      half(norm),
      mx::astype(signs, mx::uint32),
      mx::astype(norm_of(rest), mx::float16)};
}

int RowCoder::code_bits() const {
  return codec_.sketch ? codec_.bits - 1 : codec_.bits;
}

mx::array RowCoder::codes_of(const mx::array& y) const {
  int limits = int(turbo_->limits.size());
  auto above =
      mx::greater(mx::expand_dims(y, -1), as_array(turbo_->limits, {limits}));
  return mx::astype(mx::sum(above, -1), mx::uint32);
}

mx::array RowCoder::codebook_part(const std::vector<mx::array>& coded) const {
  return widened(coded[1]) * looked_up(coded[0]);
}

mx::array RowCoder::codebook_part_of(
    const std::vector<mx::array>& codes) const {
  return widened(codes[1]) * centroids_of(codes[0]);
}

mx::array RowCoder::centroids_of(const mx::array& codes) const {
  auto table = as_array(turbo_->centroids, {int(turbo_->centroids.size())});
  return mx::take(table, codes);
}

mx::array RowCoder::looked_up(const mx::array& codes) const {
  return centroids_of(unpack_bits(codes, code_bits(), dim_));
}

mx::array RowCoder::decode_direction(
    const std::vector<mx::array>& coded) const {
  auto y = looked_up(coded[0]);
  if (codec_.sketch) {
    auto signs = widened(unpack_bits(coded[2], 1, dim_));
    signs = signs * mx::array(2.0f) - mx::array(1.0f);
    auto s = as_array(turbo_->projection, {dim_, dim_});
    y = y +
        mx::array(sketch_step(dim_)) * widened(coded[3]) * mx::matmul(signs, s);
  }
  return y;
}

mx::array pack_bits(const mx::array& codes, int bits) {
  int n = codes.shape(-1), words = (n * bits + 31) / 32;
  auto places = mx::arange(0, bits, 1, mx::uint32);
  auto one = mx::array(1, mx::uint32);
  auto spread =
      mx::bitwise_and(mx::right_shift(mx::expand_dims(codes, -1), places), one);
  auto stream =
      pad_last(mx::reshape(spread, with_last(codes, {n * bits})), words * 32);
  stream = mx::reshape(stream, with_last(codes, {words, 32}));
  return mx::sum(mx::left_shift(stream, mx::arange(0, 32, 1, mx::uint32)), -1);
}

mx::array unpack_bits(const mx::array& words, int bits, int n) {
  auto one = mx::array(1, mx::uint32);
  auto stream = mx::bitwise_and(
      mx::right_shift(
          mx::expand_dims(words, -1), mx::arange(0, 32, 1, mx::uint32)),
      one);
  stream = mx::reshape(stream, with_last(words, {words.shape(-1) * 32}));
  stream =
      mx::reshape(first_of_last(stream, n * bits), with_last(words, {n, bits}));
  return mx::sum(
      mx::left_shift(stream, mx::arange(0, bits, 1, mx::uint32)), -1);
}

mx::array pack_words(const mx::array& codes, int bits) {
  int each = 32 / bits, words = (int(codes.size()) + each - 1) / each;
  auto flat =
      pad_last(mx::astype(mx::flatten(codes), mx::uint32), words * each);
  auto shifts =
      mx::arange(0, each, 1, mx::uint32) * mx::array(bits, mx::uint32);
  return mx::sum(mx::left_shift(mx::reshape(flat, {words, each}), shifts), -1);
}

mx::array unpack_words(const mx::array& words, int bits, int n) {
  int each = 32 / bits;
  auto shifts =
      mx::arange(0, each, 1, mx::uint32) * mx::array(bits, mx::uint32);
  auto codes = mx::bitwise_and(
      mx::right_shift(mx::expand_dims(words, -1), shifts),
      mx::array((1 << bits) - 1, mx::uint32));
  return first_of_last(mx::flatten(codes), n);
}

} // namespace mlxlm::kernels::reference
