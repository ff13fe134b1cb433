// One column of a store: so many bytes per block of 32 rows, in chunks of 8,192 rows.
//
// Chunks make growth cheap (nothing is copied but a half-filled last chunk) and let memory come from elsewhere: a
// chunk may borrow a mapped file. A chunk that is borrowed, or held by a snapshot, is copied before it is written.
#pragma once

#include <memory>
#include <vector>

#include "common/buffer.h"
#include "tessella/types.h"

namespace tessella {

constexpr std::size_t kChunkBlocks = 256;
constexpr std::size_t kChunkRows = kChunkBlocks * kBlockRows;

struct Chunk {
  AlignedBuffer own;
  std::shared_ptr<const void> lender;  // keeps borrowed memory alive
  const std::uint8_t* data = nullptr;
  std::size_t blocks = 0;
};

class Column {
 public:
  explicit Column(std::size_t block_bytes) : block_bytes_(block_bytes) {}

  // A column over somebody else's blocks, which `lender` keeps alive.
  static Column borrow(std::size_t block_bytes, const std::uint8_t* data, std::size_t blocks,
                       const std::shared_ptr<const void>& lender);

  std::size_t block_bytes() const { return block_bytes_; }
  std::size_t blocks() const { return blocks_; }
  std::size_t nbytes() const;

  const std::uint8_t* block(std::size_t b) const {
    return chunks_[b / kChunkBlocks]->data + b % kChunkBlocks * block_bytes_;
  }
  std::uint8_t* mutable_block(std::size_t b);
  void resize(std::size_t blocks);

  // For columns that keep a block's rows one after another.
  std::size_t row_bytes() const { return block_bytes_ / kBlockRows; }
  const std::uint8_t* row(std::size_t i) const { return block(i / kBlockRows) + i % kBlockRows * row_bytes(); }
  std::uint8_t* mutable_row(std::size_t i) { return mutable_block(i / kBlockRows) + i % kBlockRows * row_bytes(); }

  const std::vector<std::shared_ptr<Chunk>>& chunks() const { return chunks_; }

 private:
  std::shared_ptr<Chunk> copy_of(const Chunk& chunk, std::size_t capacity) const;

  std::size_t block_bytes_;
  std::size_t blocks_ = 0;
  std::vector<std::shared_ptr<Chunk>> chunks_;
};

}  // namespace tessella
