// Inverted lists: for each list its rows' numbers and, where rows are scanned by B1, their code blocks.
//
// A list is contiguous. It lies in an arena that many lists share, and moves to a roomier place when it is full; what
// it leaves behind is given back by `compact`, which also puts the lists in order. A list that a snapshot has seen, or
// that lies in a mapped file, is moved before it is written.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "common/buffer.h"
#include "tessella/types.h"

namespace tessella {

class InvertedLists {
 public:
  struct List {
    std::shared_ptr<const void> holder;  // of the memory below
    const std::uint8_t* blocks = nullptr;
    const std::uint32_t* rows = nullptr;
    std::uint32_t size = 0;
    std::uint32_t capacity = 0;    // rows; a multiple of 32 where the memory is ours
    std::uint64_t generation = 0;  // of its memory; lists up to the frozen one are not written to

    std::span<const std::uint32_t> numbers() const { return {rows, size}; }
  };

  // block_bytes: of 32 rows' codes; 0 where lists hold row numbers alone.
  explicit InvertedLists(std::size_t block_bytes) : block_bytes_(block_bytes) {}

  std::size_t count() const { return lists_.size(); }
  std::size_t block_bytes() const { return block_bytes_; }
  const List& operator[](std::size_t l) const { return lists_[l]; }
  std::size_t entries() const { return entries_; }
  std::size_t nbytes() const { return arena_bytes_ + lists_.size() * sizeof(List); }

  void reset(std::size_t count);  // so many empty lists
  void add_list() { lists_.emplace_back(); }
  // The last list takes the place of an empty one.
  void drop_list(std::size_t l) {
    lists_[l] = lists_.back();
    lists_.pop_back();
  }

  // Room for so many more rows in each list, everything in one arena and in order.
  void reserve(std::span<const std::uint32_t> more);
  // Appends a row; its code goes into lane size % 32 of the block that `block` returns.
  struct Place {
    std::uint8_t* block;
    std::size_t lane;
  };
  Place append(std::size_t l, std::uint32_t row);
  // Takes the entry at `at` away; `move(from block, lane, to block, lane)` moves the last one's code there.
  template <typename Move>
  void remove(std::size_t l, std::size_t at, const Move& move);
  void renumber(std::size_t l, std::uint32_t from, std::uint32_t to);
  std::size_t find(std::size_t l, std::uint32_t row) const;  // position in the list, or its size
  void clear(std::size_t l);

  // Bytes that no list lies in any more.
  std::size_t garbage() const { return garbage_; }
  void compact();
  // Compacts if more is left behind than in use.
  void tidy();

  // From now on lists are copied before they are written: somebody holds what they are now.
  std::vector<List> snapshot();
  // Lists over somebody else's memory, whose rows have been checked.
  void restore(std::vector<List> lists);

 private:
  struct Arena {
    std::shared_ptr<AlignedBuffer> memory;
    std::size_t used = 0;
  };
  std::size_t bytes_for(std::size_t capacity) const {
    return capacity / kBlockRows * block_bytes_ + (capacity * sizeof(std::uint32_t) + 63) / 64 * 64;
  }
  void place(List& list, std::size_t capacity, Arena& arena);
  List& writable(std::size_t l, std::size_t capacity);
  Arena arena_of(std::size_t bytes) const;
  void rebuild(std::span<const std::uint32_t> more);
  static std::uint8_t* own(const std::uint8_t* data) { return const_cast<std::uint8_t*>(data); }

  std::size_t block_bytes_;
  std::vector<List> lists_;
  Arena growth_;
  std::size_t entries_ = 0, arena_bytes_ = 0, garbage_ = 0;
  std::uint64_t frozen_ = 0;
};

template <typename Move>
void InvertedLists::remove(std::size_t l, std::size_t at, const Move& move) {
  List& list = writable(l, lists_[l].capacity);
  const std::size_t last = list.size - 1;
  if (at != last) {
    const_cast<std::uint32_t*>(list.rows)[at] = list.rows[last];
    if (block_bytes_ != 0) {
      move(list.blocks + last / kBlockRows * block_bytes_, last % kBlockRows,
           own(list.blocks) + at / kBlockRows * block_bytes_, at % kBlockRows);
    }
  }
  --list.size;
  --entries_;
}

}  // namespace tessella
