// Products, measures and texts beside naive loops.
#pragma once
#include <algorithm>

#include "arrays.h"

template <class Call>
void set_how(const Case &c, Call &call) {
    call.precision = c.precision, call.instructions = c.instructions;
    call.threads = c.threads, call.openmp = c.openmp;
}

// sum (M, N) = A (M, K) B (K, N), all row-major or transposed as their strides say, and `all` the same
// of absolute values
struct Matrix {
    const double *numbers;
    size_t row, column;  // from one to the next
};
inline void multiply(size_t M, size_t N, size_t K, Matrix A, Matrix B, Doubles &sum, Doubles &all) {
    sum.assign(M * N, 0), all.assign(M * N, 0);
    for (size_t m = 0; m < M; ++m)
        for (size_t k = 0; k < K; ++k) {
            const double a = A.numbers[m * A.row + k * A.column];
            const double *b = B.numbers + k * B.row;
            for (size_t n = 0; n < N; ++n, b += B.column)
                sum[m * N + n] += a * *b, all[m * N + n] += std::abs(a * *b);
        }
}

inline void draw_sizes(Case &c, size_t budget, size_t &M, size_t &N, size_t &K) {
    M = c.flip() ? c.batch() * c.upto(1, 8) : c.size(600), N = c.size(600), K = c.size(1200);
    while (M * N * K > budget) {
        size_t &longest = c.flip() && M > 1 ? M : c.flip() && N > 1 ? N : K;
        longest = longest / 2 + (longest == 1);
    }
    c.describe("precision %d M %zu N %zu K %zu threads %d", c.precision, M, N, K, c.threads);
}

inline void check_product(Case &c, size_t budget) {
    Product p{};
    size_t M, N, K;
    c.describe("product ");
    draw_sizes(c, budget, M, N, K);
    set_how(c, p);
    p.M = int64_t(M), p.N = int64_t(N), p.K = int64_t(K);
    p.transpose_a = c.flip(), p.transpose_b = c.flip(), p.groups = int32_t(c.upto(1, 4));
    p.accumulate = c.flip(3);
    const size_t rows = p.transpose_a ? K : M, width = p.transpose_a ? M : K;
    const size_t split = c.flip(3) ? c.upto(0, rows) : 0, gap = c.flip(3) ? c.upto(1, 9) : 0;
    const size_t rows_of_B = p.transpose_b ? N : K, width_of_B = p.transpose_b ? K : N;
    const size_t stride = width + gap, stride_of_B = width_of_B + gap, stride_of_C = N + gap;
    const auto numbers = [](size_t rows, size_t stride, size_t width) {
        return rows ? (rows - 1) * stride + width : 0;
    };
    c.describe(" transposed %d %d groups %d accumulate %d split %zu gap %zu", p.transpose_a,
               p.transpose_b, p.groups, p.accumulate, split, gap);
    Array &first = c.array(numbers(split, stride, width), true);
    Array &rest = c.array(numbers(rows - split, stride, width), true);
    Array *bias = p.accumulate ? nullptr : c.some_array(N, true);
    p.A_first = split ? first.at(0) : nullptr, p.A = rest.at(0), p.bias = address(bias);
    p.split = int64_t(split), p.A_stride = int64_t(stride);
    p.B_stride = int64_t(stride_of_B), p.C_stride = int64_t(stride_of_C);
    Array *B[4], *C[4];
    Doubles before[4];
    for (int g = 0; g < p.groups; ++g) {
        B[g] = &c.array(numbers(rows_of_B, stride_of_B, width_of_B), true);
        C[g] = &c.array(numbers(M, stride_of_C, N), false);
        for (size_t i = 0; p.accumulate && i < C[g]->count; ++i) C[g]->set(i, c.normal());
        before[g] = C[g]->values();
        p.B[g] = B[g]->at(0), p.C[g] = C[g]->at(0);
    }
    p.workspace = c.bytes(unrolled_product_workspace(&p));
    c.refused(unrolled_product(&p));

    Doubles A(rows * width), sum, all;
    for (size_t i = 0; i < rows; ++i)
        for (size_t j = 0; j < width; ++j)
            A[i * width + j] = c.factor(i < split ? first.get(i * stride + j)
                                                  : rest.get((i - split) * stride + j));
    const Matrix left{A.data(), p.transpose_a ? 1 : width, p.transpose_a ? width : 1};
    for (int g = 0; g < p.groups; ++g) {
        const Doubles b = c.factors(*B[g]);
        const Matrix right{b.data(), p.transpose_b ? 1 : stride_of_B, p.transpose_b ? stride_of_B : 1};
        multiply(M, N, K, left, right, sum, all);
        for (size_t i = 0; i < C[g]->count; ++i) {
            const size_t m = i / stride_of_C, n = i % stride_of_C;
            const double found = C[g]->get(i), start = p.accumulate ? before[g][i] : n < N ? value(bias, n) : 0;
            if (n < N)
                c.near("C", i, found, start + sum[m * N + n], all[m * N + n] + std::abs(start));
            else if (!(found == before[g][i] || (std::isnan(found) && std::isnan(before[g][i]))))
                c.fail("written between the rows of C", i, found, before[g][i]);
        }
    }
}

inline void check_affine(Case &c, size_t budget) {
    AffineGradients a{};
    size_t N, V, D;
    c.describe("affine ");
    draw_sizes(c, budget, N, V, D);
    set_how(c, a);
    a.N = int64_t(N), a.D = int64_t(D), a.V = int64_t(V);
    Array &X = c.array(N * D, true), &W = c.array(D * V, true), &dY = c.array(N * V, true);
    Array &dX = c.array(N * D, false), &dW = c.array(D * V, false), &db = c.array(V, false);
    a.X = X.at(0), a.W = W.at(0), a.dY = dY.at(0), a.dX = dX.at(0), a.dW = dW.at(0), a.db = db.at(0);
    a.workspace = c.bytes(unrolled_affine_backward_workspace(&a));
    c.refused(unrolled_affine_backward(&a));
    const Doubles x = c.factors(X), w = c.factors(W), dy = c.factors(dY), plain = dY.values();
    const Doubles ones(N, 1);
    Doubles sum, all;
    const auto compare = [&](const char *what, const Array &found) {
        for (size_t i = 0; i < found.count; ++i) c.near(what, i, found.get(i), sum[i], all[i]);
    };
    multiply(N, D, V, {dy.data(), V, 1}, {w.data(), 1, V}, sum, all), compare("dX", dX);
    multiply(D, V, N, {x.data(), 1, D}, {dy.data(), V, 1}, sum, all), compare("dW", dW);
    multiply(1, V, N, {ones.data(), N, 1}, {plain.data(), V, 1}, sum, all), compare("db", db);
}

inline void check_norms(Case &c, size_t) {
    Norms n{};
    set_how(c, n);
    const size_t count = c.upto(1, 6);
    const bool differences = c.flip();
    Array *a[6], *b[6];
    const void *of_a[6], *of_b[6];
    int64_t sizes[6];
    c.describe("norms precision %d threads %d differences %d sizes", c.precision, c.threads, differences);
    for (size_t i = 0; i < count; ++i) {
        const size_t size = c.flip(6) ? 0 : c.size(50000);
        c.describe(" %zu", size);
        sizes[i] = int64_t(size);
        of_a[i] = address(a[i] = &c.array(size, true));
        of_b[i] = address(b[i] = &c.array(size, true));
    }
    Array norms(true, count, 0);
    n.count = int64_t(count), n.a = of_a, n.b = differences ? of_b : nullptr, n.sizes = sizes;
    n.norms = norms.at(0), n.workspace = c.bytes(unrolled_norms_workspace(&n));
    c.refused(unrolled_norms(&n));
    for (size_t i = 0; i < count; ++i) {
        double sum = 0;
        for (size_t j = 0; j < a[i]->count; ++j) {
            const double x = a[i]->get(j) - (differences ? b[i]->get(j) : 0);
            sum += x * x;
        }
        c.near("norm", i, norms.get(i), std::sqrt(sum), std::sqrt(sum));
    }
}

inline void check_layer_numbers(Case &c, size_t budget) {
    LayerNumbers l{};
    set_how(c, l);
    size_t T = c.upto(1, 40), B = c.batch(), H = c.size(600), G = c.upto(1, 4);
    while (T * B * H * H * G > budget) (T > 2 ? T : c.flip() && B > 1 ? B : H) /= 2;
    l.T = int64_t(T), l.B = int64_t(B), l.H = int64_t(H), l.G = int64_t(G);
    l.relu = c.flip(), l.limit = l.relu ? 0 : 0.5;
    c.describe("layer_numbers precision %d T %zu B %zu H %zu G %zu threads %d", c.precision, T, B, H,
               G, c.threads);
    Array &dH = c.array(T * B * H, true), &D = c.array(T * B * G * H, true);
    Array &after = c.array(T * B * H, true), &found = c.array(3 * T + 1, false);
    Array *every = c.flip() ? &c.array(T * B * H, true) : nullptr, *first = c.some_array(B * H, true);
    l.dH = dH.at(0), l.D = D.at(0), l.after = after.at(0), l.before = address(every);
    l.first = address(first), l.numbers = found.at(0);
    l.workspace = c.bytes(unrolled_layer_numbers_workspace(&l));
    c.refused(unrolled_layer_numbers(&l));
    const Doubles d = D.values();
    Doubles part, all;
    double saturated = 0;
    for (size_t i = 0; i < T * B * H; ++i)
        saturated += l.relu ? !(after.get(i) > 0) : std::abs(after.get(i)) > 0.5;
    for (size_t t = 0; t < T; ++t) {
        Doubles before(B * H);
        double mean = 0, largest = 0, squares = 0, H_squares = 0, D_squares = 0;
        for (size_t i = 0; i < B * H; ++i) {
            before[i] = every ? every->get(t * B * H + i)
                        : t   ? after.get((t - 1) * B * H + i)
                              : value(first, i);
            H_squares += before[i] * before[i];
        }
        for (size_t b = 0; b < B; ++b) {
            double sum = 0;
            for (size_t u = 0; u < H; ++u) {
                const double x = dH.get((t * B + b) * H + u);
                sum += x * x;
            }
            mean += std::sqrt(sum) / double(B), largest = std::max(largest, std::sqrt(sum));
        }
        for (size_t i = 0; i < B * G * H; ++i) D_squares += d[t * B * G * H + i] * d[t * B * G * H + i];
        multiply(H, G * H, B, {before.data(), 1, H}, {&d[t * B * G * H], G * H, 1}, part, all);
        for (const double x : part) squares += x * x;
        c.near("mean", t, found.get(t), mean, mean);
        c.near("largest", t, found.get(T + t), largest, largest);
        const double norm = found.get(2 * T + t);
        c.near("part of dW_h, squared", t, norm * norm, squares, 2 * H_squares * D_squares);
    }
    c.near("saturated", 0, found.get(3 * T), saturated / double(T * B * H), 1);
}
