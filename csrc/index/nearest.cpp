#include "index/nearest.h"

#include <algorithm>
#include <cmath>

#include "index/flat.h"
#include "index/ivf.h"

namespace tessella {

namespace {

constexpr float kEpsilon = 1.9f;          // error bounds kept
constexpr std::size_t kSliceRows = 8192;  // rows that look together, so that a search's own room stays small
constexpr std::size_t kOneOf = 4;         // lists: the share that a row looks into

}  // namespace

NearestCentroids::NearestCentroids(std::unique_ptr<FlatIndex> all, KernelsFn kernels, std::size_t threads)
    : all_(std::move(all)) {
  const std::size_t count = all_->size();
  if (count < kTwoLevels) return;
  std::vector<float> values(count * all_->config().dim);
  all_->reconstruct(all_->ids(), values.data());
  const auto lists = static_cast<std::size_t>(std::sqrt(static_cast<double>(count)));
  lists_ = std::make_unique<IvfIndex>(IvfConfig{.rows = all_->config(), .lists = lists}, kernels);
  lists_->add(values.data(), count, {}, threads);
}

NearestCentroids::~NearestCentroids() = default;

std::size_t NearestCentroids::nbytes() const { return lists_ != nullptr ? lists_->nbytes() : 0; }

void NearestCentroids::find(const float* rows, std::size_t n, std::size_t wanted, std::size_t threads, float* scores,
                            std::int64_t* numbers, std::span<const std::uint32_t> guesses) const {
  for (std::size_t first = 0; first < n; first += kSliceRows) {
    SearchRequest part{rows + first * all_->config().dim, std::min(kSliceRows, n - first), wanted, kEpsilon, threads,
                       scores + first * wanted,           numbers + first * wanted};
    if (lists_ == nullptr) {
      if (!guesses.empty()) part.guesses = guesses.subspan(first, part.nq);
      all_->search(part);
    } else {
      lists_->search({part, lists_->lists() / kOneOf});
    }
  }
}

}  // namespace tessella
