#include "index/ids.h"

#include <algorithm>
#include <string>
#include <unordered_set>

#include "tessella/errors.h"

namespace tessella {

namespace {

std::size_t hash(std::int64_t id) {  // splitmix64's finisher: consecutive ids scatter
  auto z = static_cast<std::uint64_t>(id) + 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

[[noreturn]] void refuse(const char* operation, const std::string& what) {
  throw Error(ErrorKind::kInvalidArgument, std::string(operation) + ": " + what);
}

}  // namespace

std::int64_t IdMap::find(std::int64_t id) const {
  if (size_ == 0) return -1;
  if (is_implicit()) return id >= 0 && id < static_cast<std::int64_t>(size_) ? id : -1;
  const std::uint32_t entry = slots_[slot_of(id)];
  return entry == 0 ? -1 : static_cast<std::int64_t>(entry) - 1;
}

std::vector<std::int64_t> IdMap::find(std::span<const std::int64_t> ids) const {
  std::vector<std::int64_t> rows(ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i) rows[i] = find(ids[i]);
  return rows;
}

void IdMap::check_new(std::span<const std::int64_t> ids, const char* operation) const {
  std::unordered_set<std::int64_t> seen;
  bool ascending = true;
  for (std::size_t i = 1; i < ids.size() && ascending; ++i) ascending = ids[i - 1] < ids[i];
  if (!ascending) seen.reserve(ids.size());
  for (const std::int64_t id : ids) {
    if (id < 0) refuse(operation, "expected ids >= 0 (-1 marks a missing result); got " + std::to_string(id));
    if (find(id) >= 0) refuse(operation, "expected new ids; " + std::to_string(id) + " is already in the index");
    if (!ascending && !seen.insert(id).second) {
      refuse(operation, "expected ids without repeats; " + std::to_string(id) + " occurs twice");
    }
  }
}

void IdMap::append(std::span<const std::int64_t> ids) {
  if (ids.empty()) return;
  bool continues = size_ == 0 || is_implicit();
  for (std::size_t i = 0; i < ids.size() && continues; ++i) continues = ids[i] == static_cast<std::int64_t>(size_ + i);
  if (continues) {
    size_ += ids.size();
    next_id_ = std::max(next_id_, static_cast<std::int64_t>(size_));
    return;
  }
  make_explicit();
  reserve_slots(size_ + ids.size());
  for (const std::int64_t id : ids) {
    ids_.push_back(id);
    insert_slot(size_++);
    if (id >= next_id_ && id < INT64_MAX) next_id_ = id + 1;
  }
}

void IdMap::append_next(std::size_t count) {
  if (ids_.empty() && next_id_ == static_cast<std::int64_t>(size_)) {
    size_ += count;
    next_id_ += static_cast<std::int64_t>(count);
    return;
  }
  std::vector<std::int64_t> ids(count);
  for (std::size_t i = 0; i < count; ++i) ids[i] = next_id_ + static_cast<std::int64_t>(i);
  append(ids);
}

void IdMap::remove(std::size_t row) {
  if (is_implicit() && row + 1 == size_) {  // still 0, 1, 2, …; next_id_ keeps removed ids from coming back
    --size_;
    return;
  }
  make_explicit();
  ids_[row] >= 0 ? free_slot(row) : static_cast<void>(--nameless_);
  if (row + 1 != size_) {
    if (ids_[size_ - 1] >= 0) slots_[slot_of(ids_[size_ - 1])] = static_cast<std::uint32_t>(row + 1);
    ids_[row] = ids_[size_ - 1];
  }
  ids_.pop_back();
  --size_;
}

void IdMap::forget(std::size_t row) {
  make_explicit();
  free_slot(row);
  ids_[row] = -1;
  ++nameless_;
}

// Knuth's algorithm R: entries behind the freed slot move up, so look-ups need no tombstones.
void IdMap::free_slot(std::size_t row) {
  const std::size_t mask = slots_.size() - 1;
  std::size_t hole = slot_of(ids_[row]);
  for (std::size_t i = (hole + 1) & mask; slots_[i] != 0; i = (i + 1) & mask) {
    const std::size_t home = hash(ids_[slots_[i] - 1]) & mask;
    if (((i - home) & mask) >= ((i - hole) & mask)) {
      slots_[hole] = slots_[i];
      hole = i;
    }
  }
  slots_[hole] = 0;
}

void IdMap::make_explicit() {
  if (!is_implicit()) return;
  const std::size_t rows = size_;
  reserve_slots(rows);
  ids_.resize(rows);
  for (std::size_t row = 0; row < rows; ++row) ids_[row] = static_cast<std::int64_t>(row);
  for (std::size_t row = 0; row < rows; ++row) insert_slot(row);
}

void IdMap::reserve_slots(std::size_t rows) {
  std::size_t wanted = slots_.empty() ? 16 : slots_.size();
  while (wanted < 2 * rows) wanted *= 2;
  if (wanted == slots_.size()) return;
  slots_.assign(wanted, 0);
  for (std::size_t row = 0; row < ids_.size(); ++row) {
    if (ids_[row] >= 0) insert_slot(row);
  }
}

void IdMap::insert_slot(std::size_t row) { slots_[slot_of(ids_[row])] = static_cast<std::uint32_t>(row + 1); }

std::size_t IdMap::slot_of(std::int64_t id) const {
  const std::size_t mask = slots_.size() - 1;
  std::size_t slot = hash(id) & mask;
  while (slots_[slot] != 0 && ids_[slots_[slot] - 1] != id) slot = (slot + 1) & mask;
  return slot;
}

}  // namespace tessella
