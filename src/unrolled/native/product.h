// Products of large matrices, C_g = A B_g: the weight gradients over all time steps, and whatever
// else a layer multiplies.
//
// Cut along K into stretches, so that what is being read stays in the caches (after K. Goto and
// R. van de Geijn, Anatomy of high-performance matrix multiplication, ACM TOMS 34, 2008):
// a panel of B is packed (first cache), and the rows of A pass by it, packed into slices of ROWS
// (second cache) where they do not lie as the tile wants them.
//
// Threads share out the rows. Each packs what it needs by itself, though then every thread packs
// all of B: what another core has written comes out of that core's cache line by line, and with
// a copy for everybody two threads were only 1.3 times as fast as one (AMD, M = N = 512).
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
    static constexpr size_t SLICES_BYTES = 256 * 1024;  // a quarter of a small second cache
    static constexpr size_t TOGETHER = 8;               // panels that are packed at once
    static constexpr size_t MOST_ROWS = 1024;           // of a part whose A needs no packing
    static constexpr size_t FEW_PANELS = 2;  // for so few a transposed A is not worth packing
    static constexpr T ZEROS[WIDTH] = {};

    const Product &p;
    const size_t M, N, K, stretch;
    const size_t panels, columns;  // of one B, and of all
    const bool as_it_is;           // A needs no packing
    size_t height, tall, wide;     // of a part; parts along M, and along N
    E *slices;  // (threads, height, stretch)
    E *panel;   // (threads, TOGETHER, stretch, WIDTH)
    T *edges;   // (threads, groups, height, WIDTH)
    Scratch scratch;

    Multiply(const Product &call)
        : p(call), M(call.M), N(call.N), K(call.K),
          stretch(ceil_div(ceil_div(K, ceil_div(K, STRETCH)), 2) * 2),  // even, and even parts
          panels(ceil_div(N, WIDTH)), columns(size_t(call.groups) * panels),
          as_it_is(sizeof(E) == sizeof(T) && Sum<E>::DEPTH == 1 && !p.split &&
                   (!p.transpose_a || columns <= FEW_PANELS)),
          scratch(call.workspace) {
        const size_t threads = size_t(call.threads);
        const size_t most =
            as_it_is ? MOST_ROWS : ceil_div(SLICES_BYTES, depth<E>(stretch) * sizeof(E));
        const size_t parts = ceil_div(ceil_div(M, most), threads) * threads;
        height = ceil_div(ceil_div(M, parts), ROWS) * ROWS;
        tall = ceil_div(M, height);
        wide = tall >= threads ? 1 : smaller(columns, ceil_div(2 * threads, tall));
        slices = scratch.take<E>(as_it_is ? 0 : threads * slice_numbers());
        panel = scratch.take<E>(threads * panel_numbers());
        edges = scratch.take<T>(N % WIDTH ? threads * edge_numbers() : 0);
    }
    size_t bytes() const { return scratch.bytes(); }

    // of one thread
    size_t slice_numbers() const { return height * depth<E>(stretch); }
    size_t panel_numbers() const { return TOGETHER * depth<E>(stretch) * WIDTH; }
    size_t edge_numbers() const { return size_t(p.groups) * height * WIDTH; }

    void work(Team &team) const {
        team.each(tall * wide, [&](size_t i) {
            const size_t m0 = i / wide * height, column = i % wide;
            part(size_t(team.rank), m0, smaller(height, M - m0), columns * column / wide,
                 columns * (column + 1) / wide);
        });
    }

    // The rows [m0, m0 + m) of C, and of its panels those from `begin` to `end`.
    void part(size_t rank, size_t m0, size_t m, size_t begin, size_t end) const {
        const Rows<T> A{static_cast<const T *>(p.A_first), size_t(p.split),
                        static_cast<const T *>(p.A), size_t(p.A_stride)};
        assert(rank < size_t(p.threads) && m <= height && height % ROWS == 0);
        E *sliced = slices + rank * slice_numbers();
        T *edge = edges + rank * edge_numbers();
        E *packed = panel + rank * panel_numbers();
        for (size_t k0 = 0; k0 < K; k0 += stretch) {
            const size_t k = smaller(stretch, K - k0);
            if (!as_it_is) pack<ROWS>(A, !p.transpose_a, k0, k, m0, m, sliced);
            for (size_t column = begin, count; column < end; column += count) {
                const size_t g = column / panels, first = column % panels, n0 = first * WIDTH;
                count = smaller(smaller(TOGETHER, panels - first), end - column);
                const Rows<T> B{nullptr, 0, static_cast<const T *>(p.B[g]), size_t(p.B_stride)};
                pack<WIDTH>(B, p.transpose_b, k0, k, n0, smaller(count * WIDTH, N - n0), packed);
                for (size_t i = 0; i < count; ++i)
                    pass(packed + i * depth<E>(k) * WIDTH, sliced, edge + g * height * WIDTH, g,
                         n0 + i * WIDTH, m0, m, k0, k);
            }
        }
    }

    // C_g[m0 : m0 + m, n0 : n0 + WIDTH] = or += A packed, for the terms from k0 to k0 + k. Columns
    // that fill no panel are summed up apart, in `edge` (m, WIDTH), until the last terms are there.
    void pass(const E *packed, const E *sliced, T *edge, size_t g, size_t n0, size_t m0, size_t m,
              size_t k0, size_t k) const {
        const size_t n = smaller(WIDTH, N - n0), stride = size_t(p.C_stride), terms = depth<E>(k);
        const bool first = k0 == 0, last = k0 + k == K, apart = n < WIDTH;
        for (size_t i = 0; i < m; i += ROWS) {
            const size_t rows = smaller(ROWS, m - i);
            T *C = static_cast<T *>(p.C[g]) + (m0 + i) * stride + n0, *sums = edge + i * WIDTH;
            const E *slice = sliced + i * terms;
            if (!apart) {
                if (first && p.bias) begin_with_bias(C, rows, n0);
                const bool add = !first || p.accumulate || p.bias;
                times(packed, slice, rows, m0 + i, k0, terms, C, stride, add);
                continue;
            }
            times(packed, slice, rows, m0 + i, k0, terms, sums, WIDTH, !first);
            for (size_t row = 0; last && row < rows; ++row) {
                const T *bias = p.bias ? static_cast<const T *>(p.bias) + n0 : ZEROS;
                T *c = C + row * stride;
                add(c, sums + row * WIDTH, p.accumulate ? c : bias, n);
            }
        }
    }
    void begin_with_bias(T *C, size_t rows, size_t n0) const {
        for (size_t row = 0; row < rows; ++row)
            std::memcpy(C + row * size_t(p.C_stride), static_cast<const T *>(p.bias) + n0,
                        WIDTH * sizeof(T));
    }

    // out (rows, WIDTH) = or += A packed, for up to ROWS rows of A from row m on.
    void times(const E *packed, const E *slice, size_t rows, size_t m, size_t k0, size_t terms,
               T *out, size_t out_row, bool add) const {
        if (!as_it_is)  // (terms, ROWS)
            return tile_of<BY_COLUMNS>(rows, terms, slice, ROWS, packed, out, out_row, add);
        const size_t row = size_t(p.A_stride);
        const E *A = static_cast<const E *>(p.A);
        if (p.transpose_a)
            tile_of<BY_COLUMNS>(rows, terms, A + k0 * row + m, row, packed, out, out_row, add);
        else
            tile_of<BY_ROWS>(rows, terms, A + m * row + k0, row, packed, out, out_row, add);
    }
};

}  // namespace INSTRUCTIONS
}  // namespace unrolled
