// Sums of the rows of a matrix: the gradients of biases (all rows), and of the rows of W_x that
// were looked up (those with the same id). Nobody needs one-hot vectors for this.
//
// Threads share the columns, so no two of them ever add to the same number.
#pragma once
#include "panels.h"
#include "threads.h"

namespace unrolled {
namespace INSTRUCTIONS {

// Of dA (K, G N), whose rows begin `stride` numbers apart.
template <class T>
struct SumRows {
    static constexpr size_t STRIP = 128;  // columns at a time: a small vocabulary stays cached

    const T *dA;
    size_t K, G, N, stride;
    void *const *db;                        // G arrays (N): the sums; NULL where nobody asks
    const int64_t *ids = nullptr;           // (K), or NULL: then dW_x is not written
    void *const *dW_x = nullptr;            // G arrays (V, N): the sums of the rows of each id
    size_t V = 0;

    void work(Team &team) const {
        const size_t strips = ceil_div(N, STRIP);
        team.each(G * strips, [&](size_t i) {
            const size_t g = i / strips, first = i % strips * STRIP;
            if (ids || db[g]) strip(g, first, smaller(STRIP, N - first));
        });
    }

    void strip(size_t g, size_t first, size_t n) const {
        assert(n <= STRIP && first + n <= N);
        const T *x = dA + g * N + first;
        T *rows = ids ? static_cast<T *>(dW_x[g]) + first : nullptr;
        T total[STRIP] = {};
        if (ids)
            for (size_t v = 0; v < V; ++v) std::memset(rows + v * N, 0, n * sizeof(T));
        for (size_t k = 0; k < K; ++k, x += stride) {
            T *sum = ids ? rows + size_t(ids[k]) * N : total;
            add(sum, sum, x, n);
        }
        if (!db[g]) return;
        if (ids)  // every row has an id: the sum of the sums
            for (size_t v = 0; v < V; ++v) add(total, total, rows + v * N, n);
        std::memcpy(static_cast<T *>(db[g]) + first, total, n * sizeof(T));
    }
};

}  // namespace INSTRUCTIONS
}  // namespace unrolled
