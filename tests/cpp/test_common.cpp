// The ground: conversions, threads, ids, columns.
#include <atomic>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <thread>

#include "check.h"
#include "common/convert.h"
#include "common/parallel.h"
#include "index/column.h"
#include "index/ids.h"
#include "tessella/errors.h"

using namespace tessella;

TEST(every_half_survives_a_round_trip) {
  for (unsigned h = 0; h < 0x10000; ++h) {
    const auto half = static_cast<std::uint16_t>(h);
    const float x = f16_to_f32(half);
    CHECK(std::isnan(x) || f32_to_f16(x) == half);
  }
}

TEST(halves_round_to_nearest_even_and_bounds_round_up) {
  CHECK(f32_to_f16(1.0f + 0x1p-11f) == f32_to_f16(1.0f));  // a tie goes to the even pattern
  CHECK(f32_to_f16(1.0f + 3 * 0x1p-11f) == f32_to_f16(1.0f + 0x1p-9f));
  CHECK(std::isinf(f16_to_f32(f32_to_f16(65520.0f))));
  CHECK(f16_to_f32(f32_to_f16(65519.0f)) == 65504.0f);
  for (float x : {0.0f, 1e-9f, 1e-5f, 0.1f, 0.3333f, 1.0f, 1234.5f, 65504.0f}) {
    CHECK(f16_to_f32(f32_to_f16_up(x)) >= x);
    CHECK(f16_to_f32(f32_to_f16_up(x)) <= x * 1.001f + 0x1p-24f);
  }
}

TEST(parallel_for_runs_every_task_once) {
  for (std::size_t threads : {1u, 2u, 7u}) {
    std::vector<std::atomic<int>> seen(1000);
    parallel_for(seen.size(), threads, [&](std::size_t i) { ++seen[i]; });
    for (const auto& count : seen) CHECK(count == 1);
  }
}

TEST(parallel_for_rethrows_and_stays_usable) {
  const auto fail = [](std::size_t i) {
    if (i == 17) throw std::runtime_error("seventeen");
  };
  CHECK(check::message_of<std::runtime_error>([&] { parallel_for(100, 4, fail); }) == "seventeen");
  std::atomic<int> sum{0};
  parallel_for(10, 4, [&](std::size_t i) { sum += static_cast<int>(i); });
  CHECK(sum == 45);
}

TEST(parallel_for_serves_many_callers_at_once) {
  std::atomic<int> sum{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 8; ++c) {
    callers.emplace_back([&] {
      for (int round = 0; round < 50; ++round) parallel_for(16, 3, [&](std::size_t) { ++sum; });
    });
  }
  for (auto& caller : callers) caller.join();
  CHECK(sum == 8 * 50 * 16);
}

TEST(ids_find_what_was_added_after_any_removal) {
  IdMap map;
  std::vector<std::int64_t> ids(500);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int64_t>(i * i * 7919 % 100003);
  map.append(ids);
  std::vector<std::int64_t> model = ids;
  for (std::size_t step = 0; step < 450; ++step) {
    const std::size_t row = step * 7919 % model.size();
    map.remove(row);
    model[row] = model.back();
    model.pop_back();
    CHECK(map.size() == model.size());
    for (std::size_t r = 0; r < model.size(); ++r) CHECK(map.find(model[r]) == static_cast<std::int64_t>(r));
  }
}

TEST(ids_refuse_what_they_have_and_stay_as_they_were) {
  IdMap map;
  map.append_next(5);
  const auto message = [&](std::vector<std::int64_t> ids) {
    return check::message_of<Error>([&] { map.check_new(ids, "add"); });
  };
  CHECK(message({7, 3}) == "add: expected new ids; 3 is already in the index");
  CHECK(message({9, 8, 9}) == "add: expected ids without repeats; 9 occurs twice");
  CHECK(message({-1}) == "add: expected ids >= 0 (-1 marks a missing result); got -1");
  CHECK(message({5, 6}).empty());
  CHECK(map.size() == 5 && map.is_implicit());
  map.remove(4);
  map.append_next(1);  // 4 is not given out again
  CHECK(map.find(4) == -1 && map.find(5) == 4);
}

TEST(columns_copy_what_they_borrow_before_writing) {
  const auto memory = std::make_shared<std::vector<std::uint8_t>>(300 * 64, std::uint8_t{7});
  Column column = Column::borrow(64, memory->data(), 300, memory);
  column.mutable_block(299)[0] = 9;
  CHECK((*memory)[299 * 64] == 7 && column.block(299)[0] == 9 && column.block(0) == memory->data());
  const Column snapshot = column;
  column.mutable_block(299)[0] = 11;
  CHECK(snapshot.block(299)[0] == 9 && column.block(299)[0] == 11);
  column.resize(600);
  CHECK(column.block(599)[0] == 0 && column.block(299)[0] == 11 && snapshot.blocks() == 300);
}
