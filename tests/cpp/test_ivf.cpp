// k-means' kernel on every level, and the inverted file: its results must not show threads, order or company.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <thread>
#include <vector>

#include "check.h"
#include "data.h"
#include "index/ivf.h"
#include "tessella/errors.h"

using namespace tessella;
using data::Tight;

namespace {

constexpr std::size_t kDim = 24;
constexpr std::size_t kLists = 8;

struct Result {
  std::vector<float> scores;
  std::vector<std::int64_t> ids;
  bool operator==(const Result&) const = default;
};

IvfConfig config(const std::vector<std::string>& codecs, bool spill, Metric metric = Metric::kInnerProduct) {
  return {{kDim, metric, false, parse_codecs(codecs), 1}, kLists, spill};
}

Result search(const IvfIndex& ix, const Tight<float>& queries, std::size_t k, std::size_t nprobe, std::size_t threads,
              float epsilon = 1.9f) {
  const std::size_t nq = queries.size() / kDim;
  Result found{std::vector<float>(nq * k), std::vector<std::int64_t>(nq * k)};
  ix.search({{queries.get(), nq, k, epsilon, threads, found.scores.data(), found.ids.data()}, nprobe});
  return found;
}

std::size_t entries(const IvfIndex& ix) {
  std::size_t sum = 0;
  for (const std::size_t size : ix.list_sizes()) sum += size;
  return sum;
}

const std::vector<std::vector<std::string>> kSpecs = {{"F32"}, {"U8"}, {"B1"}, {"B1", "U8"}, {"B1", "N4", "F32"}};

// An index with holes: rows came in pieces, and some have gone or changed.
void fill(IvfIndex& ix, const Tight<float>& rows) {
  const std::size_t n = rows.size() / kDim;
  ix.train(rows.get(), n, 2, {});
  for (std::size_t first = 0; first < n; first += 97) {
    ix.add(rows.get() + first * kDim, std::min<std::size_t>(97, n - first), {}, 2);
  }
  std::vector<std::int64_t> gone, changed;
  for (std::int64_t id = 0; id < static_cast<std::int64_t>(n); ++id) {
    if (id % 7 == 0) gone.push_back(id);
    if (id % 7 == 1) changed.push_back(id);
  }
  ix.remove(gone);
  ix.update(changed, rows.get(), 2);
}

}  // namespace

TEST(kmeans_assign_is_equal_on_every_level) {
  const std::string before = cpu::active_kernels().level;
  for (std::size_t d : {1u, 7u, 64u, 100u}) {
    for (std::size_t n : {1u, 7u, 31u, 127u}) {
      for (std::size_t k : {1u, 33u, 600u}) {
        const auto rows = data::normal(n * d, 1), centroids = data::normal(k * d, 2), offsets = data::normal(k, 3);
        for (const float* from : {offsets.get(), static_cast<const float*>(nullptr)}) {
          const auto assign = [&](const Kernels& kernels) {
            std::pair out{Tight<std::uint32_t>(n), Tight<float>(n)};
            AlignedBuffer scratch(kernels.kmeans_assign_scratch(n, k, d));
            kernels.kmeans_assign({rows.get(), n, d, centroids.get(), from, k, out.first.get(), out.second.get(),
                                   scratch.data(), nullptr});
            return out;
          };
          const auto expected = assign(data::level("scalar"));
          for (const std::string& name : cpu::available_levels()) {
            const auto got = assign(data::level(name));
            CHECK(got.first == expected.first && got.second == expected.second);
          }
        }
      }
    }
  }
  cpu::pin_level(before);
}

TEST(kmeans_assign_gives_ties_to_the_smaller_number) {
  const std::string before = cpu::active_kernels().level;
  const std::size_t n = 33, d = 5, k = 700;
  const auto rows = data::normal(n * d, 4), once = data::normal(d, 5);
  Tight<float> centroids(k * d);
  for (std::size_t c = 0; c < k; ++c) std::copy_n(once.get(), d, centroids.get() + c * d);
  for (const std::string& name : cpu::available_levels()) {
    const Kernels& kernels = data::level(name);
    Tight<std::uint32_t> nearest(n);
    Tight<float> similarity(n);
    AlignedBuffer scratch(kernels.kmeans_assign_scratch(n, k, d));
    kernels.kmeans_assign(
        {rows.get(), n, d, centroids.get(), nullptr, k, nearest.get(), similarity.get(), scratch.data(), nullptr});
    for (std::size_t i = 0; i < n; ++i) CHECK(nearest[i] == 0);
  }
  cpu::pin_level(before);
}

TEST(kmeans_trains_the_same_at_any_number_of_threads) {
  const auto rows = data::normal(2000 * 6, 6);
  for (const std::size_t k : {5u, 520u}) {
    const KmeansConfig how{.k = k, .iterations = 3, .spherical = false, .seed = 7, .sample = 256};
    const KmeansResult one = kmeans_train(&cpu::active_kernels, rows.get(), 2000, 6, how, 1, {});
    const KmeansResult three = kmeans_train(&cpu::active_kernels, rows.get(), 2000, 6, how, 3, {});
    CHECK(one.centroids == three.centroids && one.costs == three.costs && one.sizes == three.sizes);
    CHECK(one.centroids.size() == k * 6 && one.costs.size() == 3 && one.costs[2] <= one.costs[0]);
  }
}

TEST(ivf_results_do_not_depend_on_threads_or_batches) {
  const auto rows = data::normal(900 * kDim, 8), queries = data::normal(35 * kDim, 9);
  for (const auto& spec : kSpecs) {
    for (const bool spill : {false, true}) {
      IvfIndex ix(config(spec, spill, spill ? Metric::kL2 : Metric::kInnerProduct), &cpu::active_kernels);
      fill(ix, rows);
      CHECK(entries(ix) == ix.size() * (spill ? 2 : 1) && ix.lists() == kLists);
      for (const std::size_t nprobe : {std::size_t{2}, kLists}) {
        const Result all = search(ix, queries, 10, nprobe, 1);
        CHECK(all == search(ix, queries, 10, nprobe, 2) && all == search(ix, queries, 10, nprobe, 5));
        for (std::size_t q = 0; q < 35; ++q) {
          Tight<float> one(kDim);
          std::copy_n(queries.get() + q * kDim, kDim, one.get());
          const Result single = search(ix, one, 10, nprobe, 2);
          for (std::size_t i = 0; i < 10; ++i) {
            CHECK(single.ids[i] == all.ids[q * 10 + i] && single.scores[i] == all.scores[q * 10 + i]);
          }
        }
      }
    }
  }
}

TEST(ivf_snapshots_do_not_change_under_a_writer_and_restore) {
  const auto rows = data::normal(500 * kDim, 10), queries = data::normal(5 * kDim, 11);
  for (const auto& spec : kSpecs) {
    for (const bool spill : {false, true}) {
      IvfIndex ix(config(spec, spill), &cpu::active_kernels), other(config(spec, spill), &cpu::active_kernels);
      fill(ix, rows);
      const Result before = search(ix, queries, 10, 3, 1, 20.0f);
      IvfSnapshot snapshot = ix.snapshot();
      const auto ids = ix.ids();
      ix.remove(std::span(ids).first(100));
      ix.update(std::span(ids).subspan(200, 50), rows.get(), 1);
      ix.compact(1);
      other.restore(std::move(snapshot));
      CHECK(search(other, queries, 10, 3, 1, 20.0f) == before && other.size() == ix.size() + 100);
      other.remove(std::span(ids).first(100));  // and what was lent is copied before it is written
      other.update(std::span(ids).subspan(200, 50), rows.get(), 1);
      CHECK(search(other, queries, 10, 3, 1, 20.0f) == search(ix, queries, 10, 3, 1, 20.0f));
    }
  }
}

TEST(ivf_errors_leave_the_index_as_it_was) {
  const auto rows = data::normal(100 * kDim, 12);
  IvfIndex ix(config({"B1", "U8"}, true), &cpu::active_kernels);
  const auto message = [&](const std::function<void()>& body) { return check::message_of<Error>(body); };
  CHECK(message([&] { ix.add(rows.get(), kLists - 1, {}, 1); }).starts_with("train: expected at least as many rows"));
  CHECK(!ix.trained() && ix.size() == 0);
  ix.add(rows.get(), 100, {}, 1);
  const std::int64_t unknown[] = {3, 100}, twice[] = {3, 3}, taken[] = {100, 7};
  CHECK(message([&] { ix.remove(unknown); }) == "remove: id 100 is not in the index");
  CHECK(message([&] { ix.update(twice, rows.get(), 1); }).starts_with("update: expected ids without repeats"));
  CHECK(message([&] { ix.add(rows.get(), 2, taken, 1); }).starts_with("add: expected new ids; 7"));
  CHECK(message([&] { ix.train(rows.get(), 100, 1, {}); }).starts_with("train: expected an empty index"));
  CHECK(ix.size() == 100 && ix.contains(3) && !ix.contains(100) && entries(ix) == 200);
}

// Searches see whole rows only, in whichever of their lists: each score is that of its row.
TEST(ivf_searches_beside_a_writer_see_whole_rows) {
  const std::size_t n = 1500;
  const auto rows = data::normal(n * kDim, 13), queries = data::normal(2 * kDim, 14);
  IvfIndex ix(config({"B1", "F32"}, true), &cpu::active_kernels);
  ix.train(rows.get(), n, 2, {});
  std::atomic<bool> done{false};
  std::atomic<int> searches{0}, torn{0};
  std::vector<std::thread> readers;
  for (std::size_t reader = 0; reader < 2; ++reader) {
    readers.emplace_back([&, reader] {
      while (!done) {
        const Result found = search(ix, queries, 10, reader == 0 ? 3 : kLists, reader + 1);
        for (std::size_t i = 0; i < found.ids.size(); ++i) {
          if (found.ids[i] < 0) continue;
          double expected = 0.0;
          const auto row = static_cast<std::size_t>(found.ids[i]);
          for (std::size_t j = 0; j < kDim; ++j) expected += double{queries[i / 10 * kDim + j]} * rows[row * kDim + j];
          if (std::fabs(expected - found.scores[i]) > 1e-3) ++torn;
          for (std::size_t other = i / 10 * 10; other < i; ++other) torn += found.ids[other] == found.ids[i];
        }
        ix.range_search(queries.get(), 2, 5.0f, 1.9f, 2, 1);
        ++searches;
      }
    });
  }
  for (std::size_t first = 0; first < n; first += 50) {
    ix.add(rows.get() + first * kDim, 50, {}, 2);
    const auto id = static_cast<std::int64_t>(first);
    const std::int64_t some[] = {id, id + 1, id + 2};
    ix.update(some, rows.get() + first * kDim, 1);  // by what they were
    if (first % 200 == 0) ix.compact(2);
    if (first % 300 == 0) ix.snapshot();
  }
  for (std::int64_t id = 0; id < 200; ++id) {
    const std::int64_t one[] = {id * 7};
    ix.remove(one);
  }
  done = true;
  for (auto& reader : readers) reader.join();
  CHECK(torn == 0 && searches > 0 && ix.size() == n - 200 && entries(ix) == 2 * ix.size());
}
