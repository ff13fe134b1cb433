// The flat index: threads, order and other people's memory must not show in its results.
#include <atomic>
#include <cmath>
#include <thread>
#include <vector>

#include "check.h"
#include "common/parallel.h"
#include "data.h"
#include "index/flat.h"
#include "tessella/errors.h"

using namespace tessella;
using data::Tight;

namespace {

constexpr std::size_t kDim = 48;

struct Result {
  std::vector<float> scores;
  std::vector<std::int64_t> ids;
  bool operator==(const Result&) const = default;
};

RowConfig config(const std::vector<std::string>& codecs, Metric metric = Metric::kInnerProduct) {
  return {kDim, metric, false, parse_codecs(codecs), 1};
}

Result search(const FlatIndex& ix, const Tight<float>& queries, std::size_t k, std::size_t threads) {
  const std::size_t nq = queries.size() / kDim;
  Result found{std::vector<float>(nq * k), std::vector<std::int64_t>(nq * k)};
  ix.search({queries.get(), nq, k, 1.9f, threads, found.scores.data(), found.ids.data()});
  return found;
}

const std::vector<std::vector<std::string>> kSpecs = {
    {"F32"},      {"F16"},      {"B1"},        {"U8"},        {"R3"},
    {"B1", "U8"}, {"B1", "N4"}, {"B1", "F32"}, {"U8", "F32"}, {"B1", "U8", "BF16"}};

}  // namespace

TEST(results_do_not_depend_on_threads_or_batches) {
  const auto rows = data::normal(3000 * kDim, 1), queries = data::normal(37 * kDim, 2);
  for (const auto& spec : kSpecs) {
    for (Metric metric : {Metric::kL2, Metric::kInnerProduct}) {
      FlatIndex ix(config(spec, metric), &cpu::active_kernels);
      ix.add(rows.get(), 3000, {}, 2);
      const Result all = search(ix, queries, 10, 1);
      CHECK(all == search(ix, queries, 10, 2) && all == search(ix, queries, 10, 5));
      for (std::size_t q = 0; q < 37; ++q) {
        Tight<float> one(kDim);
        std::copy_n(queries.get() + q * kDim, kDim, one.get());
        for (std::size_t threads : {1u, 3u}) {
          const Result single = search(ix, one, 10, threads);
          for (std::size_t i = 0; i < 10; ++i) {
            CHECK(single.ids[i] == all.ids[q * 10 + i] && single.scores[i] == all.scores[q * 10 + i]);
          }
        }
      }
    }
  }
}

TEST(removing_leaves_what_a_fresh_index_would_have) {
  const auto rows = data::normal(700 * kDim, 3), queries = data::normal(11 * kDim, 4);
  for (const auto& spec : kSpecs) {
    FlatIndex ix(config(spec), &cpu::active_kernels), fresh(config(spec), &cpu::active_kernels);
    ix.train(rows.get(), 700);
    fresh.train(rows.get(), 700);
    ix.add(rows.get(), 700, {}, 1);
    std::vector<std::int64_t> gone, kept;
    for (std::int64_t id = 0; id < 700; ++id) (id * 7 % 10 < 6 ? gone : kept).push_back(id);
    ix.remove(gone);
    for (const std::int64_t id : kept) {
      const std::int64_t one[] = {id};
      fresh.add(rows.get() + static_cast<std::size_t>(id) * kDim, 1, one, 1);
    }
    CHECK(ix.size() == kept.size() && search(ix, queries, 20, 1) == search(fresh, queries, 20, 1));
  }
}

TEST(errors_leave_the_index_as_it_was) {
  const auto rows = data::normal(100 * kDim, 5);
  FlatIndex ix(config({"B1", "U8"}), &cpu::active_kernels);
  ix.add(rows.get(), 100, {}, 1);
  const std::int64_t unknown[] = {3, 100}, twice[] = {3, 3}, taken[] = {100, 7};
  CHECK(check::message_of<Error>([&] { ix.remove(unknown); }) == "remove: id 100 is not in the index");
  CHECK(check::message_of<Error>([&] { ix.remove(twice); }) == "remove: expected ids without repeats; 3 occurs twice");
  CHECK(!check::message_of<Error>([&] { ix.add(rows.get(), 2, taken, 1); }).empty());
  CHECK(!check::message_of<Error>([&] { ix.train(rows.get(), 100); }).empty());
  CHECK(ix.size() == 100 && ix.contains(3) && !ix.contains(100));
}

TEST(snapshots_do_not_change_under_a_writer_and_restore) {
  const auto rows = data::normal(9000 * kDim, 6), queries = data::normal(5 * kDim, 7);
  FlatIndex ix(config({"B1", "U8"}), &cpu::active_kernels), other(config({"B1", "U8"}), &cpu::active_kernels);
  ix.add(rows.get(), 9000, {}, 2);
  const Result before = search(ix, queries, 10, 1);
  FlatSnapshot snapshot = ix.snapshot();
  const std::int64_t gone[] = {0, 1, 8999, 4000};
  ix.remove(gone);
  other.restore(std::move(snapshot));
  CHECK(search(other, queries, 10, 1) == before && other.size() == 9000 && ix.size() == 8996);
}

// Memory lent to an index may be gone once its chunk has been copied: nothing may still point into it.
TEST(removing_from_lent_memory_reads_no_freed_row) {
  const auto rows = data::normal(40 * kDim, 10);
  for (const auto& spec : kSpecs) {
    FlatIndex ix(config(spec), &cpu::active_kernels), lent(config(spec), &cpu::active_kernels);
    ix.add(rows.get(), 40, {}, 1);
    FlatSnapshot snapshot = ix.snapshot();
    for (auto& [name, column] : snapshot.columns) {
      const std::size_t bytes = column.blocks() * column.block_bytes();
      const auto copy = std::make_shared<std::vector<std::uint8_t>>(column.block(0), column.block(0) + bytes);
      column = Column::borrow(column.block_bytes(), copy->data(), column.blocks(), copy);
    }
    lent.restore(std::move(snapshot));
    const std::int64_t gone[] = {3, 0};
    ix.remove(gone);
    lent.remove(gone);
    const auto queries = data::normal(3 * kDim, 11);
    CHECK(search(ix, queries, 38, 1) == search(lent, queries, 38, 1));
  }
}

// Searches see whole rows only: each result's score is that of its row, whatever the writer is doing.
TEST(searches_beside_a_writer_see_whole_rows) {
  const std::size_t n = 6000;
  const auto rows = data::normal(n * kDim, 8), queries = data::normal(2 * kDim, 9);
  FlatIndex ix(config({"B1", "F32"}), &cpu::active_kernels);
  ix.train(rows.get(), n);
  std::atomic<bool> done{false};
  std::atomic<int> searches{0}, torn{0};
  std::vector<std::thread> readers;
  for (int reader = 0; reader < 8; ++reader) {
    readers.emplace_back([&, reader] {
      while (!done) {
        const Result found = search(ix, queries, 10, reader % 2 == 0 ? 1 : 2);
        for (std::size_t i = 0; i < found.ids.size(); ++i) {
          if (found.ids[i] < 0) continue;
          double expected = 0.0;
          const auto row = static_cast<std::size_t>(found.ids[i]) % n;
          for (std::size_t j = 0; j < kDim; ++j) expected += double{queries[i / 10 * kDim + j]} * rows[row * kDim + j];
          if (std::fabs(expected - found.scores[i]) > 1e-3) ++torn;
        }
        ++searches;
      }
    });
  }
  for (std::size_t first = 0; first < n; first += 250) ix.add(rows.get() + first * kDim, 250, {}, 2);
  for (std::int64_t id = 0; id < 500; ++id) {
    const std::int64_t one[] = {id * 11};
    ix.remove(one);
  }
  const std::int64_t same[] = {5999};
  ix.update(same, rows.get() + 5999 * kDim, 1);
  done = true;
  for (auto& reader : readers) reader.join();
  CHECK(torn == 0 && searches > 0 && ix.size() == n - 500);
}
