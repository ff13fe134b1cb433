#include "index/lists.h"

#include <algorithm>
#include <cstring>

namespace tessella {

namespace {

constexpr std::size_t kArenaBytes = 4u << 20;  // of an arena that lists grow into: two huge pages

std::size_t whole_blocks(std::size_t rows) { return (rows + kBlockRows - 1) / kBlockRows * kBlockRows; }

}  // namespace

void InvertedLists::reset(std::size_t count) {
  lists_.assign(count, List{});
  growth_ = {};
  entries_ = arena_bytes_ = garbage_ = 0;
}

InvertedLists::Arena InvertedLists::arena_of(std::size_t bytes) const {
  return {std::make_shared<AlignedBuffer>(bytes), 0};
}

// Moves a list to the arena's free end.
void InvertedLists::place(List& list, std::size_t capacity, Arena& arena) {
  std::uint8_t* blocks = arena.memory->data() + arena.used;
  auto* rows = reinterpret_cast<std::uint32_t*>(blocks + capacity / kBlockRows * block_bytes_);
  arena.used += bytes_for(capacity);
  if (list.size > 0) {
    if (block_bytes_ != 0) std::memcpy(blocks, list.blocks, whole_blocks(list.size) / kBlockRows * block_bytes_);
    std::memcpy(rows, list.rows, list.size * sizeof(std::uint32_t));
  }
  list = {arena.memory, blocks, rows, list.size, static_cast<std::uint32_t>(capacity), frozen_ + 1};
}

// The list with room for `capacity` rows, in memory that may be written.
InvertedLists::List& InvertedLists::writable(std::size_t l, std::size_t capacity) {
  List& list = lists_[l];
  const bool ours = list.generation > frozen_;
  if (ours && capacity <= list.capacity) return list;
  const std::size_t wanted = whole_blocks(std::max<std::size_t>(capacity, list.size));
  const std::size_t bytes = bytes_for(wanted);
  if (growth_.memory == nullptr || growth_.used + bytes > growth_.memory->size()) {
    if (growth_.memory != nullptr) garbage_ += growth_.memory->size() - growth_.used;
    growth_ = arena_of(std::max(bytes, kArenaBytes));
    arena_bytes_ += growth_.memory->size();
  }
  if (list.generation != 0) garbage_ += bytes_for(list.capacity);
  place(list, wanted, growth_);
  return list;
}

InvertedLists::Place InvertedLists::append(std::size_t l, std::uint32_t row) {
  std::size_t capacity = lists_[l].capacity;
  if (lists_[l].size == capacity) capacity = std::max(capacity + kBlockRows, capacity + capacity / 4);
  List& list = writable(l, capacity);
  const std::size_t at = list.size++;
  ++entries_;
  const_cast<std::uint32_t*>(list.rows)[at] = row;
  return {block_bytes_ != 0 ? own(list.blocks) + at / kBlockRows * block_bytes_ : nullptr, at % kBlockRows};
}

void InvertedLists::renumber(std::size_t l, std::uint32_t from, std::uint32_t to) {
  const std::size_t at = find(l, from);
  List& list = writable(l, lists_[l].capacity);
  const_cast<std::uint32_t*>(list.rows)[at] = to;
}

std::size_t InvertedLists::find(std::size_t l, std::uint32_t row) const {
  const auto numbers = lists_[l].numbers();
  return static_cast<std::size_t>(std::find(numbers.begin(), numbers.end(), row) - numbers.begin());
}

void InvertedLists::clear(std::size_t l) {
  entries_ -= lists_[l].size;
  if (lists_[l].generation != 0) garbage_ += bytes_for(lists_[l].capacity);
  lists_[l] = List{};
}

void InvertedLists::rebuild(std::span<const std::uint32_t> more) {
  std::size_t bytes = 0;
  const auto room = [&](std::size_t l) { return whole_blocks(lists_[l].size + (more.empty() ? 0 : more[l])); };
  for (std::size_t l = 0; l < lists_.size(); ++l) bytes += bytes_for(room(l));
  Arena arena = arena_of(bytes);
  for (std::size_t l = 0; l < lists_.size(); ++l) place(lists_[l], room(l), arena);
  growth_ = {};
  arena_bytes_ = bytes;
  garbage_ = 0;
}

void InvertedLists::reserve(std::span<const std::uint32_t> more) { rebuild(more); }

void InvertedLists::compact() { rebuild({}); }

void InvertedLists::tidy() {
  if (garbage_ > arena_bytes_ / 2 && garbage_ > kArenaBytes) compact();
}

std::vector<InvertedLists::List> InvertedLists::snapshot() {
  ++frozen_;
  return lists_;
}

void InvertedLists::restore(std::vector<List> lists) {
  lists_ = std::move(lists);
  growth_ = {};
  entries_ = arena_bytes_ = garbage_ = 0;
  for (List& list : lists_) {
    list.generation = 0;
    entries_ += list.size;
    arena_bytes_ += bytes_for(whole_blocks(list.size));
  }
}

}  // namespace tessella
