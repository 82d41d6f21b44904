// Threads that work on one task at a time, together, with barriers in it.
//
// A step has some sixty barriers in five milliseconds, too many for the system to wake threads at each. So whoever
// waits spins, but never for long: past a bound it sleeps, and leaves the processor to others.

#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

class Pool {
  public:
    // The thread that calls run() is one of them.
    explicit Pool(int threads);
    ~Pool();
    Pool(const Pool &) = delete;
    Pool &operator=(const Pool &) = delete;

    int threads() const { return threads_; }

    // Calls task(thread) on every thread, 0 being the caller's, and returns when all are done.
    void run(const std::function<void(int)> &task);

    // Within a task: waits until every thread is here. What was written before is seen by all after.
    void barrier();

  private:
    void work(int thread);
    void stop();

    const int threads_;
    const std::function<void(int)> *task_ = nullptr;
    std::atomic<uint32_t> tasks_{0};    // counts them; a change wakes the workers
    std::atomic<uint32_t> arrived_{0};  // threads at the barrier
    std::atomic<uint32_t> barriers_{0}; // counts them; a change lets everybody through
    std::atomic<bool> stopping_{false};
    std::vector<std::thread> workers_;
};
