#include "index/topk.h"

#include <algorithm>

namespace tessella {

namespace {
auto better_by(const IdMap& ids) {
  return [&ids](const Candidate& a, const Candidate& b) {
    if (a.similarity != b.similarity) return a.similarity > b.similarity;
    return ids.id(static_cast<std::size_t>(a.row)) < ids.id(static_cast<std::size_t>(b.row));
  };
}
}  // namespace

void TopK::cut() {
  if (entries_.size() < k_) return;
  const auto kth = entries_.begin() + static_cast<std::ptrdiff_t>(k_ - 1);
  std::nth_element(entries_.begin(), kth, entries_.end(), better_by(*ids_));
  entries_.resize(k_);
  threshold_ = entries_.back().similarity;
}

std::vector<Candidate> TopK::take_sorted() {
  cut();
  sort(entries_, *ids_);
  return std::move(entries_);
}

void TopK::sort(std::vector<Candidate>& entries, const IdMap& ids) {
  std::sort(entries.begin(), entries.end(), better_by(ids));
}

}  // namespace tessella
