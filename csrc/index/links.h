// The edges of a graph: for each row up to `degree` neighbours and, where walks go by codes, 1-bit codes of the edges
// to them (see tessella/graph.h), all in one record.
#pragma once

#include <span>

#include "index/column.h"
#include "tessella/kernels.h"

namespace tessella {

constexpr std::uint32_t kNoRow = UINT32_MAX;

// Writes one lane of a block of edges; see tessella/graph.h.
void put_edge(std::uint8_t* block, std::size_t lane, std::size_t padded, const std::uint8_t* bits, float scale,
              float term);

class Links {
 public:
  // degree: a multiple of 32. coded: records hold codes of `padded` dimensions.
  Links(std::size_t degree, std::size_t padded, bool coded);

  std::size_t degree() const { return degree_; }
  bool coded() const { return coded_; }
  std::size_t record_bytes() const { return column_.row_bytes(); }
  const Column& column() const { return column_; }
  void replace_column(Column column) { column_ = std::move(column); }
  std::size_t nbytes() const { return column_.nbytes(); }
  void resize(std::size_t rows) { column_.resize((rows + kBlockRows - 1) / kBlockRows); }

  // Row numbers of the neighbours, (degree); kNoRow where there is none.
  std::span<const std::uint32_t> of(std::size_t row) const { return in(column_.row(row)); }
  const std::uint8_t* blocks(std::size_t row) const { return column_.row(row) + degree_ * sizeof(std::uint32_t); }
  std::uint8_t* record(std::size_t row) { return column_.mutable_row(row); }
  const std::uint8_t* record(std::size_t row) const { return column_.row(row); }
  void fetch(std::size_t row) const;
  // Takes copies of what somebody else holds, too, so that threads may write to records of their own.
  void own() {
    for (std::size_t block = 0; block < column_.blocks(); block += kChunkBlocks) column_.mutable_block(block);
  }

  // The same of a record that somebody holds.
  std::span<const std::uint32_t> in(const std::uint8_t* record) const {
    return {reinterpret_cast<const std::uint32_t*>(record), degree_};
  }
  std::span<std::uint32_t> in(std::uint8_t* record) const {
    return {reinterpret_cast<std::uint32_t*>(record), degree_};
  }
  void clear(std::uint8_t* record) const;
  void cut(std::uint8_t* record, std::size_t lane) const;  // takes one neighbour out
  // Sets a neighbour. bits, scale and term: of the edge, where records are coded.
  void put(std::uint8_t* record, std::size_t lane, std::uint32_t row, const std::uint8_t* bits, float scale,
           float term) const;

 private:
  std::size_t degree_, padded_;
  bool coded_;
  Column column_;
};

}  // namespace tessella
