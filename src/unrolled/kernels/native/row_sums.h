// Sums of the rows of dA: the gradients of the biases (all rows), and of the rows of W_x that were
// looked up (those with the same id). Nobody needs one-hot vectors for this.
//
// Threads share the columns, so no two of them ever add to the same number.
#pragma once
#include "interface.h"
#include "panels.h"
#include "threads.h"

namespace unrolled {
namespace INSTRUCTIONS {

template <class T>
struct SumRows {
    static constexpr size_t STRIP = 128;  // columns at a time: a small vocabulary stays cached
    const RowSums &s;

    void work(Team &team) const {
        const size_t N = s.N, strips = ceil_div(N, STRIP);
        team.each(size_t(s.groups) * strips, [&](size_t i) {
            const size_t g = i / strips, first = i % strips * STRIP;
            if (s.ids || s.db[g]) strip(g, first, smaller(STRIP, N - first));
        });
    }

    void strip(size_t g, size_t first, size_t n) const {
        const size_t N = s.N, row = size_t(s.groups) * N;
        const T *dA = static_cast<const T *>(s.dA) + g * N + first;
        T *dW_x = static_cast<T *>(s.dW_x[g]) + first;
        T total[STRIP] = {};
        if (s.ids)
            for (size_t v = 0; v < size_t(s.V); ++v) std::memset(dW_x + v * N, 0, n * sizeof(T));
        for (size_t k = 0; k < size_t(s.K); ++k) {
            T *sum = s.ids ? dW_x + size_t(s.ids[k]) * N : total;
            const T *x = dA + k * row;
            for (size_t j = 0; j < n; j += LANES<T>)
                store(sum + j, load(sum + j, n - j) + load(x + j, n - j), n - j);
        }
        if (!s.db[g]) return;
        if (s.ids)  // every row has an id: the sum of the sums
            for (size_t v = 0; v < size_t(s.V); ++v)
                for (size_t j = 0; j < n; ++j) total[j] += dW_x[v * N + j];
        std::memcpy(static_cast<T *>(s.db[g]) + first, total, n * sizeof(T));
    }
};

}  // namespace INSTRUCTIONS
}  // namespace unrolled
