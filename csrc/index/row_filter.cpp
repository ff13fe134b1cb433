#include "index/row_filter.h"

#include "index/copied_rows.h"

namespace tessella {

namespace {

constexpr std::size_t kFewRows = 64;  // a filter of less than one row in so many keeps their numbers

}  // namespace

RowFilter::RowFilter(std::span<const std::uint64_t> words, std::size_t count, bool copies)
    : words_(words), count_(count), copies_wanted_(copies) {
  if (count == 0 || count > words.size() * 64 / kFewRows) return;
  few_.reserve(count);
  RowBitmap{words, count}.for_rows(0, words.size() * 64,
                                   [&](std::size_t row) { few_.push_back(static_cast<std::uint32_t>(row)); });
}

const RowFilter::Spread& RowFilter::spread() {
  std::call_once(counted_, [&] {
    bool before = false;
    const auto take = [&](bool there) {
      spread_.blocks += there ? 1 : 0;
      spread_.runs += there && !before ? 1 : 0;
      before = there;
    };
    for (const std::uint64_t word : words_) {
      take((word & UINT32_MAX) != 0);
      take(word >> 32 != 0);
    }
  });
  return spread_;
}

template <typename Kept>
std::shared_ptr<const Kept> RowFilter::known(const Of<Kept>& of, std::uint64_t state) const {
  const std::lock_guard held(lock_);
  return of.state == state ? of.kept : nullptr;
}

template <typename Kept>
std::shared_ptr<const Kept> RowFilter::made(Of<Kept>& of, std::uint64_t state, const std::function<Kept()>& make) {
  if (auto kept = known(of, state)) return kept;
  const std::lock_guard turn(making_);
  if (auto kept = known(of, state)) return kept;
  auto kept = std::make_shared<const Kept>(make());
  const std::lock_guard held(lock_);
  of = {state, kept};
  return kept;
}

std::shared_ptr<const AdmittedLists> RowFilter::lists(std::uint64_t state) const { return known(lists_, state); }

std::shared_ptr<const CopiedRows> RowFilter::copies(std::uint64_t state) const { return known(copies_, state); }

std::shared_ptr<const AdmittedLists> RowFilter::lists(std::uint64_t state, const std::function<AdmittedLists()>& make) {
  return made(lists_, state, make);
}

std::shared_ptr<const CopiedRows> RowFilter::copies(std::uint64_t state, const std::function<CopiedRows()>& make) {
  return made(copies_, state, make);
}

double RowFilter::spend(std::uint64_t state, double nanoseconds) {
  const std::lock_guard held(lock_);
  if (spent_in_ != state) spent_ = 0.0;
  spent_in_ = state;
  return spent_ += nanoseconds;
}

std::size_t RowFilter::nbytes() const {
  const std::lock_guard held(lock_);
  return few_.size() * sizeof(std::uint32_t) + (lists_.kept ? lists_.kept->nbytes() : 0) +
         (copies_.kept ? copies_.kept->nbytes() : 0);
}

}  // namespace tessella
