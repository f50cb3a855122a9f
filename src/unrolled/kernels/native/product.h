// Products of large matrices, C_g = A B_g: the weight gradients over all time steps, and whatever
// else a layer multiplies.
//
// Cut along K into stretches, so that what is being read stays in the caches (after K. Goto and
// R. van de Geijn, Anatomy of high-performance matrix multiplication, ACM TOMS 34, 2008):
// of each stretch, all of A is packed once into slices of ROWS, for everybody (second cache);
// a thread packs one panel of B after the other (first cache) and passes all slices by it.
#pragma once
#include "interface.h"
#include "panels.h"
#include "threads.h"

namespace unrolled {
namespace INSTRUCTIONS {

template <class E>
struct Multiply {
    using T = SumOf<E>;
    static constexpr size_t WIDTH = COLUMNS<E>;
    static constexpr size_t STRETCH = 256 * 4 / sizeof(T) * Sum<E>::DEPTH;  // of K
    static constexpr size_t HEIGHT = 512 / ROWS * ROWS;                     // of M, whole slices

    const Product &p;
    const size_t M, N, K, stretch, height, panels;
    const bool few_columns;  // A passes by only once or twice: to copy it would not pay
    E *slices;  // (slices of the height, stretch, ROWS)
    E *panel;   // (threads, stretch, WIDTH)
    size_t bytes;

    Multiply(const Product &call)
        : p(call), M(call.M), N(call.N), K(call.K),
          stretch(ceil_div(ceil_div(K, ceil_div(K, STRETCH)), 2) * 2),  // even, and even parts
          height(smaller(ceil_div(M, ROWS) * ROWS, HEIGHT)), panels(ceil_div(N, WIDTH)),
          few_columns(sizeof(E) == sizeof(T) && Sum<E>::DEPTH == 1 && !p.split &&
                      size_t(p.groups) * panels <= 2) {
        char *memory = aligned(call.workspace);
        slices = take<E>(memory, height * depth<E>(stretch));
        panel = take<E>(memory, size_t(call.threads) * depth<E>(stretch) * WIDTH);
        bytes = size_t(memory - aligned(call.workspace)) + LINE;
    }

    void work(Team &team) const {
        const Rows<T> A{static_cast<const T *>(p.A_first), size_t(p.split),
                        static_cast<const T *>(p.A), size_t(p.A_stride)};
        for (size_t m0 = 0; m0 < M; m0 += height)
            for (size_t k0 = 0; k0 < K; k0 += stretch) {
                const size_t m = smaller(height, M - m0), k = smaller(stretch, K - k0);
                const size_t count = ceil_div(m, ROWS);  // of slices
                if (!few_columns) team.each(count, [&](size_t i) {
                    pack<ROWS>(A, !p.transpose_a, k0, k, m0 + i * ROWS,
                               smaller(ROWS, m - i * ROWS), slices + i * ROWS * depth<E>(k));
                });
                // few panels are cut into runs of slices, so that all threads have work
                const size_t all = size_t(p.groups) * panels, threads = size_t(team.count);
                const bool few = all < 2 * threads;
                const size_t runs = few ? smaller(count, ceil_div(4 * threads, all)) : 1;
                team.each(all * runs, [&](size_t item) {
                    const size_t run = item % runs;
                    part(panel + team.rank * depth<E>(stretch) * WIDTH, item / runs,
                         count * run / runs, count * (run + 1) / runs, m0, m, k0, k);
                });
            }
    }

    // C (rows, WIDTH) = or += A packed, for ROWS rows of A from row m on, the i-th slice, and the
    // terms from k0 on.
    void times(const E *packed, size_t rows, size_t m, size_t i, size_t k0, size_t terms, T *C,
               size_t stride, bool add) const {
        if (!few_columns) {
            const E *A = slices + i * ROWS * terms;  // (terms, ROWS)
            return tile_of<BY_COLUMNS>(rows, terms, A, ROWS, packed, C, stride, add,
                                       A + ROWS * terms);
        }
        const size_t from = size_t(p.A_stride);
        const E *A = static_cast<const E *>(p.A);
        if (p.transpose_a) {
            A += k0 * from + m;
            return tile_of<BY_COLUMNS>(rows, terms, A, from, packed, C, stride, add, A);
        }
        A += m * from + k0;
        tile_of<BY_ROWS>(rows, terms, A, from, packed, C, stride, add, A + ROWS * from);
    }

    // C[m0 : m0 + m, one panel] += A B over the terms k0 to k0 + k, for some of the slices
    void part(E *packed, size_t which, size_t begin, size_t end, size_t m0, size_t m, size_t k0,
              size_t k) const {
        const bool fresh = k0 == 0 && !p.accumulate;
        const size_t g = which / panels, n0 = which % panels * WIDTH, terms = depth<E>(k);
        const size_t n = smaller(WIDTH, N - n0), stride = size_t(p.C_stride);
        const T *bias = static_cast<const T *>(p.bias);
        const Rows<T> B{nullptr, 0, static_cast<const T *>(p.B[g]), size_t(p.B_stride)};
        pack<WIDTH>(B, p.transpose_b, k0, k, n0, n, packed);
        for (size_t i = begin; i < end; ++i) {
            const size_t rows = smaller(ROWS, m - i * ROWS);
            const size_t m_i = m0 + i * ROWS;
            T *C = static_cast<T *>(p.C[g]) + m_i * stride + n0;
            if (n == WIDTH && !(fresh && bias)) {
                times(packed, rows, m_i, i, k0, terms, C, stride, !fresh);
                continue;
            }
            T sums[ROWS * WIDTH];  // the last columns, or a bias: not straight into C
            times(packed, rows, m_i, i, k0, terms, sums, WIDTH, false);
            for (size_t row = 0; row < rows; ++row)
                for (size_t j = 0; j < n; ++j) {
                    T &c = C[row * stride + j];
                    c = sums[row * WIDTH + j] + (!fresh ? c : bias ? bias[n0 + j] : T(0));
                }
        }
    }
};

}  // namespace INSTRUCTIONS
}  // namespace unrolled
