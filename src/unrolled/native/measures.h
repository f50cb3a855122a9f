// What telemetry tells of a training step: norms of arrays, and a recurrent layer through time.
//
// Each is one pass over memory that the training step has just written, so it costs about as
// much as to read it. The formulas stand in telemetry/through_time.py.
#pragma once
#include <cmath>

#include "interface.h"
#include "panels.h"
#include "threads.h"

namespace unrolled {
namespace INSTRUCTIONS {

// x[0] + ... + x[N - 1] for a power of two, halves added to halves.
template <size_t N, class T>
INLINE T sum_of(const T *x) {
    if constexpr (N == 1) {
        return x[0];
    } else {
        T half[N / 2];
        for (size_t i = 0; i < N / 2; ++i) half[i] = x[i] + x[i + N / 2];
        return sum_of<N / 2>(half);
    }
}

// sum (a - b)^2; b may be NULL for zeros. In double: float32 holds 1e-30, but not its square.
template <class T>
double sum_squares(const T *a, const T *b, size_t n) {
    constexpr size_t STEP = 16;
    double sums[STEP] = {};
    size_t i = 0;
    if (b)
        for (; i + STEP <= n; i += STEP)
            for (size_t j = 0; j < STEP; ++j) {
                const double x = a[i + j] - b[i + j];
                sums[j] += x * x;
            }
    else
        for (; i + STEP <= n; i += STEP)
            for (size_t j = 0; j < STEP; ++j) sums[j] += double(a[i + j]) * double(a[i + j]);
    for (; i < n; ++i) {
        const double x = b ? a[i] - b[i] : a[i];
        sums[0] += x * x;
    }
    return sum_of<STEP>(sums);
}

template <class T>
struct NormsOf {
    static constexpr size_t CHUNK = 1 << 14;  // numbers that a thread sums at a time
    const Norms &n;
    size_t all = 0;   // chunks of all arrays
    Scratch scratch;
    double *sums;     // of each

    explicit NormsOf(const Norms &call) : n(call), scratch(call.workspace) {
        for (size_t i = 0; i < size_t(n.count); ++i) all += chunks(i);
        sums = scratch.take<double>(all);
    }
    size_t bytes() const { return scratch.bytes(); }

    void work(Team &team) const {
        team.each(all, [&](size_t item) {
            size_t i = 0, c = item;
            for (; c >= chunks(i); ++i) c -= chunks(i);
            const size_t from = c * CHUNK, size = smaller(CHUNK, size_t(n.sizes[i]) - from);
            const T *a = static_cast<const T *>(n.a[i]) + from;
            sums[item] = sum_squares(a, n.b ? static_cast<const T *>(n.b[i]) + from : nullptr, size);
        });
        team.each(1, [&](size_t) {  // in this order, whoever has summed what
            const double *next = sums;
            for (size_t i = 0; i < size_t(n.count); ++i) {
                double sum = 0;
                for (size_t c = 0; c < chunks(i); ++c) sum += *next++;
                static_cast<double *>(n.norms)[i] = std::sqrt(sum);
            }
        });
    }
    size_t chunks(size_t i) const { return ceil_div(size_t(n.sizes[i]), CHUNK); }
};

template <class T>
struct MeasureLayer {
    // of a square of inner products: as many sums, and a register for each row, must fit
    static constexpr size_t SIDE = REGISTERS >= 32 ? 4 : 3;
    const LayerNumbers &l;
    Scratch scratch;
    int64_t *counts;  // of the units above the limit, at each step

    explicit MeasureLayer(const LayerNumbers &call)
        : l(call), scratch(call.workspace), counts(scratch.take<int64_t>(size_t(call.T))) {}
    size_t bytes() const { return scratch.bytes(); }

    void work(Team &team) const {
        const size_t steps = size_t(l.T);
        team.each(steps, [&](size_t t) { counts[t] = step(t); });
        team.each(1, [&](size_t) {
            double sum = 0;
            for (size_t t = 0; t < steps; ++t) sum += double(counts[t]);
            const double share = sum / double(l.T * l.B * l.H);
            numbers()[3 * steps] = T(l.relu ? 1 - share : share);
        });
    }
    T *numbers() const { return static_cast<T *>(l.numbers); }

    // Writes the three numbers of a step; gives how many units are above the limit.
    int64_t step(size_t t) const {
        const size_t B = size_t(l.B), H = size_t(l.H), steps = size_t(l.T);
        const T *dH = static_cast<const T *>(l.dH) + t * B * H;
        double total = 0, largest = 0;
        for (size_t b = 0; b < B; ++b) {
            const double norm = std::sqrt(sum_squares<T>(dH + b * H, nullptr, H));
            total += norm;
            largest = norm > largest || norm != norm ? norm : largest;  // NaN stays
        }
        numbers()[t] = T(total / double(B));
        numbers()[steps + t] = T(largest);
        const double squares = part_of_weight_gradient(t);
        // rounding may leave a little below 0 where the parts of the batch cancel
        numbers()[2 * steps + t] = T(squares < 0 ? 0 : std::sqrt(squares));

        const T *after = static_cast<const T *>(l.after) + t * B * H;
        int64_t count = 0;
        for (size_t b = 0; b < B; ++b) count += above(after + b * H, H, T(l.limit), l.relu);
        return count;
    }
    static int32_t above(const T *h, size_t n, T limit, bool relu) {
        int32_t count = 0;  // as wide as a float32, so that the loops run in vectors
        if (relu)
            for (size_t j = 0; j < n; ++j) count += h[j] > limit;
        else
            for (size_t j = 0; j < n; ++j) count += std::abs(h[j]) > limit;
        return count;
    }

    // ||H^T D||^2 = sum over all b, c of (H_b . H_c) (D_b . D_c), with H = H_{t-1}: squares of
    // SIDE x SIDE inner products; those below the diagonal equal those above.
    double part_of_weight_gradient(size_t t) const {
        const size_t B = size_t(l.B), H = size_t(l.H), width = size_t(l.G) * H;
        const T *before = l.before ? static_cast<const T *>(l.before) + t * B * H
                          : t      ? static_cast<const T *>(l.after) + (t - 1) * B * H
                                   : static_cast<const T *>(l.first);
        if (!before) return 0;
        const T *D = static_cast<const T *>(l.D) + t * B * width;
        const T *after = static_cast<const T *>(l.after) + t * B * H;
        double sum = 0;
        // the row to fetch: B to 2 B - 1 are those of the next step, and 0 is there already
        size_t ahead = t + 1 < size_t(l.T) ? B : 0;
        for (size_t b = 0; b < B; b += SIDE)
            for (size_t c = b; c < B; c += SIDE) {
                Vector<T> of_H[SIDE][SIDE], of_D[SIDE][SIDE];
                inner_products(before, H, b, c, of_H, after + ahead * H);
                inner_products(D, width, b, c, of_D, D + ahead * width);
                ahead = ahead && ahead + 1 < 2 * B ? ahead + 1 : 0;
                Vector<T> square{};  // to add up the lanes of either factor is enough
                for (size_t i = 0; i < smaller(SIDE, B - b); ++i)
                    for (size_t j = 0; j < smaller(SIDE, B - c); ++j)
                        square += of_D[i][j] * sum_lanes(of_H[i][j]);
                sum += (b == c ? 1 : 2) * double(sum_lanes(square));
            }
        return sum;
    }

    static INLINE T sum_lanes(Vector<T> x) {
        T lanes[LANES<T>];
        store(lanes, x);
        return sum_of<LANES<T>>(lanes);
    }

    // of rows b + i with rows c + j, but for the last sum, over the lanes; rows beyond the last are
    // taken as the last. Meanwhile the row `ahead` comes into the cache: these products are busy
    // enough to hide it, and the processor does not see by itself where so many rows will go on.
    void inner_products(const T *X, size_t n, size_t b, size_t c, Vector<T> (&out)[SIDE][SIDE],
                        const T *ahead) const {
        const T *left[SIDE], *right[SIDE];
        for (size_t i = 0; i < SIDE; ++i) {
            left[i] = X + smaller(b + i, size_t(l.B) - 1) * n;
            right[i] = X + smaller(c + i, size_t(l.B) - 1) * n;
        }
        Vector<T> sum[SIDE][SIDE] = {};
        const auto add = [&](size_t k, auto load_at) ALWAYS_INLINE {
            Vector<T> y[SIDE];
            for (size_t j = 0; j < SIDE; ++j) y[j] = load_at(right[j] + k);
            for (size_t i = 0; i < SIDE; ++i) {
                const Vector<T> x = load_at(left[i] + k);
                for (size_t j = 0; j < SIDE; ++j) sum[i][j] += x * y[j];
            }
        };
        size_t k = 0;
        for (; k + LANES<T> <= n; k += LANES<T>) {
            __builtin_prefetch(ahead + k, 0, 1);  // to read; into the second cache
            add(k, [](const T *from) ALWAYS_INLINE { return load(from); });
        }
        if (k < n) add(k, [&](const T *from) ALWAYS_INLINE { return load(from, n - k); });
        for (size_t i = 0; i < SIDE; ++i)
            for (size_t j = 0; j < SIDE; ++j) out[i][j] = sum[i][j];
    }
};

}  // namespace INSTRUCTIONS
}  // namespace unrolled
