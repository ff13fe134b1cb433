// Row positions <-> the caller's ids. While ids are 0, 1, 2, … nothing is stored at all.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "tessella/types.h"

namespace tessella {

class IdMap {
 public:
  std::size_t size() const { return size_; }
  std::size_t nbytes() const { return ids_.capacity() * 8 + slots_.capacity() * 4; }
  bool is_implicit() const { return ids_.empty() && size_ != 0; }

  std::int64_t id(std::size_t row) const { return is_implicit() ? static_cast<std::int64_t>(row) : ids_[row]; }
  const std::int64_t* data() const { return ids_.empty() ? nullptr : ids_.data(); }  // nullptr: position is id

  std::int64_t find(std::int64_t id) const;  // row, or -1
  std::vector<std::int64_t> find(std::span<const std::int64_t> ids) const;
  std::int64_t next_id() const { return next_id_; }
  void raise_next_id(std::int64_t id) { next_id_ = id > next_id_ ? id : next_id_; }

  // The order of every result list: higher similarity first, equal ones by smaller id. What is no number, as damaged
  // codes may give, comes last: an order that is none would lead a sort astray.
  bool better(const Candidate& a, const Candidate& b) const {
    const bool a_scored = a.similarity == a.similarity, b_scored = b.similarity == b.similarity;
    if (a_scored != b_scored) return a_scored;
    if (a_scored && a.similarity != b.similarity) return a.similarity > b.similarity;
    return id(static_cast<std::size_t>(a.row)) < id(static_cast<std::size_t>(b.row));
  }
  void sort(std::vector<Candidate>& list) const {
    std::sort(list.begin(), list.end(), [this](const Candidate& a, const Candidate& b) { return better(a, b); });
  }

  // Throws InvalidArgument, having changed nothing, when an id is negative, repeated, or already here.
  void check_new(std::span<const std::int64_t> ids, const char* operation) const;
  void append(std::span<const std::int64_t> ids);  // checked before
  void append_next(std::size_t count);             // ids next_id(), next_id() + 1, …

  // Takes the row's id away; the last row's id moves into its place.
  void remove(std::size_t row);
  // Takes the row's id away and leaves the row, nameless, where it is; `remove` gives it up later.
  void forget(std::size_t row);
  bool named(std::size_t row) const { return is_implicit() || ids_[row] >= 0; }
  std::size_t nameless() const { return nameless_; }

 private:
  void make_explicit();
  void reserve_slots(std::size_t rows);
  void insert_slot(std::size_t row);
  void free_slot(std::size_t row);
  std::size_t slot_of(std::int64_t id) const;  // where id is, or the empty slot where it would go

  std::size_t size_ = 0, nameless_ = 0;
  std::int64_t next_id_ = 0;
  std::vector<std::int64_t> ids_;
  std::vector<std::uint32_t> slots_;  // open addressing, row + 1; a power of two of them, at most half full
};

}  // namespace tessella
