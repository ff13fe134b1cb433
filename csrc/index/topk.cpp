#include "index/topk.h"

#include <algorithm>

namespace tessella {

void TopK::insert(const Candidate& candidate) {
  const auto better = [&](const Candidate& other) {  // neither is NaN, and ids are seldom asked for
    return candidate.similarity > other.similarity ||
           (candidate.similarity == other.similarity && ids_->better(candidate, other));
  };
  std::size_t at = entries_.size();
  entries_.push_back(candidate);
  for (; at > 0 && better(entries_[at - 1]); --at) entries_[at] = entries_[at - 1];
  entries_[at] = candidate;
  if (entries_.size() > k_) entries_.pop_back();
  if (entries_.size() == k_) threshold_ = entries_.back().similarity;
}

void TopK::cut() {
  if (entries_.size() < k_) return;
  const auto kth = entries_.begin() + static_cast<std::ptrdiff_t>(k_ - 1);
  std::nth_element(entries_.begin(), kth, entries_.end(),
                   [this](const Candidate& a, const Candidate& b) { return ids_->better(a, b); });
  entries_.resize(k_);
  threshold_ = entries_.back().similarity;
}

std::vector<Candidate> TopK::take_sorted() {
  if (!sorts()) {
    cut();
    ids_->sort(entries_);
  }
  return std::move(entries_);
}

}  // namespace tessella
