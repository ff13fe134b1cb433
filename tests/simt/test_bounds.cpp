// The emulated families other than exact on buffers without spare room, so that the address sanitizer hears every
// access beyond them. tests/simt/test_<family>.py compare the results with the reference; here a few sums must be
// right.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

#include "cuda/fde.h"
#include "cuda/graph.h"
#include "cuda/kmeans.h"
#include "cuda/pq.h"
#include "cuda/rabitq.h"
#include "cuda/rotate.h"
#include "cuda/scalar.h"

namespace {

using namespace tessella;

int failed = 0;

void expect(bool holds, const char* what, std::size_t n) {
  if (holds) return;
  std::fprintf(stderr, "test_bounds: %s, n = %zu\n", what, n);
  ++failed;
}

// Small whole numbers, so that every sum is exact.
std::vector<float> numbers(std::size_t count) {
  std::vector<float> made(count);
  for (std::size_t i = 0; i < count; ++i) made[i] = static_cast<float>((i * 7 + i / 11) % 9) - 4.0f;
  return made;
}

void run_kmeans(std::size_t n, std::size_t d, std::size_t k) {
  const std::vector<float> rows = numbers(n * d), centroids = numbers(k * d), offsets = numbers(k);
  std::vector<std::uint32_t> nearest(n);
  std::vector<float> similarity(n);
  std::vector<std::uint64_t> scratch((cuda::kmeans_assign_scratch(n, k, d) + 7) / 8);
  cuda::kmeans_assign({rows.data(), n, d, centroids.data(), offsets.data(), k, nearest.data(), similarity.data(),
                       scratch.data(), nullptr});
  for (std::size_t i = 0; i < n; ++i) {
    float sum = -offsets[nearest[i]];
    for (std::size_t j = 0; j < d; ++j) sum += rows[i * d + j] * centroids[nearest[i] * d + j];
    expect(sum == similarity[i], "kmeans_assign", n);
  }
}

void run_rabitq(std::size_t n, std::size_t padded, std::size_t nq, bool terms, int planes) {
  const std::vector<float> residuals = numbers(n * padded), queries = numbers(nq * padded), zeros(nq);
  std::vector<std::uint8_t> bits(n * padded / 8);
  std::vector<RabitqFactors> factors(n);
  cuda::rabitq_encode({residuals.data(), n, padded, bits.data(), factors.data(), nullptr});
  std::vector<std::uint32_t> words(cuda::rabitq_plane_words(nq, padded, planes));
  std::vector<float> steps(nq);
  std::vector<std::int32_t> sums(nq);
  const cuda::RabitqPlanes cut{words.data(), steps.data(), sums.data(), planes};
  cuda::rabitq_planes({queries.data(), nq, padded, cut, nullptr});
  const std::vector<std::uint8_t> blocks((n + 31) / 32 * rabitq_block_bytes(padded, terms));  // scales of 0
  const std::size_t capacity = n - n / 4;
  std::vector<RabitqHit> hits(nq * capacity);
  std::vector<std::uint32_t> counts(nq);
  cuda::rabitq_scan({blocks.data(), n, padded, terms, cut, nq, 1.0f, zeros.data(), zeros.data(), zeros.data(),
                     hits.data(), capacity, counts.data(), nullptr, 0, nullptr});
  for (const std::uint32_t count : counts) expect(count == n, "rabitq_scan", n);
  for (const RabitqHit& hit : hits) expect(hit.row < n && hit.estimate == 0.0f, "rabitq_scan", n);

  const std::size_t stride = (n + 31) / 32;
  const std::vector<std::uint32_t> allowed(nq * stride, 2);  // the second row of every block
  cuda::rabitq_scan({blocks.data(), n, padded, terms, cut, nq, 1.0f, zeros.data(), zeros.data(), zeros.data(),
                     hits.data(), capacity, counts.data(), allowed.data(), stride, nullptr});
  const std::size_t wanted = n / 32 + (n % 32 > 1 ? 1 : 0);
  for (const std::uint32_t count : counts) expect(count == wanted, "rabitq_scan under bitmaps", n);
}

void run_pq(std::size_t n, std::size_t m, std::size_t dims, int bits, std::size_t nq, bool terms) {
  const std::size_t d = m * dims, k = std::size_t{1} << bits;
  const std::vector<float> rows = numbers(n * d), codebooks = numbers(d * k), biases = numbers(m * k);
  std::vector<std::uint8_t> codes(n * pq_code_bytes(m, bits));
  cuda::pq_encode({rows.data(), n, d, m, bits, codebooks.data(), biases.data(), codes.data(), nullptr});
  std::vector<float> tables(nq * m * k);
  const std::vector<float> queries = numbers(nq * d), thresholds(nq, -1e9f);
  cuda::pq_table({queries.data(), nq, d, m, bits, codebooks.data(), Metric::kL2, tables.data(), nullptr});
  const std::vector<std::uint8_t> blocks((n + 31) / 32 * pq_block_bytes(m, bits, terms));  // codes of 0
  std::vector<RabitqHit> hits(nq * n);
  std::vector<std::uint32_t> counts(nq);
  cuda::pq_scan(
      {blocks.data(), n, m, bits, terms, tables.data(), nq, thresholds.data(), hits.data(), n, counts.data(), nullptr});
  for (std::size_t q = 0; q < nq; ++q) {
    float sum = 0.0f;
    for (std::size_t piece = 0; piece < m; ++piece) sum += tables[(q * m + piece) * k];
    expect(counts[q] == n && hits[q * n].estimate == sum, "pq_scan", n);
  }
}

void run_rotate(std::size_t n, std::size_t d) {
  const std::size_t padded = padded_dim(d);
  const std::vector<float> rows = numbers(n * d), centre = rows;  // the first row is the centre
  const std::vector<std::uint64_t> signs(rotate_sign_words(padded), 0x5a5a0f0f3c3c9999u);
  std::vector<float> out(n * padded);
  cuda::rotate_forward({signs.data(), rows.data(), n, d, centre.data(), out.data(), nullptr}, nullptr);
  for (std::size_t j = 0; j < padded; ++j) expect(out[j] == 0.0f, "rotate_forward", n);
}

void run_scalar(std::size_t n, std::size_t padded, int bits) {
  const std::vector<float> residuals = numbers(n * padded);
  std::vector<std::uint8_t> codes(n * scalar_row_bytes(padded, bits));
  std::vector<float> scales(n), norms2(n);
  const ScalarGrid grid = bits == 4 ? ScalarGrid::kLloyd : ScalarGrid::kUniform;
  cuda::scalar_encode({residuals.data(), n, padded, bits, grid, codes.data(), scales.data(), norms2.data()}, nullptr);
  for (std::size_t i = 0; i < n; ++i) {
    float norm2 = 0.0f;
    for (std::size_t j = 0; j < padded; ++j) norm2 += residuals[i * padded + j] * residuals[i * padded + j];
    expect(norm2 == norms2[i], "scalar_encode", n);
  }
}

// Rows on a line, each with those around it as candidates; the search finds the ends.
void run_graph(std::size_t n, std::size_t padded, std::size_t degree, bool coded) {
  const std::size_t count = 5, k = 3, entries = 2;
  std::vector<float> values(n * padded), distances(n * count), lengths(n * degree), linked_lengths(n * degree);
  std::vector<std::uint32_t> candidates(n * count), rows(n * degree), linked(n * degree), wanted(n), linked_wanted(n);
  for (std::size_t i = 0; i < n; ++i) {
    values[i * padded] = static_cast<float>(i);
    for (std::size_t j = 0; j < count; ++j) {
      candidates[i * count + j] = static_cast<std::uint32_t>(i + j - count / 2);  // beyond the ends there is none
      distances[i * count + j] = static_cast<float>((j - count / 2) * (j - count / 2));
    }
  }
  cuda::graph_prune({values.data(),
                     n,
                     padded,
                     candidates.data(),
                     distances.data(),
                     count,
                     degree,
                     {rows.data(), lengths.data(), wanted.data()},
                     nullptr});
  std::vector<std::uint32_t> scratch(cuda::graph_link_scratch(n, degree) / 4);
  cuda::graph_link({values.data(),
                    n,
                    padded,
                    degree,
                    {rows.data(), lengths.data(), wanted.data()},
                    {linked.data(), linked_lengths.data(), linked_wanted.data()},
                    scratch.data(),
                    nullptr});
  std::vector<std::uint8_t> records(n * cuda::graph_record_bytes(degree, padded, coded));
  cuda::graph_write({values.data(), n, padded, nullptr, linked.data(), degree, coded, records.data(), nullptr});
  const std::vector<std::uint8_t> codes(n * padded, 128);
  const std::vector<float> scales(n), norms2(n), add(1), most(1);
  for (const bool raw : {false, true}) {
    const cuda::GraphRows scored{values.data(), raw ? nullptr : codes.data(), scales.data(), norms2.data()};
    const std::vector<float> query(padded);
    const std::vector<std::uint32_t> starts{static_cast<std::uint32_t>(n - 1), cuda::kNoRow};
    const std::vector<std::uint32_t> allowed((n + 31) / 32, UINT32_MAX);
    std::vector<float> scores(k);
    std::vector<std::int64_t> found(k);
    std::vector<std::uint32_t> visits(1), slots(cuda::graph_search_scratch(1, 512) / 4);
    cuda::graph_search({query.data(),
                        1,
                        add.data(),
                        most.data(),
                        padded,
                        Metric::kL2,
                        records.data(),
                        n,
                        degree,
                        coded,
                        scored,
                        starts.data(),
                        entries,
                        allowed.data(),
                        n,
                        k,
                        INFINITY,
                        512,
                        scores.data(),
                        found.data(),
                        visits.data(),
                        slots.data(),
                        nullptr});
    expect(visits[0] == n && found[0] == 0 && scores[0] == 0.0f, "graph_search", n);
  }
}

// Two sets of tokens, sums alone: what a repetition has in all cells is what its tokens have in all dimensions.
void run_fde(std::size_t n, std::size_t d, std::size_t k_sim, ScalarType out_type) {
  const std::size_t r = 3;
  const std::vector<float> tokens = numbers(n * d), planes = numbers(r * k_sim * d);
  const std::vector<std::int64_t> offsets = {0, static_cast<std::int64_t>(n / 3), static_cast<std::int64_t>(n)};
  std::vector<float> out(2 * (r << k_sim) * d);
  FdeEncode job{};
  job.tokens = tokens.data();
  job.offsets = offsets.data();
  job.n = 2;
  job.d = d;
  job.repetitions = r;
  job.k_sim = k_sim;
  job.hyperplanes = planes.data();
  job.projection.p = d;
  job.queries = true;
  job.out_type = out_type;
  job.out = out.data();
  std::vector<std::uint64_t> scratch((cuda::fde_encode_scratch(job, n) + 7) / 8);
  job.scratch = scratch.data();
  cuda::fde_encode(job, n, nullptr);
  if (out_type != ScalarType::kF32) return;
  float wanted = 0.0f, got = 0.0f;
  for (const float x : tokens) wanted += static_cast<float>(r) * x;
  for (const float x : out) got += x;
  expect(got == wanted, "fde_encode", n);
}

}  // namespace

int main() {
  for (const std::size_t n : {1, 7, 31, 33, 127}) {
    for (const std::size_t k : {1, 129, 300}) run_kmeans(n, k == 129 ? 16 : 13, k);
    for (const int planes : {4, 8}) run_rabitq(n, n % 3 == 0 ? 192 : 64, 1 + n % 5, planes == 4, planes);
    for (const int bits : {4, 8}) {
      for (const std::size_t m : {3, 8, 170}) run_pq(n, m, 3, bits, 1 + n % 5, bits == 8);
    }
    for (int bits = 2; bits <= 8; ++bits) run_scalar(n, 128, bits);
    run_rotate(n, n + 60);
    run_fde(n, n % 3 == 0 ? 16 : 13, n % 5, ScalarType::kF32);
    run_fde(n, 13, 3, ScalarType::kF16);
    for (const bool coded : {false, true}) run_graph(n, n % 3 == 0 ? 192 : 64, coded ? 64 : 32, coded);
  }
  return failed != 0;
}
