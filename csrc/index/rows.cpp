#include "index/rows.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "common/buffer.h"
#include "common/convert.h"
#include "common/parallel.h"
#include "common/random.h"
#include "common/sums.h"
#include "tessella/errors.h"

namespace tessella {

namespace {

[[noreturn]] void refuse(const std::string& what) { throw Error(ErrorKind::kInvalidArgument, what); }

}  // namespace

void put_b1(std::uint8_t* block, std::size_t lane, std::size_t padded, const std::uint8_t* bits, float scale,
            float error, std::optional<float> term) {
  const std::size_t columns = padded / 8;
  for (std::size_t c = 0; c < columns; ++c) block[c * kBlockRows + lane] = bits[c];
  auto* halves = reinterpret_cast<std::uint16_t*>(block + columns * kBlockRows);
  halves[lane] = f32_to_f16(scale);
  halves[kBlockRows + lane] = f32_to_f16_up(error);
  if (term) reinterpret_cast<float*>(halves + 2 * kBlockRows)[lane] = *term;
}

void move_b1(const std::uint8_t* from, std::size_t out, std::uint8_t* to, std::size_t in, std::size_t padded,
             bool terms) {
  // Byte columns, then the factors: 2, 2 and, with terms, 4 bytes a row.
  std::size_t at = 0;
  const auto move = [&](std::size_t bytes) {
    std::memmove(to + at + in * bytes, from + at + out * bytes, bytes);
    at += kBlockRows * bytes;
  };
  for (std::size_t c = 0; c < padded / 8; ++c) move(1);
  move(2);
  move(2);
  if (terms) move(4);
}

Rows::Rows(RowConfig config, KernelsFn table)
    : config_(std::move(config)), kernels_(table), padded_(padded_dim(config_.dim)), centre_(config_.dim, 0.0f) {
  if (config_.dim == 0) refuse("index: expected dim >= 1; got 0");
  for (const Codec& codec : config_.codecs) {
    if (codec.kind == Codec::Kind::kRaw && codec.type == ScalarType::kU8 && config_.normalize) {
      refuse("index: UINT8 stores whole numbers, which cosine's unit vectors are not; expected metric 'l2' or 'ip'");
    }
    if (codec.kind == Codec::Kind::kPq) pq_shape_.emplace(codec, config_.dim, config_.metric);
  }
  signs_.resize(rotate_sign_words(padded_));
  for (std::size_t i = 0; i < signs_.size(); ++i) signs_[i] = splitmix64(config_.seed + i);
  for (const auto& [name, bytes] : layout()) columns_.emplace(name, Column(bytes));
}

const Codec* Rows::find(Codec::Kind kind) const {
  for (const Codec& codec : config_.codecs) {
    if (codec.kind == kind) return &codec;
  }
  return nullptr;
}

void Rows::set_pq(PqModel model, ErrorKind kind) {
  if (!pq_shape_ || !pq_shape_->fits(model)) throw Error(kind, "pq: the codebooks are not those of the spec");
  pq_shape_->complete(model);
  pq_ = std::move(model);
}

PqCodes Rows::encode_pq(const float* rows, std::size_t n) const {
  PqCodes codes = pq_shape_->room(n);
  pq_shape_->encode(kernels(), *pq_, rows, n, codes, 0);
  return codes;
}

void Rows::decode_pq(const std::uint8_t* block, std::size_t lane, float* out) const {
  pq_shape_->decode(kernels(), *pq_, block, lane, out);
}

bool Rows::keeps_norms() const {
  return config_.metric == Metric::kL2 && has(Codec::Kind::kScalar) && !has(Codec::Kind::kB1);
}

std::map<std::string, std::size_t> Rows::layout() const {
  std::map<std::string, std::size_t> layout;
  for (const Codec& codec : config_.codecs) {
    switch (codec.kind) {
      case Codec::Kind::kB1: layout["b1"] = rabitq_block_bytes(padded_, config_.metric == Metric::kL2); break;
      case Codec::Kind::kScalar:
        layout["codes"] = kBlockRows * scalar_row_bytes(padded_, codec.bits);
        layout["scales"] = kBlockRows * sizeof(float);
        break;
      case Codec::Kind::kPq:
        if (keeps(codec)) layout["pq"] = pq_shape_->block_bytes();
        break;
      case Codec::Kind::kRaw: layout["raw"] = kBlockRows * config_.dim * scalar_bytes(codec.type); break;
    }
  }
  if (keeps_norms()) layout["norms2"] = kBlockRows * sizeof(float);
  return layout;
}

const Column* Rows::column(const char* name) const {
  const auto found = columns_.find(name);
  return found == columns_.end() ? nullptr : &found->second;
}

void Rows::check_columns(const std::map<std::string, Column>& columns, std::size_t rows) const {
  const auto refuse_file = [](const std::string& what) { throw Error(ErrorKind::kFormat, "load: " + what); };
  const std::size_t blocks = (rows + kBlockRows - 1) / kBlockRows;
  const auto expected = layout();
  if (columns.size() != expected.size()) refuse_file("the file's columns are not those of its spec");
  for (const auto& [name, bytes] : expected) {
    const auto found = columns.find(name);
    if (found == columns.end()) refuse_file("column '" + name + "' is missing");
    if (found->second.block_bytes() != bytes || found->second.blocks() != blocks) {
      refuse_file("column '" + name + "' does not have the size its rows need");
    }
  }
}

std::size_t Rows::nbytes() const {
  std::size_t bytes = signs_.size() * 8 + centre_.size() * 4;
  for (const auto& [name, column] : columns_) bytes += column.nbytes();
  return bytes;
}

Prepared Rows::prepared(const float* x, std::size_t n) const {
  if (!config_.normalize) return Prepared(x);
  std::vector<float> rows(x, x + n * config_.dim);
  for (std::size_t i = 0; i < n; ++i) {
    float* row = rows.data() + i * config_.dim;
    const double norm2 = dot(row, row, config_.dim);
    if (norm2 == 0.0) continue;  // a zero row stays zero and scores 0 with everything
    const double inverse = 1.0 / std::sqrt(norm2);
    for (std::size_t j = 0; j < config_.dim; ++j) row[j] = static_cast<float>(row[j] * inverse);
  }
  return Prepared(std::move(rows));
}

std::vector<float> Rows::mean(const float* x, std::size_t n) const {
  std::vector<double> sums(config_.dim, 0.0);
  for (std::size_t first = 0; first < n; first += kTileRows) {
    const std::size_t count = std::min(kTileRows, n - first);
    const Prepared rows = prepared(x + first * config_.dim, count);
    const float* row = rows.data();
    for (std::size_t i = 0; i < count; ++i, row += config_.dim) {
      for (std::size_t j = 0; j < config_.dim; ++j) sums[j] += row[j];
    }
  }
  std::vector<float> mean(config_.dim);
  for (std::size_t j = 0; j < config_.dim; ++j) mean[j] = static_cast<float>(sums[j] / static_cast<double>(n));
  return mean;
}

void Rows::rotate(const float* rows, std::size_t n, float* residuals) const {
  kernels().rotate_forward({signs_.data(), rows, n, config_.dim, centre_.data(), residuals, nullptr});
}

void Rows::encode_tile(const float* rows, std::size_t first, std::size_t n, EncodedRows& out) const {
  std::vector<float> residuals;
  if (rotates()) {
    residuals.resize(n * padded_);
    rotate(rows, n, residuals.data());
  }
  for (const Codec& codec : config_.codecs) {
    if (codec.kind == Codec::Kind::kB1) {
      for (std::size_t i = 0; i < n; ++i) {
        kernels().rabitq_encode(residuals.data() + i * padded_, padded_, out.bits.data() + (first + i) * padded_ / 8,
                                &out.factors[first + i]);
      }
    } else if (codec.kind == Codec::Kind::kScalar) {
      kernels().scalar_encode({residuals.data(), n, padded_, codec.bits, codec.grid,
                               out.codes.data() + first * scalar_row_bytes(padded_, codec.bits),
                               out.scales.data() + first, out.norms2.data() + first});
    } else if (codec.kind == Codec::Kind::kPq) {
      if (keeps(codec)) pq_shape_->encode(kernels(), *pq_, rows, n, out.pq, first);
    } else {
      from_f32(rows, codec.type, n * config_.dim, out.raw.data() + first * config_.dim * scalar_bytes(codec.type));
    }
  }
}

EncodedRows Rows::encode(const float* x, std::size_t n, std::size_t threads) const {
  return encode_tiles(x, n, threads, false);
}

EncodedRows Rows::encode_prepared(const float* rows, std::size_t n, std::size_t threads) const {
  return encode_tiles(rows, n, threads, true);
}

EncodedRows Rows::encode_tiles(const float* x, std::size_t n, std::size_t threads, bool ready) const {
  EncodedRows out;
  out.n = n;
  for (const Codec& codec : config_.codecs) {
    if (codec.kind == Codec::Kind::kB1) {
      out.bits.resize(n * padded_ / 8);
      out.factors.resize(n);
    } else if (codec.kind == Codec::Kind::kScalar) {
      out.codes.resize(n * scalar_row_bytes(padded_, codec.bits));
      out.scales.resize(n);
      out.norms2.resize(n);
    } else if (codec.kind == Codec::Kind::kPq) {
      if (keeps(codec)) out.pq = pq_shape_->room(n);
    } else {
      out.raw.resize(n * config_.dim * scalar_bytes(codec.type));
    }
  }
  parallel_for((n + kTileRows - 1) / kTileRows, threads, [&](std::size_t tile) {
    const std::size_t first = tile * kTileRows, count = std::min(kTileRows, n - first);
    const float* from = x + first * config_.dim;
    const Prepared rows = ready ? Prepared(from) : prepared(from, count);
    encode_tile(rows.data(), first, count, out);
  });
  return out;
}

void Rows::resize(std::size_t rows) {
  for (auto& [name, column] : columns_) column.resize((rows + kBlockRows - 1) / kBlockRows);
}

void Rows::store(const EncodedRows& rows, std::size_t i, std::size_t row) {
  if (!rows.bits.empty()) {
    const RabitqFactors& factors = rows.factors[i];
    const bool l2 = config_.metric == Metric::kL2;
    put_b1(columns_.at("b1").mutable_block(row / kBlockRows), row % kBlockRows, padded_,
           rows.bits.data() + i * (padded_ / 8), factors.scale, factors.error,
           l2 ? std::optional(factors.norm2) : std::nullopt);
  }
  const auto put = [&](const char* name, const auto& from) {
    Column& column = columns_.at(name);
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(from.data());
    std::memcpy(column.mutable_row(row), bytes + i * column.row_bytes(), column.row_bytes());
  };
  if (!rows.codes.empty()) {
    put("codes", rows.codes);
    put("scales", rows.scales);
    if (keeps_norms()) put("norms2", rows.norms2);
  }
  if (!rows.raw.empty()) put("raw", rows.raw);
  if (!rows.pq.bytes.empty()) {
    pq_shape_->put(columns_.at("pq").mutable_block(row / kBlockRows), row % kBlockRows, rows.pq, i);
  }
}

void Rows::move(std::size_t from, std::size_t to) {
  for (auto& [name, column] : columns_) {
    // The target first: asking for it may replace the chunk that the source lies in.
    std::uint8_t* target = column.mutable_block(to / kBlockRows);
    const std::uint8_t* source = column.block(from / kBlockRows);
    if (name == "b1") {
      move_b1(source, from % kBlockRows, target, to % kBlockRows, padded_, config_.metric == Metric::kL2);
    } else if (name == "pq") {
      pq_shape_->move(source, from % kBlockRows, target, to % kBlockRows);
    } else {
      std::memcpy(column.mutable_row(to), column.row(from), column.row_bytes());
    }
  }
}

void Rows::decode_residual(std::size_t row, float* residual) const {
  const Codec& codec = config_.codecs.back();
  float scale = 0.0f;
  if (codec.kind == Codec::Kind::kRaw) {
    std::vector<float> values(config_.dim);
    to_f32(columns_.at("raw").row(row), codec.type, config_.dim, values.data());
    return rotate(values.data(), 1, residual);
  }
  if (codec.kind == Codec::Kind::kScalar) {
    kernels().scalar_decode(columns_.at("codes").row(row), 1, padded_, codec.bits, codec.grid, residual);
    std::memcpy(&scale, columns_.at("scales").row(row), sizeof(scale));
  } else {
    const std::uint8_t* block = columns_.at("b1").block(row / kBlockRows);
    const std::size_t lane = row % kBlockRows;
    for (std::size_t j = 0; j < padded_; ++j) {
      residual[j] = (block[j / 8 * kBlockRows + lane] >> (j % 8)) & 1 ? 1.0f : -1.0f;
    }
    scale = f16_to_f32(reinterpret_cast<const std::uint16_t*>(block + padded_ / 8 * kBlockRows)[lane]);
  }
  for (std::size_t j = 0; j < padded_; ++j) residual[j] *= scale;
}

void Rows::decode(std::size_t row, float* out) const {
  const Codec& codec = config_.codecs.back();
  if (codec.kind == Codec::Kind::kRaw) return to_f32(columns_.at("raw").row(row), codec.type, config_.dim, out);
  if (codec.kind == Codec::Kind::kPq) {
    return decode_pq(columns_.at("pq").block(row / kBlockRows), row % kBlockRows, out);
  }
  std::vector<float> residual(padded_), scratch(padded_);
  decode_residual(row, residual.data());
  kernels().rotate_inverse({signs_.data(), residual.data(), 1, config_.dim, centre_.data(), out, scratch.data()});
}

}  // namespace tessella
