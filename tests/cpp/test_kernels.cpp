// Every level against the scalar one, on buffers without spare room: integers bit for bit, floats to a tolerance.
#include <algorithm>
#include <functional>
#include <random>
#include <vector>

#include "check.h"
#include "data.h"

using namespace tessella;
using data::Tight;

namespace {

const std::size_t kDims[] = {1, 7, 31, 33, 64, 127, 384};
const std::size_t kPadded[] = {64, 128, 192, 384, 1536};

std::vector<Candidate> topk(const Kernels& kernels, const Tight<float>& queries, const Tight<float>& rows,
                            std::size_t d, std::size_t k, Metric metric, const std::int64_t* ids) {
  const std::size_t nq = queries.size() / d, n = rows.size() / d;
  std::vector<Candidate> best(nq * k, Candidate{-INFINITY, -1});
  AlignedBuffer scratch(kernels.exact_topk_scratch(nq, n, d, k));
  kernels.exact_topk(
      {queries.get(), nq, rows.get(), ScalarType::kF32, n, d, metric, 0, ids, k, best.data(), scratch.data(), nullptr});
  return best;
}

}  // namespace

TEST(exact_topk_agrees_with_scalar) {
  data::for_levels([](const Kernels& level, const Kernels& scalar) {
    for (std::size_t d : kDims) {
      for (std::size_t nq : {1u, 9u, 29u}) {
        const auto queries = data::normal(nq * d, 1), rows = data::normal(131 * d, 2);
        for (Metric metric : {Metric::kL2, Metric::kInnerProduct}) {
          const auto a = topk(level, queries, rows, d, 5, metric, nullptr);
          const auto b = topk(scalar, queries, rows, d, 5, metric, nullptr);
          for (std::size_t i = 0; i < a.size(); ++i)
            CHECK(data::close(a[i].similarity, b[i].similarity, 4.0f * static_cast<float>(d)));
        }
      }
    }
  });
}

TEST(exact_topk_breaks_ties_by_smaller_id) {
  data::for_levels([](const Kernels& level, const Kernels&) {
    const std::size_t d = 20, n = 200;
    Tight<float> rows(n * d), queries(12 * d);
    std::fill_n(rows.get(), rows.size(), 0.5f);
    std::fill_n(queries.get(), queries.size(), 0.25f);
    std::vector<std::int64_t> ids(n);
    for (std::size_t i = 0; i < n; ++i) ids[i] = static_cast<std::int64_t>(1000 - i);
    const auto forward = topk(level, queries, rows, d, 7, Metric::kInnerProduct, nullptr);
    const auto backward = topk(level, queries, rows, d, 7, Metric::kInnerProduct, ids.data());
    for (std::size_t i = 0; i < forward.size(); ++i) {
      CHECK(forward[i].row == static_cast<std::int64_t>(i % 7));
      CHECK(backward[i].row == static_cast<std::int64_t>(n - 1 - i % 7));
    }
  });
}

TEST(exact_topk_pads_and_continues_lists) {
  data::for_levels([](const Kernels& level, const Kernels&) {
    const std::size_t d = 16, n = 40, k = 64;
    const auto queries = data::normal(10 * d, 3), rows = data::normal(n * d, 4);
    const auto whole = topk(level, queries, rows, d, k, Metric::kL2, nullptr);
    for (std::size_t i = 0; i < whole.size(); ++i) CHECK((whole[i].row < 0) == (i % k >= n));
    std::vector<Candidate> parts(10 * k, Candidate{-INFINITY, -1});
    AlignedBuffer scratch(level.exact_topk_scratch(10, n, d, k));
    for (std::size_t first : {std::size_t{0}, std::size_t{17}}) {
      const std::size_t count = first == 0 ? 17 : n - 17;
      level.exact_topk({queries.get(), 10, rows.get() + first * d, ScalarType::kF32, count, d, Metric::kL2,
                        static_cast<std::int64_t>(first), nullptr, k, parts.data(), scratch.data(), nullptr});
    }
    for (std::size_t i = 0; i < whole.size(); ++i) CHECK(whole[i].row == parts[i].row);
  });
}

TEST(rotation_agrees_keeps_lengths_and_inverts) {
  data::for_levels([](const Kernels& level, const Kernels& scalar) {
    for (std::size_t d : kDims) {
      const std::size_t padded = padded_dim(d), n = 3;
      Tight<std::uint64_t> signs(rotate_sign_words(padded));
      for (std::size_t i = 0; i < signs.size(); ++i) signs[i] = 0x9E3779B97F4A7C15u * (i + 1);
      const auto x = data::normal(n * d, 5), centre = data::normal(d, 6);
      Tight<float> a(n * padded), b(n * padded), back(n * d), scratch(padded);
      level.rotate_forward({signs.get(), x.get(), n, d, centre.get(), a.get(), nullptr});
      scalar.rotate_forward({signs.get(), x.get(), n, d, centre.get(), b.get(), nullptr});
      for (std::size_t i = 0; i < a.size(); ++i) CHECK(data::close(a[i], b[i], 16.0f));
      level.rotate_inverse({signs.get(), a.get(), n, d, centre.get(), back.get(), scratch.get()});
      for (std::size_t i = 0; i < x.size(); ++i) CHECK(data::close(back[i], x[i], 16.0f));
    }
  });
}

TEST(rabitq_encodes_and_scans_as_scalar_does) {
  data::for_levels([](const Kernels& level, const Kernels& scalar) {
    for (std::size_t padded : kPadded) {
      const std::size_t n = 77, blocks = 3;
      for (Metric metric : {Metric::kL2, Metric::kInnerProduct}) {
        Tight<std::uint8_t> codes = data::bytes(blocks * rabitq_block_bytes(padded, metric == Metric::kL2), 7);
        for (std::size_t b = 0; b < blocks; ++b) {  // factors that are numbers
          auto* factors = reinterpret_cast<std::uint16_t*>(
              codes.get() + b * rabitq_block_bytes(padded, metric == Metric::kL2) + 4 * padded);
          std::fill_n(factors, 64, std::uint16_t{0x2c00});
          if (metric == Metric::kL2) std::fill_n(reinterpret_cast<float*>(factors + 64), 32, 1.5f);
        }
        std::vector<RabitqHit> hits[2][4];
        std::size_t counts[2][4];
        for (int side = 0; side < 2; ++side) {
          const Kernels& kernels = side == 0 ? level : scalar;
          std::vector<AlignedBuffer> tables;
          RabitqQuery queries[4];
          RabitqHit* out[4];
          for (unsigned q = 0; q < 4; ++q) {
            tables.emplace_back(rabitq_table_bytes(padded));
            queries[q] = {{tables.back().data(), 0, 0}, metric == Metric::kL2 ? 2.0f : 1.0f, 0.5f, 0.1f, -0.3f};
            kernels.rabitq_table(data::normal(padded, 8 + q).get(), padded, &queries[q].table);
            hits[side][q].resize(blocks * 32);
            out[q] = hits[side][q].data();
          }
          kernels.rabitq_scan({codes.get(), n, padded, metric == Metric::kL2, queries, 4, out, counts[side]});
        }
        for (int q = 0; q < 4; ++q) {
          CHECK(counts[0][q] == counts[1][q]);
          for (std::size_t i = 0; i < std::min(counts[0][q], counts[1][q]); ++i) {
            CHECK(hits[0][q][i].row == hits[1][q][i].row);
            CHECK(data::close(hits[0][q][i].estimate, hits[1][q][i].estimate, 64.0f));
          }
        }
      }
      const auto residual = data::normal(padded, 9);
      Tight<std::uint8_t> a(padded / 8), b(padded / 8);
      RabitqFactors fa, fb;
      level.rabitq_encode(residual.get(), padded, a.get(), &fa);
      scalar.rabitq_encode(residual.get(), padded, b.get(), &fb);
      CHECK(a == b && fa.scale == fb.scale && fa.error == fb.error && fa.norm2 == fb.norm2);
    }
  });
}

TEST(scalar_codes_and_sums_are_equal_bit_for_bit) {
  data::for_levels([](const Kernels& level, const Kernels& scalar) {
    for (std::size_t padded : kPadded) {
      for (int bits = 2; bits <= 8; ++bits) {
        for (ScalarGrid grid : {ScalarGrid::kUniform, ScalarGrid::kLloyd}) {
          if (grid == ScalarGrid::kLloyd && bits != 4) continue;
          const std::size_t n = 9, bytes = scalar_row_bytes(padded, bits);
          const auto residuals = data::normal(n * padded, 10), query = data::normal(padded, 11);
          Tight<std::uint8_t> codes[2] = {Tight<std::uint8_t>(n * bytes), Tight<std::uint8_t>(n * bytes)};
          Tight<float> scales[2] = {Tight<float>(n), Tight<float>(n)}, norms[2] = {Tight<float>(n), Tight<float>(n)};
          Tight<float> dots[2] = {Tight<float>(n), Tight<float>(n)};
          for (int side = 0; side < 2; ++side) {
            const Kernels& kernels = side == 0 ? level : scalar;
            kernels.scalar_encode(
                {residuals.get(), n, padded, bits, grid, codes[side].get(), scales[side].get(), norms[side].get()});
            AlignedBuffer words(padded * 2), small(padded);
            ScalarQuery prepared{words.as<std::int16_t>(), small.as<std::int8_t>(), 0, 0, 0, 0};
            kernels.scalar_query(query.get(), padded, &prepared);
            kernels.scalar_dot(
                {&prepared, codes[side].get(), padded, bits, grid, nullptr, n, dots[side].get(), nullptr});
          }
          CHECK(codes[0] == codes[1] && scales[0] == scales[1] && norms[0] == norms[1] && dots[0] == dots[1]);
        }
      }
    }
  });
}

TEST(binary_kernels_agree) {
  data::for_levels([](const Kernels& level, const Kernels& scalar) {
    for (std::size_t d : kDims) {
      const std::size_t n = 5, bytes = binary_row_bytes(d);
      const auto x = data::normal(n * d, 12), query = data::normal(d, 13);
      Tight<std::uint8_t> a(n * bytes), b(n * bytes);
      level.binary_encode(x.get(), n, d, nullptr, a.get());
      scalar.binary_encode(x.get(), n, d, nullptr, b.get());
      CHECK(a == b);
      Tight<std::int32_t> ha(n), hb(n);
      level.binary_hamming(a.get(), a.get(), n, bytes, ha.get());
      scalar.binary_hamming(a.get(), a.get(), n, bytes, hb.get());
      CHECK(ha == hb && ha[0] == 0);
      Tight<float> da(n), db(n), scratch(256 * bytes);
      level.binary_dot(query.get(), a.get(), n, d, da.get(), scratch.get());
      scalar.binary_dot(query.get(), a.get(), n, d, db.get(), scratch.get());
      for (std::size_t i = 0; i < n; ++i) CHECK(data::close(da[i], db[i], 4.0f * static_cast<float>(d)));
    }
  });
}

TEST(graph_merge_keeps_the_best_in_order) {
  data::for_levels([](const Kernels& level, const Kernels&) {
    std::mt19937_64 draw(5);
    for (const std::size_t most : {1u, 10u, 31u, 32u, 33u, 100u, 300u, 1000u}) {
      const std::size_t room = (most + GraphMerge::kUnit - 1) / GraphMerge::kUnit * GraphMerge::kUnit;
      Tight<std::int64_t> keys(room);
      std::fill_n(keys.get(), room, GraphMerge::kNone);
      std::vector<std::int64_t> wanted;
      for (int step = 0; step < 60; ++step) {
        Tight<std::int64_t> fresh(1 + draw() % 64);
        for (std::size_t j = 0; j < fresh.size(); ++j) {  // of both signs; some are equal
          fresh[j] = static_cast<std::int64_t>(draw() % 2000) - 1000 + step;
        }
        const std::int64_t best = *std::max_element(fresh.get(), fresh.get() + fresh.size());
        const auto better = std::count_if(wanted.begin(), wanted.end(), [&](std::int64_t key) { return key >= best; });
        const std::size_t size = wanted.size();
        wanted.insert(wanted.end(), fresh.get(), fresh.get() + fresh.size());
        std::sort(wanted.begin(), wanted.end(), std::greater<>());
        wanted.resize(std::min(wanted.size(), most));
        CHECK(level.graph_merge({keys.get(), size, most, fresh.get(), fresh.size()}) ==
              static_cast<std::size_t>(better));
        CHECK(std::equal(wanted.begin(), wanted.end(), keys.get()));
      }
    }
  });
}

TEST(graph_near_finds_the_best_rows) {
  data::for_levels([](const Kernels& level, const Kernels& scalar) {
    for (const std::size_t n : {1u, 5u, 40u, 100u, 1003u}) {
      for (const std::size_t wanted : {1u, 17u, 64u}) {
        const auto estimates = data::normal(n, static_cast<unsigned>(n + wanted));
        const std::size_t some = std::min(wanted, n);
        std::vector<std::uint32_t> rows(n), plain(n);
        rows.resize(level.graph_near({estimates.get(), n, some, rows.data()}));
        plain.resize(scalar.graph_near({estimates.get(), n, some, plain.data()}));
        CHECK(rows == plain && rows.size() >= some);
        float worst = INFINITY;
        for (const std::uint32_t row : rows) worst = std::min(worst, estimates[row]);
        const auto reach = std::count_if(estimates.get(), estimates.get() + n, [&](float x) { return x >= worst; });
        CHECK(rows.size() == static_cast<std::size_t>(reach));  // nothing better was left out
        if (n > 1000) CHECK(rows.size() < 8 * some + 64);
      }
    }
  });
}

TEST(graph_dots_are_exact) {
  data::for_levels([](const Kernels& level, const Kernels&) {
    for (const std::size_t padded : {64u, 192u, 1536u}) {
      Tight<std::int8_t> rows(7 * padded);
      std::mt19937 draw(static_cast<unsigned>(padded));
      for (std::size_t i = 0; i < rows.size(); ++i) {  // the largest of both signs among them
        rows[i] = static_cast<std::int8_t>(i % 3 == 0 ? (i % 2 == 0 ? 127 : -127) : int(draw() % 255) - 127);
      }
      for (std::size_t count = 1; count <= 7; ++count) {
        std::vector<const std::int8_t*> others;
        for (std::size_t i = 0; i < count; ++i) others.push_back(rows.get() + i * padded);
        std::vector<std::int32_t> dots(count);
        level.graph_dots({rows.get(), others.data(), padded, count, dots.data()});
        for (std::size_t i = 0; i < count; ++i) {
          std::int32_t sum = 0;
          for (std::size_t j = 0; j < padded; ++j) sum += rows[j] * others[i][j];
          CHECK(dots[i] == sum);
        }
      }
    }
  });
}
