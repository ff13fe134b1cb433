// Tests of the emulator itself: its words do what CUDA's do, and it reports what a kernel must not do.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda/device/append.h"
#include "cuda/device/bits.h"
#include "cuda/device/copy.h"
#include "cuda/device/eight.h"
#include "cuda/device/mma.h"
#include "cuda/device/nearest.h"
#include "cuda/device/shared.h"
#include "cuda/device/warp.h"

namespace {

using namespace tessella::cuda;

void expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "test_simt: %s\n", what);
  std::exit(1);
}

void on_device(unsigned blocks, unsigned threads, std::size_t shared_bytes, const std::function<void()>& kernel) {
  simt::run({{blocks, 1, 1}, {threads, 1, 1}, shared_bytes}, kernel);
}

// The launch must end with a message that has `part` in it.
void expect_failure(const char* part, const std::function<void()>& kernel, unsigned threads = 64) {
  std::string message;
  try {
    on_device(1, threads, 64, kernel);
  } catch (const std::runtime_error& error) {
    message = error.what();
  }
  if (message.find(part) == std::string::npos) std::fprintf(stderr, "test_simt: got '%s'\n", message.c_str());
  expect(message.find(part) != std::string::npos, part);
}

void test_blocks_and_barriers() {
  std::vector<unsigned> out(3 * 96);
  on_device(3, 96, 96 * sizeof(unsigned), [&] {
    auto& shared = dynamic_shared<unsigned[96]>();
    expect(shared[threadIdx.x] == 0xffffffffu, "shared memory starts as rubbish, in every block");
    __syncthreads();
    shared[threadIdx.x] = threadIdx.x;
    __syncthreads();
    out[blockIdx.x * blockDim.x + threadIdx.x] = shared[95 - threadIdx.x] + 1000 * blockIdx.x;
    const int any = __syncthreads_or(threadIdx.x == 70);
    const int none = __syncthreads_or(0);
    expect(any == 1 && none == 0, "__syncthreads_or");
  });
  for (unsigned i = 0; i < out.size(); ++i) expect(out[i] == 95 - i % 96 + i / 96 * 1000, "blocks and barriers");
}

void test_warp_words() {
  on_device(1, 64, 0, [] {
    const int lane = lane_index();
    const unsigned mask = lane < 8 ? 0xffu : 0xffffff00u;
    expect(__ballot_sync(mask, lane % 2 == 0) == (0x55555555u & mask), "ballots of two halves of a warp");
    expect(__shfl_sync(kAllLanes, 10 * lane, 7) == 70, "__shfl_sync");
    expect(__shfl_up_sync(kAllLanes, lane, 3) == (lane < 3 ? lane : lane - 3), "__shfl_up_sync");
    expect(warp_sum(static_cast<float>(lane)) == 496.0f, "warp_sum");
    expect(warp_running_sum(1u) == static_cast<unsigned>(lane + 1), "warp_running_sum");
    float values[kWarp];
    for (int i = 0; i < kWarp; ++i) values[i] = static_cast<float>(100 * i + lane);
    expect(transposed_sum(values) == static_cast<float>(32 * 100 * lane + 496), "transposed_sum");
  });
}

// One matrix product by the words of device/mma.h against three loops.
void test_byte_words() {
  expect(__byte_perm(0x33221100u, 0x77665544u, 0x6240) == 0x66224400u, "__byte_perm");
  std::vector<std::uint8_t> columns(4 * 32);  // byte i of column c belongs to row i
  for (unsigned i = 0; i < columns.size(); ++i) columns[i] = static_cast<std::uint8_t>(i / 32 << 6 | i % 32);
  std::vector<std::uint32_t> words(32);
  std::memcpy(words.data(), columns.data(), columns.size());
  on_device(1, 64, 0, [&] {
    const unsigned lane = static_cast<unsigned>(lane_index());
    const std::uint32_t row = ByteTurn()(words[ByteTurn::place()]);
    expect(row == (0xc0804000u | lane * 0x01010101u), "ByteTurn");
    expect(byte_of_row(lane % 3 == 0) == (0x49249249u >> lane / 8 * 8 & 0xffu), "byte_of_row");
    expect(sum_of_eight(lane / 8 + 1.0) == 8.0 * (lane / 8 + 1), "sum_of_eight");
    const Nearest best = best_of_lanes<8>({lane % 8 < 6 ? 1.0f : 0.0f, 100 - lane});
    expect(best.similarity == 1.0f && best.number == 100 - (lane / 8 * 8 + 5), "best_of_lanes");
  });
}

void test_append() {
  std::vector<unsigned> list(20, 99);
  std::uint32_t count = 0;
  on_device(2, 64, 0, [&] {
    append(lane_index() % 4 == 1, static_cast<unsigned>(lane_index()), list.data(), 20, &count);
    append(false, 7u, list.data(), 20, &count);
  });
  expect(count == 32, "append counts what has no room");
  for (unsigned i = 0; i < list.size(); ++i) expect(list[i] == i % 8 * 4 + 1, "append keeps the order of lanes");
}

void test_matrix_words() {
  static std::uint16_t a[16][16], b[8][16];  // (rows, depth) and (columns, depth), bf16
  const auto value = [](unsigned i, unsigned k) { return static_cast<float>((i * 7 + k * 3) % 11) - 5.0f; };
  for (unsigned k = 0; k < 16; ++k) {
    for (unsigned i = 0; i < 16; ++i) a[i][k] = from_float<BFloat>(value(i, k)).bits;
    for (unsigned i = 0; i < 8; ++i) b[i][k] = from_float<BFloat>(value(i + 20, k)).bits;
  }
  on_device(1, 32, 16 * 16 * 2 + 16 * 16 * 2, [&] {
    auto& shared = dynamic_shared<std::uint16_t[32][16]>();
    const unsigned lane = static_cast<unsigned>(lane_index());
    copy_async(&shared[lane / 2][lane % 2 * 8], &a[lane / 2][lane % 2 * 8], true);
    copy_async(&shared[16 + lane / 2][lane % 2 * 8], &b[lane / 2 % 8][lane % 2 * 8], lane < 16);
    expect(shared[lane / 2][lane % 2 * 8] == 0xffff, "a copy arrives at the wait, not before");
    commit_copies();
    wait_copies<0>();
    __syncwarp();
    std::uint32_t left[4], right[4];
    load_matrices(left, &shared[lane % 16][lane / 16 * 8]);
    load_matrices(right, &shared[16 + lane % 8 + lane / 16 * 8][lane / 8 % 2 * 8]);
    expect(right[2] == 0 && right[3] == 0, "copies that are not valid bring zeros");
    float c[4] = {1.0f, 1.0f, 1.0f, 1.0f};
    multiply_add<BFloat>(c, left, {right[0], right[1]});
    for (unsigned i = 0; i < 4; ++i) {
      float wanted = 1.0f;
      for (unsigned k = 0; k < 16; ++k) {
        wanted += value(lane / 4 + i / 2 * 8, k) * value(20 + lane % 4 * 2 + i % 2, k);
      }
      expect(c[i] == wanted, "multiply_add");
    }
  });
}

void test_reports() {
  expect_failure("1 have ended", [] {
    if (threadIdx.x != 5) __syncthreads();
  });
  expect_failure("different barriers", [] {
    if (threadIdx.x < 32) {
      __syncthreads();
    } else {
      __syncthreads();
    }
  });
  expect_failure("different places", [] {
    if (threadIdx.x % 2 == 0) {
      __syncwarp();
    } else {
      __syncwarp();
    }
  });
  expect_failure("cannot go on", [] {
    if (lane_index() != 3) __syncwarp();
  });
  expect_failure("outside the mask", [] { __shfl_xor_sync(0xffu, 1, 8); }, 8);
  expect_failure("lanes that the block does not have", [] { __syncwarp(); }, 16);
  expect_failure("divisible by 16", [] { copy_async(simt::shared_memory, simt::shared_memory + 2, true); });
}

// A missing barrier gives another result in another order: what makes shuffled runs worth their time.
void test_orders() {
  const auto race = [] {
    std::vector<unsigned> seen;
    on_device(2, 4, 0, [&] { seen.push_back(blockIdx.x * 10 + threadIdx.x); });
    return seen;
  };
  const auto forward = race();
  simt::set_order(1);
  expect(race() == std::vector<unsigned>(forward.rbegin(), forward.rend()), "backward is the reverse of forward");
  simt::set_order(5);
  const auto shuffled = race();
  expect(shuffled != forward && shuffled == race(), "a shuffled order is new, and the same for the same seed");
  simt::set_order(0);
}

}  // namespace

int main() {
  test_blocks_and_barriers();
  test_warp_words();
  test_byte_words();
  test_append();
  test_matrix_words();
  test_reports();
  test_orders();
  std::puts("test_simt: all passed");
}
