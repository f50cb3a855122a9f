// Texts read and written beside naive loops.
#pragma once
#include "arrays.h"
#include "layers.h"
#include "others.h"

// x (N) += h (K) W (K, N)
inline void add_product(const double *h, size_t K, const Doubles &W, size_t N, double *x) {
    for (size_t k = 0; k < K; ++k)
        for (size_t n = 0; n < N; ++n) x[n] += h[k] * W[k * N + n];
}

struct TextCase {
    Case &c;
    LanguageModel m{};
    size_t H, V, layers, G, states;
    std::vector<LayerWeights> of_layers;
    struct Weights {
        Doubles W_x[4], W_h[4], b[4], b_hh;
    };
    std::vector<Weights> weights;
    Doubles W_hq, b_q;

    explicit TextCase(Case &c, size_t budget) : c(c) {
        if (c.precision == BFLOAT16) c.precision = FLOAT32;
        m.cell = int32_t(c.upto(RNN, LSTM)), m.precision = c.precision;
        m.instructions = c.instructions;
        G = m.cell == LSTM ? 4 : m.cell == GRU ? 3 : 1, states = m.cell == LSTM ? 2 : 1;
        layers = c.upto(1, 3), H = c.size(600), V = c.size(300);
        while (20 * H * (2 * layers * G * H + V) > budget) H = (H + 1) / 2, V = (V + 1) / 2;
        m.layers = int32_t(layers), m.H = int64_t(H), m.V = int64_t(V);
        c.describe("text cell %d precision %d layers %zu H %zu V %zu threads %d", m.cell,
                   c.precision, layers, H, V, c.threads);
        weights.resize(layers), of_layers.resize(layers);
        const auto draw = [&](size_t count, double scale, Doubles &numbers) {
            Array &a = c.array(count, true, scale);
            numbers = a.values();
            return a.at(0);
        };
        const double scale = 1 / std::sqrt(double(H));
        for (size_t l = 0; l < layers; ++l) {
            for (size_t g = 0; g < G; ++g) {
                of_layers[l].W_x[g] = draw((l ? H : V) * H, l ? scale : 1, weights[l].W_x[g]);
                of_layers[l].W_h[g] = draw(H * H, scale, weights[l].W_h[g]);
                weights[l].b[g].resize(H);
                if (!c.flip(4)) of_layers[l].biases[g] = draw(H, 1, weights[l].b[g]);
            }
            weights[l].b_hh.resize(H);
            if (m.cell == GRU && c.flip()) of_layers[l].b_hh = draw(H, 1, weights[l].b_hh);
        }
        m.layer = of_layers.data(), m.W_hq = draw(H * V, scale, W_hq), m.b_q = draw(V, 1, b_q);
        m.packed = c.bytes(unrolled_packed_bytes(&m));
        c.refused(unrolled_pack(&m));
        if (unrolled_read_threads(&m) < 1) c.fail("threads to read with");
    }

    void read() {
        Text t{};
        const size_t T = c.upto(1, 12), given = c.upto(1, T);
        int64_t *ids = c.ids(T, V);
        Array &state = c.array(layers * states * H, false), &logits = c.array(V, false);
        for (size_t i = 0; i < state.count; ++i) state.set(i, 0.5 * c.normal());
        std::vector<double> uniform(T - given);
        for (double &u : uniform) u = double(c.upto(0, 999)) / 1000;
        t.model = &m, t.threads = c.threads, t.openmp = c.openmp;
        t.T = int64_t(T), t.given = int64_t(given), t.ids = ids;
        t.uniform = c.flip() ? uniform.data() : nullptr, t.temperature = 0.7;
        t.state = state.at(0), t.logits = logits.at(0);
        Doubles right_state = state.values(), x(V);
        t.workspace = c.bytes(unrolled_read_workspace(&m));
        c.refused(unrolled_read(&t));
        for (size_t k = 0; k < T; ++k) {
            x = step(size_t(ids[k]), right_state);
            if (k + 1 < T && k + 1 >= given)
                check_choice(x, size_t(ids[k + 1]), t.uniform ? &t.uniform[k + 1 - given] : nullptr);
        }
        const double scale = 30 * double(T);  // rounding adds up over the steps
        for (size_t i = 0; i < state.count; ++i) c.near("state", i, state.get(i), right_state[i], scale);
        for (size_t v = 0; v < V; ++v) c.near("logits", v, logits.get(v), x[v], scale);
    }

    void check_choice(const Doubles &logits, size_t id, const double *uniform) {
        const double most = *std::max_element(logits.begin(), logits.end());
        if (!uniform) return c.near("likeliest", id, logits[id], most, 300);
        double below = 0, all = 0;
        for (size_t v = 0; v < V; ++v) {
            const double share = std::exp((logits[v] - most) / 0.7);
            all += share, below += v < id ? share : 0;
        }
        const double share = std::exp((logits[id] - most) / 0.7), slack = 300 * c.tolerance();
        if (below / all > *uniform + slack || (below + share) / all < *uniform - slack)
            c.fail("drawn", id, below / all, *uniform);
    }

    Doubles step(size_t id, Doubles &state) {
        Doubles X(H);
        for (size_t l = 0; l < layers; ++l) {
            const Weights &w = weights[l];
            double *h = &state[l * states * H], *C = h + H;
            Doubles x[4], p[4];
            for (size_t g = 0; g < G; ++g) {
                x[g] = w.b[g], p[g].resize(H);
                if (l)
                    add_product(X.data(), H, w.W_x[g], H, x[g].data());
                else
                    for (size_t u = 0; u < H; ++u) x[g][u] += w.W_x[g][id * H + u];
                add_product(h, H, w.W_h[g], H, p[g].data());
            }
            for (size_t u = 0; u < H; ++u) {
                const double a = x[0][u] + p[0][u];
                if (m.cell == LSTM) {
                    C[u] = sigmoid(x[1][u] + p[1][u]) * C[u] + sigmoid(a) * std::tanh(x[3][u] + p[3][u]);
                    h[u] = sigmoid(x[2][u] + p[2][u]) * std::tanh(C[u]);
                } else if (m.cell == GRU) {
                    const double Z = sigmoid(a), R = sigmoid(x[1][u] + p[1][u]);
                    h[u] = Z * h[u] + (1 - Z) * std::tanh(x[2][u] + R * (p[2][u] + w.b_hh[u]));
                } else {
                    h[u] = m.cell == RNN ? std::tanh(a) : a < 0 ? 0 : a;
                }
            }
            X.assign(h, h + H);
        }
        Doubles logits = b_q;
        add_product(X.data(), H, W_hq, V, logits.data());
        return logits;
    }
};
