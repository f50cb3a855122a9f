#include "threads.h"

#include <dlfcn.h>
#include <unistd.h>

#include <cassert>
#include <thread>
#include <vector>

#include "thread_pool.h"

namespace unrolled {
namespace {

using Work = void (*)(const void *job, Team &team);

constexpr int SPINS = 4000;  // of some 10 nanoseconds; then the core is offered to others

void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// The functions of libgomp, gcc's OpenMP, that a compiled `#pragma omp parallel` needs.
struct OpenMP {
    void (*parallel)(void (*work)(void *), void *job, unsigned threads, unsigned flags);
    int (*rank)();
    int (*most)();

    // Null where there is none. It may be loaded at any time, so it is looked for until it is found.
    static const OpenMP *loaded() {
        static std::atomic<bool> is_loaded{false};
        static OpenMP found;
        static std::mutex looking;
        if (is_loaded.load(std::memory_order_acquire)) return &found;
        std::lock_guard<std::mutex> lock(looking);
        if (is_loaded) return &found;  // by another thread, while this one waited
        find(found.parallel, "GOMP_parallel");
        find(found.rank, "omp_get_thread_num");
        find(found.most, "omp_get_max_threads");
        is_loaded.store(found.parallel && found.rank && found.most, std::memory_order_release);
        return is_loaded ? &found : nullptr;
    }
    template <class Function>
    static void find(Function &function, const char *name) {
        function = reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, name));
    }
};

struct Call {
    Work work;
    const void *job;
    int threads;
    Begun *begun;
    Done *done;
    const OpenMP *openmp;
    void member(int rank) const {
        Team team(rank, threads, begun, done);
        work(job, team);
    }
};

// Fewer threads than asked for do no harm: the others do their items.
void run_borrowed(const Call &call) {
    const auto member = [](void *data) {
        const Call &call = *static_cast<const Call *>(data);
        call.member(call.openmp->rank());
    };
    call.openmp->parallel(member, const_cast<Call *>(&call), unsigned(call.threads), 0);
}

}  // namespace

void Team::begin(size_t items) {
    ++phase_;
    assert(items <= UINT32_MAX && phase_ <= UINT32_MAX);  // see Begun
    until_ += items;
    items_ = items;
    owner_ = 0;
    mine_ = 0;
}

// Claims one more item of somebody's share in this phase.
bool Team::claim(int owner, size_t &item) {
    const size_t first = items_ * owner / count, size = items_ * (owner + 1) / count - first;
    auto &begun = begun_[owner].phase_and_items;
    uint64_t seen = begun.load(std::memory_order_relaxed);
    while (true) {
        const uint64_t phase = seen >> 32, taken = phase == phase_ ? seen & 0xffffffff : 0;
        if (phase > phase_ || taken >= size) return false;
        if (begun.compare_exchange_weak(seen, phase_ << 32 | (taken + 1),
                                        std::memory_order_relaxed)) {
            item = first + taken;
            return true;
        }
    }
}

bool Team::next(size_t &item) {
    for (; owner_ < count; ++owner_) {
        if (claim((rank + owner_) % count, item)) {
            ++mine_;
            return true;
        }
        if (mine_) done_->items.fetch_add(mine_, std::memory_order_release);
        mine_ = 0;
    }
    return false;
}

void Team::finish() const {
    for (int spins = 0; done_->items.load(std::memory_order_acquire) < until_; ++spins) {
        if (spins < SPINS)
            relax();
        else
            std::this_thread::yield();
    }
}

void run(int threads, bool openmp, Work work, const void *job) {
    std::vector<Begun> begun(threads);
    Done done;
    Call call{work, job, threads, begun.data(), &done, nullptr};
    if (threads > 1 && openmp) call.openmp = OpenMP::loaded();
    if (threads == 1)
        call.member(0);
    else if (call.openmp)
        run_borrowed(call);
    else
        ThreadPool::here().run(threads, [&call](int rank) { call.member(rank); });
}

size_t second_cache_bytes() {
    static const size_t bytes = [] {  // asked once: in a virtual machine it takes microseconds
        long found = 0;
#ifdef _SC_LEVEL2_CACHE_SIZE
        found = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
        return found > 0 ? size_t(found) : size_t(1) << 20;
    }();
    return bytes;
}

int openmp_threads() {
    const OpenMP *openmp = OpenMP::loaded();
    return openmp ? openmp->most() : 1;
}

}  // namespace unrolled
