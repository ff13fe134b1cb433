#include "index/links.h"

#include <algorithm>

#include "common/convert.h"
#include "tessella/graph.h"

namespace tessella {

namespace {

std::size_t record_bytes_of(std::size_t degree, std::size_t padded, bool coded) {
  return degree * sizeof(std::uint32_t) + (coded ? degree / kBlockRows * graph_block_bytes(padded) : 0);
}

}  // namespace

void put_edge(std::uint8_t* block, std::size_t lane, std::size_t padded, const std::uint8_t* bits, float scale,
              float term) {
  const std::size_t columns = padded / 8;
  for (std::size_t c = 0; c < columns; ++c) block[c * kBlockRows + lane] = bits[c];
  auto* factors = reinterpret_cast<std::uint16_t*>(block + columns * kBlockRows);
  factors[lane] = f32_to_bf16(scale);
  factors[kBlockRows + lane] = f32_to_bf16(term);
}

Links::Links(std::size_t degree, std::size_t padded, bool coded)
    : degree_(degree), padded_(padded), coded_(coded), column_(kBlockRows * record_bytes_of(degree, padded, coded)) {}

// Into the second cache: the first one's few miss buffers would make the thread wait, and the next step is far enough.
void Links::fetch(std::size_t row) const {
  const std::uint8_t* at = column_.row(row);
  for (std::size_t line = 0; line < record_bytes(); line += 64) __builtin_prefetch(at + line, 0, 1);
}

void Links::clear(std::uint8_t* record) const {
  std::fill_n(record, record_bytes(), std::uint8_t{0});
  for (std::size_t lane = 0; lane < degree_; ++lane) cut(record, lane);
}

void Links::cut(std::uint8_t* record, std::size_t lane) const {
  in(record)[lane] = kNoRow;
  if (!coded_) return;
  std::uint8_t* block = record + degree_ * sizeof(std::uint32_t) + lane / kBlockRows * graph_block_bytes(padded_);
  auto* factors = reinterpret_cast<std::uint16_t*>(block + padded_ / 8 * kBlockRows);
  factors[lane % kBlockRows] = 0;
  factors[kBlockRows + lane % kBlockRows] = kNoTerm;
}

void Links::put(std::uint8_t* record, std::size_t lane, std::uint32_t row, const std::uint8_t* bits, float scale,
                float term) const {
  in(record)[lane] = row;
  if (!coded_) return;
  std::uint8_t* block = record + degree_ * sizeof(std::uint32_t) + lane / kBlockRows * graph_block_bytes(padded_);
  put_edge(block, lane % kBlockRows, padded_, bits, scale, term);
}

}  // namespace tessella
