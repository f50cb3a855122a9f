// exp, tanh and sigmoid for whole vectors, accurate to a few units in the last place.
//
// All three rest on e^x - 1. Write x = n ln 2 + r with an integer n and |r| <= ln(2)/2. Then
//     e^x - 1 = 2^n (e^r - 1) + (2^n - 1),
// where e^r - 1 is a short polynomial, and 2^n is made by writing n into the exponent's bits.
// Starting from e^x - 1 instead of e^x keeps tanh accurate near zero, where it is almost x.
#pragma once
#include "vector.h"

namespace unrolled {
namespace INSTRUCTIONS {

template <class T>
struct Format;
template <>
struct Format<float> {
    using Integer = int32_t;
    static constexpr int MANTISSA = 23, BIAS = 127, DEGREE = 7;
    static constexpr float LIMIT = 87.0f;         // e^87 is finite, e^-87 no denormal number
    static constexpr float LN2_HIGH = 0.693359375f;  // few bits: n LN2_HIGH is exact
    static constexpr float LN2_LOW = -2.12194440e-4f;
    static constexpr float ROUND = 12582912.0f;   // 1.5 * 2^23: adding it rounds to an integer
};
template <>
struct Format<double> {
    using Integer = int64_t;
    static constexpr int MANTISSA = 52, BIAS = 1023, DEGREE = 13;
    static constexpr double LIMIT = 708.0;
    static constexpr double LN2_HIGH = 0.693145751953125;
    static constexpr double LN2_LOW = 1.42860682030941723212e-6;
    static constexpr double ROUND = 6755399441055744.0;  // 1.5 * 2^52
};

constexpr double ONE_OVER_FACTORIAL[] = {
    1., 1., 1. / 2, 1. / 6, 1. / 24, 1. / 120, 1. / 720, 1. / 5040, 1. / 40320, 1. / 362880,
    1. / 3628800, 1. / 39916800, 1. / 479001600, 1. / 6227020800};

// NaN stays NaN: both comparisons are false
template <class T>
INLINE Vector<T> clamp(Vector<T> x, T limit) {
    const Vector<T> high = Vector<T>{} + limit;
    x = x > high ? high : x;
    return x < -high ? -high : x;
}

template <class T>
INLINE Vector<T> expm1(Vector<T> x) {
    using F = Format<T>;
    typedef Vector<typename F::Integer> Bits;
    x = clamp<T>(x, F::LIMIT);
    const Vector<T> shifted = x * T(1.4426950408889634) + F::ROUND;  // n in the lowest bits
    const Vector<T> n = shifted - F::ROUND;
    const Vector<T> r = x - n * F::LN2_HIGH - n * F::LN2_LOW;

    // e^r - 1 = r (1 + r (1/2! + r (1/3! + ...))), from the inside
    Vector<T> p = Vector<T>{} + T(ONE_OVER_FACTORIAL[F::DEGREE]);
#pragma GCC unroll 16
    for (int k = F::DEGREE - 1; k >= 1; --k) p = p * r + T(ONE_OVER_FACTORIAL[k]);
    p *= r;

    const Bits exponent = ((Bits)shifted + F::BIAS) << F::MANTISSA;  // what lies above n drops out
    const Vector<T> power = (Vector<T>)exponent;                     // 2^n
    return power * p + (power - T(1));
}

// 1 / (1 + e^-x)
template <class T>
INLINE Vector<T> sigmoid(Vector<T> x) {
    return T(1) / (expm1<T>(-x) + T(2));
}

// (e^2x - 1) / (e^2x + 1), on |x|: there the difference above loses nothing
template <class T>
INLINE Vector<T> tanh(Vector<T> x) {
    const Vector<T> e = expm1<T>(T(2) * (x < T(0) ? -x : x));
    const Vector<T> y = e / (e + T(2));
    return x < T(0) ? -y : y;
}

template <class T>
INLINE Vector<T> relu(Vector<T> x) {
    return x < T(0) ? Vector<T>{} : x;
}

}  // namespace INSTRUCTIONS
}  // namespace unrolled
