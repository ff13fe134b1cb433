#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>

#include "fiber.h"
#include "simt.h"

namespace simt {

Thread* running = nullptr;
std::byte* shared_memory = nullptr;

namespace {

constexpr unsigned kWarp = 32;
constexpr unsigned kMostThreads = 1024;
unsigned chosen_order = 0;

// One block in execution.
struct Block {
  std::vector<Thread> threads;
  std::vector<std::unique_ptr<Fiber>> fibers;
  const std::function<void()>* kernel = nullptr;
  unsigned alive = 0;
  unsigned at_barrier = 0;
  std::string error;
};

Block* current = nullptr;

std::string place(const Meeting& meeting) {
  const char* slash = std::strrchr(meeting.file, '/');
  return std::string(slash == nullptr ? meeting.file : slash + 1) + ":" + std::to_string(meeting.line);
}

// Who waits where, for the report of a block that cannot go on.
std::string waiting_places(const Block& block) {
  std::map<std::string, unsigned> places;
  for (const Thread& thread : block.threads) {
    if (thread.waiting) ++places[place(thread.meeting)];
  }
  std::string text;
  for (const auto& [where, count] : places) text += std::to_string(count) + " wait at " + where + ", ";
  return text + std::to_string(block.threads.size() - block.alive) + " have ended";
}

bool same_place(const Meeting& a, const Meeting& b) { return a.line == b.line && a.work == b.work; }

// Runs the work of a complete meeting of threads first .. first + count and lets them go on; nullptr stands for a lane
// that takes no part.
void conclude(Thread* first, unsigned count, void** mine) {
  const Meeting meeting = running->meeting;
  for (unsigned i = 0; i < count; ++i) {
    if (meeting.scope == Scope::kWarp && (meeting.mask >> i & 1u) == 0) {
      mine[i] = nullptr;
      continue;
    }
    mine[i] = first[i].meeting.mine;
    first[i].waiting = false;
  }
  if (meeting.work != nullptr) meeting.work(mine, count);
}

bool complete_warp(const Meeting& meeting) {
  Block& block = *current;
  const unsigned first = running->thread.x / kWarp * kWarp;
  const auto count = std::min<unsigned>(kWarp, static_cast<unsigned>(block.threads.size()) - first);
  for (unsigned i = 0; i < kWarp; ++i) {
    if ((meeting.mask >> i & 1u) == 0) continue;
    if (i >= count) fail("the mask names lanes that the block does not have", meeting.file, meeting.line);
    const Thread& other = block.threads[first + i];
    if (!other.waiting) return false;
    if (other.meeting.scope != Scope::kWarp || other.meeting.mask != meeting.mask) return false;
    if (!same_place(other.meeting, meeting)) {
      fail("lanes of a warp meet at different places, the other at " + place(other.meeting), meeting.file,
           meeting.line);
    }
  }
  void* mine[kWarp];
  conclude(&block.threads[first], count, mine);
  return true;
}

bool complete_block(const Meeting& meeting) {
  Block& block = *current;
  if (++block.at_barrier < block.threads.size()) return false;
  for (const Thread& other : block.threads) {
    if (!same_place(other.meeting, meeting)) {
      fail("threads wait at different barriers, another at " + place(other.meeting), meeting.file, meeting.line);
    }
  }
  block.at_barrier = 0;
  void* mine[kMostThreads];
  conclude(block.threads.data(), static_cast<unsigned>(block.threads.size()), mine);
  return true;
}

void run_thread(void*) {
  try {
    (*current->kernel)();
  } catch (const std::exception& error) {  // fail(), or a kernel of a test
    current->error = error.what();
  }
  --current->alive;
}

std::vector<unsigned> in_order(unsigned count) {
  std::vector<unsigned> order(count);
  std::iota(order.begin(), order.end(), 0u);
  if (chosen_order == 1) std::reverse(order.begin(), order.end());
  return order;
}

void run_block(Block& block, std::mt19937& random) {
  std::vector<unsigned> order = in_order(static_cast<unsigned>(block.threads.size()));
  while (block.alive > 0) {
    bool moved = false;
    if (chosen_order > 1) std::shuffle(order.begin(), order.end(), random);
    for (const unsigned i : order) {
      if (block.threads[i].waiting || block.fibers[i]->ended()) continue;
      running = &block.threads[i];
      block.fibers[i]->resume();
      running = nullptr;
      if (!block.error.empty()) return;
      moved = true;
    }
    if (moved) continue;
    block.error = "the block cannot go on: " + waiting_places(block);
    return;
  }
}

void start_block(Block& block, const Config& config, Index where) {
  for (unsigned i = 0; i < config.block.x; ++i) {
    Thread& thread = block.threads[i];
    thread = Thread{};
    thread.thread = {i, 0, 0};
    thread.block = where;
    thread.block_size = config.block;
    thread.grid_size = config.grid;
    thread.copies.resize(1);
    block.fibers[i]->reset(&run_thread, nullptr);
  }
  block.alive = config.block.x;
  block.at_barrier = 0;
}

}  // namespace

void set_order(unsigned order) { chosen_order = order; }

void fail(const std::string& what, const char* file, int line) {
  const Meeting here{Scope::kBlock, 0, nullptr, nullptr, file, line};
  throw std::runtime_error(place(here) + ": " + what);
}

void meet(const Meeting& meeting) {
  running->meeting = meeting;
  running->waiting = true;
  const bool complete = meeting.scope == Scope::kWarp ? complete_warp(meeting) : complete_block(meeting);
  if (!complete) current->fibers[running->thread.x]->stop();
}

void run(const Config& config, const std::function<void()>& kernel) {
  static std::vector<std::unique_ptr<Fiber>> spare;  // stacks are worth keeping
  if (current != nullptr) throw std::logic_error("simt: a kernel launches a kernel");
  if (config.block.y != 1 || config.block.z != 1) throw std::logic_error("simt: blocks have one dimension here");
  Block block;
  block.threads.resize(config.block.x);
  block.kernel = &kernel;
  while (spare.size() < config.block.x) spare.push_back(std::make_unique<Fiber>());
  block.fibers.swap(spare);
  current = &block;
  std::mt19937 random(chosen_order);
  std::vector<unsigned> order = in_order(config.grid.x * config.grid.y * config.grid.z);
  if (chosen_order > 1) std::shuffle(order.begin(), order.end(), random);
  for (const unsigned i : order) {
    // Exactly as long as asked for, on the heap, so that the address sanitizer hears a step beyond it.
    const auto bytes = std::max<std::size_t>(config.shared_bytes, 1);
    const std::unique_ptr<std::byte, decltype(&std::free)> shared(
        static_cast<std::byte*>(std::aligned_alloc(16, (bytes + 15) / 16 * 16)), &std::free);
    std::memset(shared.get(), 0xff, bytes);
    shared_memory = shared.get();
    start_block(block, config,
                {i % config.grid.x, i / config.grid.x % config.grid.y, i / config.grid.x / config.grid.y});
    run_block(block, random);
    if (!block.error.empty()) break;
  }
  current = nullptr;
  shared_memory = nullptr;
  if (!block.error.empty()) throw std::runtime_error("simt: " + block.error);
  spare.swap(block.fibers);
}

}  // namespace simt
