// Packing: matrices rewritten in the order in which the tile reads them.
//
// The tile wants COLUMNS neighbours of one row, then the same columns of the next row. In a
// row-major matrix these lie a whole row apart: each on another page, in few sets of the cache.
// A panel has them one after the other, so that the hardware's prefetcher runs ahead. To
// copy a weight costs a few cycles; it is then used for every row of every time step.
#pragma once
#include "tile.h"

namespace unrolled {
namespace INSTRUCTIONS {

// A matrix whose rows lie in two arrays: `split` in the first, the others in the second.
template <class T>
struct Rows {
    const T *first;
    size_t split;
    const T *rest;
    size_t stride;
    const T *operator[](size_t i) const {
        return i < split ? first + i * stride : rest + (i - split) * stride;
    }
};

// float32 to bfloat16, to the nearest, ties to even; NaN stays NaN
INLINE uint32_t bfloat16(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return x == x ? rounded : 0x7fc0;
}

INLINE Pair pair(float x, float y) { return Pair{bfloat16(x) | bfloat16(y) << 16}; }

// How many elements K numbers make.
template <class E>
constexpr size_t depth(size_t K) {
    return (K + Sum<E>::DEPTH - 1) / Sum<E>::DEPTH;
}

// n neighbours along K as elements: as they are, or in pairs (with zero if one is left).
template <class T>
INLINE void elements(const T *from, size_t n, T *to) {
    std::memcpy(to, from, n * sizeof(T));
}
INLINE void elements(const float *from, size_t n, Pair *to) {
    for (size_t i = 0; i < n / 2; ++i) to[i] = pair(from[2 * i], from[2 * i + 1]);
    if (n % 2) to[n / 2] = pair(from[n - 1], 0);
}

// n columns of one row along K, or of two: `next` is the second, if there is one.
template <class T>
INLINE void columns(const T *row, const T *, size_t n, T *to) {
    std::memcpy(to, row, n * sizeof(T));
}
INLINE void columns(const float *row, const float *next, size_t n, Pair *to) {
    for (size_t j = 0; j < n; ++j) to[j] = pair(row[j], next ? next[j] : 0);
}

// Up to BLOCK neighbours along K, one below the other in a panel.
template <size_t BLOCK, size_t WIDTH, class T, class E>
INLINE void turn(const T *from, size_t n, E *to) {
    E block[depth<E>(BLOCK)];
    elements(from, n, block);
    for (size_t i = 0; i < depth<E>(n); ++i) to[i * WIDTH] = block[i];
}

// Panels of WIDTH columns, one (depth(K), WIDTH) after the other, of matrix[k0 : k0 + K, n0 : n0 + n]
// or of its transpose; what the last lacks is zeros.
//
// A row is read from one end to the other, though it goes to several panels: the hardware
// fetches ahead what follows, not what stands a whole row further.
template <size_t WIDTH, class E, class T>
void pack(const Rows<T> &matrix, bool transposed, size_t k0, size_t K, size_t n0, size_t n,
          E *out) {
    constexpr size_t DEPTH = Sum<E>::DEPTH;
    const size_t whole = n / WIDTH, left = n % WIDTH, size = depth<E>(K) * WIDTH;
    if (left) std::memset(static_cast<void *>(out + whole * size), 0, size * sizeof(E));
    if (!transposed) {
        for (size_t k = 0; k < K; k += DEPTH, out += WIDTH) {
            const T *row = matrix[k0 + k] + n0;
            const T *next = k + 1 < K ? matrix[k0 + k + 1] + n0 : row;
            const bool pairs = k + 1 < K;
            for (size_t i = 0; i < whole; ++i)
                columns(row + i * WIDTH, pairs ? next + i * WIDTH : nullptr, WIDTH, out + i * size);
            columns(row + whole * WIDTH, pairs ? next + whole * WIDTH : nullptr, left,
                    out + whole * size);
        }
        return;
    }
    constexpr size_t BLOCK = 16 * DEPTH;
    for (size_t first = 0; first < n; first += WIDTH, out += size)
        for (size_t k = 0; k < K; k += BLOCK)
            for (size_t j = 0; j < smaller(WIDTH, n - first); ++j) {
                const T *row = matrix[n0 + first + j] + k0 + k;
                E *to = out + k / DEPTH * WIDTH + j;
                if (K - k >= BLOCK)  // so that the compiler knows a full block from others
                    turn<BLOCK, WIDTH>(row, BLOCK, to);
                else
                    turn<BLOCK, WIDTH>(row, K - k, to);
            }
}

// Memory at any address, handed out in whole cache lines. The same lines of code hand it out and,
// from NULL, say how much there must be: what is carved is what was asked for.
class Scratch {
public:
    explicit Scratch(void *memory)
        : start_(ceil_div(reinterpret_cast<uintptr_t>(memory), LINE) * LINE), next_(start_) {}

    template <class E>
    E *take(size_t count) {
        const uintptr_t taken = next_;
        next_ += ceil_div(count * sizeof(E), LINE) * LINE;
        return reinterpret_cast<E *>(taken);
    }
    size_t bytes() const { return next_ - start_ + LINE - 1; }  // to begin a line anywhere

private:
    const uintptr_t start_;
    uintptr_t next_;
};

}  // namespace INSTRUCTIONS
}  // namespace unrolled
