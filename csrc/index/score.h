// Scores of stored rows for a query: its tables for every codec, and similarities by row number.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>

#include "index/rows.h"

namespace tessella {

// One query's tables for every codec of an index.
struct QueryTables {
  const float* raw = nullptr;
  const float* rotated = nullptr;
  RabitqQuery b1{};
  ScalarQuery scalar{};
  PqQuery pq{};
  PqExact pq_exact{};
  PqPacked pq_bounds{};
  float add = 0.0f;        // <q, centre>, or -|q - centre|^2
  float raw_norm2 = 0.0f;  // |q|^2
};

// How far a PQ estimate s may lie below a row's similarity. Codewords are means, so rows lie a little farther out than
// they say, and inner products, if positive, are larger by the bias; the rest is an error in any direction, epsilon
// standard deviations of which are kept: upper = s + bias max(s, 0) + sigma |q|. For |q - x|^2 = -s its part is
// 2 <q - x, error>: upper = s + 2 sigma sqrt(-s).
struct PqBound {
  bool l2;
  float sigma;
  float bias;

  float upper(float s) const {
    return l2 ? s + 2.0f * sigma * std::sqrt(std::max(-s, 0.0f)) : s + bias * std::max(s, 0.0f) + sigma;
  }
  // The least estimate whose upper bound reaches `similarity`.
  float estimate_for(float similarity) const {
    if (!l2) return (similarity - sigma) / (similarity > sigma ? 1.0f + bias : 1.0f);
    const float length = sigma + std::sqrt(sigma * sigma + std::max(-similarity, 0.0f));
    return -length * length;
  }
};

class RowScorer {
 public:
  // epsilon: how many error bounds B1 keeps.
  RowScorer(const Rows& rows, float epsilon);

  const Rows& rows() const { return rows_; }
  bool l2() const { return rows_.config().metric == Metric::kL2; }
  float factor() const { return l2() ? 2.0f : 1.0f; }
  float epsilon() const { return epsilon_; }

  // The codec that refines a B1 scan or, where there is no B1, scans; nullptr: there is B1 alone.
  const Codec* fine() const { return fine_; }
  bool fine_is_raw() const { return fine_ != nullptr && fine_->kind == Codec::Kind::kRaw; }
  // Whether a raw codec has the last word after another one.
  bool ends_raw() const {
    const auto& codecs = rows_.config().codecs;
    return !codecs.empty() && codecs.back().kind == Codec::Kind::kRaw;
  }

  std::size_t table_bytes() const;
  // `memory`: table_bytes(), 64-byte aligned, alive as long as the tables.
  QueryTables tables_for(const float* query, std::uint8_t* memory) const;
  // The same without what a B1 scan needs; `memory`: fine_table_bytes().
  std::size_t fine_table_bytes() const { return rows_.padded() * 7; }
  QueryTables fine_tables_for(const float* query, std::uint8_t* memory) const;

  // Adds the tables of a PQ codec; `memory` as above, pq_table_bytes().
  std::size_t pq_table_bytes() const;
  void add_pq_tables(QueryTables& tables, std::uint8_t* memory) const;
  // One pass of 1..kRabitqQueries queries over blocks of PQ codes: hits whose upper bound, an estimate and `epsilon`
  // times the usual error, reaches the threshold.
  void scan_pq(const std::uint8_t* blocks, std::size_t n, const QueryTables* const* tables, const float* thresholds,
               std::size_t nq, RabitqHit* const* hits, std::size_t* counts) const;

  // Similarities by the fine codec of rows[i] -> out (count). count <= kMostGathered.
  static constexpr std::size_t kMostGathered = 64;
  void score(const QueryTables& tables, const std::uint32_t* rows, std::size_t count, float* out) const;
  // Asks for the memory that `score` will read.
  void fetch(std::uint32_t row) const;
  // The same of a run of rows in order, all in one chunk; any count.
  void score_run(const QueryTables& tables, std::size_t first, std::size_t count, float* out) const;
  // Similarity by the raw codec.
  float exact(const float* query, std::size_t row) const;

 private:
  float norm2(std::size_t row) const;
  PqBound pq_bound(const QueryTables& tables) const;

  const Rows& rows_;
  const Kernels& kernels_;
  float epsilon_;
  const Codec* fine_ = nullptr;
  const Column *b1_, *codes_, *scales_, *norms2_, *raw_;  // nullptr where the index has no such column
};

}  // namespace tessella
