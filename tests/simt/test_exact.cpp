// The emulated exact scan on buffers without spare room, so that the address sanitizer hears every access beyond
// them. Whole numbers, so that results must be equal; tests/simt/test_exact.py looks at the rest.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "common/convert.h"
#include "cuda/exact.h"

namespace {

using namespace tessella;

struct Case {
  ScalarType type;
  Metric metric;
  std::size_t n, nq, d, k;
  bool own_ids;
};

// Exactly `bytes` long at 64-byte alignment.
using Memory = std::unique_ptr<void, decltype(&std::free)>;
Memory allocate(std::size_t bytes) {
  void* memory = nullptr;
  if (posix_memalign(&memory, 64, std::max<std::size_t>(bytes, 1)) != 0) std::abort();
  std::memset(memory, 0xff, bytes);
  return {memory, &std::free};
}

struct Data {
  std::vector<float> queries, rows;
  std::vector<std::int64_t> ids;
};

Data make_data(const Case& c) {
  std::mt19937 random(static_cast<unsigned>(c.n * 31 + c.nq * 7 + c.d));
  std::uniform_int_distribution<int> number(0, 3);
  Data data{std::vector<float>(c.nq * c.d), std::vector<float>(c.n * c.d), {}};
  for (float& x : data.queries) x = static_cast<float>(number(random));
  for (float& x : data.rows) x = static_cast<float>(number(random));
  for (std::size_t i = 0; i < c.n; ++i) data.ids.push_back(static_cast<std::int64_t>(c.own_ids ? 3 * (c.n - i) : i));
  return data;
}

float similarity(const Case& c, const float* q, const float* x) {
  float sum = 0;
  for (std::size_t j = 0; j < c.d; ++j) sum += c.metric == Metric::kL2 ? -(q[j] - x[j]) * (q[j] - x[j]) : q[j] * x[j];
  return sum;
}

bool run(const Case& c) {
  const Data data = make_data(c);
  const Memory queries = allocate(c.nq * c.d * 4), rows = allocate(c.n * c.d * scalar_bytes(c.type));
  const Memory ids = allocate(c.n * 8), scores = allocate(c.nq * c.k * 4), found = allocate(c.nq * c.k * 8);
  const Memory scratch = allocate(cuda::exact_search_scratch(c.nq, c.n, c.d, c.k));
  std::memcpy(queries.get(), data.queries.data(), c.nq * c.d * 4);
  from_f32(data.rows.data(), c.type, c.n * c.d, rows.get());
  std::memcpy(ids.get(), data.ids.data(), c.n * 8);
  cuda::exact_search({static_cast<float*>(queries.get()), c.nq, rows.get(), c.type, c.n, c.d, c.metric,
                      c.own_ids ? static_cast<std::int64_t*>(ids.get()) : nullptr, c.k,
                      static_cast<float*>(scores.get()), static_cast<std::int64_t*>(found.get()), scratch.get(),
                      nullptr});
  for (std::size_t q = 0; q < c.nq; ++q) {
    std::vector<std::pair<float, std::int64_t>> wanted;
    for (std::size_t i = 0; i < c.n; ++i) {
      wanted.emplace_back(-similarity(c, &data.queries[q * c.d], &data.rows[i * c.d]), data.ids[i]);
    }
    std::sort(wanted.begin(), wanted.end());
    for (std::size_t i = 0; i < c.k; ++i) {
      const float score = static_cast<float*>(scores.get())[q * c.k + i];
      const std::int64_t id = static_cast<std::int64_t*>(found.get())[q * c.k + i];
      if (i >= wanted.size() ? id != -1 : id != wanted[i].second) return false;
      if (i < wanted.size() && score != (c.metric == Metric::kL2 ? wanted[i].first : -wanted[i].first)) return false;
    }
  }
  return true;
}

}  // namespace

int main() {
  int failed = 0;
  for (const ScalarType type : {ScalarType::kF32, ScalarType::kF16, ScalarType::kBF16, ScalarType::kU8}) {
    for (const Metric metric : {Metric::kL2, Metric::kInnerProduct}) {
      for (const std::size_t n : {1, 33, 129}) {
        for (const std::size_t d : {1, 7, 8, 40}) {
          for (const std::size_t nq : {2, 33}) failed += !run({type, metric, n, nq, d, n == 33 ? 40u : 9u, d % 2 == 0});
        }
      }
      failed += !run({type, metric, 1500, 2, 12, 10, true});
      failed += !run({type, metric, 2200, 33, 8, 10, true});
      failed += !run({type, metric, 140, 129, 24, 100, false});
    }
  }
  if (failed != 0) std::fprintf(stderr, "test_exact: %d cases differ from three plain loops\n", failed);
  return failed != 0;
}
