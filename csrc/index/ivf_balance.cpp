// Keeping inverted lists even after many changes: what has grown far beyond the others is split in two, what has all
// but emptied is given up. Rows are taken from their finest codec, and only their scan codes are made anew (SPFresh,
// Zhang et al., 2023, does the same in the background).
#include <algorithm>

#include "index/ivf.h"

namespace tessella {

namespace {

constexpr std::size_t kLong = 4;        // times the mean: a list this long is split
constexpr std::size_t kShort = 16;      // a list shorter than the mean by this factor is given up
constexpr std::size_t kFewest = 64;     // rows of a list worth splitting
constexpr std::size_t kIterations = 8;  // of the 2-means behind a split
constexpr std::size_t kRehome = 4;      // lists looked at for a row that loses its own

}  // namespace

std::vector<float> IvfIndex::values_of(std::span<const std::uint32_t> rows) const {
  std::vector<float> values(rows.size() * config().dim);
  for (std::size_t i = 0; i < rows.size(); ++i) decode(rows[i], values.data() + i * config().dim);
  return values;
}

void IvfIndex::set_centroid(std::size_t list, const float* centroid, std::size_t threads) {
  centroids_.store(centroids_.encode(centroid, 1, threads), 0, list);
  shrinks_[list] = 1.0f;
}

// Gives a row another list in place of one of its homes; its entry there is gone already.
void IvfIndex::move_home(const float* row, std::uint32_t number, std::size_t home, std::uint32_t list) {
  std::vector<std::uint32_t> homes(this->homes(), kNone);
  homes[home] = list;
  const Entries entries = scans_codes() ? encode_entries(row, homes.data(), 1) : Entries{};
  homes_[home][number] = list;
  append_row(entries, 0, homes.data(), number);
}

// False, and nothing changed, where its rows are all alike.
bool IvfIndex::split_list(std::size_t list, std::size_t threads) {
  const std::size_t d = config().dim;
  const auto numbers = lists_[list].numbers();
  const std::vector<std::uint32_t> rows(numbers.begin(), numbers.end());
  const std::vector<float> values = values_of(rows);
  const bool spherical = config().metric == Metric::kInnerProduct;
  const KmeansConfig how{
      .k = 2, .iterations = kIterations, .spherical = spherical, .seed = config().seed, .sample = rows.size()};
  const KmeansResult halves = kmeans_train(kernels_, values.data(), rows.size(), d, how, threads, {});
  if (std::ranges::all_of(halves.nearest, [&](std::uint32_t half) { return half == halves.nearest.front(); })) {
    return false;
  }
  const std::size_t other = lists_.count();
  lists_.clear(list);
  lists_.add_list();
  centroids_.resize(other + 1);
  shrinks_.push_back(1.0f);
  set_centroid(list, halves.centroids.data(), threads);
  set_centroid(other, halves.centroids.data() + d, threads);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::size_t home = homes_[0][rows[i]] == list ? 0 : 1;
    move_home(values.data() + i * d, rows[i], home, static_cast<std::uint32_t>(halves.nearest[i] == 0 ? list : other));
  }
  return true;
}

void IvfIndex::give_up_list(std::size_t list, std::size_t threads) {
  const std::size_t d = config().dim, last = lists_.count() - 1;
  const auto numbers = lists_[list].numbers();
  const std::vector<std::uint32_t> rows(numbers.begin(), numbers.end());
  const std::vector<float> values = values_of(rows);
  const std::size_t wanted = std::min(kRehome, lists_.count());
  std::vector<float> scores(rows.size() * wanted);
  std::vector<std::int64_t> nearest(rows.size() * wanted);
  flat_centroids()->search({values.data(), rows.size(), wanted, 4.0f, threads, scores.data(), nearest.data()});
  lists_.clear(list);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::size_t home = homes_[0][rows[i]] == list ? 0 : 1;
    const std::uint32_t kept = homes() == 2 ? homes_[1 - home][rows[i]] : kNone;
    std::uint32_t next = kNone;
    for (std::size_t c = 0; c < wanted && next == kNone; ++c) {
      const auto candidate = static_cast<std::uint32_t>(nearest[i * wanted + c]);
      if (nearest[i * wanted + c] >= 0 && candidate != list && candidate != kept) next = candidate;
    }
    if (next == kNone) next = list == 0 || kept == 0 ? static_cast<std::uint32_t>(last) : 0;
    if (next != kept && next != list) {
      move_home(values.data() + i * d, rows[i], home, next);
    } else {
      homes_[home][rows[i]] = kNone;  // its other list remains
      if (home == 0) std::swap(homes_[0][rows[i]], homes_[1][rows[i]]);
    }
  }
  lists_.drop_list(list);
  if (list != last) {
    centroids_.move(last, list);
    shrinks_[list] = shrinks_[last];
    for (const std::uint32_t row : lists_[list].numbers()) {
      for (std::size_t h = 0; h < homes(); ++h) {
        if (homes_[h][row] == last) homes_[h][row] = static_cast<std::uint32_t>(list);
      }
    }
  }
  shrinks_.pop_back();
  centroids_.resize(last);
}

void IvfIndex::compact(std::size_t threads) {
  const std::lock_guard writing(writer_);
  const auto publishing = lock_.write();
  if (lists_.count() > 0) {
    const std::size_t mean = lists_.entries() / lists_.count();
    for (std::size_t l = 0; l < lists_.count(); ++l) {
      while (lists_[l].size > std::max(kLong * mean, kFewest) && split_list(l, threads)) {
      }
    }
    // Never down to a pair: with two homes, a row needs another list to go to.
    for (std::size_t l = lists_.count(); l-- > 0 && lists_.count() > 3;) {
      if (lists_[l].size * kShort < mean) give_up_list(l, threads);
    }
    refresh_centroids();
  }
  lists_.compact();
}

}  // namespace tessella
