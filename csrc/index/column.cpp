#include "index/column.h"

#include <algorithm>
#include <cstring>

namespace tessella {

Column Column::borrow(std::size_t block_bytes, const std::uint8_t* data, std::size_t blocks,
                      const std::shared_ptr<const void>& lender) {
  Column column(block_bytes);
  for (std::size_t first = 0; first < blocks; first += kChunkBlocks) {
    auto chunk = std::make_shared<Chunk>();
    chunk->lender = lender;
    chunk->data = data + first * block_bytes;
    chunk->blocks = std::min(kChunkBlocks, blocks - first);
    column.chunks_.push_back(std::move(chunk));
  }
  column.blocks_ = blocks;
  return column;
}

std::size_t Column::nbytes() const {
  std::size_t blocks = 0;
  for (const auto& chunk : chunks_) blocks += chunk->blocks;
  return blocks * block_bytes_;
}

std::shared_ptr<Chunk> Column::copy_of(const Chunk& chunk, std::size_t capacity) const {
  auto copy = std::make_shared<Chunk>();
  copy->own = AlignedBuffer(capacity * block_bytes_);
  copy->data = copy->own.data();
  copy->blocks = capacity;
  if (const std::size_t kept = std::min(capacity, chunk.blocks); kept > 0) {
    std::memcpy(copy->own.data(), chunk.data, kept * block_bytes_);
  }
  return copy;
}

std::uint8_t* Column::mutable_block(std::size_t b) {
  std::shared_ptr<Chunk>& chunk = chunks_[b / kChunkBlocks];
  if (chunk->lender != nullptr || chunk.use_count() > 1) chunk = copy_of(*chunk, chunk->blocks);
  return chunk->own.data() + b % kChunkBlocks * block_bytes_;
}

// The last chunk grows by half, or to what is asked for where that is more: row by row it is copied seldom, in bulk it
// has no spare room.
void Column::resize(std::size_t blocks) {
  const std::size_t full = blocks / kChunkBlocks, rest = blocks % kChunkBlocks;
  const std::size_t wanted = full + (rest > 0 ? 1 : 0);
  chunks_.reserve(wanted);
  for (std::size_t c = chunks_.empty() ? 0 : chunks_.size() - 1; c < wanted; ++c) {
    if (c == chunks_.size()) chunks_.push_back(std::make_shared<Chunk>());
    const std::size_t needed = c < full ? kChunkBlocks : rest;
    if (chunks_[c]->blocks >= needed) continue;
    const std::size_t grown = chunks_[c]->blocks + chunks_[c]->blocks / 2;
    chunks_[c] = copy_of(*chunks_[c], std::max(needed, std::min(grown, kChunkBlocks)));
  }
  if (wanted < chunks_.size()) chunks_.resize(wanted);
  blocks_ = blocks;
}

}  // namespace tessella
