#include "index/topk.h"

#include <algorithm>

namespace tessella {

void TopK::cut() {
  if (entries_.size() < k_) return;
  const auto kth = entries_.begin() + static_cast<std::ptrdiff_t>(k_ - 1);
  std::nth_element(entries_.begin(), kth, entries_.end(),
                   [this](const Candidate& a, const Candidate& b) { return ids_->better(a, b); });
  entries_.resize(k_);
  threshold_ = entries_.back().similarity;
}

std::vector<Candidate> TopK::take_sorted() {
  cut();
  ids_->sort(entries_);
  return std::move(entries_);
}

}  // namespace tessella
