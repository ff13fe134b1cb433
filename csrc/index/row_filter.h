// A filter that searches may meet again: its bitmap, and what they have found out by it.
//
// What depends on where an index has its rows is of one state of it (FairLock::state); a search that meets the filter
// in another finds it out anew. Searches may share a filter, from any number of threads.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "index/row_bitmap.h"

namespace tessella {

struct CopiedRows;

// The rows that one bitmap admits, list by list.
struct AdmittedLists {
  std::vector<std::uint32_t> begins;  // (lists + 1)
  std::vector<std::uint32_t> rows;

  std::size_t count(std::size_t list) const { return begins[list + 1] - begins[list]; }
  std::size_t nbytes() const { return (begins.size() + rows.size()) * sizeof(std::uint32_t); }
};

class RowFilter {
 public:
  // `words` stay where they are as long as this lives. copies: searches copy the codes of its rows, where that helps.
  RowFilter(std::span<const std::uint64_t> words, std::size_t count, bool copies);

  RowBitmap bitmap() { return {words_, count_, few_, this}; }
  bool wants_copies() const { return copies_wanted_; }

  // Blocks of 32 rows that have one of them, and how many runs these blocks make; counted when first asked for.
  struct Spread { std::size_t blocks = 0, runs = 0; };
  const Spread& spread();

  // Of that state, or nullptr.
  std::shared_ptr<const AdmittedLists> lists(std::uint64_t state) const;
  std::shared_ptr<const CopiedRows> copies(std::uint64_t state) const;
  // What `make` makes, unless it is here.
  std::shared_ptr<const AdmittedLists> lists(std::uint64_t state, const std::function<AdmittedLists()>& make);
  std::shared_ptr<const CopiedRows> copies(std::uint64_t state, const std::function<CopiedRows()>& make);

  // Adds to the nanoseconds that searches have spent for want of sorted lists; the sum, in this state.
  double spend(std::uint64_t state, double nanoseconds);

  std::size_t nbytes() const;  // beside the words

 private:
  template <typename Kept>
  struct Of {
    std::uint64_t state = 0;
    std::shared_ptr<const Kept> kept;
  };
  template <typename Kept>
  std::shared_ptr<const Kept> known(const Of<Kept>& of, std::uint64_t state) const;
  template <typename Kept>
  std::shared_ptr<const Kept> made(Of<Kept>& of, std::uint64_t state, const std::function<Kept()>& make);

  std::span<const std::uint64_t> words_;
  std::size_t count_;
  bool copies_wanted_;
  std::vector<std::uint32_t> few_;  // its rows, where they take no more room than half of the words

  std::once_flag counted_;
  Spread spread_;

  mutable std::mutex lock_;  // guards what follows
  std::mutex making_;        // one search makes what the others wait for
  Of<AdmittedLists> lists_;
  Of<CopiedRows> copies_;
  std::uint64_t spent_in_ = 0;
  double spent_ = 0.0;
};

}  // namespace tessella
