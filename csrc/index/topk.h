// The k best candidates of a stream, on the caller's thread. Higher similarity first; ties by smaller id.
#pragma once

#include <limits>
#include <vector>

#include "index/ids.h"
#include "tessella/types.h"

namespace tessella {

class TopK {
 public:
  TopK(std::size_t k, const IdMap& ids) : k_(k), ids_(&ids) { entries_.reserve(sorts() ? k + 1 : 2 * k + 64); }

  // Similarity a candidate must reach to matter (an equal one may win by its id); -inf until k are known.
  float threshold() const { return threshold_; }

  void push(float similarity, std::int64_t row) {
    if (!(similarity >= threshold_)) return;
    if (sorts()) return insert({similarity, row});
    entries_.push_back({similarity, row});
    if (entries_.size() == 2 * k_ + 64 || (entries_.size() == k_ && threshold_ < kLowest)) cut();
  }

  // Makes threshold() nearly as sharp as it can be: a long list is cut back to the k best once enough others have come
  // for that to cost little a candidate.
  void sharpen() {
    if (!sorts() && (entries_.size() > k_ + k_ / 8 || (entries_.size() >= k_ && threshold_ < kLowest))) cut();
  }
  std::vector<Candidate> take_sorted();  // at most k, best first

 private:
  static constexpr std::size_t kSorted = 64;  // lists up to this length are kept in order: cheaper than cutting
  bool sorts() const { return k_ <= kSorted; }
  void insert(const Candidate& candidate);
  void cut();  // to the k best known now

  static constexpr float kLowest = std::numeric_limits<float>::lowest();

  std::size_t k_;
  const IdMap* ids_;
  float threshold_ = -std::numeric_limits<float>::infinity();
  std::vector<Candidate> entries_;
};

}  // namespace tessella
