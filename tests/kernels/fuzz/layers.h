// A recurrent layer, forward and backward. Each step is compared with naive loops that start from
// what the kernels have made of the step before, so that rounding does not add up.
#pragma once
#include "arrays.h"

inline double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

struct LayerCase {
    Case &c;
    Recurrence r{};
    size_t T, B, H, G, V, stride;
    Array *inputs[4] = {}, *biases[4] = {}, *W_h[4] = {}, *b_hh = nullptr, *h0, *c0 = nullptr;
    Array *outputs, *cells = nullptr, *gates = nullptr;
    Array *d_outputs, *d_h, *d_c = nullptr, *D, *dA, *dH, *d_h0, *d_c0 = nullptr;
    Array *dW_h[4] = {}, *dW_x[4] = {}, *db[4] = {}, *db_hh = nullptr;
    Doubles kept_gates;

    explicit LayerCase(Case &c, size_t budget) : c(c) {
        r.cell = int32_t(c.upto(RNN, LSTM));
        G = r.cell == LSTM ? 4 : r.cell == GRU ? 3 : 1;
        T = c.upto(1, 40), B = c.batch(), H = c.size(600), V = c.size(60);
        while (T * B * H * (H + 8) * G > budget) {
            size_t &longest = T > 2 ? T : c.flip() && B > 1 ? B : H;
            longest = longest / 2 + (longest == 1);
        }
        c.describe("cell %d precision %d T %zu B %zu H %zu V %zu threads %d", r.cell, c.precision,
                   T, B, H, V, c.threads);
        r.precision = c.precision, r.instructions = c.instructions, r.threads = c.threads;
        r.openmp = c.openmp, r.T = int64_t(T), r.B = int64_t(B), r.H = int64_t(H), r.V = int64_t(V);
    }

    bool forward() {
        const bool ids = c.flip(), lstm = r.cell == LSTM;
        const size_t rows = ids ? V : T * B, width = ids ? H : G * H;
        stride = width + (c.flip(4) ? c.upto(1, 3) : 0);
        r.input_stride = int64_t(stride);
        if (ids) r.ids = c.ids(T * B, V);
        for (size_t g = 0; g < G; ++g) {
            inputs[g] = ids || g == 0 ? &c.array((rows - 1) * stride + width, true) : inputs[0];
            r.inputs[g] = inputs[g]->at(ids ? 0 : g * H);
            r.biases[g] = address(biases[g] = c.some_array(H, true));
            r.W_h[g] = address(W_h[g] = &c.array(H * H, true, 1 / std::sqrt(double(H))));
        }
        if (r.cell == GRU) r.b_hh = address(b_hh = c.some_array(H, true));
        r.h0 = address(h0 = c.some_array(B * H, true));
        if (lstm) r.c0 = address(c0 = c.some_array(B * H, true));
        r.outputs = address(outputs = &c.array(T * B * H, false));
        if (lstm) r.cells = address(cells = &c.array(T * B * H, false));
        if (r.cell >= GRU) r.gates = address(gates = c.some_array(T * B * 4 * H, false));
        r.workspace = c.bytes(unrolled_forward_workspace(&r));
        c.refused(unrolled_forward(&r));
        for (size_t t = 0; t < T; ++t)
            for (size_t b = 0; b < B; ++b) check_step(t, b, weights());
        return r.cell < GRU || gates;
    }

    const std::vector<Doubles> &weights() {
        if (factors_of_W.empty())
            for (size_t g = 0; g < G; ++g) factors_of_W.push_back(c.factors(*W_h[g]));
        return factors_of_W;
    }
    std::vector<Doubles> factors_of_W;
    Doubles product = Doubles(4 * 600), size = Doubles(4 * 600);  // and of the absolute values

    double before(const Array *array, const Array *first, size_t t, size_t at) const {
        return t ? array->get((t - 1) * B * H + at) : value(first, at);
    }

    void check_step(size_t t, size_t b, const std::vector<Doubles> &W) {
        const size_t k = t * B + b, row = r.ids ? size_t(r.ids[k]) : k;
        for (size_t g = 0; g < G; ++g) {
            double *sum = &product[g * H], *all = &size[g * H];
            for (size_t u = 0; u < H; ++u) sum[u] = all[u] = 0;
            for (size_t j = 0; j < H; ++j) {
                const double h = c.factor(before(outputs, h0, t, b * H + j));
                const double *w = &W[g][j * H];
                for (size_t u = 0; u < H; ++u) sum[u] += h * w[u], all[u] += std::abs(h * w[u]);
            }
        }
        for (size_t u = 0; u < H; ++u) {
            double x[4], scale = 0;
            for (size_t g = 0; g < G; ++g) {
                const double A = inputs[g]->get(row * stride + (r.ids ? 0 : g * H) + u);
                x[g] = A + value(biases[g], u);
                scale += size[g * H + u] + std::abs(A);
            }
            const double *p = &product[u];
            const size_t at = k * H + u;
            double out = 0, kept[4];
            if (r.cell == LSTM) {
                for (size_t g = 0; g < 4; ++g) x[g] += p[g * H];
                for (size_t g = 0; g < 3; ++g) kept[g] = sigmoid(x[g]);
                kept[3] = std::tanh(x[3]);
                const double C_before = before(cells, c0, t, b * H + u);
                const double C = kept[1] * C_before + kept[0] * kept[3];
                scale *= 1 + std::abs(C_before);
                c.near("cells", at, cells->get(at), C, scale);
                out = kept[2] * std::tanh(C);
            } else if (r.cell == GRU) {
                kept[0] = sigmoid(x[0] + p[0]), kept[1] = sigmoid(x[1] + p[H]);
                kept[3] = p[2 * H] + value(b_hh, u);
                kept[2] = std::tanh(x[2] + kept[1] * kept[3]);
                const double h = before(outputs, h0, t, b * H + u);
                scale *= 1 + std::abs(kept[3]) + std::abs(h);
                out = kept[0] * h + (1 - kept[0]) * kept[2];
            } else {
                const double sum = x[0] + p[0];
                out = r.cell == RNN ? std::tanh(sum) : sum < 0 ? 0 : sum;
            }
            c.near("outputs", at, outputs->get(at), out, scale);
            for (size_t g = 0; gates && g < 4; ++g)
                c.near("gates", at, gates->get((k * 4 + g) * H + u), kept[g], scale);
        }
    }

    void backward() {
        const bool lstm = r.cell == LSTM, gru = r.cell == GRU;
        r.d_outputs = address(d_outputs = c.some_array(T * B * H, true));
        r.d_h = address(d_h = c.some_array(B * H, true));
        if (lstm) r.d_c = address(d_c = c.some_array(B * H, true));
        if (gates) kept_gates = gates->values();
        D = lstm && c.flip(4) ? gates : &c.array(T * B * G * H, false);
        dA = gru ? &c.array(T * B * G * H, false) : D;
        r.D = address(D), r.dA = gru ? address(dA) : nullptr;
        r.dH = address(dH = c.some_array(T * B * H, false));
        r.d_h0 = address(d_h0 = c.some_array(B * H, false));
        if (lstm) r.d_c0 = address(d_c0 = c.some_array(B * H, false));
        const bool of_h = c.flip(), of_x = r.ids && c.flip();
        for (size_t g = 0; g < G; ++g) {
            if (of_h) r.dW_h[g] = address(dW_h[g] = &c.array(H * H, false));
            if (of_x) r.dW_x[g] = address(dW_x[g] = &c.array(V * H, false));
            r.db[g] = address(db[g] = c.some_array(H, false));
        }
        if (gru) r.db_hh = address(db_hh = c.some_array(H, false));
        r.workspace = c.bytes(unrolled_backward_workspace(&r));
        c.refused(unrolled_backward(&r));
        check_gradients();
        check_sums();
    }

    // dh (B, H) = D_t W_h^T, and the same of absolute values
    void from_step_after(size_t t, Doubles &dh, Doubles &scale) {
        for (size_t b = 0; b < B; ++b)
            for (size_t g = 0; g < G; ++g)
                for (size_t u = 0; u < H; ++u) {
                    double sum = 0, all = 0;
                    const double *w = &weights()[g][u * H];
                    const double *d = &factors_of_D[((t * B + b) * G + g) * H];
                    for (size_t j = 0; j < H; ++j) sum += d[j] * w[j], all += std::abs(d[j] * w[j]);
                    dh[b * H + u] += sum, scale[b * H + u] += all;
                }
    }
    Doubles factors_of_D;

    void check_gradients() {
        factors_of_D = c.factors(*D);
        Doubles carry(B * H), carried(B * H);
        for (size_t t = T; t-- > 0;) {
            Doubles dh = r.cell == GRU ? carry : Doubles(B * H), scale = carried;
            if (t + 1 < T)
                from_step_after(t + 1, dh, scale);
            else
                for (size_t i = 0; i < B * H; ++i)
                    dh[i] += value(d_h, i), scale[i] += std::abs(value(d_h, i));
            for (size_t i = 0; i < B * H; ++i)
                check_place(t, i / H, i % H, dh[i], scale[i], carry, carried);
        }
        Doubles dh = r.cell == GRU ? carry : Doubles(B * H), scale = carried;
        if (d_h0) from_step_after(0, dh, scale);
        for (size_t i = 0; i < B * H; ++i) {
            if (d_h0) c.near("d_h0", i, d_h0->get(i), dh[i], scale[i]);
            if (d_c0) c.near("d_c0", i, d_c0->get(i), carry[i], carried[i]);
        }
    }

    void check_place(size_t t, size_t b, size_t u, double dh, double scale, Doubles &carry,
                     Doubles &carried) {
        const size_t i = b * H + u, k = t * B + b, at = k * H + u;
        const double outside = value(d_outputs, at), h = outputs->get(at);
        dh += outside, scale += std::abs(outside);
        if (dH) c.near("dH", at, dH->get(at), dh, scale);
        double d[4], a[4];
        if (r.cell <= RNN_RELU) {
            d[0] = r.cell == RNN ? dh * (1 - h * h) : h > 0 ? dh : 0;
        } else {
            const double *gate = &kept_gates[k * 4 * H + u];
            const double w = gate[0], x = gate[H], y = gate[2 * H], z = gate[3 * H];
            if (r.cell == LSTM) {  // i f o c
                const double tanh_C = std::tanh(cells->get(at)), C_before = before(cells, c0, t, i);
                const double later = t + 1 == T ? value(d_c, i) : carry[i];
                const double dC = later + dh * y * (1 - tanh_C * tanh_C);
                d[0] = dC * z * w * (1 - w), d[1] = dC * C_before * x * (1 - x);
                d[2] = dh * tanh_C * y * (1 - y), d[3] = dC * w * (1 - z * z);
                scale = (scale + std::abs(later)) * (1 + std::abs(C_before));
                carry[i] = dC * x, carried[i] = scale;
            } else {  // z r candidate product
                const double h_before = before(outputs, h0, t, i), dC = dh * (1 - w) * (1 - y * y);
                scale *= (1 + std::abs(z)) * (1 + std::abs(h_before));
                d[0] = a[0] = dh * (h_before - y) * w * (1 - w);
                d[1] = a[1] = dC * z * x * (1 - x);
                d[2] = dC * x, a[2] = dC;
                carry[i] = dh * w, carried[i] = scale;
            }
        }
        for (size_t g = 0; g < G; ++g) {
            const size_t place = (k * G + g) * H + u;
            c.near("D", place, D->get(place), d[g], scale);
            if (r.cell == GRU) c.near("dA", place, dA->get(place), a[g], scale);
        }
    }

    // of the weights, from the D and dA that the kernels found
    void check_sums() {
        const Doubles plain = dA->values(), recurrent = D->values();
        for (size_t g = 0; g < G; ++g) {
            Doubles of_h(H * H), h_scale(H * H), of_x(V * H), x_scale(V * H), of_b(H), b_scale(H);
            for (size_t k = 0; k < T * B; ++k) {
                const double *d = &factors_of_D[(k * G + g) * H], *a = &plain[(k * G + g) * H];
                for (size_t j = 0; dW_h[g] && j < H; ++j) {
                    const double h = c.factor(before(outputs, h0, k / B, k % B * H + j));
                    for (size_t u = 0; u < H; ++u)
                        of_h[j * H + u] += h * d[u], h_scale[j * H + u] += std::abs(h * d[u]);
                }
                const size_t row = dW_x[g] ? size_t(r.ids[k]) * H : 0;
                for (size_t u = 0; u < H; ++u) {
                    of_b[u] += a[u], b_scale[u] += std::abs(a[u]);
                    of_x[row + u] += a[u], x_scale[row + u] += std::abs(a[u]);
                }
            }
            for (size_t i = 0; dW_h[g] && i < H * H; ++i)
                c.near("dW_h", i, dW_h[g]->get(i), of_h[i], h_scale[i]);
            for (size_t i = 0; dW_x[g] && i < V * H; ++i)
                c.near("dW_x", i, dW_x[g]->get(i), of_x[i], x_scale[i]);
            for (size_t i = 0; db[g] && i < H; ++i)
                c.near("db", i, db[g]->get(i), of_b[i], b_scale[i]);
        }
        for (size_t u = 0; db_hh && u < H; ++u) {
            double sum = 0, scale = 0;
            for (size_t k = 0; k < T * B; ++k) {
                const double d = recurrent[(k * G + G - 1) * H + u];
                sum += d, scale += std::abs(d);
            }
            c.near("db_hh", u, db_hh->get(u), sum, scale);
        }
    }
};
