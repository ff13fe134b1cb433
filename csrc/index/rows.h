// What an index stores of its rows: a column for each codec, addressed by row number.
//
// Codes are of rotated residuals R(x - centre), the centre being the mean of the training rows. Who owns the rows also
// owns the lock: nothing here locks.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "index/codec.h"
#include "index/column.h"
#include "index/pq_codes.h"
#include "tessella/errors.h"
#include "tessella/kernels.h"

namespace tessella {

struct RowConfig {
  std::size_t dim = 0;
  Metric metric = Metric::kInnerProduct;
  bool normalize = false;  // cosine: rows and queries are scaled to unit length on the way in
  std::vector<Codec> codecs;
  std::uint64_t seed = 0;       // of the rotation
  bool scan_elsewhere = false;  // PQ codes lie in inverted lists, and no column holds them
};

constexpr std::size_t kMaxRows = UINT32_MAX - 1;
constexpr std::size_t kTileRows = 256;      // rows encoded by one task
constexpr std::size_t kPublishRows = 4096;  // rows copied in while searches wait
constexpr std::size_t kTrainRows = 65'536;  // of a first add, enough for a mean

using KernelsFn = const Kernels& (*)();

// Rows on their way in.
struct EncodedRows {
  std::size_t n = 0;
  std::vector<std::uint8_t> bits;  // B1: (n, D/8)
  std::vector<RabitqFactors> factors;
  std::vector<std::uint8_t> codes;  // scalar: (n, row bytes)
  std::vector<float> scales;
  std::vector<float> norms2;
  std::vector<std::uint8_t> raw;  // (n, dim * element)
  PqCodes pq;
};

// Writes one row's 1-bit code into its lane of a block (layout: tessella/rabitq.h).
void put_b1(std::uint8_t* block, std::size_t lane, std::size_t padded, const std::uint8_t* bits, float scale,
            float error, std::optional<float> term);
// Copies a lane of one block into a lane of another, or of the same.
void move_b1(const std::uint8_t* from, std::size_t out, std::uint8_t* to, std::size_t in, std::size_t padded,
             bool terms);

// Rows or queries as an index takes them: the caller's own memory where nothing has to be done to them.
class Prepared {
 public:
  explicit Prepared(const float* given) : given_(given) {}
  explicit Prepared(std::vector<float> own) : own_(std::move(own)) {}
  const float* data() const { return given_ != nullptr ? given_ : own_.data(); }

 private:
  const float* given_ = nullptr;
  std::vector<float> own_;
};

class Rows {
 public:
  Rows(RowConfig config, KernelsFn kernels);

  const RowConfig& config() const { return config_; }
  const Kernels& kernels() const { return kernels_(); }
  std::size_t padded() const { return padded_; }
  const std::vector<std::uint64_t>& signs() const { return signs_; }
  const std::vector<float>& centre() const { return centre_; }
  void set_centre(std::vector<float> centre) { centre_ = std::move(centre); }
  bool rotates() const { return has(Codec::Kind::kB1) || has(Codec::Kind::kScalar); }
  bool has(Codec::Kind kind) const { return find(kind) != nullptr; }
  const Codec* find(Codec::Kind kind) const;  // nullptr where there is none
  // Throws InvalidArgument or FormatError (`kind`) unless the model fits the codec.
  void set_pq(PqModel model, ErrorKind kind);
  const PqModel* pq() const { return pq_ ? &*pq_ : nullptr; }
  const PqShape* pq_shape() const { return pq_shape_ ? &*pq_shape_ : nullptr; }
  // PQ codes of prepared rows, and what one stands for.
  PqCodes encode_pq(const float* rows, std::size_t n) const;
  void decode_pq(const std::uint8_t* block, std::size_t lane, float* out) const;

  // Names and bytes per 32-row block of the columns this configuration has.
  std::map<std::string, std::size_t> layout() const;
  const std::map<std::string, Column>& columns() const { return columns_; }
  const Column* column(const char* name) const;  // nullptr where there is none
  // Throws FormatError unless these are the columns of so many rows.
  void check_columns(const std::map<std::string, Column>& columns, std::size_t rows) const;
  void replace_columns(std::map<std::string, Column> columns) { columns_ = std::move(columns); }
  std::size_t nbytes() const;

  Prepared prepared(const float* x, std::size_t n) const;                 // normalised if need be
  std::vector<float> mean(const float* x, std::size_t n) const;           // of prepared rows
  void rotate(const float* rows, std::size_t n, float* residuals) const;  // R(x - centre), (n, D)
  EncodedRows encode(const float* x, std::size_t n, std::size_t threads) const;
  EncodedRows encode_prepared(const float* rows, std::size_t n, std::size_t threads) const;  // normalised already

  void resize(std::size_t rows);
  void store(const EncodedRows& rows, std::size_t i, std::size_t row);
  void move(std::size_t from, std::size_t to);
  // The stored values of a row from the finest codec: `dim` floats.
  void decode(std::size_t row, float* out) const;
  // Its residual R(x - centre), `padded` floats.
  void decode_residual(std::size_t row, float* residual) const;

 private:
  // L2 needs |r|^2; B1 blocks carry it, scalar codes alone do not.
  bool keeps_norms() const;
  bool keeps(const Codec& codec) const { return codec.kind != Codec::Kind::kPq || !config_.scan_elsewhere; }
  EncodedRows encode_tiles(const float* x, std::size_t n, std::size_t threads, bool ready) const;
  void encode_tile(const float* rows, std::size_t first, std::size_t n, EncodedRows& out) const;

  RowConfig config_;
  KernelsFn kernels_;
  std::size_t padded_;
  std::vector<std::uint64_t> signs_;
  std::vector<float> centre_;
  std::map<std::string, Column> columns_;
  std::optional<PqShape> pq_shape_;
  std::optional<PqModel> pq_;
};

}  // namespace tessella
