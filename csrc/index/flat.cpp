#include "index/flat.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <unordered_set>

#include "common/convert.h"
#include "common/parallel.h"
#include "common/random.h"
#include "tessella/errors.h"

namespace tessella {

namespace {

constexpr std::size_t kTileRows = 256;      // rows encoded by one task
constexpr std::size_t kPublishRows = 4096;  // rows copied in while searches wait
constexpr std::size_t kTrainRows = 65'536;  // of a first add, enough for a mean
constexpr std::size_t kMaxRows = UINT32_MAX - 1;

[[noreturn]] void refuse(const std::string& what) { throw Error(ErrorKind::kInvalidArgument, what); }

}  // namespace

struct FlatIndex::Encoded {
  std::size_t n = 0;
  std::vector<std::uint8_t> bits;  // B1: (n, D/8)
  std::vector<RabitqFactors> factors;
  std::vector<std::uint8_t> codes;  // scalar: (n, row bytes)
  std::vector<float> scales;
  std::vector<float> norms2;
  std::vector<std::uint8_t> raw;  // (n, dim * element)
};

FlatIndex::FlatIndex(FlatConfig config, KernelsFn kernels)
    : config_(std::move(config)), kernels_(kernels), padded_(padded_dim(config_.dim)), centre_(config_.dim, 0.0f) {
  if (config_.dim == 0) refuse("index: expected dim >= 1; got 0");
  for (const Codec& codec : config_.codecs) {
    if (codec.kind == Codec::Kind::kRaw && codec.type == ScalarType::kU8 && config_.normalize) {
      refuse("index: UINT8 stores whole numbers, which cosine's unit vectors are not; expected metric 'l2' or 'ip'");
    }
  }
  signs_.resize(rotate_sign_words(padded_));
  for (std::size_t i = 0; i < signs_.size(); ++i) signs_[i] = splitmix64(config_.seed + i);
  for (const auto& [name, bytes] : column_layout()) columns_.emplace(name, Column(bytes));
  trained_ = !rotates();
}

bool FlatIndex::has(Codec::Kind kind) const {
  return std::any_of(config_.codecs.begin(), config_.codecs.end(), [&](const Codec& c) { return c.kind == kind; });
}

// L2 needs |r|^2; B1 blocks carry it, scalar codes alone do not.
bool FlatIndex::keeps_norms() const {
  return config_.metric == Metric::kL2 && config_.codecs.front().kind == Codec::Kind::kScalar;
}

std::map<std::string, std::size_t> FlatIndex::column_layout() const {
  std::map<std::string, std::size_t> layout;
  for (const Codec& codec : config_.codecs) {
    switch (codec.kind) {
      case Codec::Kind::kB1: layout["b1"] = rabitq_block_bytes(padded_, config_.metric); break;
      case Codec::Kind::kScalar:
        layout["codes"] = kBlockRows * scalar_row_bytes(padded_, codec.bits);
        layout["scales"] = kBlockRows * sizeof(float);
        break;
      case Codec::Kind::kRaw: layout["raw"] = kBlockRows * config_.dim * scalar_bytes(codec.type); break;
    }
  }
  if (keeps_norms()) layout["norms2"] = kBlockRows * sizeof(float);
  return layout;
}

std::size_t FlatIndex::size() const {
  const auto reading = lock_.read();
  return ids_.size();
}

std::size_t FlatIndex::nbytes() const {
  const auto reading = lock_.read();
  std::size_t bytes = ids_.nbytes() + signs_.size() * 8 + centre_.size() * 4;
  for (const auto& [name, column] : columns_) bytes += column.nbytes();
  return bytes;
}

bool FlatIndex::trained() const {
  const auto reading = lock_.read();
  return trained_;
}

bool FlatIndex::contains(std::int64_t id) const {
  const auto reading = lock_.read();
  return ids_.find(id) >= 0;
}

std::vector<std::int64_t> FlatIndex::ids() const {
  const auto reading = lock_.read();
  std::vector<std::int64_t> out(ids_.size());
  for (std::size_t row = 0; row < out.size(); ++row) out[row] = ids_.id(row);
  return out;
}

std::vector<float> FlatIndex::prepared(const float* x, std::size_t n) const {
  std::vector<float> rows(x, x + n * config_.dim);
  if (!config_.normalize) return rows;
  for (std::size_t i = 0; i < n; ++i) {
    float* row = rows.data() + i * config_.dim;
    double norm2 = 0.0;
    for (std::size_t j = 0; j < config_.dim; ++j) norm2 += double{row[j]} * row[j];
    if (norm2 == 0.0) continue;  // a zero row stays zero and scores 0 with everything
    const double inverse = 1.0 / std::sqrt(norm2);
    for (std::size_t j = 0; j < config_.dim; ++j) row[j] = static_cast<float>(row[j] * inverse);
  }
  return rows;
}

void FlatIndex::train(const float* x, std::size_t n) {
  const std::lock_guard writing(writer_);
  if (n == 0) refuse("train: expected at least one row; got 0");
  if (ids_.size() != 0) {
    refuse("train: expected an empty index, since stored codes depend on the centre; got one of " +
           std::to_string(ids_.size()) + " rows");
  }
  train_locked(x, n);
}

void FlatIndex::train_locked(const float* x, std::size_t n) {
  std::vector<double> sums(config_.dim, 0.0);
  for (std::size_t first = 0; first < n; first += kTileRows) {
    const std::size_t count = std::min(kTileRows, n - first);
    const std::vector<float> rows = prepared(x + first * config_.dim, count);
    for (std::size_t i = 0; i < rows.size(); ++i) sums[i % config_.dim] += rows[i];
  }
  const auto publishing = lock_.write();
  for (std::size_t j = 0; j < config_.dim; ++j) centre_[j] = static_cast<float>(sums[j] / static_cast<double>(n));
  trained_ = true;
}

void FlatIndex::encode_tile(const float* x, std::size_t first, std::size_t n, Encoded& out) const {
  const Kernels& kernels = kernels_();
  const std::vector<float> rows = prepared(x + first * config_.dim, n);
  std::vector<float> residuals;
  if (rotates()) {
    residuals.resize(n * padded_);
    kernels.rotate_forward({signs_.data(), rows.data(), n, config_.dim, centre_.data(), residuals.data(), nullptr});
  }
  for (const Codec& codec : config_.codecs) {
    if (codec.kind == Codec::Kind::kB1) {
      for (std::size_t i = 0; i < n; ++i) {
        kernels.rabitq_encode(residuals.data() + i * padded_, padded_, out.bits.data() + (first + i) * padded_ / 8,
                              &out.factors[first + i]);
      }
    } else if (codec.kind == Codec::Kind::kScalar) {
      kernels.scalar_encode({residuals.data(), n, padded_, codec.bits, codec.grid,
                             out.codes.data() + first * scalar_row_bytes(padded_, codec.bits),
                             out.scales.data() + first, out.norms2.data() + first});
    } else {
      from_f32(rows.data(), codec.type, n * config_.dim,
               out.raw.data() + first * config_.dim * scalar_bytes(codec.type));
    }
  }
}

FlatIndex::Encoded FlatIndex::encode(const float* x, std::size_t n, std::size_t threads) const {
  Encoded out;
  out.n = n;
  for (const Codec& codec : config_.codecs) {
    if (codec.kind == Codec::Kind::kB1) {
      out.bits.resize(n * padded_ / 8);
      out.factors.resize(n);
    } else if (codec.kind == Codec::Kind::kScalar) {
      out.codes.resize(n * scalar_row_bytes(padded_, codec.bits));
      out.scales.resize(n);
      out.norms2.resize(n);
    } else {
      out.raw.resize(n * config_.dim * scalar_bytes(codec.type));
    }
  }
  parallel_for((n + kTileRows - 1) / kTileRows, threads, [&](std::size_t tile) {
    encode_tile(x, tile * kTileRows, std::min(kTileRows, n - tile * kTileRows), out);
  });
  return out;
}

void FlatIndex::store(const Encoded& rows, std::size_t i, std::size_t row) {
  if (!rows.bits.empty()) {
    std::uint8_t* block = columns_.at("b1").mutable_block(row / kBlockRows);
    const std::size_t lane = row % kBlockRows, columns = padded_ / 8;
    for (std::size_t c = 0; c < columns; ++c) block[c * kBlockRows + lane] = rows.bits[i * columns + c];
    auto* scales = reinterpret_cast<std::uint16_t*>(block + columns * kBlockRows);
    scales[lane] = f32_to_f16(rows.factors[i].scale);
    scales[kBlockRows + lane] = f32_to_f16_up(rows.factors[i].error);
    if (config_.metric == Metric::kL2) reinterpret_cast<float*>(scales + 2 * kBlockRows)[lane] = rows.factors[i].norm2;
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
}

void FlatIndex::resize(std::size_t rows) {
  for (auto& [name, column] : columns_) column.resize((rows + kBlockRows - 1) / kBlockRows);
}

void FlatIndex::check_new_ids(std::span<const std::int64_t> ids) {
  const std::lock_guard writing(writer_);
  ids_.check_new(ids, "add");
}

void FlatIndex::add(const float* x, std::size_t n, std::span<const std::int64_t> ids, std::size_t threads) {
  const std::lock_guard writing(writer_);
  const std::size_t before = ids_.size();
  if (n > kMaxRows - before) refuse("add: an index holds at most " + std::to_string(kMaxRows) + " rows");
  if (!ids.empty()) ids_.check_new(ids, "add");
  if (n == 0) return;
  if (!trained_) train_locked(x, std::min(n, kTrainRows));
  for (std::size_t first = 0; first < n; first += kPublishRows) {
    const std::size_t count = std::min(kPublishRows, n - first);
    const Encoded rows = encode(x + first * config_.dim, count, threads);
    const auto publishing = lock_.write();  // rows behind the last id are stored but not yet seen by a search
    resize(before + first + count);
    for (std::size_t i = 0; i < count; ++i) store(rows, i, before + first + i);
  }
  const auto publishing = lock_.write();
  ids.empty() ? ids_.append_next(n) : ids_.append(ids);
}

void FlatIndex::check_unique(std::span<const std::int64_t> ids, const char* operation) const {
  std::unordered_set<std::int64_t> seen;
  seen.reserve(ids.size());
  for (const std::int64_t id : ids) {
    if (!seen.insert(id).second) {
      refuse(std::string(operation) + ": expected ids without repeats; " + std::to_string(id) + " occurs twice");
    }
  }
}

std::vector<std::size_t> FlatIndex::rows_of(std::span<const std::int64_t> ids, const char* operation) const {
  std::vector<std::size_t> rows(ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const std::int64_t row = ids_.find(ids[i]);
    if (row < 0) refuse(std::string(operation) + ": id " + std::to_string(ids[i]) + " is not in the index");
    rows[i] = static_cast<std::size_t>(row);
  }
  return rows;
}

void FlatIndex::move_row(std::size_t from, std::size_t to) {
  for (auto& [name, column] : columns_) {
    // The target first: asking for it may replace the chunk that the source lies in.
    std::uint8_t* target = column.mutable_block(to / kBlockRows);
    const std::uint8_t* source = column.block(from / kBlockRows);
    if (name != "b1") {
      std::memcpy(column.mutable_row(to), column.row(from), column.row_bytes());
      continue;
    }
    const std::size_t out = from % kBlockRows, in = to % kBlockRows;
    // Byte columns, then the factors: 2, 2 and (L2) 4 bytes a row.
    std::size_t at = 0;
    const auto move = [&](std::size_t bytes) {
      std::memmove(target + at + in * bytes, source + at + out * bytes, bytes);
      at += kBlockRows * bytes;
    };
    for (std::size_t c = 0; c < padded_ / 8; ++c) move(1);
    move(2);
    move(2);
    if (config_.metric == Metric::kL2) move(4);
  }
}

void FlatIndex::remove(std::span<const std::int64_t> ids) {
  const std::lock_guard writing(writer_);
  check_unique(ids, "remove");
  rows_of(ids, "remove");
  const auto publishing = lock_.write();
  for (const std::int64_t id : ids) {
    const auto row = static_cast<std::size_t>(ids_.find(id));
    const std::size_t last = ids_.size() - 1;
    if (row != last) move_row(last, row);
    ids_.remove(row);
  }
  resize(ids_.size());
}

void FlatIndex::update(std::span<const std::int64_t> ids, const float* x, std::size_t threads) {
  const std::lock_guard writing(writer_);
  check_unique(ids, "update");
  const std::vector<std::size_t> rows = rows_of(ids, "update");
  const Encoded encoded = encode(x, ids.size(), threads);
  const auto publishing = lock_.write();
  for (std::size_t i = 0; i < rows.size(); ++i) store(encoded, i, rows[i]);
}

void FlatIndex::decode(std::size_t row, float* out) const {
  const Codec& codec = config_.codecs.back();
  if (codec.kind == Codec::Kind::kRaw) return to_f32(columns_.at("raw").row(row), codec.type, config_.dim, out);
  std::vector<float> residual(padded_), scratch(padded_);
  float scale = 0.0f;
  if (codec.kind == Codec::Kind::kScalar) {
    kernels_().scalar_decode(columns_.at("codes").row(row), 1, padded_, codec.bits, codec.grid, residual.data());
    std::memcpy(&scale, columns_.at("scales").row(row), sizeof(scale));
  } else {
    const std::uint8_t* block = columns_.at("b1").block(row / kBlockRows);
    const std::size_t lane = row % kBlockRows;
    for (std::size_t j = 0; j < padded_; ++j) {
      residual[j] = (block[j / 8 * kBlockRows + lane] >> (j % 8)) & 1 ? 1.0f : -1.0f;
    }
    scale = f16_to_f32(reinterpret_cast<const std::uint16_t*>(block + padded_ / 8 * kBlockRows)[lane]);
  }
  for (float& value : residual) value *= scale;
  kernels_().rotate_inverse({signs_.data(), residual.data(), 1, config_.dim, centre_.data(), out, scratch.data()});
}

void FlatIndex::reconstruct(std::span<const std::int64_t> ids, float* out) const {
  const auto reading = lock_.read();
  const std::vector<std::size_t> rows = rows_of(ids, "reconstruct");
  for (std::size_t i = 0; i < rows.size(); ++i) decode(rows[i], out + i * config_.dim);
}

FlatSnapshot FlatIndex::snapshot() const {
  const auto reading = lock_.read();
  FlatSnapshot snapshot{ids_.size(), ids_.next_id(), trained_, {}, centre_, columns_};
  if (const std::int64_t* ids = ids_.data()) snapshot.ids.emplace(ids, ids + ids_.size());
  return snapshot;
}

void FlatIndex::restore(FlatSnapshot snapshot) {
  const auto refuse_file = [](const std::string& what) { throw Error(ErrorKind::kFormat, "load: " + what); };
  if (snapshot.rows > kMaxRows) refuse_file("the file claims more rows than an index can hold");
  if (snapshot.centre.size() != config_.dim) refuse_file("the centre does not have the index's dimension");
  if (snapshot.ids && snapshot.ids->size() != snapshot.rows) refuse_file("there are not as many ids as rows");
  const std::size_t blocks = (snapshot.rows + kBlockRows - 1) / kBlockRows;
  const auto layout = column_layout();
  if (snapshot.columns.size() != layout.size()) refuse_file("the file's columns are not those of its spec");
  for (const auto& [name, bytes] : layout) {
    const auto found = snapshot.columns.find(name);
    if (found == snapshot.columns.end()) refuse_file("column '" + name + "' is missing");
    if (found->second.block_bytes() != bytes || found->second.blocks() != blocks) {
      refuse_file("column '" + name + "' does not have the size its rows need");
    }
  }
  IdMap ids;
  if (snapshot.ids) {
    try {
      ids.check_new(*snapshot.ids, "load");
    } catch (const Error& error) {
      throw Error(ErrorKind::kFormat, error.what());
    }
    ids.append(*snapshot.ids);
  } else {
    ids.append_next(snapshot.rows);
  }
  ids.raise_next_id(snapshot.next_id);
  const std::lock_guard writing(writer_);
  const auto publishing = lock_.write();
  ids_ = std::move(ids);
  columns_ = std::move(snapshot.columns);
  centre_ = std::move(snapshot.centre);
  trained_ = snapshot.trained || !rotates();
}

}  // namespace tessella
