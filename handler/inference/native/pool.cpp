#include "pool.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

// Pauses before sleeping: some 50 microseconds at a barrier, where all are about to arrive, and up to a millisecond
// between tasks, where the next token is being chosen.
constexpr int kBarrierSpins = 2'000;
constexpr int kTaskSpins = 20'000;

void pause() {
#if defined(__x86_64__)
    _mm_pause();
#endif
}

void wait_while(const std::atomic<uint32_t> &value, uint32_t old, int spins) {
    for (int i = 0; i < spins; i++) {
        if (value.load(std::memory_order_acquire) != old) return;
        pause();
    }
    while (value.load(std::memory_order_acquire) == old) value.wait(old, std::memory_order_acquire);
}

} // namespace

Pool::Pool(int threads) : threads_(threads) {
    try {
        for (int thread = 1; thread < threads; thread++) workers_.emplace_back([this, thread] { work(thread); });
    } catch (...) { // the system gives no more threads: those there are must not be left waiting
        stop();
        throw;
    }
}

Pool::~Pool() { stop(); }

void Pool::stop() {
    stopping_ = true;
    tasks_.fetch_add(1, std::memory_order_release);
    tasks_.notify_all();
    for (auto &worker : workers_) worker.join();
}

void Pool::run(const std::function<void(int)> &task) {
    task_ = &task;
    tasks_.fetch_add(1, std::memory_order_release);
    tasks_.notify_all();
    task(0);
    barrier();
}

void Pool::barrier() {
    if (threads_ == 1) return;
    const uint32_t now = barriers_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == uint32_t(threads_)) {
        arrived_.store(0, std::memory_order_relaxed);
        barriers_.fetch_add(1, std::memory_order_release);
        barriers_.notify_all();
    } else {
        wait_while(barriers_, now, kBarrierSpins);
    }
}

void Pool::work(int thread) {
    for (uint32_t done = 0;; done++) {
        wait_while(tasks_, done, kTaskSpins);
        if (stopping_.load(std::memory_order_acquire)) return;
        (*task_)(thread);
        barrier();
    }
}
