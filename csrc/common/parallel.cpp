#include "common/parallel.h"

#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "tessella/errors.h"

namespace tessella {

namespace {

// One parallel_for. Helpers and the caller draw task numbers from `next`.
struct Job {
  const std::function<void(std::size_t)>* work;
  std::size_t tasks;
  std::atomic<std::size_t> next{0};
  std::mutex mutex;
  std::condition_variable idle;
  std::size_t active = 0;  // helpers inside run()
  bool closed = false;     // the caller has left; no helper may start
  std::exception_ptr error;

  void run() {
    for (std::size_t i = next.fetch_add(1); i < tasks; i = next.fetch_add(1)) {
      try {
        (*work)(i);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!error) error = std::current_exception();
        next.store(tasks);
      }
    }
  }
};

class Pool {
 public:
  void help(const std::shared_ptr<Job>& job, std::size_t helpers) {
    const std::lock_guard lock(mutex_);
    for (; workers_ < helpers; ++workers_) std::thread([this] { serve(); }).detach();
    for (std::size_t i = 0; i < helpers; ++i) queue_.push_back(job);
    helpers == 1 ? wake_.notify_one() : wake_.notify_all();
  }

 private:
  void serve() {
    for (;;) {
      std::shared_ptr<Job> job;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [this] { return !queue_.empty(); });
        job = std::move(queue_.front());
        queue_.pop_front();
      }
      {
        const std::lock_guard lock(job->mutex);
        if (job->closed) continue;
        ++job->active;
      }
      job->run();
      const std::lock_guard lock(job->mutex);
      if (--job->active == 0) job->idle.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::shared_ptr<Job>> queue_;
  std::size_t workers_ = 0;
};

// Leaked on purpose: its threads run until the process ends. fork() copies no threads, so the child starts afresh.
std::atomic<Pool*> shared_pool{nullptr};

Pool& pool() {
  static std::once_flag once;
  std::call_once(once, [] {
    shared_pool = new Pool;
    pthread_atfork(nullptr, nullptr, [] { shared_pool = new Pool; });
  });
  return *shared_pool;
}

std::size_t usable_cpus() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return static_cast<std::size_t>(CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

std::atomic<std::size_t> default_threads{0};

}  // namespace

std::size_t num_threads() {
  const std::size_t chosen = default_threads.load();
  static const std::size_t kCpus = usable_cpus();
  return chosen != 0 ? chosen : kCpus;
}

void set_num_threads(std::size_t threads) {
  if (threads == 0) throw Error(ErrorKind::kInvalidArgument, "set_num_threads: expected at least 1 thread; got 0");
  default_threads = threads;
}

void parallel_for(std::size_t tasks, std::size_t threads, const std::function<void(std::size_t)>& work) {
  const std::size_t helpers = std::min(tasks, threads) - (std::min(tasks, threads) > 0 ? 1 : 0);
  if (helpers == 0) {
    for (std::size_t i = 0; i < tasks; ++i) work(i);
    return;
  }
  const auto job = std::make_shared<Job>();
  job->work = &work;
  job->tasks = tasks;
  pool().help(job, helpers);
  job->run();
  std::unique_lock lock(job->mutex);
  job->closed = true;
  job->idle.wait(lock, [&] { return job->active == 0; });
  // Taken out of the job: a helper may drop the job last, and must not free what the caller is reading.
  if (const std::exception_ptr error = std::exchange(job->error, nullptr)) std::rethrow_exception(error);
}

}  // namespace tessella
