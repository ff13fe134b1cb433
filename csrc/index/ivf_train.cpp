// Training an inverted file: its centre, its centroids, and what codes in a list are taken about.
#include <algorithm>
#include <string>

#include "common/sums.h"
#include "index/ivf.h"
#include "tessella/errors.h"

namespace tessella {

namespace {

constexpr std::size_t kFewestRows = 39;  // a list: fewer training rows make poor centroids
constexpr std::size_t kFewestToDecide = 256;
constexpr std::size_t kWarm = 4, kIterations = 2;  // of k-means: on a part of the rows, and on all of them
constexpr std::size_t kSample = 256;               // rows drawn for each centroid
constexpr std::size_t kShrinkRows = 64;            // rows for each list that decide on its shrink

[[noreturn]] void refuse(const std::string& what) { throw Error(ErrorKind::kInvalidArgument, what); }

}  // namespace

std::size_t default_lists(std::size_t rows) {
  std::size_t lists = 1;
  while (2 * lists * 2 * lists <= 2 * 64 * rows && lists < 65'536) lists *= 2;  // the power of two next to 8 sqrt(n)
  while (lists > 1 && lists * 8 > rows) lists /= 2;
  return lists;
}

void IvfIndex::train(const float* x, std::size_t n, std::size_t threads, const KmeansProgress& progress) {
  const std::lock_guard writing(writer_);
  if (n == 0) refuse("train: expected at least one row; got 0");
  require_empty(ids_, "train");
  train_locked(x, n, threads, progress);
}

void IvfIndex::train_locked(const float* x, std::size_t n, std::size_t threads, const KmeansProgress& progress) {
  if (config_.lists == 0 && n < kFewestToDecide) {
    refuse("train: expected at least " + std::to_string(kFewestToDecide) +
           " rows to decide on a number of lists, or a spec that has one, such as IVF16; got " + std::to_string(n));
  }
  const std::size_t lists = config_.lists != 0 ? config_.lists : default_lists(n);
  if (n < lists) {
    refuse("train: expected at least as many rows as lists, " + std::to_string(lists) + ", and better " +
           std::to_string(kFewestRows) + " times as many; got " + std::to_string(n));
  }
  const Prepared rows = rows_.prepared(x, n);
  const bool spherical = config().metric == Metric::kInnerProduct;
  const KmeansConfig how{.k = lists,
                         .iterations = kIterations,
                         .spherical = spherical,
                         .seed = config().seed,
                         .sample = kSample,
                         .warm = kWarm};
  const KmeansResult found = kmeans_train(kernels_, rows.data(), n, config().dim, how, threads, progress);
  std::vector<float> mean = rows_.mean(x, n);
  const auto publishing = lock_.write();
  rows_.set_centre(mean);
  centroids_.set_centre(std::move(mean));
  set_centroids(found.centroids.data(), lists, threads);
  fit_shrinks(rows.data(), found);
  refresh_centroids();
  trained_ = true;
}

void IvfIndex::set_centroids(const float* centroids, std::size_t count, std::size_t threads) {
  const EncodedRows codes = centroids_.encode(centroids, count, threads);
  centroids_.resize(count);
  for (std::size_t l = 0; l < count; ++l) centroids_.store(codes, l, l);
  lists_.reset(count);
}

// Under inner product centroids have unit length, which makes them good signposts, but their rows' mean lies nearer to
// the origin: codes are taken about the point of the centroid's line (from the centre) that fits the rows best.
void IvfIndex::fit_shrinks(const float* rows, const KmeansResult& found) {
  shrinks_.assign(lists_.count(), 1.0f);
  if (config().metric == Metric::kL2) return;
  const std::size_t padded = rows_.padded(), d = config().dim, count = lists_.count();
  std::vector<float> rotated(count * padded), residual(padded);
  for (std::size_t l = 0; l < count; ++l) centroids_.decode_residual(l, rotated.data() + l * padded);
  std::vector<double> along(count, 0.0);
  std::vector<std::size_t> counts(count, 0);
  for (std::size_t i = 0; i < found.nearest.size(); ++i) {
    const std::size_t l = found.nearest[i];
    if (counts[l] == kShrinkRows) continue;
    rows_.rotate(rows + (found.rows.empty() ? i : found.rows[i]) * d, 1, residual.data());
    along[l] += dot(residual.data(), rotated.data() + l * padded, padded);
    ++counts[l];
  }
  for (std::size_t l = 0; l < count; ++l) {
    const double norm2 = dot(rotated.data() + l * padded, rotated.data() + l * padded, padded);
    if (counts[l] == 0 || norm2 == 0.0) continue;
    shrinks_[l] = static_cast<float>(std::clamp(along[l] / static_cast<double>(counts[l]) / norm2, 0.0, 1.0));
  }
}

// What a list's codes are taken about, (D) after rotation and about the centre.
void IvfIndex::centre_of(std::size_t list, float* centre) const {
  centroids_.decode_residual(list, centre);
  for (std::size_t j = 0; j < rows_.padded(); ++j) centre[j] *= shrinks_[list];
}

// What follows from the centroids' codes and the centre.
void IvfIndex::refresh_centroids() {
  nearest_.reset();
  nearest_bytes_ = 0;
  const std::size_t padded = rows_.padded();
  const std::vector<float> origin(config().dim, 0.0f);
  rotated_centre_.assign(padded, 0.0f);
  if (config().metric == Metric::kInnerProduct) {
    rows_.kernels().rotate_forward(
        {rows_.signs().data(), rows_.centre().data(), 1, config().dim, origin.data(), rotated_centre_.data(), nullptr});
  }
  anchors_norm2_.resize(lists_.count());
  std::vector<float> centroid(padded);
  for (std::size_t l = 0; l < lists_.count(); ++l) {
    centre_of(l, centroid.data());
    double norm2 = 0.0;
    for (std::size_t j = 0; j < padded; ++j) {
      const double anchor = double{centroid[j]} + rotated_centre_[j];
      norm2 += anchor * anchor;
    }
    anchors_norm2_[l] = static_cast<float>(norm2);
  }
}

}  // namespace tessella
