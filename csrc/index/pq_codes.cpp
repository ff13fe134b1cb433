#include "index/pq_codes.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "common/buffer.h"
#include "common/sums.h"
#include "tessella/errors.h"

namespace tessella {

namespace {

constexpr double kThreshold = 0.2;  // T of the anisotropic loss, as ScaNN has it
constexpr int kSweeps = 3;          // of coordinate descent

[[noreturn]] void refuse(const std::string& what) { throw Error(ErrorKind::kInvalidArgument, "index: " + what); }

// What an error along a row counts more than one across it.
float weight_of(std::size_t d) {
  const double t2 = kThreshold * kThreshold;
  return static_cast<float>(static_cast<double>(d - 1) * t2 / (1.0 - t2) - 1.0);
}

std::vector<float> inverse_norms(const float* rows, std::size_t n, std::size_t d) {
  std::vector<float> out(n);
  for (std::size_t i = 0; i < n; ++i) {
    const double norm2 = dot(rows + i * d, rows + i * d, d);
    out[i] = norm2 > 0.0 ? static_cast<float>(1.0 / std::sqrt(norm2)) : 0.0f;
  }
  return out;
}

}  // namespace

PqShape::PqShape(const Codec& codec, std::size_t dim, Metric metric) : codec_(codec), dim_(dim), metric_(metric) {
  if (dim % codec.pieces != 0) {
    refuse("expected pieces that divide dim " + std::to_string(dim) + "; got '" + codec.name + "'");
  }
  if (codec.anisotropic && (metric == Metric::kL2 || dim < 2)) {
    refuse(
        "anisotropic codes are for inner products of at least 2 dimensions; expected metric 'ip' or 'cosine' with '" +
        codec.name + "'");
  }
}

bool PqShape::fits(const PqModel& model) const {
  return model.codebooks.size() == codec_.levels * dim_ * words() &&
         model.rotation.size() == (codec_.rotated ? dim_ * dim_ : 0) && model.error >= 0.0f && model.bias >= 0.0f;
}

void PqShape::complete(PqModel& model) const {
  const std::size_t length = dim_ / codec_.pieces;
  model.biases.assign(codec_.levels * codec_.pieces * words(), 0.0f);
  for (std::size_t i = 0; i < model.codebooks.size(); ++i) {
    const std::size_t piece = i / (length * words());
    model.biases[piece * words() + i % words()] -= 0.5f * model.codebooks[i] * model.codebooks[i];
  }
  model.back.resize(model.rotation.size());
  for (std::size_t i = 0; i < model.rotation.size(); ++i) model.back[i % dim_ * dim_ + i / dim_] = model.rotation[i];
}

std::span<const float> PqShape::codebooks(const PqModel& model, std::size_t level) const {
  return std::span(model.codebooks).subspan(level * dim_ * words(), dim_ * words());
}

std::size_t PqShape::scratch_bytes(const Kernels& kernels) const {
  return std::max(kernels.pq_encode_scratch(dim_, codec_.pieces), kernels.pq_encode_scratch(dim_, 1));
}

// ---- encoding ------------------------------------------------------------------------------------------------------

PqCodes PqShape::room(std::size_t n) const {
  return {std::vector<std::uint8_t>(n * code_bytes()), std::vector<float>(terms() ? n : 0)};
}

void PqShape::encode_level(const Kernels& kernels, const PqModel& model, std::size_t level, const float* rows,
                           std::size_t n, std::uint8_t* codes, void* scratch) const {
  std::vector<float> inverse;
  if (codec_.anisotropic) inverse = inverse_norms(rows, n, dim_);
  kernels.pq_encode({rows, n, dim_, codec_.pieces, codec_.bits, codebooks(model, level).data(),
                     model.biases.data() + level * codec_.pieces * words(),
                     codec_.anisotropic ? inverse.data() : nullptr, codec_.anisotropic ? weight_of(dim_) : 0.0f,
                     codec_.anisotropic ? kSweeps : 0, codes, scratch});
}

void PqShape::encode_levels(const Kernels& kernels, const PqModel& model, const float* rows, std::size_t n,
                            PqCodes& codes, std::size_t first, void* scratch) const {
  std::vector<float> left(rows, rows + n * dim_);
  std::vector<std::uint8_t> here(n * level_bytes());
  for (std::size_t level = 0; level < codec_.levels; ++level) {
    encode_level(kernels, model, level, left.data(), n, here.data(), scratch);
    for (std::size_t i = 0; i < n; ++i) {
      std::uint8_t* code = codes.bytes.data() + (first + i) * code_bytes();
      std::memcpy(code + level * level_bytes(), here.data() + i * level_bytes(), level_bytes());
      add_decoded(model, code, 1, level, -1.0f, left.data() + i * dim_);
    }
  }
  for (std::size_t i = 0; terms() && i < n; ++i) {
    const float *row = rows + i * dim_, *rest = left.data() + i * dim_;
    codes.terms[first + i] = static_cast<float>(sum_of(dim_, [&](std::size_t j) {
      const double decoded = double{row[j]} - rest[j];
      return decoded * decoded;
    }));
  }
}

void PqShape::encode(const Kernels& kernels, const PqModel& model, const float* rows, std::size_t n, PqCodes& codes,
                     std::size_t first) const {
  AlignedBuffer scratch(scratch_bytes(kernels));
  std::vector<float> rotated;
  if (codec_.rotated) {
    rotated.resize(n * dim_);
    kernels.pq_rotate({rows, n, dim_, model.rotation.data(), rotated.data(), scratch.data()});
    rows = rotated.data();
  }
  if (codec_.levels > 1) return encode_levels(kernels, model, rows, n, codes, first, scratch.data());
  encode_level(kernels, model, 0, rows, n, codes.bytes.data() + first * code_bytes(), scratch.data());
}

// ---- decoding and tables -------------------------------------------------------------------------------------------

// The number of a codeword in a code whose bytes lie `stride` apart.
std::size_t PqShape::word(const std::uint8_t* code, std::size_t stride, std::size_t level, std::size_t piece) const {
  if (codec_.bits == 8) return code[(level * level_bytes() + piece) * stride];
  return (code[(level * level_bytes() + piece / 2) * stride] >> (piece % 2 * 4)) & 15;
}

void PqShape::add_decoded(const PqModel& model, const std::uint8_t* code, std::size_t stride, std::size_t level,
                          float sign, float* row) const {
  const std::size_t length = dim_ / codec_.pieces;
  const float* words_of = codebooks(model, level).data();
  for (std::size_t p = 0; p < codec_.pieces; ++p) {
    const std::size_t which = word(code, stride, level, p);
    for (std::size_t j = p * length; j < (p + 1) * length; ++j) row[j] += sign * words_of[j * words() + which];
  }
}

void PqShape::decode(const Kernels& kernels, const PqModel& model, const std::uint8_t* block, std::size_t lane,
                     float* out) const {
  const std::size_t stride = codec_.bits == 8 ? 1 : kBlockRows;
  const std::uint8_t* code = block + (codec_.bits == 8 ? lane * code_bytes() : lane);
  std::vector<float> row(dim_, 0.0f);
  for (std::size_t level = 0; level < codec_.levels; ++level) add_decoded(model, code, stride, level, 1.0f, row.data());
  if (!codec_.rotated) {
    std::copy(row.begin(), row.end(), out);
    return;
  }
  AlignedBuffer scratch(kernels.pq_encode_scratch(dim_, 1));
  kernels.pq_rotate({row.data(), 1, dim_, model.back.data(), out, scratch.data()});
}

void PqShape::table(const Kernels& kernels, const PqModel& model, const float* query, float* out) const {
  std::vector<float> rotated;
  if (codec_.rotated) {
    rotated.resize(dim_);
    AlignedBuffer scratch(kernels.pq_encode_scratch(dim_, 1));
    kernels.pq_rotate({query, 1, dim_, model.rotation.data(), rotated.data(), scratch.data()});
    query = rotated.data();
  }
  const Metric metric = codec_.levels > 1 ? Metric::kInnerProduct : metric_;
  for (std::size_t level = 0; level < codec_.levels; ++level) {
    float* here = out + level * level_pieces() * words();
    kernels.pq_table({query, dim_, codec_.pieces, codec_.bits, codebooks(model, level).data(), metric, here});
    std::fill(here + codec_.pieces * words(), here + level_pieces() * words(), 0.0f);
  }
}

// ---- blocks --------------------------------------------------------------------------------------------------------

void PqShape::put(std::uint8_t* block, std::size_t lane, const PqCodes& codes, std::size_t i) const {
  const std::size_t bytes = code_bytes();
  const std::uint8_t* code = codes.bytes.data() + i * bytes;
  if (codec_.bits == 8) {
    std::memcpy(block + lane * bytes, code, bytes);
  } else {
    for (std::size_t c = 0; c < bytes; ++c) block[c * kBlockRows + lane] = code[c];
  }
  const std::size_t at = block_bytes() - kBlockRows * sizeof(float);
  if (terms()) reinterpret_cast<float*>(block + at)[lane] = codes.terms[i];
}

void PqShape::move(const std::uint8_t* from, std::size_t out, std::uint8_t* to, std::size_t in) const {
  const std::size_t bytes = code_bytes();
  if (codec_.bits == 8) {
    std::memmove(to + in * bytes, from + out * bytes, bytes);
  } else {
    for (std::size_t c = 0; c < bytes; ++c) to[c * kBlockRows + in] = from[c * kBlockRows + out];
  }
  const std::size_t at = block_bytes() - kBlockRows * sizeof(float);
  if (terms()) std::memmove(to + at + in * sizeof(float), from + at + out * sizeof(float), sizeof(float));
}

}  // namespace tessella
