// exp, sigmoid and tanh for whole vectors, accurate to a few units in the last place.
#pragma once
#include "vector.h"

namespace unrolled {
namespace INSTRUCTIONS {

template <class T>
struct Format;
template <>
struct Format<float> {
    using Integer = int32_t;
    static constexpr int MANTISSA = 23, BIAS = 127, DEGREE = 7, FRACTIONS = 13;
    static constexpr float LIMIT = 87.0f;         // e^87 is finite, e^-87 no denormal number
    static constexpr float ONE_FROM = 9.0f;       // on tanh is 1, rounded
    static constexpr float LN2_HIGH = 0.693359375f;  // few bits: n LN2_HIGH is exact
    static constexpr float LN2_LOW = -2.12194440e-4f;
    static constexpr float ROUND = 12582912.0f;   // 1.5 * 2^23: adding it rounds to an integer
};
template <>
struct Format<double> {
    using Integer = int64_t;
    static constexpr int MANTISSA = 52, BIAS = 1023, DEGREE = 13, FRACTIONS = 29;
    static constexpr double LIMIT = 708.0;
    static constexpr double ONE_FROM = 19.1;
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

// Write x = n ln 2 + r with an integer n and |r| <= ln(2)/2. Then e^x = 2^n e^r, where e^r is a
// short polynomial, and 2^n is made by writing n into the exponent's bits.
template <class T>
INLINE Vector<T> exp(Vector<T> x) {
    using F = Format<T>;
    typedef Vector<typename F::Integer> Bits;
    x = clamp<T>(x, F::LIMIT);
    const Vector<T> shifted = x * T(1.4426950408889634) + F::ROUND;  // n in the lowest bits
    const Vector<T> n = shifted - F::ROUND;
    const Vector<T> r = x - n * F::LN2_HIGH - n * F::LN2_LOW;

    // 1 + r (1 + r (1/2! + r (1/3! + ...))), from the inside
    Vector<T> p = Vector<T>{} + T(ONE_OVER_FACTORIAL[F::DEGREE]);
#pragma GCC unroll 16
    for (int k = F::DEGREE - 1; k >= 0; --k) p = p * r + T(ONE_OVER_FACTORIAL[k]);

    const Bits exponent = ((Bits)shifted + F::BIAS) << F::MANTISSA;  // what lies above n drops out
    return (Vector<T>)exponent * p;
}

// 1 / (1 + e^-x)
template <class T>
INLINE Vector<T> sigmoid(Vector<T> x) {
    return T(1) / (exp<T>(-x) + T(1));
}

// Lambert's fraction, cut off after N terms: tanh x = x / (1 + x^2 / (3 + x^2 / (5 + ...))).
// Multiplied out it is x P(x^2) / Q(x^2) with two polynomials, their coefficients all positive:
// nothing cancels, and one division is enough. (J. H. Lambert, Memoire sur quelques proprietes
// remarquables des quantites transcendentes circulaires et logarithmiques, 1768.)
template <int N>
struct Lambert {
    double P[N] = {}, Q[N] = {};
    constexpr Lambert() {
        double rest[N] = {2 * N - 1}, below[N] = {1};  // rest / below = 2N - 1, the last term
        for (int k = N - 1; k >= 1; --k) {             // 2k - 1 + x^2 below / rest
            double next[N] = {(2 * k - 1) * rest[0]};
            for (int i = 1; i < N; ++i) next[i] = (2 * k - 1) * rest[i] + below[i - 1];
            for (int i = 0; i < N; ++i) below[i] = rest[i], rest[i] = next[i];
        }
        for (int i = 0; i < N; ++i) P[i] = below[i] / rest[0], Q[i] = rest[i] / rest[0];
    }
};

template <class T>
INLINE Vector<T> tanh(Vector<T> x) {
    constexpr int N = Format<T>::FRACTIONS;  // odd, so many that the error is below a rounding
    constexpr Lambert<N> tanh_is;
    x = clamp<T>(x, Format<T>::ONE_FROM);
    const Vector<T> xx = x * x;
    Vector<T> P = Vector<T>{} + T(tanh_is.P[N / 2]), Q = Vector<T>{} + T(tanh_is.Q[N / 2]);
#pragma GCC unroll 16
    for (int i = N / 2 - 1; i >= 0; --i) {
        P = P * xx + T(tanh_is.P[i]);
        Q = Q * xx + T(tanh_is.Q[i]);
    }
    return clamp<T>(x * P / Q, T(1));  // rounded, it might be a little more
}

template <class T>
INLINE Vector<T> relu(Vector<T> x) {
    return x < T(0) ? Vector<T>{} : x;
}

}  // namespace INSTRUCTIONS
}  // namespace unrolled
