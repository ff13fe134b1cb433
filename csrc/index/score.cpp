#include "index/score.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "common/sums.h"

namespace tessella {

namespace {

constexpr std::size_t kFetchedBytes = 512;  // of a row; the kernels fetch the rest

}  // namespace

RowScorer::RowScorer(const Rows& rows, float epsilon)
    : rows_(rows),
      kernels_(rows.kernels()),
      epsilon_(epsilon),
      b1_(rows.column("b1")),
      codes_(rows.column("codes")),
      scales_(rows.column("scales")),
      norms2_(rows.column("norms2")),
      raw_(rows.column("raw")) {
  for (const Codec& codec : rows.config().codecs) {
    const bool scans = codec.kind == Codec::Kind::kB1 || codec.kind == Codec::Kind::kPq;
    if (fine_ == nullptr && !scans) fine_ = &codec;
  }
}

std::size_t RowScorer::table_bytes() const { return fine_table_bytes() + rabitq_table_bytes(rows_.padded()); }

QueryTables RowScorer::tables_for(const float* query, std::uint8_t* memory) const {
  QueryTables tables = fine_tables_for(query, memory + rabitq_table_bytes(rows_.padded()));
  const double raw_norm2 = dot(query, query, rows_.config().dim);
  const double norm2 = l2() ? -double{tables.add} : raw_norm2;
  tables.raw_norm2 = static_cast<float>(raw_norm2);
  tables.b1.factor = factor();
  tables.b1.add = tables.add;
  tables.b1.epsilon = factor() * (epsilon_ * static_cast<float>(std::sqrt(norm2)));
  tables.b1.table.entries = memory;
  kernels_.rabitq_table(tables.rotated, rows_.padded(), &tables.b1.table);
  return tables;
}

QueryTables RowScorer::fine_tables_for(const float* query, std::uint8_t* memory) const {
  const std::size_t padded = rows_.padded(), d = rows_.config().dim;
  QueryTables tables;
  tables.raw = query;
  auto* rotated = reinterpret_cast<float*>(memory);
  tables.rotated = rotated;
  tables.scalar.words = reinterpret_cast<std::int16_t*>(rotated + padded);
  tables.scalar.bytes = reinterpret_cast<std::int8_t*>(tables.scalar.words + padded);

  const float* centre = rows_.centre().data();
  kernels_.rotate_forward({rows_.signs().data(), query, 1, d, l2() ? centre : nullptr, rotated, nullptr});
  if (l2()) {
    tables.add = static_cast<float>(-dot(rotated, rotated, padded));  // a rotation keeps lengths
  } else {
    kernels_.exact_score({query, centre, ScalarType::kF32, d, Metric::kInnerProduct, nullptr, 1, &tables.add, nullptr});
  }
  kernels_.scalar_query(rotated, padded, &tables.scalar);
  return tables;
}

namespace {

// Of the floats, so that packed entries may follow them.
std::size_t float_table_bytes(const PqShape& pq) { return ((pq.pieces() << pq.bits()) * sizeof(float) + 63) / 64 * 64; }

}  // namespace

std::size_t RowScorer::pq_table_bytes() const {
  const PqShape* pq = rows_.pq_shape();
  if (pq == nullptr) return 0;
  return float_table_bytes(*pq) + pq_packed_bytes(pq->pieces(), pq->bits());
}

void RowScorer::add_pq_tables(QueryTables& tables, std::uint8_t* memory) const {
  const PqShape& pq = *rows_.pq_shape();
  auto* table = reinterpret_cast<float*>(memory);
  pq.table(kernels_, *rows_.pq(), tables.raw, table);
  const float times = pq.terms() ? 2.0f : 1.0f, add = pq.terms() ? -tables.raw_norm2 : 0.0f;
  PqPacked packed{memory + float_table_bytes(pq), 0.0f, 0.0f};
  kernels_.pq_pack(table, pq.pieces(), pq.bits(), &packed);
  if (pq.bits() == 8) {
    tables.pq = {table, times, add, 0.0f, nullptr, nullptr};
    tables.pq_bounds = packed;
    return;
  }
  tables.pq = {packed.entries, times * packed.step, times * packed.base + add, 0.0f, nullptr, nullptr};
  const float slack = 3.0f * tables.pq.step * std::sqrt(static_cast<float>(pq.pieces()) / 12.0f);
  tables.pq_exact = {table, times, add, slack};
}

void RowScorer::scan_pq(const std::uint8_t* blocks, std::size_t n, const QueryTables* const* tables,
                        const float* thresholds, std::size_t nq, RabitqHit* const* hits, std::size_t* counts) const {
  const PqShape& pq = *rows_.pq_shape();
  std::array<PqQuery, kRabitqQueries> queries;
  for (std::size_t i = 0; i < nq; ++i) {
    queries[i] = tables[i]->pq;
    queries[i].threshold = fine_ != nullptr ? pq_bound(*tables[i]).estimate_for(thresholds[i]) : thresholds[i];
    if (fine_ == nullptr && pq.bits() == 4) queries[i].exact = &tables[i]->pq_exact;  // estimates are final
    if (pq.bits() == 8) queries[i].bounds = &tables[i]->pq_bounds;
  }
  kernels_.pq_scan({blocks, n, pq.pieces(), pq.bits(), pq.terms(), queries.data(), nq, hits, counts});
  if (fine_ == nullptr) return;
  for (std::size_t i = 0; i < nq; ++i) {
    const PqBound bound = pq_bound(*tables[i]);
    for (std::size_t h = 0; h < counts[i]; ++h) hits[i][h].upper = bound.upper(hits[i][h].estimate);
  }
}

PqBound RowScorer::pq_bound(const QueryTables& tables) const {
  const float sigma = epsilon_ * rows_.pq()->error;
  return {l2(), l2() ? sigma : sigma * std::sqrt(tables.raw_norm2), rows_.pq()->bias};
}

float RowScorer::norm2(std::size_t row) const {
  float value;
  if (norms2_ != nullptr) {
    std::memcpy(&value, norms2_->row(row), sizeof(value));
  } else {
    const std::uint8_t* block = b1_->block(row / kBlockRows);
    std::memcpy(&value, block + kBlockRows * (rows_.padded() / 8 + 4) + row % kBlockRows * sizeof(value),
                sizeof(value));
  }
  return value;
}

void RowScorer::score(const QueryTables& tables, const std::uint32_t* rows, std::size_t count, float* out) const {
  const std::size_t d = rows_.config().dim;
  if (fine_->kind == Codec::Kind::kRaw) {
    std::array<const void*, kMostGathered> at;
    for (std::size_t i = 0; i < count; ++i) at[i] = raw_->row(rows[i]);
    kernels_.exact_score({tables.raw, nullptr, fine_->type, d, rows_.config().metric, nullptr, count, out, at.data()});
    return;
  }
  std::array<const std::uint8_t*, kMostGathered> at;
  std::array<const float*, kMostGathered> scales;
  for (std::size_t i = 0; i < count; ++i) {
    at[i] = codes_->row(rows[i]);
    scales[i] = reinterpret_cast<const float*>(scales_->row(rows[i]));
  }
  kernels_.scalar_dot(
      {&tables.scalar, nullptr, rows_.padded(), fine_->bits, fine_->grid, nullptr, count, out, at.data()});
  for (std::size_t i = 0; i < count; ++i) {
    out[i] = tables.add + factor() * *scales[i] * out[i];
    if (l2()) out[i] -= norm2(rows[i]);
  }
}

void RowScorer::fetch(std::uint32_t row) const {
  const Column& column = fine_->kind == Codec::Kind::kRaw ? *raw_ : *codes_;
  const std::uint8_t* code = column.row(row);
  const std::size_t bytes = std::min(column.row_bytes(), kFetchedBytes);
  for (std::size_t at = 0; at < bytes; at += 64) __builtin_prefetch(code + at);
  if (scales_ != nullptr) __builtin_prefetch(scales_->row(row));
  if (norms2_ != nullptr) __builtin_prefetch(norms2_->row(row));
}

void RowScorer::score_run(const QueryTables& tables, std::size_t first, std::size_t count, float* out) const {
  if (fine_->kind == Codec::Kind::kRaw) {
    kernels_.exact_score({tables.raw, raw_->row(first), fine_->type, rows_.config().dim, rows_.config().metric, nullptr,
                          count, out, nullptr});
    return;
  }
  kernels_.scalar_dot(
      {&tables.scalar, codes_->row(first), rows_.padded(), fine_->bits, fine_->grid, nullptr, count, out, nullptr});
  const auto* scales = reinterpret_cast<const float*>(scales_->row(first));
  for (std::size_t i = 0; i < count; ++i) {
    out[i] = tables.add + factor() * scales[i] * out[i];
    if (l2()) out[i] -= norm2(first + i);
  }
}

float RowScorer::exact(const float* query, std::size_t row) const {
  float similarity;
  kernels_.exact_score({query, raw_->row(row), rows_.config().codecs.back().type, rows_.config().dim,
                        rows_.config().metric, nullptr, 1, &similarity, nullptr});
  return similarity;
}

}  // namespace tessella
