// Vectors of numbers, as wide as the instruction set's registers.
//
// The compiler's vector types do the work: `a * b + c` on them is one fused instruction for 16
// floats with AVX-512, for 8 with AVX2, and two for 4 on any other machine. So one source
// serves all instruction sets; kernels.cpp is compiled once for each. Everything stands in
// a namespace named after the instruction set, or the linker might mix them up.
#pragma once
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstring>

#ifndef INSTRUCTIONS
#error "compile with -DINSTRUCTIONS=avx512, or another name"
#endif

// Between two of these functions a vector must stay in its register, so all are inlined.
#define ALWAYS_INLINE __attribute__((always_inline))
#define INLINE inline ALWAYS_INLINE

namespace unrolled {
namespace INSTRUCTIONS {

// UNROLLED_WIDE: the shapes of AVX-512 on a machine without it, for tests
#if defined(__AVX512F__) || defined(UNROLLED_WIDE)
constexpr size_t REGISTER_BYTES = 64;
#elif defined(__AVX__)
constexpr size_t REGISTER_BYTES = 32;
#else
constexpr size_t REGISTER_BYTES = 16;
#endif
#if defined(__AVX512F__) || defined(__aarch64__) || defined(UNROLLED_WIDE)
constexpr size_t REGISTERS = 32;
#else
constexpr size_t REGISTERS = 16;
#endif

template <class T>
struct VectorOf {
    typedef T type __attribute__((vector_size(REGISTER_BYTES)));
};
template <class T>
using Vector = typename VectorOf<T>::type;

template <class T>
constexpr size_t LANES = REGISTER_BYTES / sizeof(T);

INLINE size_t smaller(size_t a, size_t b) { return a < b ? a : b; }
INLINE size_t larger(size_t a, size_t b) { return a > b ? a : b; }
INLINE constexpr size_t ceil_div(size_t a, size_t b) { return (a + b - 1) / b; }

// memcpy of a register's size is how C++ spells a load from any address
template <class T>
INLINE Vector<T> load(const T *from) {
    Vector<T> v;
    std::memcpy(&v, from, sizeof v);
    return v;
}
template <class T>
INLINE void store(T *to, Vector<T> v) {
    std::memcpy(to, &v, sizeof v);
}

// ... of the first n lanes, zeros in the others: for the columns that fill no register
template <class T>
INLINE Vector<T> load(const T *from, size_t n) {
    if (n >= LANES<T>) return load(from);
    Vector<T> v{};
    std::memcpy(&v, from, n * sizeof(T));
    return v;
}
template <class T>
INLINE void store(T *to, Vector<T> v, size_t n) {
    if (n >= LANES<T>) return store(to, v);
    std::memcpy(to, &v, n * sizeof(T));
}

// to[j] = a[j] + b[j] for n numbers: whole registers, then a half, a quarter, ... of one. `to` may
// be `a` or `b`.
template <class T, size_t WIDTH = LANES<T>>
INLINE void add(T *to, const T *a, const T *b, size_t n) {
    size_t j = 0;
    for (; j + WIDTH <= n; j += WIDTH) {
        T sum[WIDTH];
        for (size_t i = 0; i < WIDTH; ++i) sum[i] = a[j + i] + b[j + i];
        std::memcpy(to + j, sum, sizeof sum);
    }
    if constexpr (WIDTH > 1) add<T, WIDTH / 2>(to + j, a + j, b + j, n - j);
}

}  // namespace INSTRUCTIONS
}  // namespace unrolled
