// Threads for one call: they share the items of one phase after the other.
//
// A time step is a phase, and its blocks of hidden units are the items: the next step needs all
// of them, so at the end of a phase the threads meet. That takes a microsecond or less if
// they wait by spinning; to put a thread to sleep and to wake it takes as long as a step.
//
// On a shared machine a thread may lose its core at any time, for some milliseconds: a hundred
// steps. Were each to do its own share, the others would stand still. So every thread does
// its own items first (their weights are in its core's cache), then what the others have not
// begun. A phase ends when all items are done, whoever did them; a thread that was away goes
// quickly through the phases that ended without it.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace unrolled {

// What the threads of a call have in common. Lines of their own: no thread disturbs another.
struct alignas(64) Begun {
    std::atomic<uint64_t> phase_and_items{0};  // of one thread's share: 32 bits each
};
struct alignas(64) Done {
    std::atomic<uint64_t> items{0};  // since the call began
};

// One thread's view of the call.
class Team {
public:
    Team(int rank, int count, Begun *begun, Done *done)
        : rank(rank), count(count), begun_(begun), done_(done) {}
    const int rank, count;

    // The threads together call work(0), ..., work(items - 1), each once; then all go on.
    // Every thread must make the same calls of `each` in the same order.
    template <class Work>
    void each(size_t items, Work work) {
        begin(items);
        for (size_t item; next(item);) work(item);
        finish();
    }

private:
    void begin(size_t items);
    bool next(size_t &item);
    void finish() const;
    bool claim(int owner, size_t &item);

    Begun *const begun_;
    Done *const done_;
    uint64_t phase_ = 0, until_ = 0;  // this phase, and the items done when it ends
    size_t items_ = 0, mine_ = 0;     // of this phase: in all, and done by this thread
    int owner_ = 0;                   // whose share this thread works on, counted from its own
};

// Runs work(job, team) on up to `threads` threads, the caller's among them, and waits for all.
//
// They are those of the OpenMP in the process, if the caller says so: PyTorch's wait for its next
// operation by spinning, some milliseconds, and others would have to fight them for the cores
// (measured: ten times slower). Else they are the library's own, see thread_pool.h.
void run(int threads, bool openmp, void (*work)(const void *job, Team &team), const void *job);

// The size of a core's own second cache; 1 MB where the system does not tell.
size_t second_cache_bytes();

// How many the OpenMP in the process would give; 1 where there is none.
int openmp_threads();

}  // namespace unrolled
