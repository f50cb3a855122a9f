// The heart: a small tile of a matrix product, kept in registers from the first term to the last.
//
// A product of (M, K) by (K, N) does M N K multiplications on M K + K N numbers. Registers are
// few, so the result is cut into tiles that fit: ROWS x COLUMNS sums. Each step along K loads
// one row of the weights (COLUMNS numbers, two registers), one number for each of the ROWS, and
// does ROWS x 2 fused multiply-adds. Two of these start every cycle and take four or five, so at
// least 8 to 10 sums must be under way at once, or the unit waits for itself. Of 32 registers
// (AVX-512, ARM) 8 x 2 sums leave room for the weights, of 16 (AVX2, SSE) it is 6 x 2.
#pragma once
#include "vector.h"
#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace unrolled {
namespace INSTRUCTIONS {

constexpr size_t LINE = 64;  // bytes that the memory delivers at once
constexpr size_t ROWS = REGISTERS == 32 ? 8 : 6;
constexpr size_t AHEAD = 16;  // steps along K, some 100 cycles

// Two neighbours along K as bfloat16, the unit in which such numbers are multiplied. The
// upper half of a float32 is its bfloat16: 8 bits of fraction instead of 24, the same range.
struct Pair {
    uint32_t bits;
};

// What a product's elements are summed up in, and how many of K one element holds.
template <class E>
struct Sum {
    using type = E;
    static constexpr size_t DEPTH = 1;
};
template <>
struct Sum<Pair> {
    using type = float;
    static constexpr size_t DEPTH = 2;
};
template <class E>
using SumOf = typename Sum<E>::type;

template <class E>
constexpr size_t COLUMNS = 2 * LANES<SumOf<E>>;

template <class E>
INLINE void multiply_add(Vector<E> &sum, E a, Vector<E> b) {
    sum += a * b;
}

INLINE void multiply_add(Vector<float> &sum, Pair a, Vector<uint32_t> b) {
#if defined(__AVX512BF16__)
    sum = (Vector<float>)_mm512_dpbf16_ps((__m512)sum, (__m512bh)(Vector<uint32_t>{} + a.bits),
                                          (__m512bh)b);
#else
    const auto first = [](Vector<uint32_t> v) { return (Vector<float>)(v << 16); };
    const auto second = [](Vector<uint32_t> v) { return (Vector<float>)(v & 0xffff0000u); };
    const Vector<uint32_t> both = Vector<uint32_t>{} + a.bits;
    sum += first(both) * first(b);
    sum += second(both) * second(b);
#endif
}

INLINE Vector<float> load_elements(const float *from) { return load(from); }
INLINE Vector<double> load_elements(const double *from) { return load(from); }
INLINE Vector<uint32_t> load_elements(const Pair *from) { return load(&from->bits); }

// How A lies: its rows one after the other, or its columns, as in a transposed matrix.
enum Lie { BY_ROWS, BY_COLUMNS };

// out (R, COLUMNS) = or += A (R, K) panel (K, COLUMNS).
// The panel is packed: its rows follow each other. From a row of A to the next, or from a column
// to the next, it is `stride` elements.
// The panel comes from the second cache, so its rows are asked for some steps ahead; `out` is
// before the sums begin, and touched when they are done.
//
// A function of its own: inlined into others, its addresses no longer fit the registers.
template <size_t R, Lie LIE, class E>
__attribute__((noinline)) void tile(size_t K, const E *A, size_t stride, const E *panel,
                                    SumOf<E> *out, size_t out_row, bool add) {
    using T = SumOf<E>;
    Vector<T> sum[R][2];
#pragma GCC unroll 8
    for (size_t i = 0; i < R; ++i) {
        sum[i][0] = sum[i][1] = Vector<T>{};
        __builtin_prefetch(out + i * out_row, 1, 3);
        __builtin_prefetch(out + i * out_row + LANES<T>, 1, 3);
    }
    for (size_t k = 0; k < K; ++k, panel += COLUMNS<E>) {
        for (size_t j = 0; j < COLUMNS<E>; j += LINE / sizeof(E))
            __builtin_prefetch(panel + AHEAD * COLUMNS<E> + j, 0, 3);
        const auto b0 = load_elements(panel), b1 = load_elements(panel + LANES<T>);
#pragma GCC unroll 8
        for (size_t i = 0; i < R; ++i) {
            const E a = LIE == BY_ROWS ? A[i * stride + k] : A[k * stride + i];
            multiply_add(sum[i][0], a, b0);
            multiply_add(sum[i][1], a, b1);
        }
    }
    if (add)
#pragma GCC unroll 8
        for (size_t i = 0; i < R; ++i) {
            sum[i][0] += load(out + i * out_row);
            sum[i][1] += load(out + i * out_row + LANES<T>);
        }
#pragma GCC unroll 8
    for (size_t i = 0; i < R; ++i) {
        store(out + i * out_row, sum[i][0]);
        store(out + i * out_row + LANES<T>, sum[i][1]);
    }
}

// The same for 1 to ROWS rows: what is left of a batch that is no multiple of ROWS.
template <Lie LIE, class E, size_t R = ROWS>
inline void tile_of(size_t rows, size_t K, const E *A, size_t stride, const E *panel, SumOf<E> *out,
                    size_t out_row, bool add) {
    assert(rows > 0 && rows <= R);
    if (rows == R) return tile<R, LIE>(K, A, stride, panel, out, out_row, add);
    if constexpr (R > 1)
        tile_of<LIE, E, R - 1>(rows, K, A, stride, panel, out, out_row, add);
}

}  // namespace INSTRUCTIONS
}  // namespace unrolled
