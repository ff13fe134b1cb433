// The graph beside itself: its results must not show threads, company, or where its memory came from.
#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "check.h"
#include "data.h"
#include "index/graph.h"
#include "tessella/errors.h"

using namespace tessella;
using data::Tight;

namespace {

constexpr std::size_t kDim = 24;

struct Result {
  std::vector<float> scores;
  std::vector<std::int64_t> ids;
  bool operator==(const Result&) const = default;
};

GraphConfig config(const std::vector<std::string>& codecs, Metric metric = Metric::kInnerProduct,
                   std::size_t degree = 32) {
  return {{kDim, metric, false, parse_codecs(codecs), 1}, degree};
}

Result search(const GraphIndex& ix, const Tight<float>& queries, std::size_t k, std::size_t ef, std::size_t threads = 1,
              std::span<const std::uint64_t> allowed = {}) {
  const std::size_t nq = queries.size() / kDim;
  Result found{std::vector<float>(nq * k), std::vector<std::int64_t>(nq * k)};
  std::size_t count = 0;
  for (const std::uint64_t word : allowed) count += static_cast<std::size_t>(std::popcount(word));
  const RowBitmap bitmap{allowed, count};
  SearchRequest request{queries.get(), nq, k, 1.9f, threads, found.scores.data(), found.ids.data()};
  if (!allowed.empty()) request.allowed = {&bitmap, 1};
  ix.search({request, ef});
  return found;
}

const std::vector<std::vector<std::string>> kSpecs = {{"F32"}, {"U8"}, {"B1", "U8"}, {"B1", "N4", "F32"}};

// A graph with holes: rows came in pieces, and some have gone or changed.
void fill(GraphIndex& ix, const Tight<float>& rows, std::size_t threads) {
  const std::size_t n = rows.size() / kDim;
  for (std::size_t first = 0; first < n; first += 197) {
    ix.add(rows.get() + first * kDim, std::min<std::size_t>(197, n - first), {}, threads);
  }
  std::vector<std::int64_t> gone, changed;
  for (std::int64_t id = 0; id < static_cast<std::int64_t>(n); ++id) {
    if (id % 19 == 0) gone.push_back(id);
    if (id % 19 == 1) changed.push_back(id);
  }
  ix.remove(gone);
  ix.update(changed, rows.get(), threads);
}

// Links as a file may bring them.
using Damage = void (*)(std::uint32_t* lanes, std::size_t row, std::size_t n);
const Damage kDamages[] = {
    [](std::uint32_t* lanes, std::size_t, std::size_t) { std::fill_n(lanes, 32, kNoRow); },
    [](std::uint32_t* lanes, std::size_t row, std::size_t) { std::fill_n(lanes, 32, static_cast<std::uint32_t>(row)); },
    [](std::uint32_t* lanes, std::size_t row, std::size_t n) {  // out of the rows, some only just
      for (std::size_t i = 0; i < 32; ++i) lanes[i] = static_cast<std::uint32_t>(n + (row * 7 + i) % 90);
    },
    [](std::uint32_t* lanes, std::size_t row, std::size_t) {
      for (std::size_t i = 0; i < 32; ++i) lanes[i] = 0x7FFFFFF0u + static_cast<std::uint32_t>((row + i) % 64);
    },
    [](std::uint32_t* lanes, std::size_t row, std::size_t) {  // the same few, over and over
      for (std::size_t i = 0; i < 32; ++i) lanes[i] = static_cast<std::uint32_t>((row + i) % 3);
    },
};

}  // namespace

TEST(graph_results_do_not_depend_on_threads_or_batches) {
  const auto rows = data::normal(900 * kDim, 8), queries = data::normal(23 * kDim, 9);
  for (const auto& spec : kSpecs) {
    GraphIndex one(config(spec, Metric::kL2), &cpu::active_kernels),
        two(config(spec, Metric::kL2), &cpu::active_kernels);
    fill(one, rows, 1);
    fill(two, rows, 3);
    CHECK(one.size() == 900 - 48 && one.ids() == two.ids());
    for (const std::size_t ef : {std::size_t{1}, std::size_t{40}, std::size_t{5000}}) {
      const Result all = search(one, queries, 10, ef);
      CHECK(all == search(two, queries, 10, ef, 2) && all == search(one, queries, 10, ef, 5));
      for (std::size_t q = 0; q < 23; q += 4) {
        Tight<float> alone(kDim);
        std::copy_n(queries.get() + q * kDim, kDim, alone.get());
        const Result single = search(one, alone, 10, ef, 2);
        CHECK(std::equal(single.ids.begin(), single.ids.end(), all.ids.begin() + static_cast<std::ptrdiff_t>(q * 10)));
      }
    }
  }
}

TEST(graph_searches_return_allowed_rows_only_and_as_many_as_there_are) {
  const std::size_t n = 700;
  const auto rows = data::normal(n * kDim, 10), queries = data::normal(6 * kDim, 11);
  for (const auto& spec : kSpecs) {
    GraphIndex ix(config(spec), &cpu::active_kernels);
    ix.add(rows.get(), n, {}, 2);
    const std::int64_t gone[] = {5, 70, 600};
    ix.remove(gone);  // too few to be swept: row numbers are still ids
    for (const std::size_t every : {1u, 3u, 40u, 699u, 1000u}) {
      std::vector<std::uint64_t> words((n + 63) / 64, 0);
      std::set<std::int64_t> matches;
      for (std::size_t row = 2; row < n; row += every) {
        words[row / 64] |= std::uint64_t{1} << row % 64;
        if (ix.contains(static_cast<std::int64_t>(row))) matches.insert(static_cast<std::int64_t>(row));
      }
      for (const std::size_t k : {1u, 10u, 300u}) {
        for (const std::size_t ef : {1u, 50u, 5000u}) {
          const Result found = search(ix, queries, k, ef, 2, words);
          for (std::size_t q = 0; q < 6; ++q) {
            std::set<std::int64_t> mine;
            for (std::size_t i = 0; i < k; ++i) {
              if (found.ids[q * k + i] >= 0) mine.insert(found.ids[q * k + i]);
            }
            CHECK(mine.size() == std::min(k, matches.size()));
            CHECK(std::includes(matches.begin(), matches.end(), mine.begin(), mine.end()));
          }
        }
      }
    }
    const std::uint64_t few[] = {~std::uint64_t{0}};  // words end before the rows do
    for (const std::int64_t id : search(ix, queries, 100, 20, 1, few).ids) CHECK(id < 64);
    const std::uint64_t none[] = {0};
    for (const std::int64_t id : search(ix, queries, 3, 20, 1, none).ids) CHECK(id == -1);
  }
}

TEST(graph_snapshots_do_not_change_under_a_writer_and_restore) {
  const auto rows = data::normal(500 * kDim, 12), queries = data::normal(5 * kDim, 13);
  for (const auto& spec : kSpecs) {
    GraphIndex ix(config(spec), &cpu::active_kernels), other(config(spec), &cpu::active_kernels);
    fill(ix, rows, 2);
    GraphSnapshot snapshot = ix.snapshot();
    const Result before = search(ix, queries, 10, 30);
    const auto ids = ix.ids();
    const auto change = [&](GraphIndex& each) {
      each.remove(std::span(ids).first(40));
      each.update(std::span(ids).subspan(200, 50), rows.get(), 1);
      each.add(rows.get(), 70, {}, 1);
      each.compact(1);
    };
    change(ix);
    other.restore(std::move(snapshot));
    CHECK(search(other, queries, 10, 30) == before && other.size() == ids.size());
    change(other);  // what was lent is copied before it is written
    CHECK(search(other, queries, 10, 30) == search(ix, queries, 10, 30) && other.ids() == ix.ids());
  }
}

// As a mapped file lends them: blocks that nobody may write to.
TEST(graph_columns_that_were_lent_are_not_written_to) {
  const auto rows = data::normal(500 * kDim, 12), queries = data::normal(5 * kDim, 13);
  for (const auto& spec : kSpecs) {
    GraphIndex ix(config(spec), &cpu::active_kernels), other(config(spec), &cpu::active_kernels);
    ix.add(rows.get(), 400, {}, 2);
    GraphSnapshot snapshot = ix.snapshot();
    std::vector<std::shared_ptr<AlignedBuffer>> lent;
    std::vector<std::vector<std::uint8_t>> before;
    for (auto& [name, column] : snapshot.columns) {
      const std::size_t bytes = column.block_bytes();
      lent.push_back(std::make_shared<AlignedBuffer>(bytes * column.blocks()));
      auto* data = static_cast<std::uint8_t*>(lent.back()->data());
      for (std::size_t b = 0; b < column.blocks(); ++b) std::copy_n(column.block(b), bytes, data + b * bytes);
      before.emplace_back(data, data + bytes * column.blocks());
      column = Column::borrow(bytes, data, column.blocks(), lent.back());
    }
    other.restore(std::move(snapshot));
    for (GraphIndex* each : {&ix, &other}) {
      const std::int64_t gone[] = {3, 4, 5, 399}, changed[] = {1, 2, 300};
      each->add(rows.get() + 400 * kDim, 100, {}, 1);
      each->remove(gone);
      each->update(changed, rows.get(), 1);
      each->compact(1);
    }
    CHECK(search(other, queries, 10, 30) == search(ix, queries, 10, 30) && other.ids() == ix.ids());
    for (std::size_t c = 0; c < lent.size(); ++c) {
      CHECK(std::memcmp(lent[c]->data(), before[c].data(), before[c].size()) == 0);
    }
  }
}

TEST(graph_links_that_lead_nowhere_do_no_harm) {
  const std::size_t n = 300;
  const auto rows = data::normal(n * kDim, 14), queries = data::normal(5 * kDim, 15);
  for (const auto& spec : kSpecs) {
    for (const Damage damage : kDamages) {
      GraphIndex ix(config(spec, Metric::kL2), &cpu::active_kernels);
      ix.add(rows.get(), n, {}, 1);
      GraphSnapshot snapshot = ix.snapshot();
      Column& links = snapshot.columns.at("links");
      for (std::size_t row = 0; row < n; ++row) {
        damage(reinterpret_cast<std::uint32_t*>(links.mutable_row(row)), row, n);
      }
      ix.restore(std::move(snapshot));
      for (const std::size_t ef : {1u, 20u, 5000u}) {
        for (const std::int64_t id : search(ix, queries, 10, ef).ids)
          CHECK(id >= 0 && id < static_cast<std::int64_t>(n));
      }
      ix.range_search(queries.get(), 5, 30.0f, 1.9f, 10, 1);
      ix.add(rows.get(), 50, {}, 2);  // these walk over what is damaged, and some of them become its neighbours
      const auto ids = ix.ids();
      ix.remove(std::span(ids).subspan(20, 30));
      ix.update(std::span(ids).subspan(100, 20), rows.get(), 2);
      ix.compact(2);
      ix.remove(std::span(ids).subspan(150, 150));
      for (const std::int64_t id : search(ix, queries, 10, 20).ids) CHECK(ix.contains(id));
      CHECK(ix.size() == n + 50 - 180);
    }
  }
}

TEST(graph_files_of_the_wrong_size_are_refused) {
  const auto rows = data::normal(100 * kDim, 16);
  const auto message = [&](const std::function<void(GraphSnapshot&)>& change) {
    GraphIndex ix(config({"B1", "U8"}), &cpu::active_kernels);
    ix.add(rows.get(), 100, {}, 1);
    GraphSnapshot snapshot = ix.snapshot();
    change(snapshot);
    const std::string said = check::message_of<Error>([&] { ix.restore(std::move(snapshot)); });
    CHECK(ix.size() == 100 && search(ix, rows, 1, 100).ids.size() == 100);
    return said;
  };
  CHECK(message([](auto&) {}).empty());
  CHECK(message([](auto& s) { s.columns.erase("links"); }) == "load: column 'links' is missing");
  CHECK(message([](auto& s) { s.columns.at("links").resize(3); }).starts_with("load: column 'links' does not have"));
  CHECK(message([](auto& s) { s.columns.at("links") = s.columns.at("codes"); }).starts_with("load: column 'links'"));
  CHECK(message([](auto& s) { s.columns.erase("codes"); }).starts_with("load: "));
  CHECK(message([](auto& s) {
          s.rows = 99;
          s.ids.emplace(98, 0);
        }).starts_with("load: there are not as many ids"));
  CHECK(message([](auto& s) { s.rows = std::size_t{1} << 31; }).starts_with("load: the file claims more rows"));
  CHECK(message([](auto& s) { s.rows = 129; }).starts_with("load: "));
  CHECK(message([](auto& s) { s.centre.pop_back(); }).starts_with("load: the centre"));
  CHECK(message([](auto& s) { s.trained = false; }).starts_with("load: there are rows, but no centre"));
}

TEST(graph_errors_leave_the_index_as_it_was) {
  const auto rows = data::normal(100 * kDim, 17);
  const auto message = [&](const std::function<void()>& body) { return check::message_of<Error>(body); };
  for (const std::size_t degree : {0u, 16u, 33u, 288u}) {
    CHECK(message([&] {
            GraphIndex(config({"U8"}, Metric::kL2, degree), &cpu::active_kernels);
          }).starts_with("index: expected a graph of degree 32, 64, ..., 256; got "));
  }
  CHECK(message([] { GraphIndex(config({"B1"}), &cpu::active_kernels); }).starts_with("index: expected a graph with"));
  GraphIndex ix(config({"B1", "U8"}), &cpu::active_kernels);
  CHECK(message([&] { ix.train(rows.get(), 0); }).starts_with("train: expected at least one row"));
  ix.add(rows.get(), 100, {}, 1);
  const std::int64_t first[] = {0}, unknown[] = {3, 100}, twice[] = {3, 3}, taken[] = {100, 7};
  ix.remove(first);
  CHECK(message([&] { ix.remove(unknown); }) == "remove: id 100 is not in the index");
  CHECK(message([&] { ix.update(twice, rows.get(), 1); }).starts_with("update: expected ids without repeats"));
  CHECK(message([&] { ix.add(rows.get(), 2, taken, 1); }).starts_with("add: expected new ids; 7"));
  CHECK(message([&] { ix.train(rows.get(), 100); }).ends_with("got one of 99 rows"));
  CHECK(ix.size() == 99 && ix.contains(3) && !ix.contains(100) && !ix.contains(0));
}

// Two add, one removes, four search: what was there at first and stays is found all along, and each score is its row's.
TEST(graph_searches_beside_writers_see_whole_rows) {
  const std::size_t kept = 200, n = 1000;
  const auto rows = data::normal(n * kDim, 18);
  Tight<float> queries(4 * kDim);
  std::copy_n(rows.get(), queries.size(), queries.get());
  GraphIndex ix(config({"B1", "F32"}, Metric::kL2), &cpu::active_kernels);
  ix.add(rows.get(), kept, {}, 1);
  std::atomic<bool> done{false};
  std::atomic<int> searches{0}, torn{0}, lost{0};
  std::vector<std::thread> readers, writers;
  for (std::size_t reader = 0; reader < 4; ++reader) {
    readers.emplace_back([&, reader] {
      do {
        const Result found = search(ix, queries, 10, reader == 0 ? 20 : 5000, 1);
        for (std::size_t i = 0; i < found.ids.size(); ++i) {
          if (found.ids[i] < 0) {
            ++lost;
            continue;
          }
          double expected = 0.0;
          const auto row = static_cast<std::size_t>(found.ids[i]);
          for (std::size_t j = 0; j < kDim; ++j) {
            expected += std::pow(double{queries[i / 10 * kDim + j]} - rows[row * kDim + j], 2);
          }
          torn += std::fabs(expected - found.scores[i]) > 1e-3;
        }
        for (std::size_t q = 0; q < 4 && reader != 0; ++q) lost += found.ids[q * 10] != static_cast<std::int64_t>(q);
        if (reader == 1) ix.range_search(queries.get(), 2, 20.0f, 1.9f, 30, 1);
        ++searches;
      } while (!done);
    });
  }
  for (std::size_t writer = 0; writer < 2; ++writer) {
    writers.emplace_back([&, writer] {
      for (std::size_t at = kept + writer * 400; at < kept + (writer + 1) * 400; at += 20) {
        std::vector<std::int64_t> ids(20);
        for (std::size_t i = 0; i < 20; ++i) ids[i] = static_cast<std::int64_t>(at + i);
        ix.add(rows.get() + at * kDim, 20, ids, writer + 1);
        if (writer == 0) ix.remove(std::span(ids).first(10));
        if (writer == 1) ix.update(std::span(ids).first(5), rows.get() + at * kDim, 1);  // by what they were
        if (at % 100 == 0) ix.compact(2);
        if (at % 300 == 0) ix.snapshot();
      }
    });
  }
  for (auto& writer : writers) writer.join();
  done = true;
  for (auto& reader : readers) reader.join();
  CHECK(torn == 0 && lost == 0 && searches > 0 && ix.size() == n - 200);
}
