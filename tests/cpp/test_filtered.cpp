// Searches under bitmaps, in every structure: only rows that count, as many as there are, the best of them where every
// way is exact, and the same at any number of threads and in any company.
#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <vector>

#include "check.h"
#include "data.h"
#include "index/filtered.h"
#include "index/graph.h"
#include "index/ivf.h"
#include "tessella/errors.h"

using namespace tessella;
using data::Tight;

namespace {

constexpr std::size_t kDim = 24, kRows = 3000, kQueries = 17;

struct Bitmap {
  Tight<std::uint64_t> words;
  std::size_t count = 0;
  Bitmap() : words((kRows + 63) / 64) {}
  void add(std::size_t row) {
    words[row / 64] |= std::uint64_t{1} << row % 64;
    ++count;
  }
  bool has(std::int64_t id) const {
    return id >= 0 && (words[static_cast<std::size_t>(id) / 64] >> (id % 64) & 1) != 0;
  }
  RowBitmap view() const { return {{words.get(), words.size()}, count}; }
};

// Rows that `admits` likes.
Bitmap those(const std::function<bool(std::size_t)>& admits) {
  Bitmap bitmap;
  for (std::size_t row = 0; row < kRows; ++row) {
    if (admits(row)) bitmap.add(row);
  }
  return bitmap;
}

std::vector<Bitmap> bitmaps() {
  std::vector<Bitmap> all;
  all.push_back(those([](std::size_t) { return false; }));
  all.push_back(those([](std::size_t row) { return row == 2999; }));
  for (const std::size_t every : {700u, 100u, 10u, 2u, 1u}) {
    all.push_back(those([&](std::size_t row) { return row % every == every / 2; }));
  }
  all.push_back(those([](std::size_t row) { return row >= 1000 && row < 1037; }));  // whole blocks left out
  return all;
}

struct Result {
  std::vector<float> scores;
  std::vector<std::int64_t> ids;
  std::vector<Plan> plans;
};

using Search = std::function<void(const SearchRequest&)>;

Result search(const Search& ask, const float* queries, std::size_t nq, std::size_t k, std::size_t threads,
              std::span<const RowBitmap> allowed) {
  Result found{std::vector<float>(nq * k), std::vector<std::int64_t>(nq * k), std::vector<Plan>(nq)};
  SearchRequest request{queries, nq, k, 1.9f, threads, found.scores.data(), found.ids.data()};
  request.allowed = allowed;
  request.plans = found.plans.data();
  ask(request);
  return found;
}

void check_matches(const Result& found, std::size_t k, const Bitmap& bitmap) {
  const std::size_t wanted = std::min(k, bitmap.count);
  for (std::size_t q = 0; q < found.ids.size() / k; ++q) {
    const auto first = found.ids.begin() + static_cast<std::ptrdiff_t>(q * k);
    std::vector<std::int64_t> ids(first, first + static_cast<std::ptrdiff_t>(wanted));
    CHECK(std::all_of(ids.begin(), ids.end(), [&](std::int64_t id) { return bitmap.has(id); }));
    std::sort(ids.begin(), ids.end());
    CHECK(std::unique(ids.begin(), ids.end()) == ids.end());
    for (std::size_t i = wanted; i < k; ++i) CHECK(first[static_cast<std::ptrdiff_t>(i)] == -1);
  }
}

// One structure under every bitmap: alone, for all queries, and one for each.
void check_search(const Search& ask, const Tight<float>& queries) {
  const auto all = bitmaps();
  for (const std::size_t k : {1u, 10u, 60u}) {
    std::vector<Result> alone;
    for (const Bitmap& bitmap : all) {
      const RowBitmap view = bitmap.view();
      const Result found = search(ask, queries.get(), kQueries, k, 1, {&view, 1});
      check_matches(found, k, bitmap);
      const Result again = search(ask, queries.get(), kQueries, k, 2, {&view, 1});
      CHECK(found.ids == again.ids && found.scores == again.scores);
      alone.push_back(found);
    }
    std::vector<RowBitmap> each;
    for (std::size_t q = 0; q < kQueries; ++q) each.push_back(all[q % all.size()].view());
    const Result mixed = search(ask, queries.get(), kQueries, k, 2, each);
    for (std::size_t q = 0; q < kQueries; ++q) {
      const Result& same = alone[q % all.size()];
      for (std::size_t i = q * k; i < (q + 1) * k; ++i) {
        CHECK(mixed.ids[i] == same.ids[i] && mixed.scores[i] == same.scores[i]);
      }
    }
  }
}

RowConfig rows_of(const std::vector<std::string>& codecs, Metric metric) {
  return {kDim, metric, false, parse_codecs(codecs), 1};
}

const Metric kMetrics[] = {Metric::kInnerProduct, Metric::kL2};

}  // namespace

TEST(filtered_searches_of_a_flat_index) {
  const auto rows = data::normal(kRows * kDim, 1), queries = data::normal(kQueries * kDim, 2);
  const std::vector<std::vector<std::string>> specs = {{"F32"},      {"U8"},        {"B1"},
                                                       {"B1", "U8"}, {"B1", "F32"}, {"U8", "F32"}};
  for (const auto& spec : specs) {
    for (const Metric metric : kMetrics) {
      FlatIndex ix(rows_of(spec, metric), &cpu::active_kernels);
      ix.add(rows.get(), kRows, {}, 2);
      check_search([&](const SearchRequest& request) { ix.search(request); }, queries);
    }
  }
}

TEST(filtered_searches_of_an_inverted_file) {
  const auto rows = data::normal(kRows * kDim, 3), queries = data::normal(kQueries * kDim, 4);
  const std::vector<std::vector<std::string>> specs = {{"F32"}, {"U8"}, {"B1"}, {"B1", "U8"}, {"B1", "N4", "F32"}};
  for (const auto& spec : specs) {
    for (const bool spill : {false, true}) {
      IvfIndex ix({rows_of(spec, kMetrics[spill]), 64, spill}, &cpu::active_kernels);
      ix.train(rows.get(), kRows, 2, {});
      ix.add(rows.get(), kRows, {}, 2);
      for (const std::size_t nprobe : {1u, 5u, 64u}) {
        check_search([&](const SearchRequest& request) { ix.search({request, nprobe}); }, queries);
      }
    }
  }
}

TEST(filtered_searches_of_a_graph) {
  const auto rows = data::normal(kRows * kDim, 5), queries = data::normal(kQueries * kDim, 6);
  const std::vector<std::vector<std::string>> specs = {{"F32"}, {"U8"}, {"B1", "U8"}};
  for (const auto& spec : specs) {
    GraphIndex ix({rows_of(spec, Metric::kL2), 32}, &cpu::active_kernels);
    ix.add(rows.get(), kRows, {}, 2);
    for (const std::size_t ef : {10u, 100u}) {
      check_search([&](const SearchRequest& request) { ix.search({request, ef}); }, queries);
    }
  }
}

TEST(a_gathering_finds_exactly_the_best) {
  const auto rows = data::normal(kRows * kDim, 7), queries = data::normal(kQueries * kDim, 8);
  FlatIndex ix(rows_of({"F32"}, Metric::kL2), &cpu::active_kernels);
  ix.add(rows.get(), kRows, {}, 2);
  for (const Bitmap& bitmap : bitmaps()) {
    const RowBitmap view = bitmap.view();
    const auto ask = [&](const SearchRequest& request) { ix.search(request); };
    const Result found = search(ask, queries.get(), kQueries, 10, 2, {&view, 1});
    const Result all = search(ask, queries.get(), kQueries, 2048, 1, {});
    for (std::size_t q = 0; q < kQueries; ++q) {
      std::size_t at = q * 10;
      for (std::size_t i = q * 2048; i < (q + 1) * 2048 && at < q * 10 + std::min<std::size_t>(10, bitmap.count); ++i) {
        if (bitmap.has(all.ids[i])) CHECK(found.ids[at] == all.ids[i] && found.scores[at++] == all.scores[i]);
      }
    }
  }
}

// Every way has its use, and is chosen where it has.
TEST(plans_follow_the_number_of_matches) {
  const auto rows = data::normal(kRows * kDim, 9);
  Rows codes(rows_of({"B1", "U8"}, Metric::kL2), &cpu::active_kernels);
  const RowScorer scorer(codes, 1.9f);
  const std::size_t n = 1'000'000;
  Ground flat(scorer, n), lists(scorer, n), graph(scorer, n);
  flat.offer_scan();
  lists.offer_lists(4096, 16, true);
  graph.offer_walk(64, 32, true);
  for (const Ground* each : {&flat, &lists, &graph}) {
    CHECK(plan_for(*each, 10, 0).way == Way::kGather);
    CHECK(plan_for(*each, 10, 100).way == Way::kGather);
    CHECK(plan_for(*each, 10, n).way != Way::kGather);
  }
  CHECK(plan_for(flat, 10, n).way == Way::kScan && plan_for(graph, 10, n).way == Way::kWalk);
  CHECK(plan_for(lists, 10, n / 2).way == Way::kLists);
  CHECK(widened(16, n, n) == 16 && widened(16, n / 4, n) == 64 && widened(16, 0, n) == n);
  Rows bits(rows_of({"B1"}, Metric::kL2), &cpu::active_kernels);
  Ground alone(RowScorer(bits, 1.9f), n);
  alone.offer_scan();
  CHECK(plan_for(alone, 10, 1).way == Way::kScan);  // nothing there to score a row by itself
}
